#!/bin/bash
# `make composetest`: the whole cell in containers, by compose/docker-compose.yml and a Docker of its own, in a network, a /run and a
# /srv of its own; with its last process all of it ends. Prints a table and writes target/reports/composetest.json.
# Usage: run.sh BIN     (programs of the image)
# env: CELL_LAB_CACHE (default target/lab-cache): images are kept there
set -euo pipefail
# make exports it, and what is exported wins over what host.sh prepare writes.
unset CELL_HOME
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
bin=$(realpath "${1:?the folder of the programs}")
cache=${CELL_LAB_CACHE:-$root/target/lab-cache}; mkdir -p "$cache" "$root/target/reports"; cache=$(realpath "$cache")
[ "$(id -u)" = 0 ] || { echo "composetest: run this as root" >&2; exit 1; }
report=$root/target/reports/composetest.json
if [ "${2:-}" != --inside ]; then
  rm -f "$report"
  # Inside there is no network: what needs packages is built here.
  CELL_BIN=$bin "$root/compose/images/build.sh" --cache "$cache/images" --only-pack cell caddy chrony coredns accounts radicale
  data=$(mktemp -d /var/tmp/cell-compose-XXXXXX); trap 'rm -rf "$data"' EXIT
  unshare --net --mount --ipc --pid --fork --kill-child --mount-proc --propagation private bash "$here/run.sh" "$bin" --inside "$data" || rc=$?
  [ -s "$report" ] || { echo "composetest: it wrote no report" >&2; exit 1; }
  python3 "$root/lab/systemd/table.py" "$report" || rc=1
  exit "${rc:-0}"
fi
data=$3
# Names of namespaces and sockets of services are its own; a home below /srv is root's alone.
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /srv
mkdir -p /run/lock
ip link set lo up
dockerd --data-root "$data/data" --exec-root /run/docker-exec --pidfile /run/docker.pid --group root > "$data/dockerd.log" 2>&1 &
docker=$!
for _ in $(seq 900); do
  docker version > /dev/null 2>&1 && break
  kill -0 "$docker" 2> /dev/null || { tail -20 "$data/dockerd.log" >&2; exit 1; }
  sleep 0.1
done
export CELL_BIN=$bin
python3 "$here/check.py" "$cache/images" "$report" || rc=$?
kill -TERM "$docker"; wait "$docker" || true
exit "${rc:-0}"
