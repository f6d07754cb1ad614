#!/bin/bash
# redteam.sh BIN   beside a Docker of its own (with-docker.sh): sets a fresh cell up (with-cell.sh) whose broker may deploy, with a
# recorder between it and Docker, and lets the red team at it.
set -euo pipefail
bin=$(realpath "$1")
if [ "${2:-}" != --inside ]; then
  # Below /srv: nobody but root may write to any folder above what containers are given.
  CELL_STAGE=$(mktemp -d /srv/cell-redteam-XXXXXX)
  chmod 755 "$CELL_STAGE"
  mkdir -p "$CELL_STAGE"/{media/films,theirs,dns}
  ln -s /run "$CELL_STAGE/media/run"
  ln -s /etc "$CELL_STAGE/media/etc"
  ln -s /run/docker.sock "$CELL_STAGE/media/docker"
  chown cell-api "$CELL_STAGE/theirs"
  printf '[images]\ncell-test = "%s"\n' "$(docker image inspect --format '{{.Id}}' cell-test:1)" > "$CELL_STAGE/images.toml"
  # Docker listens on behind the recorder's socket, which is where the broker looks for Docker's.
  mkdir -m 700 /run/behind
  mv /run/docker.sock /run/behind/docker.sock
  export CELL_STAGE CELL_DOCKER=/run/behind/docker.sock
  "$bin/cell-redteam" record /run/docker.sock &
  recorder=$!
  trap 'kill "$recorder" 2>/dev/null || :; wait "$recorder" 2>/dev/null || :; rm -rf "$CELL_STAGE"' EXIT
  for _ in $(seq 300); do [ -S /run/docker.sock ] && break; sleep 0.1; done
  export CELL_PREPARE="$bin/cell-redteam settle"
  bash "$(dirname "$0")/with-cell.sh" "$bin" bash "$0" "$bin" --inside
  exit
fi
step() {
  curl --silent --show-error --fail-with-body --noproxy '*' -H 'Content-Type: application/json' \
    -H "X-Claim-Token: $CELL_CLAIM_TOKEN" --data "$2" "$CELL_URL/api/setup/$1" >/dev/null
}
step step/claim "{\"claim_token\": \"$CELL_CLAIM_TOKEN\"}"
step step/identity '{"cell_name": "home", "domain_mode": "lan"}'
step step/network '{"vpn_range_ipv4": "10.86.0.0/24", "endpoint_host": "203.0.113.10"}'
step step/admin '{"username": "admin", "password": "correct horse battery"}'
step complete '{}'
exec "$bin/cell-redteam"
