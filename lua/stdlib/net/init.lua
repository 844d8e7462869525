-- neap.net: connecting, listening, serving, datagrams, pairs: everything that makes a socket.
--
-- Addresses are strings: tcp://host:port, udp://host:port, unix:/path, unix:@abstract,
-- unix-dgram:…, unix-seqpacket:…, raw:icmp, icmp:host, packet:eth0, fd:3, systemd:name, mem:name;
-- "host:port" and ":port" mean TCP. This file joins the C modules; what it adds itself is names in
-- front of calls that take literals.

require "neap.stream" -- the methods of streams that are written in Lua
require "neap.net.messages" -- those of datagram sockets

local connecting = require "neap.connect.core"
local listener = require "neap.listener.core"
local datagrams = require "neap.dgram.core"
local descriptor = require "neap.descriptor.core"
local pairs_of_streams = require "neap.pair.core"
local face = require "neap.face"

local net = {}

--- Every failure is `nil, message, code`: a message that reads well in `assert`, and a stable code.
---@alias neap.address string

---@class neap.net.connect_options
---@field timeout? number seconds for the lookup and all attempts together; none
---@field bind? neap.address the local address: a literal of the same kind ("10.0.0.2:0")
---@field resolver? string|neap.resolver who looks the name up: "system" (getaddrinfo, the default),
--- "c-ares" (/etc/hosts and resolv.conf, any number at once), or a resolver of dns.resolver
---@field nodelay? boolean any socket option, set before connecting (see stream:option)

--- Connects and waits until that is done.
--
-- A name is looked up off the loop and its addresses are raced (RFC 8305); the message of a failure
-- names each address tried: "connect tcp://foo:80: 10.0.0.1:80 connection refused; [::1]:80 …".
-- udp: and unix-dgram: give a connected datagram socket, unix-seqpacket: a record socket, fd: what
-- the descriptor is. Codes: EINVAL (address), EPROTONOSUPPORT (scheme), ENOTFOUND, EAI_AGAIN,
-- ETIMEDOUT, ECONNREFUSED and what else the kernel says.
---@param addr neap.address
---@param opts? neap.net.connect_options
---@return neap.stream|neap.datagram|nil stream
---@return string? message
---@return string? code
net.connect = face(function(addr, opts)
  if type(addr) == "string" and addr:find "^tls://" and (opts == nil or type(opts) == "table") then
    return require("neap.tls").connect(connecting.connect, addr, opts)
  end
  return connecting.connect(addr, opts)
end)

---@class neap.net.resolve_options
---@field timeout? number seconds; none
---@field family? "inet"|"inet6" only addresses of that family
---@field resolver? string|neap.resolver as connect has it

--- Looks a name up and waits for the answer. Several lookups of one name share an answer; at most
-- eight run at a time, the others wait in order (by c-ares: any number).
--
-- A bare name gives literals ("::1", "127.0.0.1"), an address gives addresses ("tcp://[::1]:80"),
-- in the order in which to try them. "localhost" is always loopback, of both families. Codes:
-- ENOTFOUND, EAI_AGAIN, EAI_FAIL, ETIMEDOUT, EINVAL.
---@param name string
---@param opts? neap.net.resolve_options
---@return string[]|nil addresses
---@return string? message
---@return string? code
net.resolve = connecting.resolve

-- Schemes whose rest is no host.
local nameless = {
  unix = true,
  ["unix-dgram"] = true,
  ["unix-seqpacket"] = true,
  raw = true,
  icmp = true,
  packet = true,
  fd = true,
  systemd = true,
  mem = true,
}

-- Whether the address has a host that must be looked up: tcp and udp, neither empty nor a literal.
local function has_name(addr)
  local scheme, rest = addr:match "^(%l[%w-]*)://(.*)$"
  if scheme and scheme ~= "tcp" and scheme ~= "udp" then return false end
  if not scheme and nameless[addr:match "^([%l-]*):"] then return false end
  local host = (rest or addr):match "^([^%[%]:]+):%d+$"
  return host ~= nil and not host:find "^[%d.]+$"
end

-- icmp: with a name -> icmp: with literals.
local function pinged(what, addr, opts)
  local list, message, code = connecting.resolve(addr:match "^icmp:(.*)$", opts)
  if not list then return nil, what .. " " .. message:gsub("^resolve ", ""), code end
  for i, ip in ipairs(list) do
    list[i] = "icmp:" .. (ip:find(":", 1, true) and "[" .. ip .. "]" or ip)
  end
  return list
end

local function is_pinged(addr)
  local host = type(addr) == "string" and addr:match "^icmp:([^%[].*)$"
  return host and not host:find "^[%d.]+$"
end

-- An address with a name -> literals; others as they are.
local function literals(what, addr, opts)
  if is_pinged(addr) then return pinged(what, addr, opts) end
  if type(addr) ~= "string" or not has_name(addr) then return { addr } end
  local list, message, code = connecting.resolve(addr, opts)
  if list then return list end
  return nil, what .. " " .. message:gsub("^resolve ", ""), code
end

local function of_family(list, v6)
  local some = {}
  for _, addr in ipairs(list) do
    if (addr:find("[", 1, true) ~= nil) == v6 then some[#some + 1] = addr end
  end
  return #some > 0 and #some < #list and some or nil
end

-- A family that this host does not have.
local absent = { EADDRNOTAVAIL = true, EAFNOSUPPORT = true }

---@class neap.net.listen_options
---@field backlog? integer connections waiting for accept; 4096, cut to somaxconn
---@field mode? integer permissions of an AF_UNIX path, never wider for a moment; the umask decides
---@field uid? string|integer its owner, by name or number; `mode` is 0660 then
---@field gid? string|integer its group
---@field shared? boolean other processes have the socket too: each connection wakes one, in turns
---@field reuseport? boolean any socket option, set before binding (see stream:option)

local listen = function(addr, opts)
  local list, message, code = literals("listen", addr)
  if not list then return nil, message, code end
  if #list == 1 then return listener.listen(list[1], opts) end
  local l
  l, message, code = listener.listen(list, opts)
  if l or not absent[code] then return l, message, code end
  for _, v6 in ipairs { false, true } do
    local some = of_family(list, v6)
    if some then
      l = listener.listen(some, opts)
      if l then return l end
    end
  end
  return nil, message, code
end

--- Listens. A name listens on all its addresses, of both families, and on one port ("localhost:0"
-- gives both the same); it may wait for the lookup, literals never wait.
--
-- `listener.address` has the real port; ":8080" is one socket for both families. A stale AF_UNIX
-- path is replaced only if nobody answers on it.
--
-- `systemd:web` is every socket that was passed to this process under that name (sd_listen_fds(3);
-- "unknown" without LISTEN_FDNAMES), each given once; `fd:3` is that descriptor. What is no
-- listening socket is refused and left open. Codes: EADDRINUSE, EADDRNOTAVAIL, EACCES,
-- ENAMETOOLONG, EINVAL, ENOTFOUND, ENOENT (systemd: nothing for this process), EBADF, ENOTSOCK …
---@param addr neap.address|neap.address[]
---@param opts? neap.net.listen_options
---@return neap.listener|nil listener
---@return string? message
---@return string? code
net.listen = face(function(addr, opts)
  if type(addr) == "string" and addr:find "^tls://" then
    return require("neap.tls").listen(listen, addr, opts)
  end
  return listen(addr, opts)
end)

-- Datagrams are UDP where nothing else is said.
local function with_scheme(addr) return addr:find "://" and addr or "udp://" .. addr end

-- No way to that address from here, or no such address here: the next one of the name may do.
local unreachable = { EADDRNOTAVAIL = true, EAFNOSUPPORT = true, ENETUNREACH = true,
  EHOSTUNREACH = true }

-- The first of the addresses, and of the peer's, that this host can use.
local function first_datagram(list, peers, opts)
  local socket, message, code
  for i = 1, math.max(1, #list) do
    for k = 1, math.max(1, #peers) do
      local copy = opts
      if peers[k] then
        copy = { connect = peers[k] }
        for key, value in pairs(opts) do
          if key ~= "connect" then copy[key] = value end
        end
      end
      socket, message, code = datagrams.datagram(list[i], copy)
      if socket or not unreachable[code] then return socket, message, code end
    end
  end
  return nil, message, code
end

---@class neap.net.datagram_options
---@field connect? neap.address the peer; send then needs no address, and only its messages come
---@field info? boolean what recv's `info` tells is noted from the first message on
---@field errors? boolean IP: what ICMP says of messages is told by recv_error, not by recv and send
---@field filter? integer[][] classic BPF: instructions {code, jt, jf, k}, at most 4096
---@field family? "inet"|"inet6" of raw:; by the protocol
---@field promiscuous? boolean of packet:, frames to other hosts too
---@field mode? integer permissions of an AF_UNIX path
---@field uid? string|integer its owner, by name or number; `mode` is 0660 then
---@field gid? string|integer its group
---@field timeout? number default of each wait, seconds; none
---@field broadcast? boolean any socket option (see stream:option)

--- A datagram socket: udp://, unix-dgram:, fd:, systemd: (the next one of that name); bound to
-- `addr`, unbound when that is nil. It is one socket with one address: of a name, the first that
-- this host can use; `udp://:port` is both families.
--
-- `icmp:` (IPv4) and `icmp:[::]` are ping sockets, which need no privilege where the system allows
-- them (net.ipv4.ping_group_range): echo requests go out, their replies come back, without IP
-- header; the kernel fills in identifier and checksum. `raw:icmp`, `raw:47` receive all packets of
-- a protocol, those of IPv4 with their header, and send to `raw:10.0.0.1`. `packet:eth0` captures
-- whole frames of an interface, `packet:` of all; nothing can be sent. The last two need
-- CAP_NET_RAW (EPERM says so). Codes also: ENODEV (no such interface), EINVAL (address, filter).
---@param addr? neap.address
---@param opts? neap.net.datagram_options
---@return neap.datagram|nil socket
---@return string? message
---@return string? code
net.datagram = face(function(addr, opts)
  if type(addr) == "string" and has_name(addr) then addr = with_scheme(addr) end
  local list, message, code = literals("datagram", addr)
  if not list then return nil, message, code end
  local peer = type(opts) == "table" and opts.connect
  local peers = {}
  if is_pinged(peer) or type(peer) == "string" and has_name(peer) then
    local family = list[1] and list[1]:find "^udp://%d" and "inet" or nil
    if not is_pinged(peer) then peer = with_scheme(peer) end
    peers, message, code = literals("datagram", peer, { family = family })
    if not peers then return nil, message, code end
  end
  return first_datagram(list, peers, opts)
end)

-- send(msg, "udp://name:port"): the first address of the name that the socket can send to.
datagrams.resolver(function(destination, opts, family)
  if is_pinged(destination) then
    local all, why, bad = pinged("send to", destination, { timeout = opts and opts.timeout,
      family = family })
    if all then return all[1] end
    return nil, why, bad
  end
  destination = with_scheme(destination)
  local limits = { timeout = opts and opts.timeout, family = family }
  local list, message, code = connecting.resolve(destination, limits)
  if list then return list[1] end
  return nil, message, code
end)

--- Two sockets connected to each other: "unix" (default) and "mem" streams, "unix-dgram" datagram
-- sockets, "unix-seqpacket" record sockets. Codes: EMFILE, ENFILE, ENOMEM.
---@param kind? "unix"|"mem"|"unix-dgram"|"unix-seqpacket"
---@return neap.stream|neap.datagram|nil a
---@return neap.stream|neap.datagram|string b
---@return string? code
net.pair = face(function(kind)
  if kind == "unix-dgram" or kind == "unix-seqpacket" then return datagrams.pair(kind) end
  return pairs_of_streams.pair(kind)
end)

--- The object for a descriptor, by what the kernel says it is: a listener, a stream (of a socket,
-- pipe, terminal or file), a datagram or record socket. Takes ownership of the number, also on
-- failure. Codes: EBADF, EISDIR, EOPNOTSUPP (an eventfd and the like).
---@param fd integer|neap.descriptor
---@return neap.stream|neap.listener|neap.datagram|nil object
---@return string? message
---@return string? code
net.adopt = descriptor.adopt

--- What was passed to this process as sd_listen_fds(3) has it and was not taken yet, of whatever
-- kind: also the connections and files that it once gave to the service manager by
-- `neap.notify { fdstore = … }`. A list of descriptors, closed with it, with their names in its
-- field `names`; each is given once, and `systemd:` addresses do not find it any more.
-- Codes: ENOENT (nothing was passed to this process), EINVAL (LISTEN_FDS, LISTEN_FDNAMES).
---@param name? string only those of that name
---@return neap.descriptor[]|nil descriptors
---@return string? message
---@return string? code
net.inherited = listener.inherited

--- A descriptor object that owns the number and closes it when it is closed or collected.
---@param fd integer
---@return neap.descriptor|nil descriptor
---@return string? message
---@return string? code
net.own = descriptor.own

--- Connects two streams until both have ended: what one receives the other sends, half-closes are
-- passed on, the slower side sets the pace. Closes neither. Runs in C; one task waits. Where both
-- are sockets or pipes without a layer, much is moved inside the kernel (splice, on Linux): up to
-- 256 KiB each way are on their way then, and none is lost when the pipe ends by a deadline.
---@param a neap.stream
---@param b neap.stream
---@param opts? { timeout: number }
---@return integer|nil a_to_b bytes; or nil, message, code and then both numbers
---@return integer|string b_to_a
---@return string? code a failure of either side, ETIMEDOUT (both go on), ECANCELED (one was closed)
---@return integer? a_to_b
---@return integer? b_to_a
net.pipe = require("neap.pipe.core").pipe

---@class neap.net.hub_options
---@field policy? "wait"|"drop"|"disconnect" for members that do not keep up; "disconnect"
---@field limit? integer a member is slow when more bytes than this are queued for it; 262144
---@field timeout? number seconds send waits under "wait"; no limit

--- One message for many streams: its bytes exist once, all get it in the same order, closed members
-- leave by themselves. `disconnect` fails a slow member's stream with ENOBUFS, `drop` leaves
-- messages out for it, `wait` holds the sender before anybody gets the message.
---@param opts? neap.net.hub_options
---@return neap.hub
net.hub = require("neap.hub.core").hub

---@class neap.net.fault_options
---@field seed? integer the same one gives the same faults; 0
---@field cut? integer reads and writes are of 1 to `cut` bytes; 0: as they come
---@field again? number 0 to less than 1: how often a ready direction pretends not to be; 0
---@field delay? number seconds, of which such a pause lasts a random part; 0: until the next turn
---@field reset_after? integer bytes, both ways together, before the connection is reset; 0: never

--- Puts the fault layer on a stream: it loses and changes nothing, but cuts, delays and refuses, by
-- a seed. For specs and harnesses. Bytes that are unread go through it too.
---@param stream neap.stream
---@param opts? neap.net.fault_options
---@return neap.stream stream the same one
net.fault = require("neap.fault.core").put

-- These load when they are first used: they build on this module.
local later = { serve = "neap.net.serve" }

return setmetatable(net, {
  __index = function(_, name)
    local module = later[name]
    if not module then return nil end
    local value = require(module)
    if type(value) == "table" and value[name] then value = value[name] end
    net[name] = value
    return value
  end,
})
