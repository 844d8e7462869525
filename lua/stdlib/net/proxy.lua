-- The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): whose connection it is
-- that a proxy hands on.
--
-- The one idea: a header is believed, and required, from the peers that were named, and from nobody
-- else; what follows it stays unread, for TLS or the handler. TLVs are skipped.

local core = require "neap.proxy.core"
local scope = require "neap.scope.core"

local proxy = {}

local SIGNATURE <const> = "\r\n\r\n\0\r\nQUIT\n"
-- Both versions have more bytes than these twelve.
local FIRST <const> = #SIGNATURE
local LINE_MAX <const> = 107
-- Addresses of 36 bytes, and what TLVs a proxy may add: names, a certificate's subject.
local LENGTH_MAX <const> = 4096
local TIMEOUT_S <const> = 10

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

local function fail(text, code)
  error(setmetatable({ message = "PROXY protocol: " .. text, code = code or "EBADMSG",
    common = true }, failure), 0)
end

local function must_read(conn, n)
  local bytes, message, code = conn:read(n)
  if bytes and #bytes == n then return bytes end
  fail(message or "the end came inside the header", code or "EPIPE")
end

-- The source's address; nothing: the proxy speaks for itself, or of what has none.
local function version1(conn, first)
  local rest, message, code = conn:read_until("\r\n", LINE_MAX - FIRST)
  if not rest then fail(message or "the end came inside the header", code or "EPIPE") end
  local line = first .. rest
  if line:find "^PROXY UNKNOWN" then return nil end
  local kind, from, to, port = line:match "^PROXY TCP([46]) ([%x:.]+) ([%x:.]+) (%d+) %d+$"
  local address = kind and (kind == "4" and "tcp://%s:%s" or "tcp://[%s]:%s"):format(from, port)
  if not address or (kind == "4") == (from:find(":", 1, true) ~= nil) or not to then
    fail "malformed header"
  end
  return address
end

local function version2(conn)
  local command, family, length = (">BBI2"):unpack(must_read(conn, 4))
  if command >> 4 ~= 2 or command & 15 > 1 then fail "unknown version or command" end
  if length > LENGTH_MAX then fail "the header is too long" end
  local body = length > 0 and must_read(conn, length) or ""
  if command & 15 == 0 then return nil end
  if family == 0x11 then
    if #body < 12 then fail "malformed header" end
    local a, b, c, d, port = (">BBBBxxxxI2"):unpack(body)
    return ("tcp://%d.%d.%d.%d:%d"):format(a, b, c, d, port)
  elseif family == 0x21 then
    if #body < 36 then fail "malformed header" end
    local words = { (">I2I2I2I2I2I2I2I2"):unpack(body) }
    local port = (">I2"):unpack(body, 33)
    return ("tcp://[%x:%x:%x:%x:%x:%x:%x:%x]:%d"):format(words[1], words[2], words[3], words[4],
      words[5], words[6], words[7], words[8], port)
  end
  return nil
end

local function read_header(conn, seconds)
  local _ <close> = scope.deadline(seconds or TIMEOUT_S) -- of all of it, however it drips
  local first = must_read(conn, FIRST)
  local address
  if first == SIGNATURE then
    address = version2(conn)
  elseif first:find "^PROXY " and not first:find "[\r\n]" then
    address = version1(conn, first)
  else
    fail "a header expected"
  end
  if address and not core.set_peer(conn, address) then fail "malformed address" end
end

local function is_trusted(conn, list)
  local peer = conn.peer
  local ip = peer and peer:match "^%l+://%[?([^%]]-)%]?:%d+$"
  for _, one in ipairs(list) do
    if ip and one ~= "unix" and core.within(ip, one) then return true end
    if one == "unix" and peer and peer:find "^unix:" then return true end
  end
  return false
end

-- What is wrong with the option; nil: nothing.
function proxy.check(list)
  if type(list) ~= "table" then return "a list of networks expected, got " .. type(list) end
  for _, one in ipairs(list) do
    local good = type(one) == "string" and not one:find "%z"
    if not good or one ~= "unix" and core.within("::", one) == nil then
      return ("a network or \"unix\" expected, got %s"):format(tostring(one))
    end
  end
end

-- The handler of net.serve behind it.
function proxy.serving(list, seconds, handler)
  return function(conn)
    if is_trusted(conn, list) then read_header(conn, seconds) end
    return handler(conn)
  end
end

return proxy
