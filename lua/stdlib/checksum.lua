-- neap.checksum: the internet checksum (RFC 1071), for scripts that make or check packets.

local core = require "neap.checksum.core"

local checksum = {}

--- The checksum of IP, ICMP, UDP and TCP: 0 for bytes that have theirs in place. What it is put
--- into
-- counts as zeros while it is made; of UDP, 0xffff stands for a result of 0 (RFC 768).
---@param bytes string
---@param sum? integer of what comes before, from `pseudo`
---@return integer checksum 0 to 65535, for `string.pack(">I2", …)`
checksum.internet = core.internet

--- The sum of the pseudo header that the checksums of UDP, TCP and ICMPv6 begin with.
---@param source string an IPv4 or IPv6 address, without brackets
---@param destination string of the same family
---@param protocol integer 17 UDP, 6 TCP, 58 ICMPv6
---@param length integer bytes of the packet behind the IP header
---@return integer sum
checksum.pseudo = core.pseudo

return checksum
