/* The command's arguments. Part of the command, not of the library. */
#ifndef NP_ARGUMENTS_H
#define NP_ARGUMENTS_H

#include <stdbool.h>

#include "workers.h"

enum { NP_USAGE = 2 }; /* the exit status of bad usage */

/* What the arguments ask for. Indices into argv; 0: absent. */
typedef struct options {
  int argc;
  char **argv;
  int script;      /* the script's name, or "-" */
  int last;        /* one past the last option */
  bool code;       /* there is an -e */
  bool loads;      /* there is an -l */
  bool from_stdin; /* the script is standard input */
  bool prompt, version, help, warnings, trace, no_environment;
  np_workers workers;
  int workers_at, workers_end; /* that option in argv, which no worker is to see */
} options;

extern const char np_usage[];

/* 0; or NP_USAGE when the reason and the usage have been printed. */
int np_arguments(options *o, int argc, char **argv);

/* Prints "neap: WHAT 'ARG'" and the usage: NP_USAGE. */
int np_bad_usage(const char *what, const char *arg);

#endif
