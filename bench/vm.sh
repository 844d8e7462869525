#!/bin/sh
# vm.sh COMMAND [ARGUMENT...]: runs COMMAND in this directory inside a small virtual machine, where open files
# are not limited: `./vm.sh ./run.sh c100k c-epoll c-lua neap` holds 100 000 connections.  See README.md.
#
# The guest is Debian's kernel over the host's own root, which it only reads: what it writes stays in its memory,
# but for results/.  With KVM it has two cores.  Without, QEMU emulates one and its clock counts instructions
# (2 ns each), whatever else the host is doing: times are then no times of a real machine, only comparable.
# No network, and nothing is left behind.
#
#   VM_MEM=6G          the guest's memory; the host's is taken as it is used
#   VM_SECONDS=3600    it is ended after that
#   VM_ACCEL=tcg       emulate although there is KVM
set -eu
cd "$(dirname "$0")"

die() {
  echo "vm.sh: $*" >&2
  exit 1
}
need() { # PACKAGE COMMAND
  command -v "$2" >/dev/null 2>&1 || die "$2 is missing: apt-get install $1 (make bench-c100k does)"
}
commas() { printf %s "$1" | sed 's/,/,,/g'; } # as QEMU's options want them
quoted() { # the words, as the shell reads them
  for w; do printf "'%s' " "$(printf %s "$w" | sed "s/'/'\\\\''/g")"; done
}

[ $# -gt 0 ] || die "usage: ./vm.sh COMMAND [ARGUMENT...]"
[ "$(uname -m)" = x86_64 ] || die "only for x86-64"
PATH=$PATH:/usr/sbin:/sbin
need qemu-system-x86 qemu-system-x86_64
need busybox-static busybox
need kmod modprobe

# The newest kernel that can read the host's files (the one for clouds cannot).
kernel=
for d in $(printf '%s\n' /lib/modules/*/kernel/net/9p | sort -V); do
  v=${d#/lib/modules/} && v=${v%%/*}
  [ ! -r "/boot/vmlinuz-$v" ] || kernel=$v
done
[ -n "$kernel" ] || die "no kernel with 9p below /boot: apt-get install linux-image-amd64"

tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || { kill "$pid"; wait "$pid"; } 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p results "$tmp/root/bin" "$tmp/root/lib" "$tmp/out"
cp "$(command -v busybox)" "$tmp/root/bin/busybox"

# ---- the first file system: a shell, and the modules in the order they need each other
for m in virtio_pci 9pnet_virtio 9p overlay; do
  modprobe -S "$kernel" --show-depends "$m"
done >"$tmp/depends" || die "kernel $kernel lacks a module"
n=100
sed -n 's/^insmod \([^ ]*\).*/\1/p' "$tmp/depends" | awk '!seen[$0]++' | while read -r f; do
  n=$((n + 1))
  case $f in
    *.xz) xz -dc "$f" >"$tmp/root/lib/$n.ko" ;;
    *) cp "$f" "$tmp/root/lib/$n.ko" ;;
  esac
done

cat >"$tmp/root/init" <<END
#!/bin/busybox sh
b=/bin/busybox
\$b mkdir /proc /host /mem /new /out
\$b stty -onlcr
\$b mount -t proc proc /proc
for m in /lib/*.ko; do \$b insmod \$m; done
share() { \$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,\$3 \$1 \$2; }
share host /host ro,cache=loose
share out /out rw
\$b mount -t tmpfs -o size=50% mem /mem
\$b mkdir /mem/upper /mem/work
\$b mount -t overlay -o lowerdir=/host,upperdir=/mem/upper,workdir=/mem/work root /new
\$b mount -t proc proc /new/proc
\$b mount -t sysfs sys /new/sys
\$b mount -t devtmpfs dev /new/dev
\$b mkdir -p /new/dev/shm
\$b mount -t tmpfs shm /new/dev/shm
share results "/new$PWD/results" rw
\$b cp /vm.sh /new/vm.sh
\$b ip link set lo up
cd /proc/sys
echo 300000 >fs/nr_open
echo 1000000 >fs/file-max
echo 4096 >net/core/somaxconn
echo 8192 >net/ipv4/tcp_max_syn_backlog
echo 10000 65000 >net/ipv4/ip_local_port_range
\$b chroot /new /bin/sh /vm.sh
echo \$? >/out/status
\$b sync
\$b poweroff -f
END
# Inside: vm.sh of the host's root, on top of it.
cat >"$tmp/root/vm.sh" <<END
ulimit -n 250000
export HOME=/root PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8
export BENCH_BUILT=1 OUT=results/vm.jsonl SRV_CORE=0 LG_CORE=\$((\$(nproc) - 1))
cd $(quoted "$PWD")
$(quoted "$@")
END
chmod +x "$tmp/root/init"
(cd "$tmp/root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$tmp/initrd"

# ---- the machine
memory=${VM_MEM:-6G}
seconds=${VM_SECONDS:-3600}
accel=${VM_ACCEL:-tcg}
# /dev/kvm alone says little: there are hypervisors under which it only runs kernels made for it.
if [ -z "${VM_ACCEL:-}" ] && [ -w /dev/kvm ] && grep -qw 'vmx\|svm' /proc/cpuinfo; then
  accel=kvm
fi
case $accel in
  kvm) set -- -accel kvm -cpu host -smp 2 ;;
  *) set -- -accel tcg -cpu max -smp 1 -icount shift=1 ;;
esac
echo "vm.sh: Linux $kernel, $accel, $memory" >&2
for share in "host,path=/,readonly=on" "results,path=$(commas "$PWD")/results" "out,path=$(commas "$tmp")/out"; do
  set -- "$@" -fsdev "local,security_model=none,multidevs=remap,id=$share" \
    -device "virtio-9p-pci,fsdev=${share%%,*},mount_tag=${share%%,*}"
done
timeout -k 5 "$seconds" qemu-system-x86_64 "$@" -m "$memory" -nodefaults -no-user-config \
  -display none -monitor none -serial stdio -no-reboot -kernel "/boot/vmlinuz-$kernel" -initrd "$tmp/initrd" \
  -append "console=ttyS0 loglevel=3 panic=-1" </dev/null &
pid=$!
status=0
wait "$pid" || status=$?
pid=
[ $status != 124 ] || die "ended after $seconds s (VM_SECONDS)"
[ $status = 0 ] || die "qemu-system-x86_64 ended with status $status"
[ -s "$tmp/out/status" ] || die "the machine ended before the command did"
exit "$(cat "$tmp/out/status")"
