-- http.router: which of the routes answers, what it is given, what is refused.

local helper = require "spec.support.helper"
local http = require "neap.http"

-- What a router does with a request, without a connection: status, text, headers; the request.
local function ask(r, method, path)
  local got
  local res = {
    send = function(_, status, text, headers) got = { status, text or "", headers or {} } end,
  }
  local req = { method = method, path = path }
  r(req, res)
  return got[1], got[2], got[3], req
end

local function named(name)
  return function(req, res)
    local list = {}
    for key, value in pairs(req.params) do list[#list + 1] = key .. "=" .. value end
    table.sort(list)
    res:send(200, name .. " " .. table.concat(list, " "))
  end
end

describe("a router", function()
  local patterns = {
    "/", "/users", "/users/:id", "/users/me", "/users/:id/posts/:post", "/users/:name/key",
    "/files/*path", "/files/:one/info", "/a b", "/:any/deep/*rest",
  }

  -- path, pattern that answers (nil: 404), its parameters
  local cases = {
    { "/", "/" }, { "/users", "/users" }, { "/users/" }, { "/users/7", "/users/:id", "id=7" },
    { "/users/me", "/users/me" }, { "/users/me/key", "/users/:name/key", "name=me" },
    { "/users/a%20b", "/users/:id", "id=a b" }, { "/users/a%2Fb", "/users/:id", "id=a/b" },
    { "/users/7/posts/8", "/users/:id/posts/:post", "id=7 post=8" }, { "/users/7/posts" },
    { "/users/7/posts/" }, { "/users//posts/8" }, { "//users" }, { "/%75sers", "/users" },
    { "/users/m%65", "/users/me" }, { "/a%20b", "/a b" }, { "/a+b" }, { "/files" },
    { "/files/", "/files/*path", "path=" }, { "/files/x", "/files/*path", "path=x" },
    { "/files/x/y%20z/", "/files/*path", "path=x/y z/" },
    { "/files/x/info", "/files/:one/info", "one=x" },
    { "/files/x/info/y", "/files/*path", "path=x/info/y" },
    { "/files//info", "/files/*path", "path=/info" },
    { "/files/deep/x", "/files/*path", "path=deep/x" },
    { "/users/deep/x", "/:any/deep/*rest", "any=users rest=x" },
    { "/x/deep/", "/:any/deep/*rest", "any=x rest=" }, { "/x/deep" }, { "/USERS" },
    { "" }, { "*" }, { "example.org:80" }, { "/:id" }, { "/users/:id", "/users/:id", "id=:id" },
    { "/users/%zz", "/users/:id", "id=%zz" },
  }

  for _, order in ipairs { "as they come", "backwards" } do
    it("chooses the most specific route, added " .. order, function()
      local r = http.router()
      local first, last, step = 1, #patterns, 1
      if order == "backwards" then first, last, step = #patterns, 1, -1 end
      for i = first, last, step do r:get(patterns[i], named(patterns[i])) end
      for _, case in ipairs(cases) do
        local status, text = ask(r, "GET", case[1])
        assert.equal(case[2] and 200 or 404, status, case[1])
        if case[2] then assert.equal(case[2] .. " " .. (case[3] or ""), text, case[1]) end
      end
    end)
  end

  it("tells methods apart, and which there are", function()
    local r = http.router()
    r:get("/x", named "get"):post("/x", named "post"):put("/y", named "put")
    r:patch("/y", named "patch"):delete("/:any", named "delete"):route("*", "/z", named "all")
    r:route("MKCOL", "/x", named "mkcol")
    assert.equal("get ", select(2, ask(r, "GET", "/x")))
    assert.equal("get ", select(2, ask(r, "HEAD", "/x")))
    assert.equal("post ", select(2, ask(r, "POST", "/x")))
    assert.equal("patch ", select(2, ask(r, "PATCH", "/y")))
    assert.equal("mkcol ", select(2, ask(r, "MKCOL", "/x")))
    assert.equal("delete any=x", select(2, ask(r, "DELETE", "/x")))
    assert.equal("all ", select(2, ask(r, "PROPFIND", "/z")))
    assert.equal("all ", select(2, ask(r, "HEAD", "/z")))
    local status, _, headers = ask(r, "PUT", "/x")
    assert.same({ 405, "DELETE, GET, HEAD, MKCOL, POST" }, { status, headers.Allow })
    status, _, headers = ask(r, "HEAD", "/y")
    assert.same({ 405, "DELETE, PATCH, PUT" }, { status, headers.Allow })
    status, _, headers = ask(r, "GET", "/x/y")
    assert.same({ 404, nil }, { status, headers.Allow })
  end)

  it("runs what is used before its routes, in order, and around them", function()
    local said = {}
    local r = http.router()
    r:use(function(req, _, go_on)
      said[#said + 1] = "1 " .. req.path
      go_on()
      said[#said + 1] = "1 done"
    end)
    r:use(function(req, res, go_on)
      said[#said + 1] = "2"
      if req.path == "/secret" then return res:send(401, "who?") end
      go_on()
    end)
    r:get("/", function(_, res)
      said[#said + 1] = "route"
      res:send(200)
    end)
    assert.equal(200, (ask(r, "GET", "/")))
    assert.equal("1 /, 2, route, 1 done", table.concat(said, ", "))
    assert.equal(401, (ask(r, "GET", "/secret")))
    assert.equal(404, (ask(r, "GET", "/none")))
    assert.equal("1 done", said[#said])
  end)

  it("routes to other routers", function()
    local inner, r = http.router(), http.router()
    inner:use(function(_, res, go_on)
      if not res.denied then go_on() end
    end)
    inner:get("/admin/:page", named "page")
    r:route("*", "/admin/*rest", inner)
    assert.equal("page page=x", select(2, ask(r, "GET", "/admin/x")))
    assert.equal(405, (ask(r, "POST", "/admin/x")))
    assert.equal(404, (ask(r, "POST", "/admin/x/y")))
  end)

  it("is a handler of http.serve", function()
    local r = http.router()
    r:get("/hello/:name", function(req, res) res:send(200, "hello " .. req.params.name .. "\n") end)
    local server = http.serve("127.0.0.1:0", {}, r)
    helper.after(function() server:stop(0) end)
    local url = server.address:gsub("^tcp", "http")
    local curl = "curl -sS -o - -w '%{http_code}' "
    assert.equal("hello a b\n200", (helper.run(curl .. url .. "/hello/a%20b")))
    assert.matches("405$", (helper.run(curl .. "-d x " .. url .. "/hello/you")))
    assert.matches("\nAllow: GET, HEAD\r\n", (helper.run("curl -sSi -d x " .. url .. "/hello/you")))
    assert.matches("Content%-Length: 10\r\n", (helper.run("curl -sSI " .. url .. "/hello/you")))
    assert.matches("404$", (helper.run(curl .. url .. "/")))
  end)

  it("is not led deeper than its patterns", function()
    local r = http.router()
    r:get("/:a/:b/:c", named "abc"):get("/a/:b/c", named "b"):get("/a/*rest", named "rest")
    assert.equal(404, (ask(r, "GET", ("/x"):rep(100000))))
    assert.equal(200, (ask(r, "GET", ("/a"):rep(100000))))
  end)

  it("raises for wrong arguments at the caller's line", function()
    local f = named "x"
    local wrong = {
      { "route", "get", "/", f, "#1 to 'route' .a method" },
      { "route", 1, "/", f, "#1 to 'route'" },
      { "route", "GET", "x", f, "#2 to 'route' .a pattern" },
      { "route", "GET", "/", nil, "#3 to 'route' .a handler expected, got nil" },
      { "get", nil, f, nil, "#1 to 'get'" },
      { "get", "/", 1, nil, "#2 to 'get'" },
      { "get", "/:", f, nil, "a name expected after :" },
      { "get", "/*", f, nil, "a name expected after *" },
      { "get", "/:a-b", f, nil, "a name expected after :" },
      { "get", "/*a/b", f, nil, "%*a can only come last" },
      { "get", "/:a/:a", f, nil, "a comes twice" },
      { "get", "/there/:b", f, nil, "GET /there/:b is there already" },
      { "use", nil, nil, nil, "#1 to 'use'" },
    }
    local r = http.router():get("/there/:a", f)
    for _, case in ipairs(wrong) do
      local ok, message = pcall(function() r[case[1]](r, case[2], case[3], case[4]) end)
      assert.is_false(ok)
      assert.matches("^spec/http_router_spec.lua:%d+: bad argument .*" .. case[5], message)
    end
  end)
end)
