---@meta
-- Definitions for editors: the records of neap.dns by type. Its functions are annotated where they
-- are (lua/stdlib/dns).

---@class neap.dns.A: neap.dns.record
---@field address string "192.0.2.1"; of AAAA "2001:db8::1"

---@class neap.dns.NS: neap.dns.record
---@field target string also of CNAME, PTR, DNAME

---@class neap.dns.MX: neap.dns.record
---@field preference integer
---@field exchange string

---@class neap.dns.SOA: neap.dns.record
---@field mname string the first name server
---@field rname string the mail address of who is responsible, as a name
---@field serial integer
---@field refresh integer seconds, as the next three
---@field retry integer
---@field expire integer
---@field minimum integer how long a denial may be remembered

---@class neap.dns.SRV: neap.dns.record
---@field priority integer
---@field weight integer
---@field port integer
---@field target string

---@class neap.dns.TXT: neap.dns.record
---@field strings string[] up to 255 bytes each

---@class neap.dns.CAA: neap.dns.record
---@field flags integer
---@field tag string "issue", "issuewild", "iodef"
---@field value string

---@class neap.dns.HINFO: neap.dns.record
---@field cpu string
---@field os string

---@class neap.dns.info
---@field from? neap.address who asks
---@field tcp? boolean

---@class neap.resolver
local resolver = {}

--- Sends a DNS message, whose OPT record (where there is one) is its last, and waits for the answer
--- to it. `what` stands in failures and reports. Codes as resolver:resolve.
---@param query string
---@param what string
---@param opts? { timeout: number }
---@return string|nil answer
---@return string? message
---@return string? code
function resolver:ask(query, what, opts) end

--- Ends it: what it is asked fails as "closed". Idempotent.
---@return true
function resolver:close() end
