-- ssh_agent.lua: the agent that ssh-add fills, lists and empties (draft-ietf-sshm-ssh-agent).
--
-- Shows: a binary protocol by a codec and string.unpack; a socket that only its owner can reach.
-- It keeps keys in memory and does not sign: requests to (and to lock, and constraints, hardware
-- keys, certificates) get the protocol's refusal, so this agent lists but does not log in.
-- Try:   neap scripts/examples/ssh_agent.lua unix:/tmp/agent.sock &
--        export SSH_AUTH_SOCK=/tmp/agent.sock; ssh-add ~/.ssh/id_ed25519; ssh-add -l; ssh-add -D

local codec = require "neap.codec"
local net = require "neap.net"

local FAILURE <const>, SUCCESS <const>, ANSWER <const> = "\5", "\6", "\12"
local message = codec.prefixed(">I4", 256 << 10)

-- How many strings a key of that type has, and which are public, in the order of its public key.
local types = {
  ["ssh-ed25519"] = { 2, 1 },
  ["ssh-rsa"] = { 6, 2, 1 },
  ["ecdsa-sha2-nistp256"] = { 3, 1, 2 },
  ["ecdsa-sha2-nistp384"] = { 3, 1, 2 },
  ["ecdsa-sha2-nistp521"] = { 3, 1, 2 },
}

local keys = {} -- { public =, private =, comment = } in the order they came

local function find(public)
  for i, key in ipairs(keys) do
    if key.public == public then return i end
  end
end

local requests = {}

requests[11] = function() -- what is there?
  local out = { ANSWER, (">I4"):pack(#keys) }
  for _, key in ipairs(keys) do out[#out + 1] = (">s4s4"):pack(key.public, key.comment) end
  return table.concat(out)
end

requests[17] = function(body) -- add
  local name, at = (">s4"):unpack(body)
  local kind = types[name]
  if not kind then return FAILURE end
  local public, format = { (">s4"):pack(name) }, ">" .. ("s4"):rep(kind[1] + 1)
  local fields = { format:unpack(body, at) }
  for i = 2, #kind do public[i] = (">s4"):pack(fields[kind[i]]) end
  local key = { public = table.concat(public), private = body, comment = fields[kind[1] + 1] }
  keys[find(key.public) or #keys + 1] = key
  return SUCCESS
end

requests[18] = function(body) -- remove
  local i = find((">s4"):unpack(body))
  if not i then return FAILURE end
  table.remove(keys, i)
  return SUCCESS
end

requests[19] = function() -- remove all
  keys = {}
  return SUCCESS
end

-- A length that points past the end of a request is an error of string.unpack.
local function answer(request)
  local handle = requests[request:byte()]
  local ok, reply = pcall(handle or error, request:sub(2))
  return ok and reply or FAILURE
end

local address = arg[1] or "unix:/tmp/agent.sock"
local server = net.serve(address, { mode = 384, timeout = false }, function(conn) -- 0600
  for request in conn:messages(message) do conn:send_message(message, answer(request)) end
end)
print("ssh_agent: listening on " .. server.address)
