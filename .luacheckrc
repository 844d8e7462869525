-- luacheck's settings: Lua without globals, 100 columns.
std = "lua54"
max_line_length = 100
max_string_line_length = false -- programs and messages in specs
self = false
unused_args = false
exclude_files = { "build*" }
files["spec"] = { std = "+busted" }
files["spec/**/*_spec.lua"] = { std = "+busted" }
files["lua/stdlib/prompt.lua"] = { read_globals = { "_PROMPT", "_PROMPT2" } }
files["docs/luacats"] = { ignore = { "241" } } -- declarations only: mutated, never accessed
for _, name in ipairs { "stock", "command", "embed", "module" } do -- programs and shell lines
  files["spec/" .. name .. "_spec.lua"] = { std = "+busted", max_line_length = false }
end
files["bench/peers"] = { ignore = { "2", "4", "631" }, globals = { "ngx" } } -- as their users write
