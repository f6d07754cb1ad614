#!/bin/bash
# with-cell.sh BIN COMMAND...   starts a fresh cell from the programs in BIN, in a namespace and a folder of its own, runs COMMAND
# with CELL_HOME, CELL_LOG, CELL_URL, CELL_NETNS and CELL_CLAIM_TOKEN, ends the cell, and returns COMMAND's status. CELL_PREPARE is
# run before the start, if there is one: the launcher keeps the policies that it finds.
set -euo pipefail
bin=$(realpath "$1"); shift
CELL_HOME=$(mktemp -d /tmp/cell-home-XXXXXX)
chmod 755 "$CELL_HOME"   # the daemons' users pass through it to their own folders
port=$((20000 + RANDOM % 10000))
log=$CELL_HOME.log
export CELL_HOME CELL_LOG=$log CELL_URL=http://127.0.0.1:$port CELL_NETNS=cell-trial-$$

# shellcheck disable=SC2086 # a program and its arguments
[ -z "${CELL_PREPARE:-}" ] || $CELL_PREPARE
"$bin/cell-launch" run --home "$CELL_HOME" --netns "$CELL_NETNS" --http "127.0.0.1:$port" >"$log" 2>&1 &
launcher=$!
end() { kill -TERM "$launcher" 2>/dev/null || :; wait "$launcher" || :; rm -rf "$CELL_HOME" "$log"; }
trap end EXIT

# The token may come a moment after the first answer.
for _ in $(seq 300); do
  kill -0 "$launcher" 2>/dev/null || { cat "$log" >&2; exit 1; }
  curl --silent --fail --noproxy '*' "$CELL_URL/health" >/dev/null && [ -s "$CELL_HOME/lib/api/claim-token" ] && break
  sleep 0.1
done
CELL_CLAIM_TOKEN=$(cat "$CELL_HOME/lib/api/claim-token")
export CELL_CLAIM_TOKEN
"$@" || { status=$?; echo "--- the last lines of the cell's log" >&2; tail -20 "$log" >&2; exit $status; }
