-- dns_server.lua: a name server for one zone, over UDP and TCP.
--
-- Shows: a zone as a table of records; what is too long for a datagram is asked for again over TCP.
-- Try:   neap scripts/examples/dns_server.lua [address]
--        dig @127.0.0.1 -p 5353 www.example.org      dig +tcp @127.0.0.1 -p 5353 example.org MX
--        kdig @127.0.0.1 -p 5353 long.example.org TXT

local dns = require "neap.dns"

local zone = dns.zone("example.org", {
  { type = "SOA", mname = "ns", rname = "admin", serial = 2024010101, refresh = 3600, retry = 600,
    expire = 86400, minimum = 60 },
  { type = "NS", target = "ns" },
  { type = "MX", preference = 10, exchange = "mail" },
  { type = "CAA", flags = 0, tag = "issue", value = "ca.example.net" },
  { name = "ns", type = "A", address = "192.0.2.53" },
  { name = "mail", type = "A", address = "192.0.2.25" },
  { name = "mail", type = "AAAA", address = "2001:db8::25" },
  { name = "host", type = "A", address = "192.0.2.80", ttl = 300 },
  { name = "www", type = "CNAME", target = "host" },
  { name = "away", type = "CNAME", target = "www.example.net." },
  { name = "_http._tcp", type = "SRV", priority = 1, weight = 5, port = 80, target = "host" },
  { name = "*.users", type = "A", address = "192.0.2.99" },
  { name = "long", type = "TXT", strings = ("a text too long for a datagram; "):rep(100) },
})

local server = dns.serve(arg[1] or "127.0.0.1:5353", zone)
print("dns_server: listening on udp://" .. server.address .. " and tcp")
