-- smtp_sink.lua: takes mail for anybody into a Maildir: for trying out programs that send it.
--
-- Shows: STARTTLS that nothing can be slipped past (RFC 3207); only CRLF ends a line, so that no
--        message smuggles in another (RFC 5321 2.3.8); a file that appears whole or not at all.
-- Try:   openssl req -x509 -nodes -days 9 -keyout k.pem -out c.pem -subj /CN=localhost
--        neap scripts/examples/smtp_sink.lua mail 127.0.0.1:2525 c.pem k.pem
--        swaks --server 127.0.0.1:2525 --to you@example.org --tls --pipeline; cat mail/new/*
--        (with tls:// before the address: TLS from the beginning, for curl smtps://…)

local fs = require "neap.fs"
local net = require "neap.net"
local process = require "neap.process"
local tls = require "neap.tls"

local SIZE_MAX = 10 << 20 -- bytes of a message
local LINE_MAX = 1000 -- with its CRLF (RFC 5321 4.5.3.1.6)
local TO_MAX = 100
local ERRORS_MAX = 10

local dir, address, cert, key = arg[1] or "mail", arg[2] or "127.0.0.1:2525", arg[3], arg[4]
local context = cert and assert(tls.context { server = true, cert = cert, key = key })
local private = tonumber("700", 8)
for _, name in ipairs { "", "/tmp", "/new", "/cur" } do
  local ok, message, code = fs.mkdir(dir .. name, private)
  assert(ok or code == "EEXIST", message)
end

-- A line with its CRLF; nil at the end, also inside a line.
local function read_line(conn)
  local line = ""
  repeat
    local piece, message, code = conn:read "L"
    if not piece or piece:byte(-1) ~= 10 then return nil, message, code end
    line = line .. piece
    if #line > LINE_MAX then return nil, "line too long", "EMSGSIZE" end
  until line:sub(-2) == "\r\n"
  return line
end

-- The message into a file, with lines as files have them: true, or the refusal, or nothing when
-- the connection is over. All of it is read, so that what follows is a command again.
local function receive(conn, file)
  local size, pieces, refusal = 0, {}, nil
  while true do
    local line, _, code = read_line(conn)
    if not line then return code == "EMSGSIZE" and "500 5.5.2 line too long" or nil, true end
    if line == ".\r\n" then break end
    if line:byte() == 46 then line = line:sub(2) end -- dots are doubled on the way (4.5.2)
    size = size + #line
    line = line:sub(1, -3)
    if line:find "[\r\n]" then refusal = "554 5.6.0 bare CR or LF" end
    if size > SIZE_MAX then refusal = "552 5.3.4 message too big" end
    pieces[#pieces + 1] = line .. "\n"
    if #pieces >= 1000 then
      if not refusal and not file:write(table.concat(pieces)) then refusal = "452 4.3.1 disk" end
      pieces = {}
    end
  end
  if refusal then return refusal end
  return file:write(table.concat(pieces)) and file:sync() and true or "452 4.3.1 disk"
end

local function head(s)
  local protocol = s.extended and (s.conn.tls and "ESMTPS" or "ESMTP") or "SMTP"
  local peer = (s.conn.peer or ""):match "^%l+://%[?(.-)%]?:%d+$" or "local"
  local date = os.date "!%a, %d %b %Y %H:%M:%S +0000"
  return ("Return-Path: <%s>\nDelivered-To: %s\nReceived: from %s ([%s]) by sink with %s; %s\n")
    :format(s.from, table.concat(s.to, ", "), s.helo, peer, protocol, date)
end

local count = 0
local remove = { __close = function(t) fs.unlink(t.path) end } -- after the rename it does nothing

local function deliver(s)
  count = count + 1
  local name = ("%d.P%dQ%d.localhost"):format(os.time(), process.pid, count)
  local tmp <close> = setmetatable({ path = dir .. "/tmp/" .. name }, remove)
  local file <close> = fs.open(tmp.path, "wx", { mode = tonumber("600", 8) })
  if not file or not file:write(head(s)) then return "451 4.3.0 cannot write" end
  s.conn:write "354 end with a dot on a line of its own\r\n"
  local ok, over = receive(s.conn, file)
  if ok ~= true then return ok, over end
  if not fs.rename(tmp.path, dir .. "/new/" .. name) then return "451 4.3.0 cannot keep it" end
  return "250 2.0.0 kept as " .. name
end

local function reset(s) s.from, s.to = nil, {} end

-- "FROM:<a@b> SIZE=1" -> "a@b", " SIZE=1"; source routes are dropped (RFC 5321 F.2).
local function path(rest, word)
  local name, mailbox, parameters = rest:match "^(%a+):<([^<>%s%c]*)>(.*)$"
  if not name or name:upper() ~= word or parameters:find "^%S" then return nil end
  return mailbox:gsub("^@[^:]*:", ""), parameters
end

-- What to answer, and true when that is the end. `rest` is what follows the verb.
local command = {}

local function hello(s, name, extended)
  if not name:find "^[%w.:_%[%]-]+$" then return "501 a name expected" end
  reset(s)
  s.helo, s.extended = name, extended
  if not extended then return "250 localhost" end
  local list = { "localhost", "PIPELINING", "SIZE " .. SIZE_MAX, "8BITMIME" }
  if context and not s.conn.tls then list[#list + 1] = "STARTTLS" end
  return "250-" .. table.concat(list, "\r\n250-") .. "\r\n250 ENHANCEDSTATUSCODES"
end
function command.HELO(s, rest) return hello(s, rest, false) end
function command.EHLO(s, rest) return hello(s, rest, true) end

function command.MAIL(s, rest)
  if not s.helo or s.from then return "503 5.5.1 not now" end
  local from, parameters = path(rest, "FROM")
  if not from then return "501 5.5.4 FROM:<address> expected" end
  for name, value in parameters:gmatch "([^%s=]+)=?(%S*)" do
    name, value = name:upper(), value:upper()
    if name == "SIZE" and value:find "^%d+$" then
      if tonumber(value) > SIZE_MAX then return "552 5.3.4 message too big" end
    elseif name ~= "BODY" or value ~= "8BITMIME" and value ~= "7BIT" then
      return "555 5.5.4 unknown parameter"
    end
  end
  s.from = from
  return "250 2.1.0 ok"
end

function command.RCPT(s, rest)
  if not s.from then return "503 5.5.1 not now" end
  local to, parameters = path(rest, "TO")
  if not to or not (to:find "^.+@.+$" or to:lower() == "postmaster") then
    return "501 5.1.3 TO:<address> expected"
  end
  if parameters:find "%S" then return "555 5.5.4 unknown parameter" end
  if #s.to >= TO_MAX then return "452 4.5.3 too many recipients" end
  s.to[#s.to + 1] = to
  return "250 2.1.5 ok"
end

function command.DATA(s)
  if #s.to == 0 then return "503 5.5.1 no recipients" end
  local reply, over = deliver(s)
  reset(s)
  return reply, over
end

-- What came with the command was not encrypted: starttls refuses it, and that is the end.
function command.STARTTLS(s)
  if not context or s.conn.tls then return "502 5.5.1 not offered" end
  s.conn:write "220 2.0.0 go ahead\r\n"
  s.conn:flush()
  local ok, message = s.conn:starttls { server = true, context = context }
  if not ok then
    print("smtp_sink: " .. message)
    return nil, true
  end
  reset(s)
  s.helo = nil
end

function command.RSET(s) reset(s) return "250 2.0.0 ok" end
function command.NOOP() return "250 2.0.0 ok" end
function command.VRFY() return "252 2.5.0 everybody is welcome" end
function command.QUIT() return "221 2.0.0 bye", true end

local bare = { DATA = true, RSET = true, QUIT = true, STARTTLS = true } -- take no argument

local function answer(s, line)
  local verb, rest = line:match "^(%a+) *([^\r\n]-) *\r\n$"
  verb = verb and verb:upper()
  if not command[verb] then return "500 5.5.2 unknown command" end
  if bare[verb] and rest ~= "" then return "501 5.5.4 no argument expected" end
  return command[verb](s, rest)
end

local function serve(conn)
  local s, errors = { conn = conn }, 0
  reset(s)
  conn:write "220 localhost ESMTP smtp_sink\r\n"
  repeat
    local line, _, code = read_line(conn)
    if code == "EMSGSIZE" then conn:write "500 5.5.2 line too long\r\n" end
    if code == "ETIMEDOUT" then conn:write "421 4.4.2 too slow\r\n" end
    if not line then return end
    local reply, over = answer(s, line)
    if reply then conn:write(reply, "\r\n") end
    if reply and reply:find "^5" then errors = errors + 1 end
    if errors > ERRORS_MAX then
      conn:write "421 4.7.0 too many errors\r\n"
      over = true
    end
  until over
end

local options = { max_connections = 100, line_max = LINE_MAX }
if address:find "^tls://" then options.context = context end
local server = net.serve(address, options, serve)

print("smtp_sink: listening on " .. server.address .. ", for " .. dir)
