-- http.router: which handler answers which method and path.
--
-- The one idea: patterns are a tree of their segments, so the order in which routes were added does
-- not matter: a name comes before a parameter, a parameter before a rest. It only chooses: what it
-- calls is a handler like any other, also another router.

local request = require "neap.http.request"

---@class neap.http.router
---@overload fun(req: neap.http.request, res: neap.http.response)
local router = {}

local METHOD = "^[%u%d!#$%%&'*+.^_`|~-]+$"

local function callable(f)
  local meta = type(f) ~= "function" and getmetatable(f)
  return type(f) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- Level 4 is the script: bad, add and the method are before it.
local function bad(n, name, text)
  error(("bad argument #%d to '%s' (%s)"):format(n, name, text), 4)
end

local function segments(path)
  local list = {}
  for segment in path:sub(2):gmatch "[^/]*" do list[#list + 1] = segment end
  return list
end

-- The node of a pattern, made if need be, and the names of its parameters.
local function grow(root, pattern)
  local node, names, list = root, {}, segments(pattern)
  for i, segment in ipairs(list) do
    local kind, name = segment:match "^([:*])(.*)$"
    local key = kind == ":" and "param" or kind == "*" and "rest"
    if not key then
      node.names[segment] = node.names[segment] or { names = {} }
      node = node.names[segment]
    else
      if not name:find "^[%a_][%w_]*$" then return nil, "a name expected after " .. kind end
      if kind == "*" and i < #list then return nil, "*" .. name .. " can only come last" end
      for _, other in ipairs(names) do
        if other == name then return nil, name .. " comes twice" end
      end
      names[#names + 1] = name
      node[key] = node[key] or { names = {} }
      node = node[key]
    end
  end
  return node, names
end

local function add(self, call, method, pattern, handler, n)
  if type(pattern) ~= "string" or pattern:sub(1, 1) ~= "/" then
    bad(n, call, "a pattern that begins with / expected")
  end
  if not callable(handler) then
    bad(n + 1, call, ("a handler expected, got %s"):format(type(handler)))
  end
  local node, names = grow(self.root, pattern)
  if not node then bad(n, call, ("pattern %s: %s"):format(pattern, names)) end
  node.methods = node.methods or {}
  if node.methods[method] then bad(n, call, ("%s %s is there already"):format(method, pattern)) end
  node.methods[method] = { handler = handler, names = names }
  return self
end

-- HEAD is GET without its body, which the response sees to.
local function of_method(node, method)
  local methods = node.methods
  return methods[method] or method == "HEAD" and methods.GET or methods["*"]
end

-- The route of this node, if it takes the method; else what it takes is noted.
local function accept(find, node)
  if not node.methods then return nil end
  local route = of_method(node, find.method)
  if route then return route end
  for method in pairs(node.methods) do find.allowed[method] = true end
end

-- The most specific route below node for the segments from i on. `values` are those of parameters
-- on the way; the depth is that of the patterns, whatever the client sends.
local function descend(find, node, i, values)
  local list, n = find.segments, #values
  if i > #list then return accept(find, node) end
  local below = node.names[list[i]]
  local route = below and descend(find, below, i + 1, values)
  if route then return route end
  if node.param and list[i] ~= "" then
    values[n + 1] = list[i]
    route = descend(find, node.param, i + 1, values)
    if route then return route end
    for k = #values, n + 1, -1 do values[k] = nil end
  end
  route = node.rest and accept(find, node.rest)
  if route then values[n + 1] = table.concat(list, "/", i) end
  return route
end

local function allow_of(allowed)
  if allowed.GET then allowed.HEAD = true end
  local list = {}
  for method in pairs(allowed) do list[#list + 1] = method end
  table.sort(list)
  return table.concat(list, ", ")
end

local plain = { ["Content-Type"] = "text/plain" }

local function dispatch(self, req, res)
  local path = req.path or ""
  local absolute = path:sub(1, 1) == "/" -- not so: "*" of OPTIONS, what CONNECT names
  local list = segments(path)
  if path:find("%", 1, true) then
    for i, segment in ipairs(list) do list[i] = request.decode(segment) end
  end
  local find, values = { method = req.method, segments = list, allowed = {} }, {}
  local route = absolute and descend(find, self.root, 1, values)
  if route then
    local params = {}
    for i, name in ipairs(route.names) do params[name] = values[i] end
    req.params = params
    return route.handler(req, res)
  end
  if not next(find.allowed) then return res:send(404, "404 Not Found\n", plain) end
  res:send(405, "405 Method Not Allowed\n",
    { ["Content-Type"] = "text/plain", Allow = allow_of(find.allowed) })
end

local function run(self, req, res, i)
  local f = self.before[i]
  if not f then return dispatch(self, req, res) end
  return f(req, res, function() return run(self, req, res, i + 1) end)
end

--- Adds a route. A pattern's segments are names, `:parameter` (one segment, not empty) or, at the
-- end, `*rest` (what is left, also nothing); `req.params` has their values, decoded. Of several
-- that match and take the method the most specific one answers: from left to right a name before
-- a parameter before a rest. GET answers HEAD too. Without a route the answer is 404, without one
-- for the method 405 with Allow.
---@param method string "GET" …; "*": every method without a route of its own
---@param pattern string "/users/:id", "/static/*path"
---@param handler fun(req: neap.http.request, res: neap.http.response) or another router
---@return neap.http.router self
function router:route(method, pattern, handler)
  if type(method) ~= "string" or not method:find(METHOD) then
    error("bad argument #1 to 'route' (a method in capitals expected)", 2)
  end
  return (add(self, "route", method, pattern, handler, 2))
end

--- Adds a function that is called before every route, in the order they were added: it calls
-- `next()` to go on, or answers itself. Also before 404 and 405.
---@param f fun(req: neap.http.request, res: neap.http.response, next: fun())
---@return neap.http.router self
function router:use(f)
  if not callable(f) then
    error(("bad argument #1 to 'use' (function expected, got %s)"):format(type(f)), 2)
  end
  self.before[#self.before + 1] = f
  return self
end

--- route with GET.
---@param pattern string
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.http.router self
function router:get(pattern, handler) return (add(self, "get", "GET", pattern, handler, 1)) end

--- route with POST.
---@param pattern string
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.http.router self
function router:post(pattern, handler) return (add(self, "post", "POST", pattern, handler, 1)) end

--- route with PUT.
---@param pattern string
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.http.router self
function router:put(pattern, handler) return (add(self, "put", "PUT", pattern, handler, 1)) end

--- route with PATCH.
---@param pattern string
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.http.router self
function router:patch(pattern, handler)
  return (add(self, "patch", "PATCH", pattern, handler, 1))
end

--- route with DELETE.
---@param pattern string
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.http.router self
function router:delete(pattern, handler)
  return (add(self, "delete", "DELETE", pattern, handler, 1))
end

local meta = {
  __name = "neap.http.router",
  __index = router,
  __call = function(self, req, res) return run(self, req, res, 1) end,
}

return {
  meta = meta,
  new = function() return setmetatable({ root = { names = {} }, before = {} }, meta) end,
}
