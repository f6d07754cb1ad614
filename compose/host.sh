#!/bin/bash
# What is done on the machine itself for a cell in containers (docker-compose.yml), as root.
#
# Usage: host.sh prepare [--home DIR] [--env FILE] [--http ADDR] [--wireguard-port PORT] [--tor]
#        host.sh clean-host [--env FILE]
#   prepare      looks whether the machine fits, makes the cell's folders, policies and keys, and writes the .env that docker-compose reads;
#                again at any time: policies and keys that are there stay
#   clean-host   after `docker-compose down`: removes every interface, rule and route that the cell left, and its services' containers
#   --home DIR   the folder that holds everything the cell keeps   (default /srv/cell)
#   --env FILE   what is written, or read                          (default .env beside this script)
#   --http ADDR  plain HTTP for the machine itself                 (default 127.0.0.1:3000)
# Needs Docker as DOCKER_HOST says (a Unix socket) and the image: make compose-image.
set -euo pipefail
export LC_ALL=C
umask 022
here=$(dirname "$(readlink -f "$0")")
usage() { sed -n '2,/^# Needs/s/^# \?//p' "$0" >&2; exit 2; }
fail() { printf 'host.sh: %s\n' "$@" >&2; exit 1; }

what=${1:-}; shift || usage
home=/srv/cell env=$here/.env http=127.0.0.1:3000 port=() profiles=()
image=${CELL_IMAGE:-cell/cell:local}
while [ $# -gt 0 ]; do
  case $1 in
    --home) home=$2; shift 2 ;;
    --env) env=$2; shift 2 ;;
    --http) http=$2; shift 2 ;;
    --wireguard-port) port=(--wireguard-port "$2"); shift 2 ;;
    --tor) profiles+=(tor); shift ;;
    *) usage ;;
  esac
done
[ "$(id -u)" = 0 ] || fail "run it as root"
socket=${DOCKER_HOST:-unix:///run/docker.sock}; socket=${socket#unix://}
[ -S "$socket" ] || fail "there is no socket of Docker's at $socket; DOCKER_HOST=unix://PATH says where it is"
docker version > /dev/null 2>&1 || fail "Docker does not answer: systemctl start docker"

# in_container CAPABILITY... -- ARGUMENT...: cell-launch of the image, with the home and no other right.
in_container() {
  local options=(); while [ "$1" != -- ]; do options+=("$1"); shift; done; shift
  docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges "${options[@]}" \
    --mount "type=bind,source=$home,target=$home" "$image" "$@"
}

# All that does not fit, a line each.
faults() {
  docker image inspect "$image" > /dev/null 2>&1 || echo "there is no image $image: make compose-image"
  case $home in
    /*) ;;
    *) echo "--home $home: give a path from the root on" ;;
  esac
  # Who may change it or a folder above would decide what containers are given; the broker cannot see these.
  local above=$home name number found
  while true; do
    [ ! -e "$above" ] || [ "$(stat -c %u "$above")" = 0 ] && [ $((0$(stat -c %a "$above" 2>/dev/null || echo 0) & 022)) = 0 ] ||
      echo "$above is not root's alone, and the cell's folders lie below it: choose another --home"
    [ "$above" != / ] && [ "$above" != . ] || break
    above=$(dirname "$above")
  done
  [ ! -L "$home" ] || echo "$home is a link: name the folder itself"
  while read -r name number; do
    for kind in passwd group; do
      found=$(getent $kind "$number" | cut -d: -f1) || true
      [ -z "$found" ] || [ "$found" = "$name" ] || echo "number $number is $found's on this machine (getent $kind), and $name's in the cell's containers"
    done
  done < <(grep '^cell-' "$here/images/cell/ids")
  [ -e /dev/net/tun ] || echo "/dev/net/tun is missing: modprobe tun"
  docker info --format '{{.SecurityOptions}}' | grep -q name=userns && echo "Docker maps users (userns-remap), and netd needs the machine's own network: turn it off"
  true
}

prepare() {
  local said; said=$(faults)
  [ -z "$said" ] || fail "$(sed '2,$s/^/host.sh: /' <<< "$said")"
  mkdir -p "$home"
  # FSETID: without it the kernel takes from a folder the bit by which what is made in it belongs to its group, as Caddy's socket must.
  in_container --network none --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add FSETID --cap-add MKNOD -- \
    container prepare --home "$home" "${port[@]}"
  # A Docker that is in a container itself may raise no limit: then it is what Docker has, and vaultd says what it could not lock.
  local lock=-1 lock_wg=16777216
  if ! docker run --rm --read-only --network none --cap-drop ALL --ulimit memlock=-1 "$image" --version > /dev/null 2>&1; then
    lock=$(($(ulimit -Hl) * 1024)); [ "$lock" -gt "$lock_wg" ] || lock_wg=$lock
    echo "==> Docker may lock $lock bytes of memory at most here"
  fi
  local nofile=36864
  if ! docker run --rm --read-only --network none --cap-drop ALL --ulimit nofile=$nofile "$image" --version > /dev/null 2>&1; then
    nofile=$(ulimit -Hn)
    echo "==> Docker gives cell-egress $nofile open files at most here, and so it carries fewer connections"
  fi
  # The kernel makes such a link where it can, in an empty network that ends with the trial.
  unshare --net ip link add cell-trial type wireguard 2> /dev/null || profiles+=(userspace-wireguard)
  cat > "$env.new" <<END
# Written by compose/host.sh prepare; read by docker-compose.
CELL_HOME=$home
CELL_HTTP=$http
CELL_IMAGE=$image
DOCKER_SOCKET=$socket
CELL_MEMLOCK=$lock
CELL_MEMLOCK_WG=$lock_wg
CELL_NOFILE_EGRESS=$nofile
DOCKER_GID=$(stat -c %g "$socket")
COMPOSE_PROFILES=$(IFS=,; echo "${profiles[*]}")
END
  mv "$env.new" "$env"
  for key in net/ipv4/ip_forward net/ipv6/conf/all/forwarding; do
    [ ! -e "/proc/sys/$key" ] || [ "$(cat "/proc/sys/$key")" = 1 ] ||
      echo "==> $key is 0, and a VPN server forwards: copy systemd/sysctl.d/60-cell.conf to /etc/sysctl.d, then sysctl --system"
  done
  echo "==> $env is written; now: docker-compose -f $here/docker-compose.yml --env-file $env up -d"
  echo "==> the token that claims the cell will be in $home/lib/api/claim-token"
}

clean() {
  [ -r "$env" ] || fail "$env is missing, and says which cell it was"
  home=$(sed -n 's/^CELL_HOME=//p' "$env"); image=$(sed -n 's/^CELL_IMAGE=//p' "$env")
  [ -d "$home" ] || fail "$home is missing, and the note of what the cell changed was in it"
  local running container network
  running=$(docker ps --quiet --filter "label=com.docker.compose.service=netd" --filter "ancestor=$image")
  [ -z "$running" ] || fail "the cell runs, and would put everything back: docker-compose down first"
  # Without netd nobody judges what services send; their data stay in Docker's volumes.
  for container in $(docker ps --all --quiet --filter label=cell.owner=default); do docker rm --force "$container" > /dev/null; done
  for network in $(docker network ls --quiet --filter label=cell.owner=default); do docker network rm "$network" > /dev/null; done
  in_container --network host --cap-add NET_ADMIN --cap-add DAC_OVERRIDE -- clean-host --home "$home"
}

case $what in
  prepare) prepare ;;
  clean-host) clean ;;
  *) usage ;;
esac
