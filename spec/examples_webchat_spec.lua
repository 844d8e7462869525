-- scripts/examples/webchat in a real browser.

local certs = require "spec.support.certs"
local chromium = require "spec.support.chromium"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local function serve(on)
  local p = helper.start(("exec %s scripts/examples/webchat/server.lua %s"):format(
    helper.quote(helper.neap), on or "127.0.0.1:0"))
  local address = p:expect "listening on (%S+),"
  return { process = p, address = address, url = address:gsub("^tcp", "http") }
end

-- An address that stays the same while the server behind it comes and goes.
local function front()
  local f = {}
  local server = net.serve("127.0.0.1:0", function(conn)
    local up <close> = f.to and net.connect(f.to, { timeout = 5 })
    if up then net.pipe(conn, up) end
  end)
  helper.after(function() server:stop(0) end)
  f.url = "http" .. server.address:match "://.*"
  return f
end

local function join(browser, url, name, as)
  local page = browser:open(url)
  page:wait "document.activeElement.id === 'name'"
  page:type(name .. "\r")
  page:wait(("document.getElementById('status').textContent === 'Connected as %s'"):format(
    as or name))
  return page
end

local function say(page, text)
  page:eval "document.getElementById('text').focus()"
  page:type(text .. "\r")
end

-- Waits until the page shows something with this text, and only it.
local function sees(page, selector, text)
  page:wait(("[...document.querySelectorAll('#log %s')].some(e => e.textContent === %q)"):format(
    selector, text))
end

local function count(page, selector)
  return page:eval(("document.querySelectorAll('%s').length"):format(selector))
end

describe("webchat", function()
  it("lets two pages talk; what they write stays text", function()
    local chat = serve()
    local browser = chromium.start()
    local ann = join(browser, chat.url, "Ann")
    local bob = join(browser, chat.url, "Bob")
    sees(ann, ".event", "Bob has come in")
    sees(bob, ".event", "Ann has come in") -- the history
    assert.equal("2 here: Ann, Bob", bob:eval "document.getElementById('here').textContent")
    say(bob, "Hello Ann, 1 < 2 & ü")
    sees(ann, ".say p", "Hello Ann, 1 < 2 & ü")
    sees(bob, ".mine p", "Hello Ann, 1 < 2 & ü")
    assert.equal(0, count(ann, "#log .mine"))
    local evil = "<script>document.title='bad'</script><img src=x onerror=document.title='bad'>"
    say(ann, evil)
    sees(bob, ".say p", evil)
    assert.equal(0, count(bob, "#log script, #log img"))
    assert.equal("Neap chat", bob:eval "document.title")
    local twin = join(browser, chat.url, "Bob", "Bob (2)")
    twin:eval "document.getElementById('leave').click()"
    sees(ann, ".event", "Bob (2) has left")
    for _, page in ipairs { ann, bob, twin } do assert.same({}, page:errors()) end
    assert.equal("", chat.process:err())
  end)

  it("works the same behind http_proxy, which ends TLS", function()
    local chat = serve()
    local p = helper.start(("exec %s scripts/examples/http_proxy.lua 127.0.0.1:0 %s %s %s"):format(
      helper.quote(helper.neap), chat.url, certs.path "server.pem", certs.path "server.key"))
    local url = "https" .. p:expect "listening on %l+(%S+),"
    local browser = chromium.start(certs.chromium_flag "server.pem")
    local ann = join(browser, url, "Ann")
    local bob = join(browser, url, "Bob")
    assert.equal("https:", ann:eval "location.protocol")
    say(bob, "Hello Ann, through the proxy")
    sees(ann, ".say p", "Hello Ann, through the proxy")
    ann:eval "document.getElementById('leave').click()"
    sees(bob, ".event", "Ann has left")
    for _, page in ipairs { ann, bob } do assert.same({}, page:errors()) end
    assert.equal("", chat.process:err() .. p:err())
  end)

  it("comes back by itself when the server was started again", function()
    local f = front()
    local chat = serve()
    f.to = chat.address
    local browser = chromium.start()
    local ann = join(browser, f.url, "Ann")
    say(ann, "before")
    sees(ann, ".mine p", "before")
    f.to = nil
    chat.process:kill()
    ann:wait "document.getElementById('status').dataset.state === 'bad'"
    assert.is_true(ann:eval "document.getElementById('send').disabled")
    ann:eval "document.getElementById('text').value = 'kept'"
    chat = serve()
    f.to = chat.address
    ann:wait "document.getElementById('status').dataset.state === 'on'"
    local bob = join(browser, f.url, "Bob")
    say(bob, "after")
    sees(ann, ".say p", "after")
    assert.equal(2, count(ann, "#log .say"))
    assert.equal("kept", ann:eval "document.getElementById('text').value")
    assert.equal("", chat.process:err())
  end)

  it("refuses pages of others, also a message that is too long", function()
    local chat = serve()
    local other = http.serve("127.0.0.1:0", function(_, res)
      res:send(200, "<!DOCTYPE html><title>other</title>", { ["Content-Type"] = "text/html" })
    end)
    helper.after(function() other:stop(0) end)
    local outcome = [[new Promise(done => {
      const ws = new WebSocket("%s/chat?name=Eve");
      let open = false;
      ws.onopen = () => { open = true; %s };
      ws.onclose = e => done(open + " " + e.code);
    })]]
    local url = "ws" .. chat.address:match "://.*"
    local browser = chromium.start()
    local eve = browser:open("http" .. other.address:match "://.*")
    assert.equal("false 1006", eve:eval(outcome:format(url, "ws.close()")))
    local own = browser:open(chat.url)
    assert.equal("true 1009", own:eval(outcome:format(url, "ws.send('x'.repeat(4001))")))
    assert.equal("", chat.process:err())
  end)

  it("refuses names that are none, and tells newcomers what was said since", function()
    local chat = serve()
    local url = "ws" .. chat.address:match "://.*" .. "/chat?name="
    for _, name in ipairs { "", "%20", "a%0Ab", "%FF", ("x"):rep(25) } do
      assert.equal("EPROTO", select(3, websocket.connect(url .. name)), name)
    end
    local function talk(query)
      return assert(websocket.connect(url .. query))
    end
    local function next_say(ws)
      while true do
        local id, kind, text = assert(ws:receive { timeout = 10 * helper.slow })
          :match "^(%d+)\n%d+\n(%l+)\n[^\n]*\n(.*)$"
        if kind == "say" then return text, id end
      end
    end
    local ann <close> = talk "Ann"
    local ids = {}
    for i = 1, 3 do
      ann:send("message " .. i)
      local text, id = next_say(ann)
      assert.equal("message " .. i, text)
      ids[i] = id
    end
    local bob <close> = talk("Bob&since=" .. ids[2])
    assert.same({ "message 3", ids[3] }, { next_say(bob) })
    local carl <close> = talk "Carl&since=x"
    assert.equal("message 1", (next_say(carl)))
    assert.equal("", chat.process:err())
  end)

  -- In the hard build, where each byte is a system call, nobody keeps up.
  local it_unless_hard = helper.hard and function() end or it
  it_unless_hard("cuts off who does not keep up", function()
    local via = "unix:" .. helper.socket_path() -- a small buffer, unlike that of TCP
    local chat = serve(via)
    local slow <close> = assert(net.connect(via))
    slow:write("GET /chat?name=slow HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    slow:flush()
    local left = neap.event()
    neap.group(function(g)
      for i = 1, 10 do
        local ws = assert(websocket.connect("ws://x/chat?name=loud" .. i, { via = via }))
        g:spawn(function()
          for text in ws:messages() do
            if text:find "leave\nslow\n" then left:set() end
          end
        end)
        g:spawn(function()
          while ws:send(("x"):rep(4000)) do ws.conn:flush() end
        end)
      end
      assert.is_true(left:wait { timeout = 30 * helper.slow })
      g:cancel()
    end)
    assert.equal("", chat.process:err())
  end)
end)
