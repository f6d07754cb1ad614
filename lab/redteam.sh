#!/bin/bash
# redteam.sh BIN   starts a cell in a namespace and a folder of its own, sets it up, and lets the red team at it.
set -euo pipefail
bin=$(realpath "${1:-target/debug}")
home=$(mktemp -d /tmp/cell-redteam-XXXXXX)
chmod 755 "$home"   # the daemons' users pass through it to their own folders
port=$((20000 + RANDOM % 10000))
log=$home.log

"$bin/cell-launch" run --home "$home" --netns "cell-redteam-$$" --http "127.0.0.1:$port" >"$log" 2>&1 &
launcher=$!
end() { kill -TERM "$launcher" 2>/dev/null || :; wait "$launcher" || :; rm -rf "$home" "$log"; }
trap end EXIT

for _ in $(seq 300); do
  curl --silent --fail --noproxy '*' "http://127.0.0.1:$port/health" >/dev/null && break
  kill -0 "$launcher" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
token=$(cat "$home/lib/api/claim-token")
step() {
  curl --silent --show-error --fail-with-body --noproxy '*' -H 'Content-Type: application/json' -H "X-Claim-Token: $token" \
    --data "$2" "http://127.0.0.1:$port/api/setup/$1" >/dev/null
}
step step/claim "{\"claim_token\": \"$token\"}"
step step/identity '{"cell_name": "home", "domain_mode": "lan"}'
step step/network '{"vpn_range_ipv4": "10.86.0.0/24", "endpoint_host": "203.0.113.10"}'
step step/admin '{"username": "admin", "password": "correct horse battery"}'
step complete '{}'

CELL_HOME=$home "$bin/cell-redteam"
