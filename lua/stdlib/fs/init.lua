-- neap.fs: files without stalling the loop.
--
--   local fs = require "neap.fs"
--   for line in assert(fs.open "/etc/hosts"):lines() do print(line) end
--   assert(fs.write("state.json", text, { atomic = true }))
--
-- Each call that may touch a disk runs on a thread (at most eight at a time) while its task waits;
-- the others go on. One that is cancelled or past its deadline is left to itself: it keeps its own
-- memory and closes what it opened, and neither the others nor the end of the program wait for it.
-- What it had begun may still happen. Failures are `nil, message, code`, the message with the path.

local core = require "neap.fs.core"
local streams = require("neap.stream.core").methods
require "neap.stream"

local fs = {}

-- What streams do that is written in Lua.
for _, name in ipairs { "match", "messages" } do
  core.methods[name] = function(self, ...) return streams[name](core.input(self), ...) end
end

---@class neap.fs.open_options: neap.timeout
---@field mode? integer permissions of a new file, before the umask; 0666 (octal)
---@field beneath? string a directory: the path is relative to it, and neither "..", nor a link (no
---absolute one at all) leads out of it: EXDEV. Does not wait for the other end of a FIFO

--- Opens a file. A regular file becomes a `neap.file`; a FIFO, a terminal or a device a
-- `neap.stream`, which the loop watches. Opening a FIFO waits for its other end.
---@param path string
---@param mode? string io's: "r" (default), "w", "a", "r+", "w+", "a+"; "b" is ignored, "x" after w
---or a: it must not exist (EEXIST)
---@param opts? neap.fs.open_options
---@return neap.file|neap.stream|nil file
---@return string? message
---@return string? code ENOENT, EACCES, EISDIR, EEXIST, EMFILE, ENOSPC …; EXDEV (`beneath`);
---ETIMEDOUT
fs.open = core.open

--- All of a file.
---@param path string
---@param max? integer most bytes, 16777216; past them EMSGSIZE
---@param opts? neap.timeout
---@return string? bytes
---@return string? message
---@return string? code EMSGSIZE, ENOENT, EISDIR …
fs.read = core.read

---@class neap.fs.write_options: neap.timeout
---@field atomic? boolean into a new file beside it, which then takes its place (and its mode): who
---reads sees the old or the new text, whole
---@field sync? boolean returns when it is on the disk
---@field append? boolean at the end of what is there
---@field exclusive? boolean it must not exist: EEXIST
---@field mode? integer permissions of a new file, before the umask; 0666 (octal)

--- Writes a whole file: makes it, or replaces what is in it.
---@param path string
---@param data string
---@param opts? neap.fs.write_options
---@return true? ok
---@return string? message
---@return string? code EACCES, ENOSPC, EROFS, EISDIR, EEXIST …
fs.write = core.write

---@class neap.fs.stat_result
---@field type "file"|"directory"|"link"|"fifo"|"socket"|"character"|"block"|"unknown"
---@field size integer bytes
---@field mode integer permissions: 0644 is 420
---@field uid integer
---@field gid integer
---@field nlink integer
---@field ino integer
---@field dev integer
---@field rdev integer
---@field blocks integer of 512 bytes, in use
---@field atime number seconds since 1970
---@field mtime number
---@field ctime number

--- What the system knows of a file; of a link: of what it leads to.
---@param path string
---@param opts? neap.timeout
---@return neap.fs.stat_result? result
---@return string? message
---@return string? code ENOENT, ENOTDIR, EACCES …
fs.stat = core.stat

--- The same, of the link itself.
---@param path string
---@param opts? neap.timeout
---@return neap.fs.stat_result? result
---@return string? message
---@return string? code
fs.lstat = core.lstat

--- An iterator over the names in a directory and their types (as in stat), in the order of their
-- bytes, as they were when it was called: `for name, kind in assert(fs.scandir(path)) do`.
---@param path string
---@param opts? neap.timeout
---@return (fun(): string?, string?)? next
---@return string? message
---@return string? code ENOENT, ENOTDIR, EACCES; EMSGSIZE: the names are more than 16 MiB
fs.scandir = core.scandir

--- Makes a directory.
---@param path string
---@param mode? integer permissions, before the umask; 0777 (octal)
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EEXIST, ENOENT …
fs.mkdir = core.mkdir

--- Makes a directory with a name that nobody else has: `template` ends in XXXXXX.
---@param template string
---@param opts? neap.timeout
---@return string? path
---@return string? message
---@return string? code EINVAL (the template) …
fs.mkdtemp = core.mkdtemp

--- Removes an empty directory.
---@param path string
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code ENOTEMPTY, ENOENT …
fs.rmdir = core.rmdir

--- Removes a name; the file goes with its last name and the last that has it open.
---@param path string
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code ENOENT, EISDIR …
fs.unlink = core.unlink

--- Gives a file or directory another name, in the place of what has that name.
---@param from string
---@param to string
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code ENOENT, EXDEV (another file system), ENOTEMPTY …
fs.rename = core.rename

--- Gives a file one more name.
---@param path string
---@param name string
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EEXIST, EXDEV …
fs.link = core.link

--- Makes a symbolic link at `path` that says `target`.
---@param target string
---@param path string
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EEXIST …
fs.symlink = core.symlink

--- What a symbolic link says.
---@param path string
---@param opts? neap.timeout
---@return string? target
---@return string? message
---@return string? code EINVAL (no link), ENOENT …
fs.readlink = core.readlink

--- The absolute path without links and dots.
---@param path string
---@param opts? neap.timeout
---@return string? path
---@return string? message
---@return string? code ENOENT, ELOOP …
fs.realpath = core.realpath

--- Changes permissions.
---@param path string
---@param mode integer 0 to 07777 (octal)
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EPERM …
fs.chmod = core.chmod

--- Changes owner and group; -1 leaves one as it is.
---@param path string
---@param uid integer
---@param gid integer
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EPERM …
fs.chown = core.chown

--- Sets the times of the last access and change, in seconds since 1970.
---@param path string
---@param atime number
---@param mtime number
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EPERM, EACCES …
fs.utime = core.utime

---@class neap.fs.copy_options: neap.timeout
---@field exclusive? boolean `to` must not exist: EEXIST

--- Copies a file and its permissions; shares the blocks where the file system can.
---@param from string
---@param to string
---@param opts? neap.fs.copy_options
---@return true? ok
---@return string? message
---@return string? code ENOENT, EEXIST, ENOSPC …
fs.copyfile = core.copyfile

--- Watches a file, or the names in a directory (not those below). Never waits. Linux only.
---@param path string
---@return neap.watch? watch
---@return string? message
---@return string? code ENOENT, EACCES, EMFILE, ENOSPC (more than the system allows); ENOSYS
fs.watch = core.watch

return fs
