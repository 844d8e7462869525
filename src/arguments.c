/* Reading the command's arguments, and what is said about bad ones. Nothing is opened or run. */
#include "arguments.h"

#include <stdio.h>
#include <string.h>

const char np_usage[] =
  "usage: neap [options] [script [args]]\n"
  "  script       run the file; '-' runs standard input; arguments are in 'arg' and '...'\n"
  "  -e code      run code first; neap's modules are globals there (neap, net, process ...)\n"
  "  -l mod       require mod into a global of that name (-l g=mod: into g)\n"
  "  -i           prompt after the script; waiting works at the prompt\n"
  "  -E           ignore LUA_INIT, LUA_PATH and LUA_CPATH\n"
  "  -W           turn all warnings on (Neap's own always are)\n"
  "  --workers N  run the script in N processes that share its listeners and are restarted\n"
  "               (N,reuseport: each binds its own; N,grace=S: seconds between TERM and KILL)\n"
  "  --trace      log what is listened to, accepted, connected, timed out and closed, and where\n"
  "  -v           print the versions (--version)\n"
  "  -h           print this (--help)\n"
  "  --           end of the options\n"
  "Exit status: 0, 1 (the script failed), 2 (bad usage), 128 + signal, or what os.exit was "
  "given.\n";

int np_bad_usage(const char *what, const char *arg) {
  fprintf(stderr, "neap: %s '%s'\n%s", what, arg, np_usage);
  return NP_USAGE;
}

/* An option with a value, glued ("-ecode") or apart ("-e code"); moves *i. 0 or NP_USAGE. */
static int value_option(const options *o, int *i) {
  if (o->argv[*i][2] == '\0' && (++*i >= o->argc || o->argv[*i][0] == '\0'))
    return np_bad_usage("a value is missing after", o->argv[*i - 1]);
  return 0;
}

static int short_option(options *o, int *i) {
  const char *a = o->argv[*i];
  if (a[1] == 'e' || a[1] == 'l') {
    *(a[1] == 'e' ? &o->code : &o->loads) = true;
    return value_option(o, i);
  }
  bool *flag = a[1] == 'i'   ? &o->prompt
               : a[1] == 'v' ? &o->version
               : a[1] == 'h' ? &o->help
               : a[1] == 'W' ? &o->warnings
               : a[1] == 'E' ? &o->no_environment
                             : NULL;
  if (!flag || a[2] != '\0') return np_bad_usage("unrecognized option", a);
  *flag = true;
  return 0;
}

/* "--workers N", "--workers=N"; "--worker=ID/N" is what the supervisor gives to a worker. */
static int workers_option(options *o, int *i) {
  const char *a = o->argv[*i], *value = strchr(a, '=');
  o->workers_at = *i;
  if (value) value++;
  else if (++*i < o->argc) value = o->argv[*i];
  else return np_bad_usage("a value is missing after", a);
  o->workers_end = *i + 1;
  bool worker = strncmp(a, "--worker=", 9) == 0;
  if (np_workers_parse(value, &o->workers) && worker == (o->workers.id > 0)) return 0;
  return np_bad_usage("--workers: a number expected, then ',pass', ',reuseport' or ',grace=S', not",
                      value);
}

static bool is_workers(const char *a) {
  return strcmp(a, "--workers") == 0 || strncmp(a, "--workers=", 10) == 0 ||
         strncmp(a, "--worker=", 9) == 0;
}

static int long_option(options *o, int *i) {
  const char *a = o->argv[*i];
  if (is_workers(a)) return workers_option(o, i);
  if (strcmp(a, "--help") == 0) o->help = true;
  else if (strcmp(a, "--version") == 0) o->version = true;
  else if (strcmp(a, "--trace") == 0) o->trace = true;
  else return np_bad_usage("unrecognized option", a);
  return 0;
}

/* Each worker runs the script from the beginning: standard input and a prompt exist once. */
static int check_workers(const options *o) {
  if (!o->workers.count || ((o->script || o->code) && !o->prompt && !o->from_stdin)) return 0;
  return np_bad_usage("a script file is needed with", o->argv[o->workers_at]);
}

int np_arguments(options *o, int argc, char **argv) {
  int i = 1;
  *o = (options){.argc = argc, .argv = argv};
  for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
    if (strcmp(argv[i], "--") == 0) {
      o->last = i++;
      break;
    }
    int r = argv[i][1] == '-' ? long_option(o, &i) : short_option(o, &i);
    if (r) return r;
  }
  if (!o->last) o->last = i;
  o->script = i < argc ? i : 0;
  o->from_stdin = o->script && strcmp(argv[i], "-") == 0 && strcmp(argv[i - 1], "--") != 0;
  return check_workers(o);
}
