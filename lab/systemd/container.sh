#!/bin/bash
# Boots a root file system under systemd-nspawn (systemd is PID 1, the kernel is the machine's), which runs IN/inside.py
# and switches itself off, or boots anew first; leaves log, rc and journal in OUT. The file system is an overlay thrown away at
# the end.
# Usage: container.sh ROOTFS IN OUT     env: NSPAWN (program), LIMIT (seconds)
# Needs root, overlayfs and cgroup2; no systemd on the machine. Nothing reaches the machine's network, and only a control
# group of our own is touched.
set -euo pipefail

inside() { # PID 1 of new pid, mount, cgroup, net and ipc namespaces
  local work=/mnt rootfs=$1 in=$2 out=$3
  # A pure cgroup2 view rooted in our own group, whatever the machine mounts; nspawn asks for PID 1's group, which is ours.
  mount -t cgroup2 none /sys/fs/cgroup
  mkdir -p /sys/fs/cgroup/init
  echo $$ > /sys/fs/cgroup/init/cgroup.procs
  mount -t tmpfs -o size=2g tmpfs "$work"
  mkdir "$work"/{upper,scratch,root}
  mount -t overlay -o "lowerdir=$rootfs,upperdir=$work/upper,workdir=$work/scratch" overlay "$work/root"
  mkdir -p "$work/root/systemtest/in" "$work/root/systemtest/out"
  # By this nspawn says that its guest wants another boot.
  local status=133 boot=0
  while [ "$status" = 133 ] && [ "$boot" -lt 2 ]; do
    status=0; boot=$((boot + 1))
    boot "$work/root" "$in" "$out" "/sys/fs/cgroup/guest$boot" || status=$?
  done
  return "$status"
}

boot() ( # one boot, in a group of its own: nspawn makes others below it
  root=$1 in=$2 out=$3
  mkdir "$4"; echo "$BASHPID" > "$4/cgroup.procs"
  # All capabilities, so that a unit that gives one up shows it; but for those that reach the machine's clock, modules, ports.
  exec "$NSPAWN" --quiet --register=no --keep-unit --private-network --machine=cell --hostname=cell -D "$root" \
    --capability=all --drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO \
    --system-call-filter="bpf keyctl add_key request_key landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret seccomp" \
    --bind-ro="$in":/systemtest/in --bind="$out":/systemtest/out --bind=/dev/net/tun \
    --console=read-only -b systemd.show_status=0 systemd.unit=systemtest.target </dev/null
)

if [ "$1" = --inside ]; then shift; inside "$@"; exit; fi

cgroup=/sys/fs/cgroup; [ ! -d $cgroup/unified ] || cgroup=$cgroup/unified
[ -e $cgroup/cgroup.procs ] || { echo "systemtest: $cgroup is no cgroup2 mount" >&2; exit 1; }
group=$cgroup/cell-systemtest-$$
mkdir "$group"
cleanup() {
  for _ in $(seq 20); do
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -d "$group" ] || return 0
    sleep 0.1
  done
}
trap cleanup EXIT
export NSPAWN
status=0
(
  echo $BASHPID > "$group/cgroup.procs"
  exec timeout -k 5 "${LIMIT:-900}" unshare --mount --cgroup --pid --net --ipc --fork --kill-child --mount-proc \
    --propagation private bash "$0" --inside "$@"
) > "$3/console" 2>&1 || status=$?
[ -s "$3/rc" ] || { echo "the container ended without a result (status $status):" >&2; tail -20 "$3/console" >&2; exit 1; }
