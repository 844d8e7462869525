-- kv.lua: a key-value store that redis-cli and redis-benchmark can talk to.
--
-- Shows: frames of a protocol (RESP arrays and inline commands) arrive as Lua tables; answers to
-- pipelined commands leave in one system call without anybody asking for it.
-- Try:   neap scripts/examples/kv.lua [address]
--        redis-cli -p 6380 set greeting hello
--        redis-benchmark -p 6380 -t ping,set,get -P 16

local codec = require "neap.codec"
local net = require "neap.net"

local store = {}
local command = {}

-- A reply is the pieces of one conn:write.
local function bulk(s)
  if not s then return "$-1\r\n" end
  return "$", #s, "\r\n", s, "\r\n"
end
local function integer(n) return ":", n, "\r\n" end

function command.PING(message) return message and bulk(message) or "+PONG\r\n" end
function command.ECHO(message) return bulk(message) end
function command.GET(key) return bulk(store[key]) end
function command.SET(key, value)
  if not value then return "-ERR wrong number of arguments for 'set' command\r\n" end
  store[key] = value
  return "+OK\r\n"
end
function command.DEL(...)
  local n = 0
  for _, key in ipairs { ... } do
    if store[key] then n = n + 1 end
    store[key] = nil
  end
  return integer(n)
end
function command.EXISTS(key) return integer(store[key] and 1 or 0) end
function command.INCR(key)
  local n = math.tointeger(tonumber(store[key] or "0"))
  if not n then return "-ERR value is not an integer or out of range\r\n" end
  store[key] = tostring(n + 1)
  return integer(n + 1)
end
function command.CONFIG() return "*0\r\n" end
function command.COMMAND() return "*0\r\n" end

local server = net.serve(arg[1] or "127.0.0.1:6380", function(conn)
  for args in conn:messages(codec.resp()) do
    local name = args[1]
    local f = command[name] or command[name:upper()]
    if f then
      conn:write(f(table.unpack(args, 2)))
    elseif name:upper() == "QUIT" then
      conn:write "+OK\r\n"
      return
    else
      conn:write("-ERR unknown command '", name:gsub("[\r\n]", " "):sub(1, 100), "'\r\n")
    end
  end
end)

print("kv: listening on " .. server.address)
