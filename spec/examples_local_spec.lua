-- The examples on AF_UNIX sockets, against the programs that their headers name.

local helper = require "spec.support.helper"
local net = require "neap.net"

local run = helper.run
local TIMEOUT = { timeout = 20 * helper.slow }

local function start(name, path)
  local p = helper.start(("exec %s scripts/examples/%s.lua unix:%s"):format(
    helper.quote(helper.neap), name, path))
  p:expect "listening on unix:"
  return p
end

describe("the example ssh_agent", function()
  -- The agent, and a function that runs a command that is to find it.
  local function agent()
    local path = helper.socket_path()
    local p = start("ssh_agent", path)
    return p, path, function(command)
      local out, err, status = run(command, { env = { SSH_AUTH_SOCK = path } })
      return out, err, status
    end
  end

  it("is filled, asked and emptied by ssh-add", function()
    local p, _, with = agent()
    local dir = helper.tmpdir()
    assert.equal("The agent has no identities.\n", (with "ssh-add -l"))
    local names = { "ed25519", "ecdsa", "rsa" }
    for _, name in ipairs(names) do
      local file = dir .. "/" .. name
      local bits = name == "rsa" and "-b 1024" or ""
      local line = "ssh-keygen -q -t %s %s -N '' -C 'a key, %s' -f %s && ssh-add %s"
      local _, err, status = with(line:format(name, bits, name, file, file))
      assert.equal(0, status, err)
      assert.matches("Identity added: ", err)
    end
    assert.equal(0, select(3, with("ssh-add " .. dir .. "/rsa"))) -- again: still one
    local cat = ("cat %s/ed25519.pub %s/ecdsa.pub %s/rsa.pub"):format(dir, dir, dir)
    assert.equal((run(cat)), (with "ssh-add -L"))
    local prints = ("for k in ed25519 ecdsa rsa; do ssh-keygen -lf %s/$k.pub; done"):format(dir)
    assert.equal((run(prints)), (with "ssh-add -l"))

    assert.equal(0, select(3, with(("ssh-add -d %s/ecdsa.pub"):format(dir))))
    assert.equal(1, select(3, with(("ssh-add -d %s/ecdsa.pub"):format(dir)))) -- it is gone
    assert.equal(2, select(2, with("ssh-add -l"):gsub("\n", "")))

    -- what it does not do is refused, not feigned
    local _, err, status = with(("ssh-add -T %s/rsa.pub"):format(dir))
    assert.equal(1, status)
    assert.matches("agent refused operation", err)
    assert.matches("refused", (select(2, with(("ssh-add -t 60 %s/ecdsa"):format(dir)))))

    assert.equal(0, select(3, with "ssh-add -D"))
    assert.equal("The agent has no identities.\n", (with "ssh-add -l"))
    assert.equal("", p:err())
  end)

  it("is nobody's but its user's", function()
    local _, path = agent()
    assert.equal("600\n", (run("stat -c %a " .. path)))
  end)

  it("survives requests whose lengths lie", function()
    local p, path, with = agent()
    local key = (">s4s4s4s4"):pack("ssh-ed25519", ("p"):rep(32), ("s"):rep(64), "comment")
    local function ask(request)
      local conn <close> = assert(net.connect("unix:" .. path))
      conn:write((">s4"):pack(request))
      return conn:unpack(">s4", TIMEOUT)
    end
    local refused, done = "\5", "\6"
    assert.equal(done, ask("\17" .. key))
    for cut = 0, #key - 1 do -- cut anywhere
      if not helper.hard or cut % 10 == 0 then
        assert.equal(refused, ask("\17" .. key:sub(1, cut)))
      end
    end
    for _, at in ipairs { 1, 16, 52 } do -- each length too large, by one and by very much
      for _, lie in ipairs { "\255\255\255\255", "\127\255\255\255", "\0\0\1\0" } do
        assert.equal(refused, ask("\17" .. key:sub(1, at - 1) .. lie .. key:sub(at + 4)))
      end
    end
    for _, odd in ipairs { "", "\0", "\1", "\13", "\18", "\18\0\0\0\9", "\25" .. key, "\27\0\0\0\0",
      "\255", "\17", "\17\0\0\0\0", "\17" .. (">s4"):pack "ssh-dss" } do
      assert.equal(refused, ask(odd))
    end
    assert.equal(1, select(2, with("ssh-add -L"):gsub("\n", ""))) -- the one that was whole

    -- a frame longer than any request, and one that never ends: that connection, and no other
    local long <close> = assert(net.connect("unix:" .. path))
    long:write "\255\255\255\255rest"
    assert.is_nil((long:read(1, TIMEOUT)))
    local half <close> = assert(net.connect("unix:" .. path))
    half:write "\0\0\0\9\11"
    half:flush()
    assert.equal(1, select(2, with("ssh-add -L"):gsub("\n", "")))
    assert.is_nil((p:status()))

    -- by seed: bytes of a whole conversation changed anywhere, lengths of frames included
    math.randomseed(7)
    local talk = (">s4s4s4s4"):pack("\17" .. key, "\11", "\18" .. key:sub(1, 51), "\19")
    for _ = 1, helper.hard and 20 or 200 do
      local at = math.random(#talk)
      local bytes = talk:sub(1, at - 1) .. string.char(math.random(0, 255)) .. talk:sub(at + 1)
      local conn <close> = assert(net.connect("unix:" .. path))
      conn:write(bytes)
      conn:shutdown()
      conn:read("a", TIMEOUT)
    end
    assert.equal("The agent has no identities.\n", (with "ssh-add -D; ssh-add -l"))
  end)
end)

describe("the example terminal", function()
  it("gives a shell on a terminal, as who connects", function()
    local path = helper.socket_path()
    local p = start("terminal", path)
    local uid = run "id -u"
    local line = "(echo 'tty; echo $((6*7)); id -u'; sleep 1) | socat -t9 - UNIX:%s"
    local out = run(line:format(path))
    assert.matches("/dev/pts/%d+\r\n42\r\n" .. uid:gsub("\n", "\r\n"), out)
    p:expect(("uid %s has pid %%d+"):format(uid:match "%d+"))
    -- who leaves takes the shell along
    local conn = assert(net.connect("unix:" .. path))
    conn:write "echo $$ is it\n"
    local pid = tonumber(conn:read_until(" is it\r\n", nil, TIMEOUT):match "(%d+)$")
    if not pid then pid = tonumber(conn:read_until(" is it\r\n", nil, TIMEOUT):match "(%d+)$") end
    conn:close()
    assert.is_true(helper.wait_until(function()
      local stat = helper.read_file("/proc/" .. pid .. "/stat")
      return not stat or stat:match "%) (%a)" == "Z"
    end))
    assert.equal("", p:err())
  end)
end)
