/* Names and texts of error codes: one table, read from the top, the first row of a code counts.
 *
 * Our own rows and wordings come first, then libuv's list, then the errno values libuv does not
 * know.  All of it is constant: uv_err_name and uv_strerror are not called, because they leak for
 * codes they do not know. */
#include "core/error.h"

#include <uv.h>

#include "core/cond.h"

typedef struct row {
  int code;
  const char *name, *text;
} row;

static const row rows[] = {
  {NP_ECLOSED, "ECANCELED", "closed"},
  {NP_EBADMSG, "EBADMSG", "bad message"},
  {NP_ETLS, "ETLS", "TLS failure"},
  {NP_ECERT, "ECERT", "certificate refused"},
  {NP_ETRUNCATED, "ETRUNCATED", "the end came without close_notify: the data may be cut short"},
  {NP_COND_END, "EOF", "end of file"},
  {NP_ESERVFAIL, "SERVFAIL", "the name server failed"},
  {NP_ENOTIMP, "NOTIMP", "the name server cannot answer that"},
  {NP_EREFUSED, "REFUSED", "the name server refused"},
  /* A name without an address is one thing to scripts, whichever way the resolver says it. */
  {UV_EAI_NONAME, "ENOTFOUND", "name not found"},
  {UV_EAI_NODATA, "ENOTFOUND", "name has no address"},
  {UV_EAI_AGAIN, "EAI_AGAIN", "temporary failure in name resolution"},
  {UV_EAI_FAIL, "EAI_FAIL", "permanent failure in name resolution"},
  /* Deadlines use it too, for things that are no connections. */
  {UV_ETIMEDOUT, "ETIMEDOUT", "timed out"},
  /* One number on Linux; for sockets this is the name in the manual pages. */
  {-EOPNOTSUPP, "EOPNOTSUPP", "operation not supported"},
  {UV_UNKNOWN, "EUNKNOWN", "unknown error"},

#define ROW(name, text) {UV_##name, #name, text},
  UV_ERRNO_MAP(ROW)
#undef ROW

#define ROW(name, text) {-name, #name, text},
    ROW(EBADMSG, "bad message") ROW(ECHILD, "no child processes")
      ROW(EDEADLK, "resource deadlock avoided") ROW(EDOM, "numerical argument out of domain") ROW(
        EDQUOT, "disk quota exceeded") ROW(EIDRM, "identifier removed")
        ROW(EINPROGRESS, "operation now in progress") ROW(EMULTIHOP, "multihop attempted") ROW(
          ENETRESET, "network dropped connection on reset") ROW(ENODATA, "no data available")
          ROW(ENOEXEC, "exec format error") ROW(ENOLCK, "no locks available") ROW(
            ENOLINK, "link has been severed") ROW(ENOMSG, "no message of desired type")
            ROW(ENOSR, "out of streams resources") ROW(ENOSTR, "device not a stream") ROW(
              ENOTBLK, "block device required") ROW(ENOTRECOVERABLE, "state not recoverable")
              ROW(EOWNERDEAD, "owner died") ROW(EPFNOSUPPORT, "protocol family not supported") ROW(
                ESTALE, "stale file handle") ROW(ETIME, "timer expired")
                ROW(ETOOMANYREFS, "too many references") ROW(EUSERS, "too many users")
#ifdef __linux__
                  ROW(ECHRNG, "channel number out of range")
                    ROW(EL2NSYNC, "level 2 not synchronized") ROW(EL3HLT, "level 3 halted")
                      ROW(EL3RST, "level 3 reset") ROW(ELNRNG, "link number out of range") ROW(
                        EUNATCH, "protocol driver not attached")
                        ROW(ENOCSI, "no CSI structure available") ROW(EL2HLT, "level 2 halted") ROW(
                          EBADE, "invalid exchange") ROW(EBADR, "invalid request descriptor")
                          ROW(EXFULL, "exchange full") ROW(ENOANO, "no anode") ROW(
                            EBADRQC, "invalid request code") ROW(EBADSLT, "invalid slot")
                            ROW(EBFONT, "bad font file format") ROW(ENOPKG, "package not installed")
                              ROW(EREMOTE, "object is remote") ROW(EADV, "advertise error") ROW(
                                ESRMNT,
                                "srmount error") ROW(ECOMM, "communication error on send")
                                ROW(EDOTDOT, "RFS specific error") ROW(
                                  ENOTUNIQ,
                                  "name not unique on network")
                                  ROW(EBADFD, "file descriptor in bad state") ROW(
                                    EREMCHG, "remote address changed")
                                    ROW(ELIBACC, "can not access a needed shared library") ROW(
                                      ELIBBAD, "accessing a corrupted shared library")
                                      ROW(ELIBSCN, ".lib section in a.out corrupted") ROW(
                                        ELIBMAX, "attempting to link in too many shared libraries")
                                        ROW(ELIBEXEC, "cannot exec a shared library directly")
                                          ROW(ERESTART,
                                              "interrupted system call should be restarted")
                                            ROW(ESTRPIPE, "streams pipe error") ROW(
                                              EUCLEAN, "structure needs cleaning")
                                              ROW(ENOTNAM, "not a XENIX named type file") ROW(
                                                ENAVAIL, "no XENIX semaphores available")
                                                ROW(EISNAM, "is a named type file")
                                                  ROW(ENOMEDIUM, "no medium found") ROW(
                                                    EMEDIUMTYPE, "wrong medium type")
                                                    ROW(ENOKEY, "required key not available") ROW(
                                                      EKEYEXPIRED, "key has expired")
                                                      ROW(EKEYREVOKED, "key has been revoked") ROW(
                                                        EKEYREJECTED,
                                                        "key was rejected by service")
                                                        ROW(ERFKILL,
                                                            "operation not possible due to RF-kill")
                                                          ROW(EHWPOISON,
                                                              "memory page has hardware error")
#endif
#undef ROW
};

static const row *find(int code) {
  for (size_t i = 0; i < np_countof(rows); i++)
    if (rows[i].code == code) return &rows[i];
  return NULL;
}

const char *np_error_name(int code) {
  const row *r = find(code);
  return r ? r->name : "EUNKNOWN";
}

const char *np_error_text(int code) {
  const row *r = find(code);
  return r ? r->text : "unknown error";
}
