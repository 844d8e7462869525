-- scripts/examples/smtp_sink.lua: swaks and curl as senders, and what no sender should do.

local certs = require "spec.support.certs"
local fs = require "neap.fs"
local helper = require "spec.support.helper"
local net = require "neap.net"

local run = helper.run

local function serve(prefix, with_certificate)
  local dir = helper.tmpdir() .. "/mail"
  local pair = certs.path "server.pem" .. " " .. certs.path "server.key"
  local p = helper.start(("exec %s scripts/examples/smtp_sink.lua %s %s127.0.0.1:0 %s"):format(
    helper.quote(helper.neap), dir, prefix or "", with_certificate == false and "" or pair))
  local address = p:expect "listening on (%S+),"
  return { process = p, dir = dir, address = address, host = address:match "//(.*)$" }
end

-- The messages that were kept, in the order of their coming; nothing else may be there.
local function messages(s)
  local names, list = {}, {}
  for name in assert(fs.scandir(s.dir .. "/new")) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do list[i] = assert(fs.read(s.dir .. "/new/" .. name)) end
  for name in assert(fs.scandir(s.dir .. "/tmp")) do error("left in tmp: " .. name) end
  return list
end

local function body(message) return message:match "\n\n(.*)$" end

local function swaks(s, arguments, stdin)
  local out, err, status = run(("swaks --server %s --from ann@example.org --to bob@example.test "
    .. "--timeout 20 %s"):format(s.host, arguments), { stdin = stdin })
  return status, out .. err
end

-- Says the lines one after the other; the last reply to each, and the connection.
local function talk(s, lines)
  local conn = assert(net.connect(s.host, { timeout = 10 * helper.slow }))
  conn.timeout = 10 * helper.slow
  local replies = {}
  local function reply()
    local line
    repeat line = conn:read_until "\r\n" until not line or line:find "^%d%d%d "
    return line
  end
  assert(reply():find "^220 ")
  for i, line in ipairs(lines) do
    conn:write(line)
    replies[i] = reply() or "end"
  end
  return replies, conn
end

local function codes(replies)
  local list = {}
  for i, reply in ipairs(replies) do list[i] = reply:match "^%w+" end
  return table.concat(list, " ")
end

local HELLO = "EHLO there\r\n"
local ENVELOPE = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"

describe("smtp_sink", function()
  it("keeps what swaks sends, in the clear and after STARTTLS, one by one and pipelined", function()
    local s = serve()
    local text = "Subject: dots\\n\\n.\\n..two\\nend ü"
    for _, arguments in ipairs { "", "--tls", "--tls --pipeline", "--protocol SMTP" } do
      local status, out = swaks(s, arguments .. " --data '" .. text .. "'")
      assert.equal(0, status, out)
      assert.equal(arguments:find "tls" ~= nil, out:find "TLS started" ~= nil)
    end
    local list = messages(s)
    assert.equal(4, #list)
    for _, message in ipairs(list) do
      assert.equal(".\n..two\nend ü\n", body(message))
      assert.matches("^Return%-Path: <ann@example.org>\nDelivered%-To: bob@example.test\n", message)
    end
    assert.matches("%(%[127.0.0.1%]%) by sink with ESMTPS; %a+, %d+ %a+ %d+ [%d:]+ %+0000\n",
      list[2])
    assert.matches(" with SMTP; ", list[4])
    assert.equal("", s.process:err())
  end)

  it("takes mail from curl, over TLS from the beginning, too", function()
    local curl = "curl -sS --max-time 20 --cacert %s --mail-from a@b --mail-rcpt c@d "
      .. "--mail-rcpt e@f -T - %s smtp%s://localhost:%s"
    local text = "Subject: x\r\n\r\n" .. ("a line\r\n"):rep(20000)
    for _, way in ipairs { { "", "" }, { "", "", "--ssl-reqd" }, { "tls://", "s" } } do
      local s = serve(way[1])
      local _, err, status = run(curl:format(certs.path "ca.pem", way[3] or "", way[2],
        s.host:match "%d+$"), { stdin = text })
      assert.equal(0, status, err)
      local list = messages(s)
      assert.equal(("a line\n"):rep(20000), body(list[1]))
      assert.matches("Delivered%-To: c@d, e@f\n", list[1])
    end
  end)

  it("believes nothing that came before TLS", function()
    local s = serve()
    local replies, conn = talk(s, { HELLO, "STARTTLS\r\nMAIL FROM:<evil@x>\r\n", "" })
    assert.matches("^250 %w+ end$", codes(replies)) -- of 220 perhaps a reset is seen first
    conn:close()
    s.process:expect "smtp_sink: [%a ]+ tcp://[^\n]*: "
    local plain = serve(nil, false)
    replies, conn = talk(plain, { HELLO, "STARTTLS\r\n" })
    assert.equal("250 502", codes(replies))
    conn:close()
  end)

  it("ends a message at CRLF . CRLF and nowhere else", function()
    local rows = {
      "\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n", "\r\n. \r\n",
    }
    local s = serve(nil, false)
    for _, row in ipairs(rows) do
      local replies, conn = talk(s, { HELLO, ENVELOPE, "", "DATA\r\n",
        "one" .. row .. "MAIL FROM:<evil@x>\r\nRCPT TO:<v@x>\r\nDATA\r\nevil\r\n.\r\n",
        "NOOP\r\n" })
      local harmless = row:find "^\r\n[^\r\n]+\r\n$"
      assert.equal(("250 250 250 354 %s 250"):format(harmless and "250" or "554"), codes(replies),
        ("%q"):format(row))
      conn:close()
    end
    local list = messages(s)
    assert.equal(2, #list)
    for _, message in ipairs(list) do assert.matches("\nevil\n$", message) end
  end)

  it("leaves nothing of a message that was cut short, too long, or too big", function()
    local s = serve(nil, false)
    local function data(text)
      local replies, conn = talk(s, { HELLO, ENVELOPE, "", "DATA\r\n" })
      assert.equal("250 250 250 354", codes(replies))
      conn:write(text)
      conn:shutdown()
      local rest = conn:read "a"
      conn:close()
      return rest
    end
    assert.equal("", data "half a mess")
    assert.equal("", data "text\r\n.")
    assert.matches("^500 ", data(("x"):rep(1000) .. "\r\n.\r\n"))
    assert.matches("^250 [^\n]*\n$", data(("x"):rep(998) .. "\r\n.\r\n"))
    assert.matches("^552 [^\n]*\n221 [^\n]*\n$",
      data((("x"):rep(900) .. "\r\n"):rep(11700) .. ".\r\nQUIT\r\n"))
    assert.equal(1, #messages(s))
    assert(fs.rmdir(s.dir .. "/tmp"))
    local replies, conn = talk(s, { HELLO, ENVELOPE, "", "DATA\r\n", "NOOP\r\n" })
    assert.equal("250 250 250 451 250", codes(replies))
    conn:close()
    assert.equal("", s.process:err())
  end)

  it("refuses commands that are none, or not now", function()
    local s = serve(nil, false)
    local rows = {
      { "MAIL FROM:<a@b>\r\n", "503" }, { "EHLO\r\n", "501" }, { "HELO x y\r\n", "501" },
      { "GET / HTTP/1.1\r\n", "500" }, { "ehlo [127.0.0.1]\r\n", "250" },
      { "RCPT TO:<a@b>\r\n", "503" }, { "DATA\r\n", "503" }, { "MAIL FROM: <a@b>\r\n", "501" },
      { "mail from:<a@b> SIZE=99999999999999999999\r\n", "552" },
      { "MAIL FROM:<a@b> X=1\r\n", "555" }, { "MAIL FROM:<a@b>X\r\n", "501" },
      { "MAIL FROM:<> BODY=8bitmime SIZE=10\r\n", "250" }, { "MAIL FROM:<a@b>\r\n", "503" },
      { "NOOP text\r\n", "250" }, { "VRFY ann\r\n", "252" }, { "RSET\r\n", "250" },
      { "MAIL FROM:<@relay:a@b>\r\n", "250" }, { "RCPT TO:<nobody>\r\n", "501" },
    }
    for first = 1, #rows, 9 do -- more than ten errors end a connection
      local lines, expected = {}, {}
      if first > 1 then lines[1], expected[1] = HELLO, "250" end
      for i = first, math.min(first + 8, #rows) do
        table.insert(lines, rows[i][1])
        table.insert(expected, rows[i][2])
      end
      local replies, conn = talk(s, lines)
      assert.equal(table.concat(expected, " "), codes(replies))
      conn:close()
    end
    local replies, conn = talk(s, { ("x\r\n"):rep(12) })
    assert.equal("500", codes(replies))
    assert.matches("421 [^\n]*too many errors\r\n$", (conn:read "a"))
    conn:close()
    replies, conn = talk(s, { HELLO, "DATA x\r\n", "NOOP\n\r\n", ("x"):rep(1001), "" })
    assert.equal("250 501 500 500 end", codes(replies))
    conn:close()
  end)
end)
