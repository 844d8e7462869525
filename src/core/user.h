/* Users and groups of the system, by name.  The answers come from where nsswitch.conf says; where
 * that is a network service, asking may block for a moment, as for every program. */
#ifndef NP_USER_H
#define NP_USER_H

#include "core/base.h"

/* 0; -ENOENT: there is none; or another failure. */
int np_user_find(const char *name, uid_t *uid);
int np_group_find(const char *name, gid_t *gid);

/* The group a user logs in with. -ENOENT: no such user. */
int np_user_group(uid_t uid, gid_t *gid);

/* The groups that list the user, and gid; their number, at most max. -ENOENT: no such user. */
int np_user_groups(uid_t uid, gid_t gid, gid_t *out, int max);

/* Whether our groups, gid among them or not, are these already. */
bool np_user_has_groups(gid_t gid, const gid_t *groups, int n);

#endif
