#!/bin/bash
# The long form of the broker's tests: the same tests as in `make test`, with more cases (CELL_BROKER_CASES, CELL_BROKER_KILLS, CELL_BROKER_STARTED).
# Each test writes a line for what it saw hold; this makes target/reports/brokertest.json of them, with a line for each that failed.
# What is drawn is drawn anew each time; each line says its seed, and CELL_BROKER_SEED has it drawn again.
# The create cases have a report of their own, target/reports/brokertest-cases.json, which `make test` writes too.
set -eu -o pipefail
cd "$(dirname "$0")/.."
mkdir -p target/reports
CELL_BROKER_ROWS=$(mktemp)
export CELL_BROKER_ROWS
trap 'rm -f "$CELL_BROKER_ROWS"' EXIT
failed=0
for tests in "cell-manifest" "cell-broker-core" "cell-broker --test docker" "cell-broker --test cases" "cell-broker --test deploy" "cell-broker --test binds" \
  "cell-broker --test owned" "cell-broker --test supervise" "cell-broker --test watch" "cell-broker --test killed" "cell-broker --test policy" \
  "cell-broker --test inspected"; do
  ok=true
  # shellcheck disable=SC2086 # a package and, for some, one of its files
  cargo test --locked -p $tests -- --nocapture || { ok=false; failed=1; }
  printf '{"name":"tests: %s","value":"%s","unit":"","goal":"pass","ok":%s}\n' "$tests" "$ok" "$ok" >> "$CELL_BROKER_ROWS"
done
{ echo '['; sed '$!s/$/,/' "$CELL_BROKER_ROWS"; echo ']'; } > target/reports/brokertest.json
echo "target/reports/brokertest.json: $(grep -c '"ok":true' "$CELL_BROKER_ROWS") lines hold"
exit "$failed"
