#!/bin/sh
# deps.sh PACKAGE...: installs the Debian packages that are missing; quick and silent when none is.
#
# All or nothing, and first of all: without the means to install, it prints the line that would and fails, so that
# nobody meets a missing header in the middle of a build.  On other systems it only tells what to look for.
set -eu

if ! command -v dpkg-query >/dev/null 2>&1; then
  command -v pkg-config >/dev/null 2>&1 && pkg-config --exists lua5.4 libuv openssl libcares zlib && exit 0
  echo "neap: this is not a Debian system. Needed, by their Debian names: $*" >&2
  exit 1
fi

have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
missing=
for p in "$@"; do
  case "
$have
" in
    *"
$p installed
"*) ;;
    *) missing="$missing $p" ;;
  esac
done
[ -n "$missing" ] || exit 0

line="apt-get install -y --no-install-recommends$missing"
have_lists() { ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; }
if [ "$(id -u)" = 0 ]; then
  as=
elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
  as=sudo
else
  echo "neap: missing packages, and neither root nor sudo to install them. Ask an administrator to run:" >&2
  have_lists || line="apt-get update && $line"
  echo "  $line" >&2
  exit 1
fi

echo "neap: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
install() { $as env DEBIAN_FRONTEND=noninteractive $line </dev/null; }
# Package lists may be missing (a fresh container) or stale: refresh them when the first try fails.
if ! have_lists; then
  $as apt-get update -qq
  install
else
  install || { $as apt-get update -qq && install; }
fi || { echo "neap: could not install. The line was: $line" >&2; exit 1; }
