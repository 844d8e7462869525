-- Limits that several files of the server count with; those that a script sets are in server.lua.

return {
  -- What is left of a request's body is dropped up to this; past it the connection ends.
  drop_max = 65536,
  -- Bytes of an answer in one write: each has the connection's timeout for itself, so that a client
  -- has so long for so much, however large the whole is.
  slice = 1 << 17,
}
