-- The head of a client's request: the script's fields, and what the call adds to them.
--
-- Names and values are checked, so nobody's input becomes a field of its own; the framing is ours.

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"
local framing = { ["content-length"] = true, ["transfer-encoding"] = true, expect = true }

-- What has a body, were it empty: some servers answer 411 where no length is said (RFC 9110 8.6).
local with_body = { POST = true, PUT = true, PATCH = true }

local function bad(text) error(("bad argument #2 to 'request' (%s)"):format(text), 2) end

-- One, and an authority: a server refuses others (RFC 9112 3.2).
local function check_host(twice, value)
  if twice or type(value) ~= "string" or not value:find "^[%w._~%%%[%]:-]+$" then
    bad "header Host: one host with its port expected"
  end
end

local function add_fields(out, headers)
  local own = {}
  for name, value in pairs(headers or {}) do
    if type(name) ~= "string" or not name:find(TOKEN) then
      bad(("bad header name %q"):format(tostring(name)))
    end
    local low = name:lower()
    if framing[low] then bad(("header %s is set by what is sent"):format(name)) end
    if low == "host" then
      check_host(own.host, value)
      own.host, value = value, {} -- it has its place
    end
    own[low] = own[low] or true
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      one = tostring(one)
      if one:find "[%z\1-\8\10-\31\127]" then
        bad(("header %s: a character that no value may have"):format(name))
      end
      out[#out + 1] = name .. ": " .. one
    end
  end
  return own
end

-- asked: the proxy that is asked for the whole URL (RFC 9112 3.2.2).
return function(url, call, asked)
  local target = asked and "http://" .. url.authority .. url.target or url.target
  local out = { ("%s %s HTTP/1.1"):format(call.method, target), "" }
  local own = add_fields(out, call.headers)
  out[2] = "Host: " .. (own.host or url.authority)
  if not own["user-agent"] then out[#out + 1] = "User-Agent: neap" end
  if not own.accept then out[#out + 1] = "Accept: */*" end
  -- Of a part of what is compressed nothing can be read; whoever asks himself, reads himself.
  local ours = not own["accept-encoding"] and not own.range and call.method ~= "HEAD"
  call.decodes = call.decompress or call.decompress == nil and ours
  if call.decodes and ours then out[#out + 1] = "Accept-Encoding: gzip, deflate" end
  local kept = call.cookies and not own.cookie and call.cookies:give(url)
  if kept then out[#out + 1] = "Cookie: " .. kept end
  if asked and asked.authorization and not own["proxy-authorization"] then
    out[#out + 1] = "Proxy-Authorization: " .. asked.authorization
  end
  local body = call.body
  if type(body) == "string" then out[#out + 1] = "Content-Length: " .. #body
  elseif body then out[#out + 1] = "Transfer-Encoding: chunked"
  elseif with_body[call.method] then out[#out + 1] = "Content-Length: 0" end
  if call.expects then out[#out + 1] = "Expect: 100-continue" end
  out[#out + 1] = "\r\n"
  return table.concat(out, "\r\n")
end
