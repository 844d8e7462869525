-- AF_UNIX: names of the kernel's choice, paths with modes and owners, who is at the other end, and
-- every kind of descriptor in one record.

local helper = require "spec.support.helper"
local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local TIMEOUT = { timeout = 20 * helper.slow }
local uid, gid = tonumber((helper.run "id -u")), tonumber((helper.run "id -g"))
local kinds = { "unix", "unix-dgram", "unix-seqpacket" }

-- A socket of that kind that waits at the address; closed when the test ends.
local function open(kind, address, opts)
  local make = kind == "unix-dgram" and net.datagram or net.listen
  local s, message, code = make(kind .. ":" .. address, opts)
  if s then helper.after(function() s:close() end) end
  return s, message, code
end

local function stat(path)
  local out = helper.run("stat -c '%F %a %u %g' " .. path)
  return (out:gsub("\n", ""))
end

describe("autobind", function()
  for _, kind in ipairs(kinds) do
    it("gives " .. kind .. " sockets a name that is printed and parses", function()
      local seen = {}
      for _, address in ipairs { "@", "", "@" } do
        local s = assert(open(kind, address))
        assert.matches("^" .. kind:gsub("%-", "%%-") .. ":@%x%x%x%x%x$", s.address)
        assert.is_nil(seen[s.address])
        seen[s.address] = true
        if kind == "unix-dgram" then
          local c <close> = assert(net.datagram(nil, { connect = s.address }))
          c:send "found"
          assert.equal("found", (s:recv(TIMEOUT)))
        else
          local c <close> = assert(net.connect(s.address))
          local a <close> = assert(s:accept(TIMEOUT))
          assert.equal(s.address, c.peer)
          assert.equal(s.address, a.address)
        end
      end
    end)
  end

  it("names a sender that can be answered", function()
    local s = assert(open("unix-dgram", "@"))
    local c <close> = assert(net.datagram("unix-dgram:@", { connect = s.address }))
    c:send "hello"
    local msg, from = s:recv(TIMEOUT)
    assert.same({ "hello", c.address }, { msg, from })
    s:send("back", from)
    assert.equal("back", (c:recv(TIMEOUT)))
  end)

  it("is for binding: nobody is at the empty name", function()
    local s, _, code = net.connect "unix:@"
    assert.is_nil(s)
    assert.equal("ECONNREFUSED", code)
  end)
end)

describe("a path", function()
  for _, kind in ipairs(kinds) do
    it("of a " .. kind .. " socket has the mode and owner asked for", function()
      local path = helper.socket_path()
      assert(open(kind, path, { mode = tonumber("751", 8) }))
      assert.equal(("socket 751 %d %d"):format(uid, gid), stat(path))
      path = helper.socket_path()
      assert(open(kind, path, { uid = uid, gid = gid }))
      assert.equal(("socket 660 %d %d"):format(uid, gid), stat(path))
      path = helper.socket_path()
      assert(open(kind, path, { uid = uid, mode = tonumber("4600", 8) }))
      assert.equal(("socket 4600 %d %d"):format(uid, gid), stat(path))
      if uid ~= 0 then return end
      path = helper.socket_path()
      assert(open(kind, path, { uid = "nobody", gid = 12345 }))
      assert.equal("socket 660 65534 12345", stat(path))
      path = helper.socket_path()
      assert(open(kind, path, { gid = "adm", mode = tonumber("620", 8) }))
      assert.equal("socket 620 0 4", stat(path))
    end)

    it("of a " .. kind .. " socket is replaced when stale, owner and all", function()
      local path = helper.socket_path()
      local old = assert(open(kind, path))
      local again, _, code = open(kind, path, { uid = uid, mode = 384 })
      assert.is_nil(again) -- somebody answers
      assert.equal("EADDRINUSE", code)
      assert.is_truthy(stat(path):find("^socket 7")) -- and it stayed as it was
      net.own(old:take()):close() -- the path stays
      assert(open(kind, path, { uid = uid, mode = 384 }))
      assert.equal(("socket 600 %d %d"):format(uid, gid), stat(path))
    end)
  end

  it("is never more open than asked, not for a moment", function()
    local path = helper.socket_path()
    local script = ([[
      local net = require "neap.net"
      assert(net.listen("unix:%s.a", { mode = tonumber("640", 8), uid = %d, gid = %d })):close()
      assert(net.listen("unix:%s.b", { mode = tonumber("777", 8) })):close()
    ]]):format(path, uid, gid, path)
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local trace = helper.tmpdir() .. "/trace"
    local calls = "bind,fchmod,chmod,fchmodat,fchown,fchownat,lchown,chown,listen,umask"
    local out, err, status = helper.run(("umask 022; strace -f -qq -o %s -e trace=%s %s %s")
      :format(trace, calls, helper.neap, file))
    if status ~= 0 then return assert.matches("ptrace", out .. err) end -- not allowed here
    local names = {}
    for line in helper.read_file(trace):gmatch "[^\n]+" do
      local name, mode = line:match "^%d+ +(%a+)%(.-,? ?(0?[0-7]*)%) +="
      if name then names[#names + 1] = name .. (name:find "chmod" and " " .. mode or "") end
    end
    assert.equal("fchmod 000 bind fchownat chmod 0640 listen fchmod 0777 bind chmod 0777 listen",
      table.concat(names, " "):gsub("fchmod 0 ", "fchmod 000 "))
  end)

  it("is refused an owner that is unknown, or not ours to give; nothing is left", function()
    local path = helper.socket_path()
    for _, kind in ipairs(kinds) do
      local s, message, code = open(kind, path, { uid = "neap-nobody" })
      assert.is_nil(s)
      assert.matches(":" .. path .. ": option 'uid': 'neap%-nobody': there is none of that name$",
        message)
      assert.equal("ENOENT", code)
      s, message, code = open(kind, path, { gid = "neap-nobody" })
      assert.is_nil(s)
      assert.matches("option 'gid'", message)
      assert.equal("ENOENT", code)
      for _, bad in ipairs { { uid = -1 }, { uid = true }, { gid = 1.5 }, { gid = 4294967295 } } do
        assert.has_error(function() open(kind, path, bad) end)
      end
    end
    local script = ([[
      local net = require "neap.net"
      print(select(2, net.listen("unix:%s", { uid = 65532 })))
      print(select(2, net.datagram("unix-dgram:%s", { gid = 65533 })))
    ]]):format(path, path)
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local out, err = helper.run(("unshare -U --map-current-user %s %s"):format(helper.neap, file))
    assert.equal(("listen unix:%s: invalid argument\tEINVAL\n"):format(path)
      .. ("datagram unix-dgram:%s: invalid argument\tEINVAL\n"):format(path), out, err)
    assert.is_nil(lfs.symlinkattributes(path))
  end)

  it("lets in whom its mode lets in", function()
    if uid ~= 0 then return end -- only root can be somebody else
    local dir = helper.tmpdir()
    os.execute("chmod 755 " .. dir)
    local l = assert(open("unix", dir .. "/s", { gid = "nogroup", mode = tonumber("660", 8) }))
    local nc = "printf hi | nc -N -U " .. dir .. "/s"
    local served = neap.spawn(function()
      local conn <close> = l:accept(TIMEOUT)
      return conn:read "a", conn:credentials()
    end)
    local outsider = assert(process.run({ "sh", "-c", nc }, { uid = 54321, gid = 54321 }))
    assert.is_false(outsider.ok)
    assert.matches("[Pp]ermission denied", outsider.stderr)
    local member = assert(process.run({ "sh", "-c", nc }, { uid = 54321, gid = 54321,
      groups = { "nogroup", 77 } }))
    assert.is_true(member.ok, member.stderr)
    local _, said, who = served:join()
    assert.equal("hi", said)
    assert.same({ 54321, 54321 }, { who.uid, who.gid })
    table.sort(who.groups)
    assert.same({ 77, 65534 }, who.groups)
  end)
end)

describe("credentials", function()
  -- Both ends of a connection of that kind; closed when the test ends.
  local function ends(kind)
    local l = assert(open(kind, "@"))
    local c = assert(net.connect(l.address))
    local a = assert(l:accept(TIMEOUT))
    helper.after(function()
      c:close()
      a:close()
    end)
    return c, a
  end

  for _, kind in ipairs { "unix", "unix-seqpacket" } do
    it("of a " .. kind .. " connection are plain fields", function()
      for _, s in ipairs { ends(kind) } do
        local c = assert(s:credentials())
        assert.same({ process.pid, uid, gid }, { c.pid, c.uid, c.gid })
        local expected = {}
        for id in helper.read_file("/proc/self/status"):match "Groups:([^\n]*)":gmatch "%d+" do
          expected[#expected + 1] = tonumber(id)
        end
        assert.same(expected, c.groups)
        assert.is_nil(c.pidfd) -- a descriptor is for who asks
      end
    end)

    it("of a " .. kind .. " connection have a pidfd for who asks", function()
      local c = assert(ends(kind):credentials { pidfd = true })
      local kernel = helper.read_file "/proc/sys/kernel/osrelease"
      local major, minor = kernel:match "(%d+)%.(%d+)"
      if tonumber(major) * 1000 + tonumber(minor) < 6005 then
        assert.is_nil(c.pidfd)
        return
      end
      local info = helper.read_file("/proc/self/fdinfo/" .. c.pidfd.fd)
      assert.equal(process.pid, tonumber(info:match "Pid:%s*(%d+)"))
      assert.equal("EOPNOTSUPP", select(3, c.pidfd:adopt())) -- no stream: to pass on, or to close
      c.pidfd:close()
    end)
  end

  it("are told of every message with info", function()
    local s = assert(open("unix-dgram", "@"))
    local path = s.address:match "@.*"
    local child = helper.start(("printf x | socat - ABSTRACT-SENDTO:%s"):format(path:sub(2)))
    local msg, _, info = s:recv { info = true, timeout = TIMEOUT.timeout }
    assert.equal("x", msg)
    assert.equal(uid, info.credentials.uid)
    assert.equal(gid, info.credentials.gid)
    assert.truthy(child)
  end)

  it("are refused bad options, and told of nothing else", function()
    local c = ends "unix"
    assert.has_error(function() c:credentials { pid = true } end)
    assert.has_error(function() c:credentials { pidfd = 1 } end)
    assert.has_error(function() c:credentials(1) end)
    local l = assert(net.listen "127.0.0.1:0")
    helper.after(function() l:close() end)
    local t <close> = assert(net.connect(l.address))
    assert.is_nil((t:credentials()))
    local d <close> = assert(net.datagram "unix-dgram:@")
    local none, message = d:credentials()
    assert.is_nil(none)
    assert.matches("^credentials of unix%-dgram:@", message)
    c:close()
    assert.equal("ECANCELED", select(3, c:credentials()))
  end)
end)

describe("a record with every kind of descriptor", function()
  -- What the kernel has and Neap has no type for comes from a helper in C, by this very protocol.
  local source = [[
#define _GNU_SOURCE
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
  int fds[4] = {memfd_create("m", 0), eventfd(3, 0), syscall(SYS_pidfd_open, getpid(), 0),
                epoll_create1(0)};
  union { struct cmsghdr h; char room[CMSG_SPACE(sizeof fds)]; } u;
  struct iovec iov = {"4", 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u,
                     .msg_controllen = sizeof u};
  u.h.cmsg_level = SOL_SOCKET, u.h.cmsg_type = SCM_RIGHTS, u.h.cmsg_len = CMSG_LEN(sizeof fds);
  memcpy(CMSG_DATA(&u.h), fds, sizeof fds);
  if (write(fds[0], "in memory", 9) != 9 || lseek(fds[0], 0, SEEK_SET) != 0) return 1;
  return sendmsg(0, &m, 0) == 1 ? 0 : 2;
}
]]

  -- memfd, eventfd, pidfd, epoll: descriptors in a list to be closed
  local function exotic()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/x.c", source)
    local out, err, status = helper.run(("cc -o %s/x %s/x.c"):format(dir, dir))
    assert.equal(0, status, out .. err)
    local ours, theirs = net.pair "unix-seqpacket"
    local _ <close> = ours
    local p <close> = assert(process.spawn({ dir .. "/x" }, { stdin = theirs }))
    theirs:close()
    local _, _, info = ours:recv { fds = 9, timeout = TIMEOUT.timeout }
    assert.is_true((p:wait()))
    assert.equal(4, #info.fds)
    return info.fds
  end

  local function nature(fd) return lfs.symlinkattributes("/proc/self/fd/" .. fd, "target") end

  local function everything()
    local kept = {}
    local function keep(x)
      kept[#kept + 1] = x
      return x
    end
    local l = keep(assert(net.listen "127.0.0.1:0"))
    local c = keep(assert(net.connect(l.address)))
    keep(assert(l:accept(TIMEOUT)))
    local path = helper.write_file(helper.tmpdir() .. "/f", "a file's text")
    local sp, other = net.pair "unix-seqpacket"
    local ua, ub = net.pair "unix"
    local da, db = net.pair "unix-dgram"
    for _, x in ipairs { sp, other, ua, ub, da, db } do keep(x) end
    local list = {
      { c, "neap.stream{tcp" },
      { keep(assert(net.datagram "udp://127.0.0.1:0")), "neap.datagram{udp" },
      { l, "neap.listener" },
      { keep(assert(io.open(path))), "neap.stream{" },
      { sp, "neap.datagram{unix-seqpacket" },
      { ua, "neap.stream{unix" },
      { da, "neap.datagram{unix-dgram" },
      { keep(assert(io.open "/dev/null")), "neap.stream{" },
    }
    local rest <const> = keep(exotic())
    list[#list + 1] = { rest[1], "neap.stream{" } -- memfd: a file
    for i = 2, 4 do list[#list + 1] = { rest[i], "EOPNOTSUPP" } end
    helper.after(function()
      for _, x in ipairs(kept) do
        if x ~= rest then x:close() end
      end
      for _, x in ipairs(rest) do x:close() end
    end)
    return list
  end

  for _, kind in ipairs { "unix-seqpacket", "unix-dgram", "unix" } do
    it("brings each as what it is, over " .. kind .. ", with credentials", function()
      local list = everything()
      local a, b = net.pair(kind)
      helper.after(function()
        a:close()
        b:close()
      end)
      local fds, natures = {}, {}
      for i, row in ipairs(list) do
        fds[i] = row[1]
        natures[i] = nature(io.type(row[1]) and require("neap.descriptor.core").dup(row[1]).fd
          or row[1].fd)
      end
      if kind ~= "unix" then -- asked for before it is sent, as SO_PASSCRED wants it
        local none = b:recv { info = true, fds = 99, timeout = 0 }
        assert.is_nil(none)
      end
      assert(a:send("all of it", { fds = fds }))
      local msg, got, who
      if kind == "unix" then
        msg, got = b:recv(99, { fds = 99, timeout = TIMEOUT.timeout })
        if #msg < 9 then msg = msg .. assert(b:read(9 - #msg, TIMEOUT)) end -- no records here
        who = b:credentials()
      else
        local info
        msg, _, info = b:recv { info = true, fds = 99, timeout = TIMEOUT.timeout }
        got, who = info.fds, info.credentials
      end
      local _ <close> = got
      assert.equal("all of it", msg)
      assert.same({ process.pid, uid, gid }, { who.pid, who.uid, who.gid })
      assert.equal(#list, #got)
      for i, row in ipairs(list) do
        assert.equal(natures[i], nature(got[i].fd)) -- the same open file
        local object, _, code = got[i]:adopt()
        local what = object and tostring(object) or code
        assert.equal(row[2], what:sub(1, #row[2]))
        if object then object:close() end
      end
    end)
  end
end)
