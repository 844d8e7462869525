-- Files as responses: res:file for one, http.files for a directory of them.
--
-- The one idea: the client's path is opened beneath the directory by the kernel, which follows
-- nothing that leads out of it; what has been opened is what is described and sent.

local condition = require "neap.http.condition"
local content_type = require "neap.http.types"
local date = require "neap.http.date"
local fs = require "neap.fs"
local limits = require "neap.http.limits"
local request = require "neap.http.request"
local response = require "neap.http.response"

---@class neap.http.file_options
---@field root? string a directory: `path` is relative to it and never leads out of it (EXDEV)
---@field type? string Content-Type; by the extension, else application/octet-stream
---@field types? table<string, string> more content types, by extension in lower case
---@field cache? string Cache-Control; none

-- A file changed this recently can change again without another date (RFC 9110 8.8.2.2).
local FRESH_S = 2

local function entity_of(stat)
  local fresh = os.time() - stat.mtime < FRESH_S
  local tag = ('"%x-%x"'):format(stat.size, math.floor(stat.mtime * 1e6))
  if fresh then tag = "W/" .. tag end
  return { size = stat.size, modified = stat.mtime, fresh = fresh, tag = tag }
end

-- An open regular file and what is known of it.
local function open(path, root)
  local file, message, code = fs.open(path, "r", { beneath = root })
  if not file then return nil, message, code end
  local stat
  if file.stat then
    stat, message, code = file:stat()
    if stat and stat.type == "file" then return file, stat end
  end
  file:close()
  return nil, message or ("open %s: not a regular file"):format(path), code or "EINVAL"
end

local function has(headers, name)
  for key in pairs(headers) do
    if type(key) == "string" and key:lower() == name then return true end
  end
  return false
end

local function set_fields(res, path, opts, entity)
  local headers = res.headers
  local function default(name, value)
    if value and not has(headers, name:lower()) then headers[name] = value end
  end
  default("Content-Type", opts.type or content_type(path, opts.types))
  default("Cache-Control", opts.cache)
  default("Last-Modified", date.format(entity.modified))
  headers.ETag, headers["Accept-Ranges"] = entity.tag, "bytes"
end

-- The answer that has no part of the file in it.
local function without_file(res, status, size)
  local headers = res.headers
  if status ~= 304 then -- what was said of the file is not true of this
    for _, name in ipairs { "Content-Type", "ETag", "Last-Modified", "Cache-Control" } do
      headers[name] = nil
    end
  end
  if status == 416 then headers["Content-Range"] = "bytes */" .. size end
  return res:send(status, "")
end

-- In slices, each of which has its own time.
local function send_part(res, file, first, length)
  local slice, last = limits.slice, first + length
  for at = first, last - 1, slice do
    local n, message, code, sent = res.conn:send_file(file, at, math.min(slice, last - at))
    res.size = res.size + (n or sent or 0)
    if not n then
      if code == "ETIMEDOUT" then res.broken = code end
      return nil, message, code
    end
  end
  return true
end

-- Through the encoder, which wants to see the bytes.
local function send_packed(res, file, length)
  local left = length
  while left > 0 do
    local piece, message, code = file:recv(math.min(left, limits.slice))
    if not piece then
      res.broken = code or "ENODATA"
      return nil, message or "the file became shorter", code or "ENODATA"
    end
    left, res.size = left - #piece, res.size + #piece
    local ok
    ok, message, code = res:put_packed("", piece, left > 0)
    if not ok then return nil, message, code end
  end
  return true
end

local file_options = { root = true, type = true, types = true, cache = true }

local function check(path, opts)
  if type(path) ~= "string" or path:find "\0" then
    error("bad argument #1 to 'file' (a path expected)", 3)
  end
  for name in pairs(opts) do
    if not file_options[name] then
      error(("bad argument #2 to 'file' (unknown option '%s')"):format(tostring(name)), 3)
    end
  end
end

--- Answers with a regular file: Content-Type, ETag, Last-Modified, the conditions of RFC 9110 13
-- (304, 412), one range (206, 416); to several ranges with the whole. `headers` that were set
-- before are kept. A file changed in the last 2 s has a weak ETag. The kernel sends the bytes; a
-- file that shrinks meanwhile ends in a broken connection.
--
-- A file that cannot be opened is no answer: the handler gives one.
---@param path string
---@param opts? neap.http.file_options
---@return neap.http.response|nil self
---@return string? message
---@return string? code of fs.open; EINVAL: no regular file; of the connection (`sent` tells)
function response:file(path, opts)
  opts = opts or {}
  check(path, opts)
  if self.sent then error("a response was sent already", 2) end
  local found, stat, code = open(path, opts.root)
  if not found then return nil, stat, code end
  local file <close> = found
  local entity = entity_of(stat)
  set_fields(self, path, opts, entity)
  local status, first, length = condition.evaluate(self.req.method, self.req.headers, entity)
  if status ~= 200 and status ~= 206 then return without_file(self, status, entity.size) end
  if status == 206 then
    self.headers["Content-Range"] =
      ("bytes %d-%d/%d"):format(first, first + length - 1, entity.size)
  end
  self.status, self.content_length = status, length or entity.size
  local ok, message
  ok, message, code = self:write ""
  if ok and rawget(self, "encoder") then
    ok, message, code = send_packed(self, file, self.content_length)
  elseif ok and not self.mute then
    ok, message, code = send_part(self, file, first or 0, self.content_length)
  end
  if not ok then return nil, message, code end
  return self
end

---@class neap.http.files_options
---@field prefix? string what of the request's path stands before the file's, as "/static"
---@field index? string|false what answers for a directory; "index.html"
---@field hidden? boolean also names that begin with a dot; false, but /.well-known
---@field types? table<string, string> more content types, by extension in lower case
---@field cache? string Cache-Control; none
---@field compress? boolean files of texts go compressed to clients that ask; as http.serve says

-- The path below the root; nil: there cannot be one. Each name is decoded by itself, so that no
-- encoded slash makes two of one.
local function relative(path, hidden)
  local names = {}
  for name in path:sub(2):gmatch "[^/]+" do
    if name:gsub("%%%x%x", ""):find "%%" then return nil end
    name = request.decode(name)
    if name:find "[/%z]" or name == "." or name == ".." then return nil end
    local dotted = name:byte() == 46 and not (#names == 0 and name == ".well-known")
    if dotted and not hidden then return nil end
    names[#names + 1] = name
  end
  return table.concat(names, "/")
end

local absent = {
  ENOENT = 404, ENOTDIR = 404, EISDIR = 404, EXDEV = 404, ELOOP = 404, ENAMETOOLONG = 404,
  EINVAL = 404, ENXIO = 404, EACCES = 403, EPERM = 403,
}
local texts = {
  [403] = "403 Forbidden\n", [404] = "404 Not Found\n", [405] = "405 Method Not Allowed\n",
  [500] = "500 Internal Server Error\n",
}

local function refuse(res, status, headers)
  headers = headers or {}
  headers["Content-Type"] = "text/plain"
  return res:send(status, texts[status], headers)
end

-- The part of the request's path that is the file's; it begins with one slash.
local function below(path, prefix)
  if path:sub(1, #prefix) ~= prefix then return nil end
  path = path:sub(#prefix + 1)
  if path:sub(1, 1) ~= "/" or path:find("//", 1, true) then return nil end
  return path
end

local function answer(req, res, root, opts)
  if req.method ~= "GET" and req.method ~= "HEAD" then
    return refuse(res, 405, { Allow = "GET, HEAD" })
  end
  local path = below(req.path, opts.prefix)
  local name = path and relative(path, opts.hidden)
  if not name then return refuse(res, 404) end
  local directory = path:sub(-1) == "/"
  if directory then
    if not opts.index then return refuse(res, 404) end
    name = (name == "" and "" or name .. "/") .. opts.index
  end
  if opts.compress ~= nil then res.compress = opts.compress end
  local ok, _, code = res:file(name, { root = root, types = opts.types, cache = opts.cache })
  if ok or res.sent then return end
  if code == "EISDIR" and not directory and opts.index then
    local query = req.query_string and "?" .. req.query_string or ""
    return res:redirect(req.path .. "/" .. query, 301)
  end
  refuse(res, absent[code] or 500)
end

local kinds = {
  prefix = "string", hidden = "boolean", compress = "boolean", types = "table", cache = "string",
}

local function check_files(root, opts)
  if type(root) ~= "string" or root == "" or root:find "\0" then
    error("bad argument #1 to 'files' (a directory expected)", 3)
  end
  for name, value in pairs(opts) do
    local index = name == "index" and (type(value) == "string" or value == false)
    if not index and type(value) ~= kinds[name] then
      error(("bad argument #2 to 'files' (option '%s': %s)"):format(tostring(name),
        kinds[name] and kinds[name] .. " expected" or name == "index" and "string expected" or
        "unknown"), 3)
    end
  end
end

-- http.files.
return function(root, opts)
  opts = opts or {}
  check_files(root, opts)
  local index = opts.index
  if index == nil then index = "index.html" end
  local own = {
    prefix = (opts.prefix or ""):gsub("/$", ""), index = index, hidden = opts.hidden,
    types = opts.types, cache = opts.cache, compress = opts.compress,
  }
  return function(req, res) return answer(req, res, root, own) end
end
