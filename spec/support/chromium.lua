-- A headless Chromium for specs, driven over its DevTools protocol by neap.websocket.
--
-- Each call sends one command and waits for its answer; events that come meanwhile are kept. It
-- sees nothing but loopback, lives in a directory of its own and ends with the test.

local cjson = require "cjson"
local helper = require "spec.support.helper"
local neap = require "neap"
local websocket = require "neap.websocket"

local chromium = {}

local LIMIT_S = 20 * helper.slow

local command = [[exec chromium --headless=new --no-sandbox --disable-gpu --no-first-run \
  --disable-dev-shm-usage --disable-background-networking --disable-component-update --disable-sync \
  --disable-extensions --disable-breakpad --disable-crash-reporter --mute-audio \
  --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost' \
  --remote-debugging-port=0 --user-data-dir=%s %s about:blank]]

local browser = {}
browser.__index = browser

local page = {}
page.__index = page

--- A command of the protocol: its result, a table.
function browser:call(method, params, session)
  self.id = self.id + 1
  local id = self.id
  assert(self.ws:send(cjson.encode {
    id = id, method = method, params = next(params or {}) and params, sessionId = session,
  }))
  local limit = neap.now() + LIMIT_S
  while true do
    local text, message = self.ws:receive { timeout = math.max(limit - neap.now(), 0) }
    if not text then error(("chromium: %s: %s"):format(method, message or "closed"), 2) end
    local answer = cjson.decode(text)
    if answer.id == id then
      if answer.error then error(("chromium: %s: %s"):format(method, answer.error.message), 2) end
      return answer.result
    end
    table.insert(self.events, answer)
  end
end

--- Opens a page in a window of its own, with cookies and storage of its own.
function browser:open(url)
  local context = self:call "Target.createBrowserContext".browserContextId
  local target = self:call("Target.createTarget",
    { url = "about:blank", browserContextId = context }).targetId
  local session = self:call("Target.attachToTarget", { targetId = target, flatten = true })
  local self_ = setmetatable({ browser = self, session = session.sessionId }, page)
  for _, domain in ipairs { "Page", "Runtime", "Log" } do self_:call(domain .. ".enable") end
  self_:go(url)
  return self_
end

-- Ends it by the protocol, and what is left of it by its process group.
local function stop(self)
  pcall(self.call, self, "Browser.close")
  self.ws.conn:abort()
  self.process:wait(5)
  self.process:kill "KILL"
end

--- Starts a browser; `flags` are further ones of its command line.
function chromium.start(flags)
  local dir = helper.tmpdir()
  local p = helper.start(command:format(dir, flags or ""), { limit = 90 })
  local path = dir .. "/DevToolsActivePort"
  local active = helper.wait_until(function()
    return (helper.read_file(path) or ""):match "^%d+\n/.+"
  end, 20)
  assert(active, "chromium did not start: " .. p:err())
  local port, target = active:match "^(%d+)\n(/[^\n]+)"
  local ws = assert(websocket.connect(("ws://127.0.0.1:%s%s"):format(port, target),
    { max_message = 64 << 20, timeout = LIMIT_S }))
  local self = setmetatable({ process = p, ws = ws, id = 0, events = {} }, browser)
  helper.after(function() stop(self) end)
  return self
end

--- A command for this page.
function page:call(method, params) return self.browser:call(method, params, self.session) end

--- Loads a URL and waits until it is there.
function page:go(url)
  local result = self:call("Page.navigate", { url = url })
  assert(not result.errorText, result.errorText)
  self:wait "document.readyState === 'complete' && location.href !== 'about:blank'"
end

--- The value of an expression, of a promise what it brings; raises what it throws.
function page:eval(expression)
  local result = self:call("Runtime.evaluate", {
    expression = expression, awaitPromise = true, returnByValue = true, userGesture = true,
  })
  local thrown = result.exceptionDetails
  if thrown then
    error(("%s: %s"):format(expression, thrown.exception and thrown.exception.description or
      thrown.text), 2)
  end
  return result.result.value
end

--- Waits until an expression is true: its value; raises after `seconds` (10).
function page:wait(expression, seconds)
  local value = helper.wait_until(function()
    local fine, v = pcall(self.eval, self, expression) -- a page that is being left has no context
    return fine and v
  end, seconds)
  if not value then
    error(("the page did not come to %s but:\n%s"):format(expression,
      self:eval "document.body.innerText"), 2)
  end
  return value
end

--- Types text into what has the focus, as a keyboard does; "\r" is the Enter key.
function page:type(text)
  for words, enter in text:gmatch "([^\r]*)(\r?)" do
    if words ~= "" then self:call("Input.insertText", { text = words }) end
    if enter ~= "" then
      for _, kind in ipairs { "keyDown", "keyUp" } do
        self:call("Input.dispatchKeyEvent",
          { type = kind, key = "Enter", code = "Enter", text = "\r", windowsVirtualKeyCode = 13 })
      end
    end
  end
end

--- What has gone wrong on this page: uncaught errors and what the browser logs as one.
function page:errors()
  local list = {}
  for _, event in ipairs(self.browser.events) do
    local params = event.params
    if event.sessionId == self.session and event.method == "Runtime.exceptionThrown" then
      list[#list + 1] = params.exceptionDetails.text
    elseif event.sessionId == self.session and event.method == "Log.entryAdded" and
      params.entry.level == "error" then
      list[#list + 1] = params.entry.text
    end
  end
  return list
end

return chromium
