/* What the threads do for a request (see fs.h): plain system calls on the request's own memory. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "core/beneath.h"
#include "core/fs.h"

static int64_t code(int64_t r) { return r < 0 ? -errno : r; }

static int64_t do_open(np_fsreq *r) {
  int fd;
  if (r->to) fd = np_open_beneath(r->to, r->path, r->flags, r->mode);
  else fd = (int)code(open(r->path, r->flags | O_CLOEXEC | O_NOCTTY, r->mode));
  if (fd < 0) return fd;
  np_fsfile *f = malloc(sizeof *f);
  int err = !f ? -ENOMEM : fstat(fd, &r->st) < 0 ? -errno : S_ISDIR(r->st.st_mode) ? -EISDIR : 0;
  if (err < 0) {
    free(f);
    close(fd);
    return err;
  }
  *f = (np_fsfile){.refs = 1, .fd = fd};
  r->file = f;
  return 0;
}

static int64_t do_read(np_fsreq *r) {
  r->data = malloc(r->len);
  if (!r->data) return -ENOMEM;
  ssize_t n;
  do n = pread(r->file->fd, r->data, r->len, r->at);
  while (n < 0 && errno == EINTR);
  return code(n);
}

/* at < 0: where the descriptor stands. *done: how much was written, also on failure. */
static int64_t write_all(int fd, const char *p, size_t n, int64_t at, size_t *done) {
  for (*done = 0; *done < n;) {
    size_t left = n - *done;
    ssize_t w =
      at < 0 ? write(fd, p + *done, left) : pwrite(fd, p + *done, left, at + (int64_t)*done);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return w < 0 ? -errno : -EIO;
    *done += (size_t)w;
  }
  return (int64_t)n;
}

static int64_t do_write(np_fsreq *r) {
  int64_t at = r->flags & O_APPEND ? -1 : r->at;
  return write_all(r->file->fd, r->data, r->len, at, &r->len);
}

static int64_t do_sync(np_fsreq *r) {
  return code(r->flags ? fdatasync(r->file->fd) : fsync(r->file->fd));
}
static int64_t do_truncate(np_fsreq *r) { return code(ftruncate(r->file->fd, r->at)); }
static int64_t do_fstat(np_fsreq *r) { return code(fstat(r->file->fd, &r->st)); }
static int64_t do_stat(np_fsreq *r) { return code(stat(r->path, &r->st)); }
static int64_t do_lstat(np_fsreq *r) { return code(lstat(r->path, &r->st)); }

static int64_t do_close(np_fsreq *r) {
  np_fsfile *f = r->file;
  r->file = NULL;
  return np_fsfile_unref(f);
}

/* ---- whole files ------------------------------------------------------- */

static int64_t read_fd(np_fsreq *r, int fd, size_t most) {
  size_t cap = r->st.st_size > 0 ? np_min((size_t)r->st.st_size, most) + 1 : 4096, len = 0;
  for (;;) {
    char *data = realloc(r->data, cap);
    if (!data) return -ENOMEM;
    r->data = data;
    ssize_t n = read(fd, data + len, cap - len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    len += (size_t)n;
    if (len > most) return -EMSGSIZE;
    if (n == 0) return (int64_t)len;
    if (len == cap) cap *= 2;
  }
}

static int64_t do_read_all(np_fsreq *r) {
  int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return -errno;
  int64_t n = fstat(fd, &r->st) < 0 ? -errno : read_fd(r, fd, r->len);
  close(fd);
  return n;
}

static int64_t fill(np_fsreq *r, int fd) {
  size_t done;
  int64_t n = write_all(fd, r->data, r->len, -1, &done);
  if (n >= 0 && (r->flags & NP_FS_SYNCED) && fsync(fd) < 0) n = -errno;
  if (close(fd) < 0 && n >= 0 && errno != EINTR) n = -errno;
  return n;
}

/* Beside the file, so that the rename stays within one file system; with its mode, if it exists. */
static int64_t write_beside(np_fsreq *r, const char *path) {
  char tmp[PATH_MAX];
  struct stat old;
  int fd = -1;
  for (unsigned i = 0; fd < 0; i++) {
    if (snprintf(tmp, sizeof tmp, "%s.%d-%u~", path, (int)getpid(), i) >= (int)sizeof tmp)
      return -ENAMETOOLONG;
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, r->mode);
    if (fd < 0 && (errno != EEXIST || i == 1000)) return -errno;
  }
  if (stat(path, &old) == 0 && fchmod(fd, old.st_mode & 07777) < 0) {
    int err = -errno;
    close(fd);
    unlink(tmp);
    return err;
  }
  int64_t n = fill(r, fd);
  if (n >= 0 && rename(tmp, path) < 0) n = -errno;
  if (n < 0) unlink(tmp);
  return n;
}

static int64_t write_atomic(np_fsreq *r) {
  char *real = realpath(r->path, NULL); /* a link stays a link */
  int64_t n = write_beside(r, real ? real : r->path);
  free(real);
  return n;
}

static int64_t do_write_all(np_fsreq *r) {
  if (r->flags & NP_FS_ATOMIC) return write_atomic(r);
  int how = r->flags & (O_APPEND | O_EXCL);
  int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (how & O_APPEND ? 0 : O_TRUNC) | how;
  int fd = open(r->path, flags, r->mode);
  return fd < 0 ? -errno : fill(r, fd);
}

/* ---- directories ------------------------------------------------------- */

static char type_letter(const struct dirent *e) {
  switch (e->d_type) {
  case DT_REG: return 'f';
  case DT_DIR: return 'd';
  case DT_LNK: return 'l';
  case DT_FIFO: return 'p';
  case DT_SOCK: return 's';
  case DT_CHR: return 'c';
  case DT_BLK: return 'b';
  default: return '?';
  }
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *e) {
  return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int64_t do_scandir(np_fsreq *r) {
  struct dirent **list;
  int n = scandir(r->path, &list, not_dots, by_name);
  if (n < 0) return -errno;
  size_t size = 1;
  for (int i = 0; i < n; i++) size += strlen(list[i]->d_name) + 2;
  int err = size > NP_FS_NAMES_MAX ? -EMSGSIZE : (r->data = malloc(size)) ? 0 : -ENOMEM;
  char *p = r->data;
  for (int i = 0; i < n; i++) {
    if (err == 0) {
      *p++ = type_letter(list[i]);
      p = stpcpy(p, list[i]->d_name) + 1;
    }
    free(list[i]);
  }
  free(list);
  return err < 0 ? err : p - r->data;
}

/* ---- names ------------------------------------------------------------- */

static int64_t do_mkdir(np_fsreq *r) { return code(mkdir(r->path, (mode_t)r->mode)); }
static int64_t do_rmdir(np_fsreq *r) { return code(rmdir(r->path)); }
static int64_t do_unlink(np_fsreq *r) { return code(unlink(r->path)); }
static int64_t do_rename(np_fsreq *r) { return code(rename(r->path, r->to)); }
static int64_t do_link(np_fsreq *r) { return code(link(r->path, r->to)); }
static int64_t do_symlink(np_fsreq *r) { return code(symlink(r->path, r->to)); }
static int64_t do_chmod(np_fsreq *r) { return code(chmod(r->path, (mode_t)r->mode)); }
static int64_t do_chown(np_fsreq *r) { return code(chown(r->path, (uid_t)r->uid, (gid_t)r->gid)); }

static int64_t keep_text(np_fsreq *r, char *text) {
  r->data = text;
  return text ? (int64_t)strlen(text) : -errno;
}

static int64_t do_realpath(np_fsreq *r) { return keep_text(r, realpath(r->path, NULL)); }

static int64_t do_readlink(np_fsreq *r) {
  r->data = malloc(PATH_MAX);
  return r->data ? code(readlink(r->path, r->data, PATH_MAX)) : -ENOMEM;
}

static int64_t do_mkdtemp(np_fsreq *r) {
  char *name = strdup(r->path);
  if (!name) return -ENOMEM;
  if (mkdtemp(name)) return keep_text(r, name);
  int err = -errno;
  free(name);
  return err;
}

static struct timespec instant(double s) {
  int64_t whole = (int64_t)s - ((double)(int64_t)s > s);
  return (struct timespec){.tv_sec = (time_t)whole, .tv_nsec = (long)((s - (double)whole) * 1e9)};
}

static int64_t do_utime(np_fsreq *r) {
  struct timespec t[2] = {instant(r->atime_s), instant(r->mtime_s)};
  return code(utimensat(AT_FDCWD, r->path, t, 0));
}

static int64_t do_copyfile(np_fsreq *r) {
  uv_fs_t req;
  int flags = UV_FS_COPYFILE_FICLONE | (r->flags & O_EXCL ? UV_FS_COPYFILE_EXCL : 0);
  int64_t n = uv_fs_copyfile(NULL, &req, r->path, r->to, flags, NULL);
  uv_fs_req_cleanup(&req);
  return n;
}

static int64_t (*const ops[])(np_fsreq *) = {
  [NP_FS_OPEN] = do_open,         [NP_FS_READ] = do_read,           [NP_FS_WRITE] = do_write,
  [NP_FS_SYNC] = do_sync,         [NP_FS_TRUNCATE] = do_truncate,   [NP_FS_CLOSE] = do_close,
  [NP_FS_FSTAT] = do_fstat,       [NP_FS_STAT] = do_stat,           [NP_FS_LSTAT] = do_lstat,
  [NP_FS_READ_ALL] = do_read_all, [NP_FS_WRITE_ALL] = do_write_all, [NP_FS_SCANDIR] = do_scandir,
  [NP_FS_MKDIR] = do_mkdir,       [NP_FS_MKDTEMP] = do_mkdtemp,     [NP_FS_RMDIR] = do_rmdir,
  [NP_FS_UNLINK] = do_unlink,     [NP_FS_RENAME] = do_rename,       [NP_FS_LINK] = do_link,
  [NP_FS_SYMLINK] = do_symlink,   [NP_FS_READLINK] = do_readlink,   [NP_FS_REALPATH] = do_realpath,
  [NP_FS_CHMOD] = do_chmod,       [NP_FS_CHOWN] = do_chown,         [NP_FS_UTIME] = do_utime,
  [NP_FS_COPYFILE] = do_copyfile,
};

void np_fs_run(np_fsreq *r) { r->result = ops[r->op](r); }
