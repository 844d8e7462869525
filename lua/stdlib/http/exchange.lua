-- One request and the head of its answer, on a connection.
--
-- The one idea: a body that may have to wait is sent by a task of its own, while this one already
-- reads: a server that answers early (401, 413) is heard at once, and the rest is not sent. What
-- that task waits for breaks nothing when it ends, so the answer's body can still be read. With
-- call.duplex it goes on beside the answer instead, until exchange.stop.

local codec = require "neap.codec.core"
local tasks = require "neap.task.core"

local exchange = {}

local MAX_HEAD <const> = 65536
-- Interim answers before the answer itself: 100 Continue, 103 Early Hints.
local INTERIM_MAX <const> = 10
-- How long a server may take to say 100 before the body is sent all the same (RFC 9110 10.1.1).
local CONTINUE_S <const> = 1
-- Bytes in one write of a body: with as much before it a stream's write never waits.
local PIECE_MAX <const> = 65536

local response_head = codec.http_response(MAX_HEAD)

-- Waits in flush, which can be given up without breaking the stream, never in write.
local function send(up, conn, bytes)
  for at = 1, #bytes, PIECE_MAX do
    up.state, up.since = "sending", tasks.now()
    if conn.unsent_bytes >= PIECE_MAX then
      local ok, message, code = conn:flush()
      if not ok then return nil, message, code end
    end
    local ok, message, code = conn:write(#bytes <= PIECE_MAX and bytes or
      bytes:sub(at, at + PIECE_MAX - 1))
    if not ok then return nil, message, code end
  end
  return true
end

local function send_pieces(up, conn, body)
  if type(body) == "string" then return send(up, conn, body) end
  while true do
    up.state = "producing"
    local piece = body()
    if piece == nil then return send(up, conn, "0\r\n\r\n") end
    if type(piece) ~= "string" then
      error("the body's iterator gave a " .. type(piece) .. ", no string", 0)
    end
    if piece ~= "" then
      local ok, message, code = send(up, conn, ("%x\r\n"):format(#piece))
      if ok then ok, message, code = send(up, conn, piece) end
      if ok then ok, message, code = send(up, conn, "\r\n") end
      if not ok then return nil, message, code end
    end
  end
end

--- Ends the sending of a body, where it is.
function exchange.stop(up)
  if up.state == "sent" or up.state == "failed" then return end
  up.stopped = true
  up.task:cancel()
  up.task:join()
end

-- Ends when the exchange does, whatever its outcome, unless the reply has it.
local stop = {
  __close = function(up)
    if not up.handed then exchange.stop(up) end
  end,
}

local function start_upload(conn, body)
  local up = setmetatable({ state = "producing", since = tasks.now() }, stop)
  up.task = tasks.spawn(function()
    local raised, ok, message, code = pcall(send_pieces, up, conn, body)
    if up.stopped then return end
    up.state, up.since = raised and ok and "sent" or "failed", tasks.now()
    if not raised then
      up.raised = ok
      conn:abort() -- who reads is to know
    elseif not ok then
      up.message, up.code = message, code
    end
  end)
  return up
end

-- How long the answer may still take: while something is on its way up, it is not late.
local function patience(call, up)
  local left = call.left()
  if not up or up.state == "failed" then return 0 end
  if up.state == "producing" then return left end
  return math.min(left, up.since + call.stall - tasks.now())
end

-- call.overdue: `wait` was over, not a deadline of the caller's, after which nothing is waited for.
local function read_one(conn, call, up, wait)
  while true do
    local began = tasks.now()
    local head, message, code = conn:read(response_head, { timeout = wait })
    call.overdue = code == "ETIMEDOUT" and tasks.now() - began >= wait
    if up and up.raised ~= nil then error(up.raised, 0) end
    if head then
      if head.refusal then return nil, "malformed response: " .. head.why, "EBADMSG" end
      return head
    end
    wait = call.overdue and patience(call, up) or 0
    if wait <= 0 then
      if up and up.message then message, code = up.message, up.code end
      return nil, message or "the server closed the connection", code or "EPIPE"
    end
  end
end

-- The answer; while `expecting`, also 100 Continue.
local function read_head(conn, call, up, wait, expecting)
  for _ = 1, INTERIM_MAX do
    local head, message, code = read_one(conn, call, up, math.min(wait, call.left()))
    if not head then return nil, message, code end
    if head.status >= 200 or head.status == 101 then return head end
    call.answered = true
    if expecting and head.status == 100 then return head end
  end
  return nil, "too many interim responses", "EBADMSG"
end

-- The head of the request has gone; the server says whether it wants the body (RFC 9110 10.1.1).
-- nil alone: it says nothing.
local function ask(conn, call)
  local head, message, code = read_head(conn, call, nil, math.min(CONTINUE_S, call.left()), true)
  if head and head.status ~= 100 then return head end
  if head or call.overdue and call.left() > 0 then return nil end
  return nil, message, code
end

--- Sends the request, `head` and then call.body, and reads the head of the answer, which has
-- `whole` if the request has gone in full. nil, message, code; call.answered: after an interim
-- answer.
function exchange.run(conn, call, head)
  local body = call.body
  local waits = body and (type(body) == "function" or #body > PIECE_MAX)
  if call.expects then
    local early, message, code = conn:write(head)
    if early then early, message, code = ask(conn, call) end
    if early then early.unasked = true end -- nothing of the body has gone
    if early or code then return early, message, code end
    head = ""
  end
  local ok, message, code = conn:write(head, not waits and body or "")
  if not ok and code == "ETIMEDOUT" then return nil, message, code end
  local up <close> = ok and waits and start_upload(conn, body) or nil
  local reply
  reply, message, code = read_head(conn, call, up, call.left())
  if not reply then return nil, message, code end
  reply.whole = ok and (not up or up.state == "sent")
  if up and call.duplex then reply.up, up.handed = up, true end
  return reply
end

return exchange
