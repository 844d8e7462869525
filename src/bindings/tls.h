/* TLS for the other bindings: a listener puts it on what it accepts, a stream tells of it. */
#ifndef NP_BINDING_TLS_H
#define NP_BINDING_TLS_H

#include <lua.h>

#include "core/tls.h"

/* A context object, whose core a reload changes. Raises for anything else at idx; it stays where it
 * is as long as somebody anchors the value. */
typedef struct np_tls_box np_tls_box;
np_tls_box *np_check_tls_box(lua_State *L, int idx);
np_tls_context *np_tls_box_core(const np_tls_box *box);

/* Pushes the fields of a TLS stream as a table, nothing for another: the number of results. */
struct stream;
int np_push_tls_info(lua_State *L, struct stream *u);

#endif
