# Neap. Settings on top, wildcards below: a new file needs no edit here.
CC      ?= cc
CFLAGS  ?= -O2 -g
WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
B       ?= build
LUA_CFLAGS := $(shell pkg-config --cflags lua5.4 2>/dev/null)
UV_CFLAGS  := $(shell pkg-config --cflags libuv 2>/dev/null)
UV_LIBS    := $(shell pkg-config --libs libuv 2>/dev/null)
LUA_A      := $(shell pkg-config --variable=libdir lua5.4 2>/dev/null)/liblua5.4.a
override CFLAGS += -std=gnu11 -fPIC $(WARN) -Isrc -D_GNU_SOURCE

CORE := $(wildcard src/core/*.c)
BIND := $(wildcard src/bindings/*.c)
COBJ := $(CORE:src/%.c=$B/%.o)
BOBJ := $(BIND:src/%.c=$B/%.o)

all: $B/neap

$B/neap: $B/main.o $B/libneap.a
	$(CC) $(CFLAGS) $(LDFLAGS) -Wl,-E -o $@ $B/main.o -Wl,--whole-archive $B/libneap.a $(LUA_A) -Wl,--no-whole-archive $(UV_LIBS) -lm -ldl

$B/libneap.a: $(COBJ) $(BOBJ)
	rm -f $@ && $(AR) rcs $@ $^

$B/core/%.o: src/core/%.c ; @mkdir -p $(@D); $(CC) $(CFLAGS) $(UV_CFLAGS) -MMD -c -o $@ $<
$B/bindings/%.o: src/bindings/%.c ; @mkdir -p $(@D); $(CC) $(CFLAGS) $(LUA_CFLAGS) -MMD -c -o $@ $<
$B/%.o: src/%.c ; @mkdir -p $(@D); $(CC) $(CFLAGS) $(LUA_CFLAGS) -MMD -c -o $@ $<
-include $(wildcard $B/*.d $B/*/*.d)
clean: ; rm -rf build
.PHONY: all clean
