---@meta
-- Definitions for editors: streams, which are C (src/bindings/stream.c, stream_read.c,
-- stream_write.c): connections, pipes, terminals, files, memory.
--
-- Every waiting call takes {timeout = s} last; it replaces the stream's own default `timeout`. On a
-- closed stream each returns nil, "closed", "ECANCELED". One task reads and one writes at a time.

--- Behaves like a Lua file. `local s <close> = …` closes it. A failed stream stays failed; what was
--- received before the failure is read first.
---@class neap.stream
---@field timeout? number default of each wait, seconds; can be set, nil: none
---@field write_timeout? number the same for what writes; can be set, nil: as timeout
---@field line_max integer most bytes of a line or delimited read, 65536; can be set
---@field read_max integer most bytes of a counted read, record or "a", 16777216; can be set
---@field peer? neap.address the other end; nil without a socket
---@field address? neap.address our end
---@field fd? integer the descriptor's number; nil: closed, or none (mem:)
---@field closed boolean
---@field tls? neap.tls.info what TLS knows; nil without
---@field unread_bytes? integer received and not taken
---@field unsent_bytes? integer written and not yet with the kernel
local stream = {}

---@class neap.tls.info
---@field version string "TLSv1.3"
---@field cipher string "TLS_AES_256_GCM_SHA384"
---@field alpn? string the protocol that was chosen
---@field name? string the name that the client asked for
---@field resumed boolean
---@field peer? neap.tls.peer the other side's certificate, if it showed one

---@class neap.tls.peer
---@field subject string RFC 2253: "CN=a client,O=Neap"
---@field issuer string
---@field names string[] subjectAltName: DNS names, addresses, URIs, mail (the first 4 KiB)
---@field serial string hex
---@field common_name? string the last one of the subject
---@field fingerprint string SHA-256 of the certificate, hex
---@field not_before integer seconds since 1970
---@field not_after integer

---@alias neap.format
---| "l" # a line without its "\n"; the default
---| "L" # a line with its "\n"
---| "n" # a numeral, as io.read has it
---| "a" # all until the end
---| integer # exactly so many bytes, fewer only at the end
---| neap.Codec # a message

--- Reads one value per format, all or none of them: what a failure found stays unread.
---@param ... neap.format|neap.timeout
---@return any ... a value per format; nil alone at the end
---@return string? message
---@return string? code ETIMEDOUT; EMSGSIZE past line_max or read_max; EPIPE the end inside a
---record; EBADMSG; ECONNRESET and what else the kernel says
function stream:read(...) end

--- An iterator of read(...). Ends at the end, or when our own side closes; raises all else.
---@param ... neap.format at most 250
---@return fun(): any, ...
function stream:lines(...) end

---@class neap.stream.recv_options: neap.timeout
---@field fds? integer 0 to 253: AF_UNIX: how many descriptors are accepted

--- What is there: at least one byte, at most `max`. With `fds`: the bytes up to the first
--- descriptors, and these.
---@param max? integer|neap.stream.recv_options bytes, 1 or more; all that is here
---@param opts? neap.stream.recv_options
---@return string? bytes nil alone at the end
---@return neap.descriptor[]|string|nil fds with the option: a to-be-closed list; or the message
---@return string? code EMSGSIZE more descriptors than `fds` came (all stays), or the kernel cut
---them; EMFILE the kernel had to drop some; as read
function stream:recv(max, opts) end

--- The bytes before the delimiter, which is taken; at the end the rest.
---@param delimiter string at least one byte
---@param max? integer|neap.timeout bytes before it; line_max
---@param opts? neap.timeout
---@return string? bytes
---@return string? message
---@return string? code as read
function stream:read_until(delimiter, max, opts) end

--- The values of one string.pack record, s1, s2, s4, s8 and z included.
---@param format string at most 32 parts
---@param opts? neap.timeout
---@return any ... nil alone at the end
---@return string? message
---@return string? code EPIPE the end inside the record; EBADMSG an integer that does not fit
function stream:unpack(format, opts) end

--- Bytes without taking them.
---@param n? integer|neap.timeout waits for so many, fewer at the end; none: all that is here
---@param max? integer gives so many where they are here (n)
---@param opts? neap.timeout
---@return string? bytes nil alone at the end
---@return string? message
---@return string? code as read
function stream:peek(n, max, opts) end

--- Puts bytes in front of the unread ones. Raises past read_max.
---@param bytes string
---@return neap.stream? self
---@return string? message
---@return string? code "ECANCELED"
function stream:unread(bytes) end

--- Takes all pieces or none, and queues them; they leave when the task waits, gives way or ends. It
--- waits only while more than 256 KiB are queued, until fewer than 64 KiB are. Whole writes of
--- several tasks never interleave. A deadline or cancellation that ends its wait breaks the stream.
---@param ... string|number|neap.timeout
---@return neap.stream? self
---@return string? message
---@return string? code EPIPE, ECONNRESET, ETIMEDOUT, ECANCELED …
function stream:write(...) end

--- Waits until the kernel has everything. A deadline breaks nothing.
---@param opts? neap.timeout
---@return neap.stream? self
---@return string? message
---@return string? code as write
function stream:flush(opts) end

---@class neap.stream.send_options: neap.timeout
---@field fds? (neap.descriptor|userdata|integer)[] at most 253; they stay ours

--- Writes, and passes descriptors (AF_UNIX): they travel once, with the first byte.
---@param bytes string at least one byte when descriptors go with it
---@param opts? neap.stream.send_options
---@return neap.stream? self
---@return string? message
---@return string? code EOPNOTSUPP not AF_UNIX; ETIMEDOUT before the first byte breaks nothing; as
---write
function stream:send(bytes, opts) end

--- Half-close: what is queued goes out, then the end. Reading goes on.
---@return true? ok
---@return string? message
---@return string? code
function stream:shutdown() end

--- Never waits: what is queued still goes out, then the end; what the peer sends after that is
--- dropped until its own end, at most 10 s (2 s without a byte). Idempotent, as is `<close>`.
---@return true? ok
---@return string? message the failure the stream had
---@return string? code
function stream:close() end

--- Resets the connection, now. What is queued is lost. Idempotent.
---@return true
function stream:abort() end

--- Moves the descriptor out; the stream is closed. Raises while another task uses the stream.
---@return neap.descriptor? descriptor
---@return string? unread the bytes that were not taken; or the message
---@return string? code EOPNOTSUPP: there is none (mem:)
function stream:take() end

--- Reads a socket option, or sets it. Raises for unknown names, listing the known.
---@param name string
---@param value? boolean|number|string
---@return boolean|number|string|nil value true when set
---@return string? message
---@return string? code ENOTSOCK; ENOPROTOOPT; what the kernel says
function stream:option(name, value) end

---@class neap.credentials
---@field pid integer 0: of another pid namespace
---@field uid integer
---@field gid integer
---@field groups? integer[] supplementary groups (SO_PEERGROUPS: Linux 4.13)
---@field label? string security label (SO_PEERSEC), where a security module gives one
---@field pidfd? neap.descriptor its process (SO_PEERPIDFD: Linux 6.5), with the option `pidfd`: a
---descriptor of ours, to be closed. Absent when the process is gone

--- Who made the other end of an AF_UNIX stream, as it was then (SO_PEERCRED).
---@param opts? {pidfd: boolean?}
---@return neap.credentials? credentials
---@return string? message
---@return string? code ENOTSOCK; EOPNOTSUPP not AF_UNIX
function stream:credentials(opts) end
