-- neap.tls: TLS on streams: contexts, starttls, and what net.connect, net.listen and net.serve do
-- for tls:// addresses.
--
-- The one idea: TLS is a layer that one call puts on a stream; everything above reads and writes as
-- before. This file sorts options and waits for handshakes; records and certificates are OpenSSL's.

local core = require "neap.tls.core"
local face = require "neap.face"
local tasks = require "neap.task.core"
local semaphore = require("neap.semaphore.core").semaphore

local tls = {}

-- A peer that is silent in the middle of a handshake is let go.
local HANDSHAKE_S = 10
-- Handshakes in progress per server: each costs a third of a millisecond of CPU and holds 46 KiB.
local HANDSHAKES = 256

---@class neap.tls.options
---@field cert? string certificate chain, leaf first: the path of a PEM file, or PEM text
---@field key? string its private key, likewise; without it looked for in `cert`
---@field password? string of an encrypted key; nobody is ever asked for one
---@field ca? string trusted authorities: a PEM file, a directory (c_rehash) or PEM text; a client
---  without it trusts the system's
---@field verify? boolean|"require"|"request" client: true, the certificate and the host name are
---  checked; server: clients must show a certificate of `ca` (true when there is a `ca`), or may
---@field min_version? "1.2"|"1.3" "1.2"
---@field max_version? "1.2"|"1.3" the newest
---@field alpn? string[] protocols, preferred first; the server's order decides
---@field ciphers? string OpenSSL's list for TLS 1.2
---@field tickets? boolean|string server: false: no session can be resumed; a secret of at least 32
---  bytes: tickets are good with all servers that have it, until it changes. Of the context that
---  listens, whatever `names` chooses
---@field names? table<string, neap.tls.context>|fun(name: string|nil): neap.tls.context|nil server
--- (serve, starttls):
---  the context for the name that the client asked for ("*.example.org" stands for one label), all
---  of whose options count; nil: this one. A function runs in the connection's task and may wait
local context_options = {
  cert = true, key = true, password = true, ca = true, verify = true, min_version = true,
  max_version = true, alpn = true, ciphers = true, tickets = true,
}

-- Options that are not the context's.
local more_options = {
  context = true, names = true, name = true, handshake_timeout = true, handshakes = true,
  session = true,
}

---@class neap.tls.context
local context = {}
context.__index = context
context.__name = "neap.tls.context"

-- face() tells these at the line that called into the library.
local function bad(n, name, text)
  error(("bad argument #%d to '%s' (%s)"):format(n, name, text), 2)
end

-- The core's argument errors speak of its own function; the script called `where`.
local function made(where, ok, value, message, code)
  if ok then return value, message, code end
  local text = type(value) == "string" and value:match "bad argument #1 to .- (%b())$"
  if text then bad(where == "context" and 1 or 2, where, text:sub(2, -2)) end
  error(value, 0)
end

local function config_of(opts, server)
  local config = { server = server, ask_name = server and opts.names ~= nil }
  for key in pairs(context_options) do config[key] = opts[key] end
  return config
end

local function new_context(opts, server, name)
  local config = config_of(opts, server)
  local box, message, code = made(name, pcall(core.context, config))
  if not box then return nil, message, code end
  return setmetatable({ box = box, server = server, opts = opts, names = opts.names }, context)
end

-- The name that is asked for, and looked for in the certificate (RFC 6066 3).
local function without_dot(name) return type(name) == "string" and name:gsub("%.$", "") or name end

local function check_names(names, name)
  local kind = type(names)
  if kind ~= "nil" and kind ~= "table" and kind ~= "function" then
    bad(1, name, "option 'names': table or function expected, got " .. kind)
  end
end

--- Makes a context: certificates, trust and rules, read once and shared by any number of
-- connections. For clients it also remembers sessions, so that a second connection to a server is
-- cheaper.
---@param opts? neap.tls.options with `server = true` for the serving side
---@return neap.tls.context|nil context
---@return string? message
---@return string? code ECERT (a certificate or key that is none, or do not fit), ENOENT, EACCES,
---  EINVAL
tls.context = face(function(opts)
  opts = opts or {}
  if type(opts) ~= "table" then
    bad(1, "context", "table expected, got " .. type(opts))
  end
  for key in pairs(opts) do
    if not context_options[key] and key ~= "server" and key ~= "names" then
      bad(1, "context", ("unknown option '%s'"):format(tostring(key)))
    end
  end
  check_names(opts.names, "context")
  return new_context(opts, opts.server and true or false, "context")
end)

local reload = face(function(self, opts)
  local all = {}
  for key, value in pairs(self.opts) do all[key] = value end
  for key, value in pairs(opts or {}) do all[key] = value end
  local box, message, code =
    made("reload", pcall(core.context, config_of(all, self.server), self.box))
  if not box then return nil, message, code end
  self.opts, self.names = all, all.names
  return self
end)

--- Reads the certificates again, or others: connections to come use them, open ones stay as they
-- are, and so do the tickets that clients hold, unless `ca` or `verify` change. After a failure
-- everything is as before.
---@param opts? neap.tls.options what changes
---@return neap.tls.context|nil self
---@return string? message
---@return string? code
function context:reload(opts) return reload(self, opts) end

local function is_context(value) return getmetatable(value) == context end

-- The context that the options name or describe.
local function context_of(opts, server, name)
  local given = opts.context
  if given == nil then
    if server and not opts.cert and not opts.names then
      bad(2, name, "option 'cert': a server needs a certificate")
    end
    return new_context(opts, server, name)
  end
  if not is_context(given) or given.server ~= server then
    local kind = server and "a server's" or "a client's"
    bad(2, name, ("option 'context': %s context expected"):format(kind))
  end
  for key in pairs(opts) do -- ignored, `verify` or `names` would let in whom nobody expects
    if context_options[key] or key == "names" then
      bad(2, name, ("option '%s': the context's, which is given"):format(key))
    end
  end
  return given
end

-- One context for all connections that give no options: it is also where sessions are kept.
local plain

local function client_context(opts, name)
  local own = opts.context ~= nil
  for key in pairs(context_options) do own = own or opts[key] ~= nil end
  if own then return context_of(opts, false, name) end
  if not plain then
    local message, code
    plain, message, code = new_context({}, false, name)
    if not plain then return nil, message, code end
  end
  return plain
end

local function choose(names, name)
  if type(names) == "function" then return names(name) end
  if not name then return nil end
  name = name:lower()
  return names[name] or names[(name:gsub("^[^.]+", "*", 1))]
end

-- Waits for the handshake's end; in a server answers the question for the client's name.
local function handshake(stream, ctx, seconds)
  local by = seconds and tasks.now() + seconds
  while true do
    local left = by and math.max(0, by - tasks.now())
    local done, name, code = core.handshake(stream, left)
    if done then return stream end
    if done == nil then return nil, name, code end
    local other = ctx.names and choose(ctx.names, name)
    if other ~= nil and not is_context(other) then
      error("'names' gave something that is no context: " .. type(other), 0)
    end
    core.use(stream, other and other.box)
  end
end

local function check_seconds(opts, key, name)
  local s = opts[key]
  if s ~= nil and (type(s) ~= "number" or s ~= s or s < 0) then
    bad(2, name, ("option '%s': seconds expected, got %s"):format(key, tostring(s)))
  end
  return s
end

local start_options = { server = true, unread = true, timeout = true }

-- stream:starttls (neap.stream).
function tls.start(stream, opts)
  opts = opts or {}
  if type(opts) ~= "table" then
    bad(2, "starttls", "table expected, got " .. type(opts))
  end
  for key in pairs(opts) do
    if not (context_options[key] or more_options[key] or start_options[key]) then
      bad(2, "starttls", ("unknown option '%s'"):format(tostring(key)))
    end
  end
  check_names(opts.names, "starttls")
  check_seconds(opts, "timeout", "starttls")
  local server = opts.server and true or false
  local ctx, message, code
  if server then ctx, message, code = context_of(opts, true, "starttls")
  else ctx, message, code = client_context(opts, "starttls") end
  if not ctx then return nil, message, code end
  if not server and opts.name == nil and ctx.opts.verify ~= false then
    bad(2, "starttls", "option 'name': the server's name, which its certificate is checked for")
  end
  local ok
  local name = opts.name and without_dot(opts.name)
  ok, message, code = core.put(stream, ctx.box, name, opts.session, opts.unread)
  if not ok then return nil, message, code end
  return handshake(stream, ctx, opts.timeout or HANDSHAKE_S)
end

-- Splits a table of options into TLS's and the others.
local function split(opts)
  local own, rest = {}, {}
  for key, value in pairs(opts or {}) do
    if context_options[key] or more_options[key] then own[key] = value else rest[key] = value end
  end
  return own, rest
end

-- What is in the middle of its handshake when its task is cancelled goes with it.
local abandon = {
  __close = function(unfinished)
    if unfinished.stream then unfinished.stream:abort() end
  end,
}

-- Of a client's options for one server those that count for another too (a redirect): whom it
-- trusts and how it speaks, not who it is, nor what the first one is called.
function tls.for_others(opts)
  local own, rest = split(opts)
  local given = own.context
  if is_context(given) and given.opts.cert then
    for key in pairs(context_options) do own[key] = given.opts[key] end
    own.context = nil
  end
  own.cert, own.key, own.password, own.name, own.session = nil, nil, nil, nil, nil
  for key, value in pairs(own) do rest[key] = value end
  return rest
end

-- net.connect of a tls:// address; `connect` is the one for others.
function tls.connect(connect, addr, opts)
  local own, rest = split(opts)
  local host, port = addr:match "^tls://%[?(.-)%]?:(%w+)$"
  local by = rest.timeout and tasks.now() + rest.timeout
  local ctx, message, code = client_context(own, "connect")
  if not ctx then return nil, message, code end
  check_seconds(own, "handshake_timeout", "connect")
  local stream
  stream, message, code = connect("tcp://" .. addr:sub(7), rest)
  if not stream then return nil, (message:gsub("tcp://", "tls://", 1)), code end
  local unfinished <close> = setmetatable({ stream = stream }, abandon)
  local name = without_dot(own.name or host:gsub("%%.*$", ""))
  local ok
  ok, message, code = core.put(stream, ctx.box, name, own.session or (name .. ":" .. port))
  if ok then
    local left = by and math.max(0, by - tasks.now()) or math.huge
    ok, message, code = handshake(stream, ctx, math.min(left, own.handshake_timeout or HANDSHAKE_S))
  end
  unfinished.stream = nil
  if ok then return stream end
  if code == "ETIMEDOUT" then stream:abort() else stream:close() end -- the alert arrives
  return nil, ("connect %s: %s"):format(addr, message:gsub("^.-: ", "", 1)), code
end

-- net.listen of a tls:// address. Without serve, whose option `handshakes` is, the connection's
-- first read or write does the handshake, and can ask nobody for a context.
function tls.listen(listen, addr, opts)
  local own, rest = split(opts)
  local ctx, message, code = context_of(own, true, "listen")
  if not ctx then return nil, message, code end
  if ctx.names and not own.handshakes then
    bad(2, "listen", "option 'names': serve and starttls have it, which do the handshake")
  end
  local l
  l, message, code = listen("tcp://" .. addr:sub(7), rest)
  if not l then return nil, (message:gsub("tcp://", "tls://", 1)), code end
  require("neap.listener.core").tls(l, ctx.box)
  return l
end

-- For net.serve: the options of the listener, and the handler behind a handshake that has its own
-- deadline and stands in line with at most `handshakes` others.
-- later: the connections come without TLS, perhaps with bytes of it that were read already.
function tls.serving(opts, handler, later)
  local own, rest = split(opts)
  local seconds = check_seconds(own, "handshake_timeout", "serve") or HANDSHAKE_S
  local most = own.handshakes or HANDSHAKES
  if math.type(most) ~= "integer" or most < 1 then
    bad(2, "serve", "option 'handshakes': a positive integer expected")
  end
  check_names(own.names, "serve")
  local ctx, message, code = context_of(own, true, "serve")
  if not ctx then return nil, message, code end
  if not later then rest.context, rest.handshakes = ctx, most end
  local places = semaphore(most)
  return rest, function(conn)
    local ok
    do
      local _ <close> = places:permit()
      ok = true
      if later then ok, message, code = core.put(conn, ctx.box, nil, nil, true) end
      if ok then ok, message, code = handshake(conn, ctx, seconds) end
    end
    if ok then return handler(conn) end
    error(setmetatable({ message = message, code = code }, {
      __name = "neap.error", __tostring = function(e) return e.message end,
    }), 0)
  end
end

return tls
