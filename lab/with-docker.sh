#!/bin/bash
# with-docker.sh COMMAND...   runs COMMAND beside a Docker daemon of its own at /run/docker.sock, and returns COMMAND's status.
# /run and /tmp are fresh and its own; a Docker of the machine is neither used nor seen. With it come an
# image, cell-test:1 (busybox), and three running containers: "foreign", which is nobody's, "other", another cell's, and
# "own", the cell's, whose log is long and full of bytes that no terminal should see.
set -euo pipefail
if [ "${1:-}" != --inside ]; then exec unshare --mount --propagation private bash "$0" --inside "$@"; fi
shift
dir=$(mktemp -d /tmp/cell-docker-XXXXXX)
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
# Network, mounts and processes of its own: when its first process ends, all of it is gone.
unshare --net --mount --pid --fork --kill-child --mount-proc sh -c "ip link set lo up
  exec dockerd --host unix:///run/docker.sock --data-root $dir/data --exec-root $dir/exec --pidfile $dir/pid --group root" \
  >/run/dockerd.log 2>&1 &
docker=$!
# After it started, so that its data lie on the disk. What is written to it from here on, goes with this script.
mount -t tmpfs -o mode=1777 tmpfs /tmp
end() {
  kill -TERM "$(cat "/proc/$docker/task/$docker/children" 2>/dev/null)" 2>/dev/null || kill -KILL "$docker" 2>/dev/null || :
  wait "$docker" || :
  umount --lazy /tmp
  rm -rf "$dir"
}
trap end EXIT
for _ in $(seq 900); do
  docker version >/dev/null 2>&1 && break
  kill -0 "$docker" 2>/dev/null || { tail -20 /run/dockerd.log >&2; exit 1; }
  sleep 0.1
done
# As Docker's own socket unit leaves it: root's and the group's.
chgrp docker /run/docker.sock && chmod 660 /run/docker.sock

mkdir -p /tmp/image/bin && cp "$(command -v busybox)" /tmp/image/bin/busybox
tar -C /tmp/image -c . | docker import --change 'ENV PATH=/bin' - cell-test:1 >/dev/null
loud='i=0; while [ $i -lt 4000 ]; do printf "line %d \033[2J\007\377%0500d\n" $i 0; i=$((i+1)); done'
start() { # NAME SCRIPT OPTIONS...
  docker run --detach --network none --stop-signal KILL --name "$1" "${@:3}" \
    cell-test:1 /bin/busybox sh -c "$2; exec /bin/busybox sleep 100000" >/dev/null
}
start foreign 'echo foreign'
start other 'echo other' --label cell.owner=another --label cell.service=other
start own "$loud" --label cell.owner=default --label cell.service=own --env SECRET=cell-redteam-container-secret
"$@"
