-- Content types by a file name's extension; text is said to be UTF-8.

local utf8_text = "; charset=utf-8"

local types = {
  html = "text/html" .. utf8_text, htm = "text/html" .. utf8_text, css = "text/css" .. utf8_text,
  js = "text/javascript" .. utf8_text, mjs = "text/javascript" .. utf8_text,
  txt = "text/plain" .. utf8_text, md = "text/markdown" .. utf8_text,
  csv = "text/csv" .. utf8_text, xml = "application/xml", xhtml = "application/xhtml+xml",
  json = "application/json", map = "application/json", webmanifest = "application/manifest+json",
  atom = "application/atom+xml", rss = "application/rss+xml", pdf = "application/pdf",
  wasm = "application/wasm", zip = "application/zip", gz = "application/gzip",
  bz2 = "application/x-bzip2", xz = "application/x-xz", zst = "application/zstd",
  tar = "application/x-tar", ["7z"] = "application/x-7z-compressed",
  png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif",
  webp = "image/webp", avif = "image/avif", svg = "image/svg+xml", ico = "image/vnd.microsoft.icon",
  bmp = "image/bmp", tif = "image/tiff", tiff = "image/tiff",
  woff = "font/woff", woff2 = "font/woff2", ttf = "font/ttf", otf = "font/otf",
  mp3 = "audio/mpeg", ogg = "audio/ogg", oga = "audio/ogg", opus = "audio/ogg", wav = "audio/wav",
  flac = "audio/flac", m4a = "audio/mp4", mp4 = "video/mp4", webm = "video/webm",
  ogv = "video/ogg", mov = "video/quicktime", mkv = "video/x-matroska",
}

local UNKNOWN = "application/octet-stream"

-- own: more of them, which come first.
return function(path, own)
  local extension = path:match "%.([^./]+)$"
  if not extension then return UNKNOWN end
  extension = extension:lower()
  return own and own[extension] or types[extension] or UNKNOWN
end
