# Neap. Settings on top, wildcards below: a new file needs no edit here.
#
#   make run     installs what is missing, builds, starts an example
#   make test    the same set-up, then every spec             (make help lists the rest)

# ---- settings ---------------------------------------------------------------------------------------------------
CC      ?= cc
CFLAGS  ?= -O2 -g
LDFLAGS ?=
LUA     ?= lua5.4
PREFIX  ?= /usr/local
DESTDIR ?=
WERROR  ?= -Werror
WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla $(WERROR)
B       ?= build
SPECS   ?= spec
FUZZ_SECONDS ?= 20
STAGES  ?=
SPEC_SECONDS ?= 2400
# Spec files at a time: one more than there are cores, for many wait.
SPEC_JOBS ?= $(shell expr 1 + $$(nproc 2>/dev/null || echo 2))
VERSION := $(shell sed -n 's/^\#define NEAP_VERSION "\(.*\)"/\1/p' src/neap.h)

# Debian packages: one place to add.
BUILD_PACKAGES = build-essential pkg-config lua5.4 liblua5.4-dev libuv1-dev libssl-dev libc-ares-dev zlib1g-dev lua-lpeg
TEST_PACKAGES  = lua-busted lua-check clang clang-format libclang-rt-14-dev netcat-openbsd socat curl redis-tools \
  redis-server bind9-dnsutils openssh-client openssh-server tftp-hpa strace iproute2 procps psmisc \
  wget wrk knot-dnsutils knot dnsmasq-base dnsperf zzuf iputils-ping nmap systemd dbus-daemon dbus-bin nginx \
  tinyproxy siege slowhttptest apache2-utils nghttp2-client nodejs \
  python3-websockets node-ws chromium swaks libnet-ssleay-perl lua-cjson
ACCEPTANCE_PACKAGES = testssl.sh siege slowhttptest apache2-utils nghttp2-client wrk chromium
BENCH_PACKAGES = libssl-dev socat liburing-dev lua-luv lua-cqueues lua-luaossl lua-copas lua-socket lua-sec lua-coxpcall nginx \
  libnginx-mod-http-lua libnginx-mod-stream golang-go nodejs python3 python3-uvloop redis-server openssl wrk \
  valgrind strace node-ws python3-websockets golang-github-gorilla-websocket-dev
VM_PACKAGES = qemu-system-x86 linux-image-amd64 busybox-static kmod python3 openssl lua-luv

LUA_CFLAGS := $(shell pkg-config --cflags lua5.4 2>/dev/null)
CORE_CFLAGS := $(shell pkg-config --cflags libuv openssl libcares zlib 2>/dev/null)
CORE_LIBS  := $(shell pkg-config --libs libuv openssl libcares zlib 2>/dev/null)
LUA_A      := $(shell pkg-config --variable=libdir lua5.4 2>/dev/null)/liblua5.4.a

# SAN and HARD come from the asan and hard targets; both reach the compiler and the linker.
SAN  ?=
HARD ?=
SAN_FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# Optimisation across files, with gcc: the scheduler's rows of the benchmark gain 4 to 11 %. Objects stay usable without.
LTO  ?= $(if $(SAN)$(HARD),,$(shell echo | $(CC) -dM -E - 2>/dev/null | grep -q __clang__ || echo -flto=auto -ffat-lto-objects))
LTO  := $(LTO)
BASE = -std=gnu11 -fPIC -D_GNU_SOURCE -Isrc -I$B $(WARN) $(HARD) $(SAN) $(LTO)

# ---- files ------------------------------------------------------------------------------------------------------
CORE   := $(wildcard src/core/*.c)
BIND   := $(wildcard src/bindings/*.c)
STDLIB := $(shell find lua/stdlib -name '*.lua' 2>/dev/null)
COBJ   := $(CORE:src/%.c=$B/%.o)
BOBJ   := $(BIND:src/%.c=$B/%.o) $B/baked.o
MOBJ   := $(patsubst src/%.c,$B/%.o,$(wildcard src/*.c))
FUZZ   := $(patsubst spec/fuzz/%.c,%,$(wildcard spec/fuzz/*.c))

# ---- building ---------------------------------------------------------------------------------------------------
all: $B/neap $B/neap.so $B/libneap.a ## build the command, the Lua module and the library

# V=1 shows the commands.
Q   := $(if $(V),,@)
say  = $(if $(V),,@echo "  $1")

objects: $(COBJ) $(BOBJ) $(MOBJ)

$B/neap: $(MOBJ) $B/libneap.a
	$(call say,link $@)
	$Q$(CC) $(CFLAGS) $(SAN) $(LTO) $(LDFLAGS) -Wl,-E -o $@ $(MOBJ) $B/libneap.a \
	  -Wl,--whole-archive $(LUA_A) -Wl,--no-whole-archive $(CORE_LIBS) -lm -ldl -lpthread

# Lua's own functions stay undefined in the module: the host brings them, and there must not be two.
# nodelete: closing the Lua state must not unload code that an abandoned lookup is still running.
$B/neap.so: $(COBJ) $(BOBJ) scripts/neap.map
	$(call say,link $@)
	$Q$(CC) $(CFLAGS) $(SAN) $(LTO) $(LDFLAGS) -shared -Wl,-z,nodelete -Wl,--version-script=scripts/neap.map -o $@ $(COBJ) $(BOBJ) $(CORE_LIBS) -lpthread

$B/libneap.a: $(COBJ) $(BOBJ)
	$(call say,ar $@)
	$Qrm -f $@ && $(AR) rcs $@ $^

$B/core/%.o: src/core/%.c | libs
	$(call say,cc $@)
	@mkdir -p $(@D)
	$Q$(CC) $(CFLAGS) $(BASE) $(CORE_CFLAGS) -MMD -MP -c -o $@ $<
$B/bindings/%.o: src/bindings/%.c | libs
	$(call say,cc $@)
	@mkdir -p $(@D)
	$Q$(CC) $(CFLAGS) $(BASE) $(LUA_CFLAGS) -MMD -MP -c -o $@ $<
$B/%.o: src/%.c | libs
	$(call say,cc $@)
	@mkdir -p $(@D)
	$Q$(CC) $(CFLAGS) $(BASE) $(LUA_CFLAGS) $(CORE_CFLAGS) -MMD -MP -c -o $@ $<

# The directories are prerequisites too: a module that was removed must leave the binary.
$B/baked.c: $(STDLIB) $(sort $(dir $(STDLIB))) scripts/bake.lua
	$(call say,bake $@)
	@mkdir -p $(@D)
	$Q$(LUA) scripts/bake.lua lua/stdlib $@
$B/baked.o: $B/baked.c src/bindings/baked.h | libs
	$(call say,cc $@)
	$Q$(CC) $(CFLAGS) $(BASE) -c -o $@ $<

-include $(wildcard $B/*.d $B/*/*.d)

libs:
	@test -n "$(CORE_LIBS)" -a -f "$(LUA_A)" || { \
	  echo "neap: Lua 5.4, libuv, OpenSSL, c-ares or zlib is missing: 'make deps' installs them (make run and make test do it first)" >&2; exit 1; }

deps: ## install the Debian packages to build that are missing
	@sh scripts/deps.sh $(BUILD_PACKAGES)

deps-test: ## the same, with those that the specs need
	@sh scripts/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)

deps-acceptance:
	@sh scripts/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES) $(ACCEPTANCE_PACKAGES)

# ---- running ----------------------------------------------------------------------------------------------------
# Recipes that follow deps call make again: the settings above are read when make starts, before deps ran.
run: deps ## set up, build, and start scripts/examples/upper.lua
	@$(MAKE) --no-print-directory all
	@exec $B/neap scripts/examples/upper.lua

specs: all
	@NEAP_BUILD=$B CC="$(CC)" NEAP_CFLAGS="$(SAN)" timeout --foreground -k 10 $(SPEC_SECONDS) \
	  $B/neap spec/support/all.lua -j $(SPEC_JOBS) $(SPEC_FLAGS) $(SPECS)

test: deps-test ## set up, build, and run every spec (SPECS=spec/x_spec.lua: that one)
	@$(MAKE) --no-print-directory specs

ASAN_ENV = ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:$$ASAN_OPTIONS \
  UBSAN_OPTIONS=print_stacktrace=1:$$UBSAN_OPTIONS

asan: deps-test ## the specs with address, undefined and leak sanitizers
	@$(ASAN_ENV) $(MAKE) --no-print-directory B=build-asan CFLAGS="-O1 -g" SAN="$(SAN_FLAGS)" specs

hard: deps-test ## the specs in a build of tiny buffers, one-byte writes and a relentless collector, with sanitizers
	@$(ASAN_ENV) $(MAKE) --no-print-directory B=build-hard CFLAGS="-O1 -g" SAN="$(SAN_FLAGS)" HARD=-DNP_HARD specs

# A plain build: objects of a link-time-optimized one hide their sections.
tidy: deps-test ## floors, globals, style, formatting, luacheck
	@$(MAKE) --no-print-directory -s B=build-tidy CFLAGS=-O2 LDFLAGS= LTO= objects
	@CC="$(CC)" $(LUA) scripts/tidy.lua build-tidy

format: ## apply .clang-format to the C sources
	clang-format -i $$(git ls-files 'src/*.[ch]' 'spec/*.[ch]')

# Every spec/fuzz/NAME.c is a libFuzzer target over the core; inputs worth keeping lie in spec/fuzz/seeds/NAME.
fuzz: deps-test ## run each fuzz target for FUZZ_SECONDS
	@$(MAKE) --no-print-directory B=build-fuzz CC=clang CFLAGS="-O1 -g" \
	  SAN="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all" fuzz-run
fuzz-run: $(FUZZ:%=$B/fuzz/%)
	@for f in $(FUZZ); do \
	  mkdir -p $B/corpus/$$f; echo "fuzz: $$f for $(FUZZ_SECONDS) s"; \
	  $B/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -artifact_prefix=$B/fuzz/ \
	    $B/corpus/$$f $$(test ! -d spec/fuzz/seeds/$$f || echo spec/fuzz/seeds/$$f) || exit 1; \
	done
$B/libcore.a: $(COBJ)
	$Qrm -f $@ && $(AR) rcs $@ $^
$B/fuzz/%: spec/fuzz/%.c $B/libcore.a
	$(call say,cc $@)
	@mkdir -p $(@D)
	$Q$(CC) $(CFLAGS) $(BASE) $(CORE_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $< $B/libcore.a $(CORE_LIBS) -lpthread

acceptance: deps-acceptance ## the runs that take minutes each (STAGES="testssl load": those alone), about half an hour
	@$(MAKE) --no-print-directory all
	@B=$B scripts/acceptance $(STAGES)

docs: all ## write docs/reference.md from the annotations beside the code
	@$B/neap scripts/reference.lua docs/reference.md

bench: deps ## a few minutes: the headline rows beside the installed peers, into docs/
	@$(MAKE) --no-print-directory all
	@bench/run.sh headline && bench/run.sh publish

bench-all: deps ## about an hour: every row, every peer that is installed
	@$(MAKE) --no-print-directory all
	@bench/run.sh all && bench/run.sh publish

# A descriptor for each connection in the server and in the load generator: more than many hosts allow.
bench-c100k: ## 100 000 idle connections in a virtual machine: a quarter of an hour where it is emulated
	@sh scripts/deps.sh $(BUILD_PACKAGES) $(VM_PACKAGES)
	@$(MAKE) --no-print-directory all
	@bench/run.sh build && bench/vm.sh ./run.sh c100k c-epoll c-lua luv neap

bench-peers: ## install the Debian packages of the benchmark's peers
	@sh scripts/deps.sh $(BUILD_PACKAGES) $(BENCH_PACKAGES)

# ---- installing -------------------------------------------------------------------------------------------------
BIN = $(DESTDIR)$(PREFIX)/bin
INC = $(DESTDIR)$(PREFIX)/include
LIB = $(DESTDIR)$(PREFIX)/lib
MAN = $(DESTDIR)$(PREFIX)/share/man/man1

install: all ## install below $(DESTDIR)$(PREFIX)
	install -d $(BIN) $(INC) $(LIB)/lua/5.4 $(LIB)/pkgconfig
	install -m 755 $B/neap $(BIN)/neap
	install -m 644 src/neap.h $(INC)/neap.h
	install -m 644 $B/libneap.a $(LIB)/libneap.a
	install -m 644 $B/neap.so $(LIB)/lua/5.4/neap.so
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: neap' 'Description: Lua-scriptable network runtime' 'Version: $(VERSION)' \
	  'Requires: lua5.4 libuv openssl libcares zlib' 'Cflags: -I$${prefix}/include' 'Libs: -L$${prefix}/lib -lneap -lpthread' \
	  > $(LIB)/pkgconfig/neap.pc
	test ! -f docs/neap.1 || { install -d $(MAN) && install -m 644 docs/neap.1 $(MAN)/neap.1; }

uninstall: ## remove what install put there
	rm -f $(BIN)/neap $(INC)/neap.h $(LIB)/libneap.a $(LIB)/lua/5.4/neap.so $(LIB)/pkgconfig/neap.pc $(MAN)/neap.1

clean: ## remove every build directory
	rm -rf build build-*

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: all objects libs deps deps-test deps-acceptance run specs test asan hard tidy format fuzz fuzz-run acceptance docs bench bench-all bench-c100k bench-peers install uninstall clean help
.DELETE_ON_ERROR:
.SECONDARY:
