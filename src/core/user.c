/* getpwnam_r and its likes, with as much memory as the entry needs. */
#include "core/user.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

enum { ENTRY_MAX = 1 << 20 }; /* a group with very many members */

/* Some services say "none" by a code. */
static int no_entry(int err) {
  return err == 0 || err == ESRCH || err == EBADF || err == EPERM ? -ENOENT : -err;
}

/* By name, or by number when name is NULL. The entry's strings lie in *memory, to be freed. */
static int find_user(const char *name, uid_t uid, struct passwd *out, char **memory) {
  for (size_t size = 1024;; size *= 4) {
    struct passwd *found = NULL;
    char *buf = *memory = malloc(size);
    if (!buf) return -ENOMEM;
    int err =
      name ? getpwnam_r(name, out, buf, size, &found) : getpwuid_r(uid, out, buf, size, &found);
    if (found) return 0;
    free(buf);
    *memory = NULL;
    if (err != ERANGE || size >= ENTRY_MAX) return no_entry(err);
  }
}

int np_user_find(const char *name, uid_t *uid) {
  struct passwd entry;
  char *memory;
  int r = find_user(name, 0, &entry, &memory);
  if (r < 0) return r;
  *uid = entry.pw_uid;
  free(memory);
  return 0;
}

int np_user_group(uid_t uid, gid_t *gid) {
  struct passwd entry;
  char *memory;
  int r = find_user(NULL, uid, &entry, &memory);
  if (r < 0) return r;
  *gid = entry.pw_gid;
  free(memory);
  return 0;
}

int np_user_groups(uid_t uid, gid_t gid, gid_t *out, int max) {
  struct passwd entry;
  char *memory;
  int n = max, r = find_user(NULL, uid, &entry, &memory);
  if (r < 0) return r;
  r = getgrouplist(entry.pw_name, gid, out, &n);
  free(memory);
  return r < 0 ? max : n; /* more than fit: those that did */
}

int np_group_find(const char *name, gid_t *gid) {
  for (size_t size = 1024;; size *= 4) {
    struct group entry, *found = NULL;
    char *buf = malloc(size);
    if (!buf) return -ENOMEM;
    int err = getgrnam_r(name, &entry, buf, size, &found);
    if (found) *gid = entry.gr_gid;
    free(buf);
    if (found) return 0;
    if (err != ERANGE || size >= ENTRY_MAX) return no_entry(err);
  }
}

static bool among(gid_t id, gid_t gid, const gid_t *groups, int n) {
  for (int i = 0; i < n; i++)
    if (groups[i] == id) return true;
  return id == gid;
}

bool np_user_has_groups(gid_t gid, const gid_t *groups, int n) {
  enum { ROOM = 1024 };
  gid_t ours[ROOM];
  int have = getgroups(ROOM, ours);
  if (have < 0) return false;
  for (int i = 0; i < have; i++)
    if (!among(ours[i], gid, groups, n)) return false;
  for (int i = 0; i < n; i++)
    if (!among(groups[i], gid, ours, have)) return false;
  return true;
}
