#!/bin/bash
# `make systemtest`: installs the package under a real systemd and looks at what runs; then uses it; then purges it.
# Prints a table and writes target/reports/systemtest.json.
# Usage: run.sh [--bin DIR]     (programs of the package; default target/release)
# env: CELL_LAB_CACHE (default target/lab-cache)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
cache=${CELL_LAB_CACHE:-$root/target/lab-cache}
[ "$(id -u)" = 0 ] || { echo "systemtest: run this as root" >&2; exit 1; }

bin=$root/target/release; [ "${1:-}" != --bin ] || bin=$2
bash "$here/image.sh" "$cache"
NSPAWN=$(command -v systemd-nspawn || echo "$cache/nspawn/run"); export NSPAWN
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir "$work/in" "$work/out"
echo "==> system test: building the package"
bash "$root/packaging/build-deb.sh" "$@" --out "$work/in" --uncompressed >/dev/null
cp "$here"/*.py "$work/in/"
cp "$bin/cell-redteam" "$work/in/"
echo "==> system test: booting Debian 12"
bash "$here/container.sh" "$cache/rootfs" "$work/in" "$work/out" || { cat "$work/out/log" 2>/dev/null >&2; exit 1; }
mkdir -p "$root/target/reports"
rm -rf "$root/target/reports/systemtest"; cp -r "$work/out" "$root/target/reports/systemtest"
[ -s "$work/out/rows.json" ] || { cat "$work/out/log" >&2; exit 1; }
cp "$work/out/rows.json" "$root/target/reports/systemtest.json"
grep -v '^ROW' "$work/out/log" || true
python3 "$here/table.py" "$root/target/reports/systemtest.json" && [ "$(cat "$work/out/rc")" = 0 ]
