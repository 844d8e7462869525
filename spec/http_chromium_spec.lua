-- neap.http and neap.websocket with a browser at the other end.

local certs = require "spec.support.certs"
local chromium = require "spec.support.chromium"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local servers = require "spec.support.servers"
local websocket = require "neap.websocket"

local function serve(...)
  local _, url, log = servers.http(...)
  return url, log
end

local function html(_, res)
  res:send(200, "<!DOCTYPE html><title>spec</title>", { ["Content-Type"] = "text/html" })
end

-- Bytes of large things; in the hard build each costs system calls.
local LARGE = helper.hard and 20000 or 3000000

local MAX = helper.hard and 10000 or 1 << 20 -- of a WebSocket's message

-- What the body of an asynchronous function returns on the page.
local function on(page, body) return page:eval("(async () => {" .. body .. "})()") end

local function echo(opts)
  return function(req, res)
    local ws <close> = websocket.accept(req, res, opts)
    if not ws then return end
    for message, kind in ws:messages() do
      if message == "bye" then return ws:close(4000, "as you like") end
      ws:send(message, kind)
    end
  end
end

local talk = [[
  const ws = new WebSocket(location.origin.replace("http", "ws") + "/ws", ["other", "echo"]);
  ws.binaryType = "arraybuffer";
  const next = () => new Promise((done, fail) => {
    ws.onmessage = e => done(e.data);
    ws.onclose = e => done("closed " + e.code + " " + e.reason + " " + e.wasClean);
  });
  await new Promise(done => ws.onopen = done);
  const out = [ws.protocol, ws.extensions];
  for (const n of [0, 1, 125, 126, LARGE]) {
    ws.send("\u00fc".repeat(n));
    if (await next() !== "\u00fc".repeat(n)) out.push("text of " + n);
    ws.send(new Uint8Array(n).fill(255));
    const back = new Uint8Array(await next());
    if (back.length !== n || !back.every(b => b === 255)) out.push("bytes of " + n);
  }
  ws.send("bye");
  out.push(await next());
  return out.join(", ");]]
talk = talk:gsub("LARGE", helper.hard and "2000" or "65535, 65536, 300000")

describe("Chromium", function()
  it("fetches: bodies both ways, pieces as they come, many at a time", function()
    local r, go, broken = http.router(), neap.event(), nil
    r:get("/", html)
    r:post("/echo", function(req, res)
      for piece in req:chunks() do res:write(piece) end
    end)
    r:post("/limited", function(req, res)
      local _, _, code = req:body()
      res:send(code == "EMSGSIZE" and 413 or 400)
    end)
    r:get("/slow", function(_, res)
      res:write "first"
      res:flush()
      go:wait()
      res:write "second"
    end)
    r:get("/endless", function(_, res)
      repeat until not res:write(("x"):rep(4096))
      broken = true
    end)
    r:get("/number/:n", function(req, res) res:send(200, req.params.n) end)
    local url, log = serve(r, { max_body = LARGE * 2 })
    local page = chromium.start():open(url)
    assert.equal(LARGE .. " true", on(page, ([[
      const sent = new Uint8Array(%d).map((_, i) => i * 7);
      const got = new Uint8Array(await (await fetch("/echo", { method: "POST", body: sent }))
        .arrayBuffer());
      return got.length + " " + got.every((b, i) => b === sent[i]);]]):format(LARGE)))
    assert.equal(413, on(page, ([[
      const r = await fetch("/limited", { method: "POST", body: new Uint8Array(%d) });
      return r.status;]]):format(LARGE * 3)))
    page:eval [[fetch("/slow").then(r => { window.reader = r.body.getReader(); })]]
    page:wait "window.reader !== undefined"
    local function read(n) -- pieces may be smaller than they were written
      return on(page, ([[
        let text = "";
        while (text.length < %d) {
          const r = await reader.read();
          if (r.done) return text + " and the end";
          text += new TextDecoder().decode(r.value);
        }
        return text;]]):format(n))
    end
    assert.equal("first", read(5))
    go:set()
    assert.equal("second", read(6))
    assert.equal(" and the end", read(1))
    assert.equal(4950, on(page, [[
      const all = await Promise.all([...Array(100).keys()].map(n => fetch("/number/" + n)));
      const texts = await Promise.all(all.map(r => r.text()));
      return texts.reduce((sum, text) => sum + Number(text), 0);]]))
    assert.equal("AbortError", on(page, [[
      const abort = new AbortController();
      const r = await fetch("/endless", { signal: abort.signal });
      await r.body.getReader().read();
      abort.abort();
      return fetch("/endless", { signal: abort.signal }).catch(e => e.name);]]))
    assert.is_true(helper.wait_until(function() return broken end))
    assert.equal(1, #log)
    assert.matches("the body is too long$", log[1])
  end)

  it("hears events, and asks for those after the last when a stream has ended", function()
    local asked = {}
    local url, log = serve(function(req, res)
      if req.path ~= "/events" then return html(req, res) end
      local last = req.headers["last-event-id"]
      asked[#asked + 1] = last or "none"
      if #asked == 3 then return res:send(204) end -- which tells a browser to ask no more
      local send = res:events()
      for i = tonumber(last or 0) + 1, tonumber(last or 0) + 2 do
        send("line " .. i .. "\nü", { id = i, event = i == 2 and "even" or nil, retry = 20 })
      end
    end)
    local page = chromium.start():open(url)
    assert.equal("message:line 1|ü;even:line 2|ü;message:line 3|ü;message:line 4|ü;closed",
      on(page, [[
        return new Promise(done => {
          const out = [], source = new EventSource("/events");
          const add = e => out.push(e.type + ":" + e.data.replaceAll("\n", "|"));
          source.onmessage = add;
          source.addEventListener("even", add);
          source.onerror = () => {
            if (source.readyState === EventSource.CLOSED) done(out.join(";") + ";closed");
          };
        });]]))
    assert.same({ "none", "2", "4" }, asked)
    assert.same({}, log)
  end)

  it("speaks WebSocket: text, bytes, subprotocols, closes", function()
    local accept = echo { protocols = { "echo" }, max_message = MAX, deflate = false }
    local url, log = serve(function(req, res)
      return (req.path == "/ws" and accept or html)(req, res)
    end)
    local page = chromium.start():open(url)
    assert.equal("echo, , closed 4000 as you like true", on(page, talk))
    assert.equal("closed 1009", on(page, "const MAX = " .. MAX .. ";" .. [[
      const ws = new WebSocket("/ws");
      return new Promise(done => {
        ws.onopen = () => ws.send("x".repeat(MAX + 1));
        ws.onclose = e => done("closed " + e.code);
      });]]))
    assert.equal("closed 4321", on(page, [[
      const ws = new WebSocket("/ws");
      return new Promise(done => {
        ws.onopen = () => ws.close(4321, "enough");
        ws.onclose = e => done("closed " + e.code);
      });]]))
    for _, line in ipairs(log) do assert.matches("more than " .. MAX .. " bytes", line) end
  end)

  it("does the same compressed and over TLS, with a certificate it is to believe", function()
    local accept = echo { protocols = { "echo" }, max_message = MAX, deflate = true }
    local url, log = serve(function(req, res)
      if req.path == "/ws" then return accept(req, res) end
      if req.path == "/" then return html(req, res) end
      if req.path == "/long" then
        return res:send(200, ("a line\n"):rep(3000), { ["Content-Type"] = "text/plain" })
      end
      res:send(200, req.body and req:body() .. " " .. req.conn.tls.version)
    end, certs.server { compress = true }, "tls://127.0.0.1:0")
    local page = chromium.start(certs.chromium_flag "server.pem"):open(url)
    assert.equal("hello TLSv1.3", on(page, [[
      return (await fetch("/echo", { method: "POST", body: "hello" })).text();]]))
    assert.matches("^echo, permessage%-deflate; [^,]*, closed 4000 as you like true$",
      on(page, talk))
    assert.equal("gzip true", on(page, [[
      const r = await fetch("/long");
      const same = await r.text() === "a line\n".repeat(3000);
      return r.headers.get("Content-Encoding") + " " + same;]]))
    assert.same({}, page:errors())
    assert.same({}, log)
  end)

  it("refuses a certificate of an authority that nobody knows", function()
    local url = serve(html, certs.server(), "tls://127.0.0.1:0")
    local browser = chromium.start()
    assert.error_matches(function() browser:open(url) end, "ERR_CERT_AUTHORITY_INVALID")
  end)
end)
