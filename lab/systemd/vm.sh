#!/bin/bash
# `make systemtest-vm`: the system test in virtual machines with Debian's own kernel, which has the WireGuard module. Two guests
# on one wire: the cell, which loses its power once, and a device that is a machine of its own. QEMU interprets (no KVM needed), so it takes minutes.
# In the cell's guest netd's contract of backends and benchmarks are run on the module too, which the machine may not have.
# Usage: vm.sh [--bin DIR]    env: CELL_LAB_CACHE, LIMIT (seconds, default 1800)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
cache=${CELL_LAB_CACHE:-$root/target/lab-cache}; limit=${LIMIT:-1800}
bin=$root/target/release; [ "${1:-}" != --bin ] || bin=$(realpath "$2")
[ "$(id -u)" = 0 ] || { echo "systemtest-vm: run this as root" >&2; exit 1; }
bash "$here/image.sh" "$cache"
bash "$here/vm-image.sh" "$cache"

# In the cache, not in /tmp: the disks are large and sparse.
work=$(mktemp -d "$cache/vm.XXXXXX"); trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/in"
echo "==> system test: building the package"
bash "$root/packaging/build-deb.sh" --bin "$bin" --out "$work/in" --uncompressed >/dev/null
cp "$here"/*.py "$work/in/"
echo "==> system test: building netd's contract of backends, and the benchmarks, optimised as all that is measured"
(cd "$root" && cargo build --quiet --locked --release -p cell-lab --bin cell-bench --bin cell-bench-net)
contract=$(cd "$root" && cargo test --quiet --locked -p cell-netd --test backend --no-run --message-format=json |
  jq -r 'select(.target.name? == "backend") | .executable // empty')
for program in "$contract" "$root/target/release/cell-bench" "$root/target/release/cell-bench-net"; do strip -o "$work/in/$(basename "${program%-????????????????}")" "$program"; done

guest() { # ROLE OWN-WIRE OTHER-WIRE NUMBER
  local role=$1 dir=$work/$1
  mkdir "$dir"
  tar -C "$work/in" -cf "$dir/in.raw" .
  truncate -s 256M "$dir/in.raw"; truncate -s 64M "$dir/out.raw"
  disk() { echo "-drive id=$1,file=$2,format=raw,if=none,cache=unsafe,snapshot=$3 -device virtio-blk-pci,drive=$1,serial=$1"; }
  # The root disk is never written: QEMU keeps the changes in TMPDIR.
  # shellcheck disable=SC2046  # the options hold no spaces
  TMPDIR=$work exec timeout -k 5 "$limit" "$cache/qemu/run" -M q35 -accel tcg,thread=multi,tb-size=512 -cpu Nehalem -smp 2 -m 1024 \
    -nodefaults -display none -serial "file:$dir/console" \
    -kernel "$cache/vm/vmlinuz" -initrd "$cache/vm/initrd.gz" \
    -append "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off systemd.show_status=0 systemd.mask=serial-getty@ttyS0.service systemd.mask=getty@tty1.service systemd.unit=systemtest.target systemtest.role=$role" \
    $(disk root "$cache/vm/base.ext4" on) $(disk in "$dir/in.raw" off) $(disk out "$dir/out.raw" off) \
    -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
    -netdev "dgram,id=wire,local.type=unix,local.path=$work/$2,remote.type=unix,remote.path=$work/$3" \
    -device "virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:00:00:0$4"
}

echo "==> system test: booting two virtual machines with Debian's kernel (some minutes)"
(guest cell a b 1) >"$work/cell.qemu" 2>&1 & cell=$!
(guest device b a 2) >"$work/device.qemu" 2>&1 & device=$!
wait "$cell" || true
# The device has nothing to wait for any more; it ends by itself within a minute, or the cell's story ended too early for it.
for _ in $(seq 60); do kill -0 "$device" 2>/dev/null || break; sleep 1; done
kill "$device" 2>/dev/null || true
wait "$device" || true

reports=$root/target/reports; mkdir -p "$reports"
failed=0
for role in cell device; do
  out=$reports/systemtest-vm/$role
  rm -rf "$out"; mkdir -p "$out"
  tar -C "$out" -xf "$work/$role/out.raw" 2>/dev/null || true
  if [ ! -s "$out/rows.json" ]; then
    echo "the $role guest ended without a result:" >&2
    for said in "$work/$role.qemu" "$work/$role/console"; do tail -n 20 "$said" >&2; done
    failed=1
    continue
  fi
  grep -v '^ROW' "$out/log" >&2 || true
  [ "$(cat "$out/rc")" = 0 ] || failed=1
done
python3 - "$reports" <<'P'
import json, os, sys
rows = []
for role in ("cell", "device"):
    path = f"{sys.argv[1]}/systemtest-vm/{role}/rows.json"
    rows += json.load(open(path)) if os.path.exists(path) else []
json.dump(rows, open(f"{sys.argv[1]}/systemtest-vm.json", "w"), indent=1)
P
python3 "$here/table.py" "$reports/systemtest-vm.json" && exit $failed
