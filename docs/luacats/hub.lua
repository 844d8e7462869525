---@meta
-- Definitions for editors: hubs, which are C (src/bindings/hub.c). See neap.net.

--- `#hub`: how many members.
---@class neap.hub
local hub = {}

--- Makes a stream a member, once; it stays its owner's, who reads, writes and closes it. One that
--- is closed or failed leaves by itself.
---@param stream neap.stream
---@return neap.hub? self
---@return string? message
---@return string? code "ECANCELED": the stream is closed
function hub:add(stream) end

---@param stream neap.stream
---@return neap.hub self
function hub:remove(stream) end

---@class neap.hub.send_options: neap.timeout
---@field except? neap.stream a member that does not get it

--- Queues one message for all members: whole, and in the same order for all. Waits only under the
--- policy "wait", before anybody gets the message.
---@param text string
---@param opts? neap.hub.send_options
---@return integer? members for how many it was queued
---@return string? message
---@return string? code "ETIMEDOUT" a member stayed slow; nobody got it
function hub:send(text, opts) end

---@return neap.stream[] members in the order of joining
function hub:members() end

---@class neap.hub.stats
---@field members integer
---@field sent integer messages
---@field dropped integer not queued for a slow member
---@field disconnected integer members cut off

---@return neap.hub.stats
function hub:stats() end
