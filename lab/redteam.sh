#!/bin/bash
# redteam.sh BIN   sets a fresh cell up (see with-cell.sh) and lets the red team at it.
set -euo pipefail
step() {
  curl --silent --show-error --fail-with-body --noproxy '*' -H 'Content-Type: application/json' \
    -H "X-Claim-Token: $CELL_CLAIM_TOKEN" --data "$2" "$CELL_URL/api/setup/$1" >/dev/null
}
step step/claim "{\"claim_token\": \"$CELL_CLAIM_TOKEN\"}"
step step/identity '{"cell_name": "home", "domain_mode": "lan"}'
step step/network '{"vpn_range_ipv4": "10.86.0.0/24", "endpoint_host": "203.0.113.10"}'
step step/admin '{"username": "admin", "password": "correct horse battery"}'
step complete '{}'
exec "$1/cell-redteam"
