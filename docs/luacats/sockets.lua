---@meta
-- Definitions for editors: listeners, datagram and record sockets, descriptors, which are C
-- (src/bindings/listener.c, dgram.c, descriptor.c). See neap.net.

---@class neap.listener
---@field address neap.address where it listens, with the real port; the first of `addresses`
---@field addresses neap.address[] of all its sockets (a copy); they stay when it is closed
---@field fd? integer of its first socket; nil when closed or mem:
---@field shed integer connections turned away because no descriptor was left (see neap.net.serve)
local listener = {}

--- Waits for a connection. Nothing is accepted that nobody waits for: the kernel's backlog is the
--- only queue. A timeout of 0 asks the kernel once.
---@param opts? neap.timeout
---@return neap.stream|neap.datagram|nil conn a record socket when the address is unix-seqpacket:
---@return string? message
---@return string? code "ETIMEDOUT"; "ECANCELED": our side closed the listener
function listener:accept(opts) end

--- `for conn in listener:accepts() do`: ends when our side closes the listener, raises the rest.
---@param opts? neap.timeout of each step
---@return fun(): neap.stream|neap.datagram
function listener:accepts(opts) end

--- Closes its sockets and wakes the tasks in accept. The file of an AF_UNIX path stays, because
--- others may hold the socket; the next listen replaces it. Idempotent, as is `<close>`.
---@return true
function listener:close() end

--- Moves its descriptors out: their numbers are the caller's, the listener is closed.
---@return integer? fd
---@return integer|string ... further ones; or the message and "EOPNOTSUPP" (mem:)
function listener:take() end

--- Reads a socket option of the first socket, or sets it on all. Raises for unknown names.
---@param name string
---@param value? boolean|number|string
---@return boolean|number|string|nil value true when set
---@return string? message
---@return string? code
function listener:option(name, value) end

---@class neap.datagram
---@field address? neap.address where it is bound
---@field peer? neap.address whom it is connected to
---@field fd? integer nil when closed
---@field timeout? number default of each wait, seconds; can be set, nil: none
local datagram = {}

---@class neap.datagram.send_options
---@field timeout? number seconds
---@field fds? (neap.descriptor|userdata|integer)[] AF_UNIX: at most 253; they stay ours
---@field from? string IP: the address it comes from, of this host; `info.to` of what it answers
---@field interface? string|integer IP: the interface it leaves by, name or number
---@field ttl? integer IP: TTL or hop limit, 0 to 255
---@field tos? integer IP: TOS or traffic class, 0 to 255: DSCP times 4 and ECN

--- Sends one message, whole or not at all; "" is a message. Waits while the receiver is full.
---@param msg string
---@param to? neap.address|neap.datagram.send_options nil or left out: the connected peer
---@param opts? neap.datagram.send_options
---@return true? ok
---@return string? message
---@return string? code EMSGSIZE too long (for the path: option mtu_discover), EDESTADDRREQ, ENODEV
--- (interface), ECONNREFUSED, EPIPE, ENOENT, ETIMEDOUT, EOPNOTSUPP (captures) …
function datagram:send(msg, to, opts) end

---@class neap.datagram.recv_options
---@field timeout? number seconds
---@field info? boolean the third result
---@field fds? integer AF_UNIX: as many descriptors are kept, further ones are closed

---@class neap.datagram.info
---@field truncated? integer the real length of a message that was cut
---@field to? neap.address IP: the address it was sent to
---@field ifindex? integer IP, captures: the interface it came by
---@field ttl? integer IP: TTL or hop limit
---@field tos? integer IP: TOS or traffic class
---@field ecn? integer IP: the two low bits of it: 1 and 2 capable, 3 congestion experienced
---@field time? number IP, captures: when the kernel had it, Unix time in seconds
---@field direction? "in"|"out"|"broadcast"|"multicast"|"other" captures; "other": to another host
---@field protocol? integer captures: the Ethernet type, 0x0800 is IPv4
---@field credentials? {pid: integer, uid: integer, gid: integer} AF_UNIX: who sent it
---@field fds? neap.descriptor[] a to-be-closed list, with the option `fds`

--- Receives one message. One that is longer than `max` is gone and reported as EMSGSIZE; with
--- `info` it is given cut. nil alone is the end of a record socket. ECONNREFUSED says that nobody
--- got an earlier message of a connected socket, which goes on. EMFILE says that the descriptors of
--- a message could not be had; the next recv gives its bytes.
---@param max? integer|neap.datagram.recv_options bytes, 65536
---@param opts? neap.datagram.recv_options
---@return string? msg
---@return neap.address? from or the message of a failure
---@return neap.datagram.info|string|nil info or the code
function datagram:recv(max, opts) end

---@class neap.datagram.batch_options
---@field timeout? number seconds
---@field info? boolean the third list
---@field max? integer bytes of a message, 65536; n times max is at most 64 MiB

--- Receives up to `n` messages in one call of the kernel, as many as are there; waits until there
--- is one. Datagrams that UDP_GRO joined (option `gro`) are given one by one. A message longer than
--- `max` ends the batch before it and is the next call's EMSGSIZE; with `info` it is given cut.
--- Descriptors that came are closed. The memory of a batch stays with the socket.
---@param n? integer|neap.datagram.batch_options 1 to 1024; 64
---@param opts? neap.datagram.batch_options
---@return string[]? msgs
---@return neap.address[]|string|nil froms as many; or the message of a failure
---@return neap.datagram.info[]|string|nil infos or the code
function datagram:recv_batch(n, opts) end

--- Sends messages in order, many in one call of the kernel; those of one size in a row to one
--- address leave as one (UDP_SEGMENT) where the kernel and the path allow it. Waits until all are
--- sent. A failure or the deadline after some were sent gives their number; the next call finds the
--- reason.
---@param msgs string[]
---@param to? neap.address|neap.address[] of all, or of each (the froms of recv_batch); literals;
--- nil: the connected peer
---@param opts? neap.datagram.send_options all but `fds`, for all messages
---@return integer? sent
---@return string? message
---@return string? code as send
function datagram:send_batch(msgs, to, opts) end

---@class neap.datagram.error
---@field code string "ECONNREFUSED", "EHOSTUNREACH", "EMSGSIZE" …
---@field message string its text
---@field origin "icmp"|"icmpv6"|"local" who said it; "local": our own kernel
---@field to? neap.address where the message was sent (port 0 where the kernel does not tell it)
---@field from? neap.address the router or host that reported, as `icmp:10.0.0.1`
---@field icmp_type? integer
---@field icmp_code? integer
---@field mtu? integer of EMSGSIZE: what would have passed
---@field data string the beginning of the message, up to 256 bytes

--- Receives a report about a message that was sent: what ICMP says, of a socket opened with
--- `errors = true`, whether it is connected or not (ip(7), IP_RECVERR). The newest 64 are kept.
---@param opts? neap.timeout
---@return neap.datagram.error? report
---@return string? message
---@return string? code EOPNOTSUPP: not opened with `errors`; ETIMEDOUT, ECANCELED
function datagram:recv_error(opts) end

---@class neap.datagram.group_options
---@field interface? string|integer name or number; the system's choice
---@field source? string only what this address sends; several such calls add up

--- Joins a multicast group: what is sent to it and to the bound port is received. An interface that
--- vanishes takes its memberships along. What leaves is the options' matter: `multicast_interface`,
--- `multicast_ttl`, `multicast_loop`; with `multicast_all = false` only groups of this socket come.
---@param group string an address without a port: "239.1.2.3", "ff02::fb", "[ff02::fb%eth0]"
---@param opts? neap.datagram.group_options
---@return true? ok
---@return string? message
---@return string? code EINVAL no group, ENODEV no interface, EADDRINUSE joined already, ENOBUFS
function datagram:join(group, opts) end

--- Leaves a group, as it was joined. Closing leaves all.
---@param group string
---@param opts? neap.datagram.group_options
---@return true? ok
---@return string? message
---@return string? code EADDRNOTAVAIL: it was not joined so
function datagram:leave(group, opts) end

--- `for msg, from, info in socket:records() do`: ends at the end of a record socket, or when our
--- side closes; raises the rest. Datagrams have no end.
---@param max? integer|neap.datagram.recv_options
---@param opts? neap.datagram.recv_options
---@return fun(): string, neap.address, neap.datagram.info?
function datagram:records(max, opts) end

--- Idempotent, as is `<close>`; wakes its waiters.
---@return true
function datagram:close() end

--- Moves the descriptor out; the object is closed.
---@return integer? fd
---@return string? message
---@return string? code
function datagram:take() end

---@param name string
---@param value? boolean|number|string
---@return boolean|number|string|nil value true when set
---@return string? message
---@return string? code
function datagram:option(name, value) end

--- Who made the other end of a record socket, as it was then (SO_PEERCRED).
---@param opts? {pidfd: boolean?}
---@return neap.credentials? credentials
---@return string? message
---@return string? code
function datagram:credentials(opts) end

---@class neap.descriptor
---@field fd? integer nil: closed, taken or adopted
local descriptor = {}

--- The object for what the kernel says it is; the slot is empty then. What has none (an eventfd, a
--- pidfd: EOPNOTSUPP; a directory: EISDIR) stays in the slot.
---@return neap.stream|neap.listener|neap.datagram|nil object
---@return string? message
---@return string? code
function descriptor:adopt() end

--- Moves the number out: it is the caller's.
---@return integer? fd
---@return string? message
---@return string? code
function descriptor:take() end

--- Idempotent, as are `<close>` and collection.
---@return true
function descriptor:close() end
