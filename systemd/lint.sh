#!/bin/bash
# Gates for the units: systemd-analyze verify has nothing to say, exposure stays below its limit (also with the drop-ins
# that the package puts in place), and the common part of the services is the same in all. Needs no root.
set -euo pipefail
cd "$(dirname "$0")"

# Exposure in tenths, at most (systemd-analyze security; a unit with nothing but User= has 92). See README.md.
limits="api=2 netd=11 egress=12 openvpn=12 tor=10 broker=4 vaultd=4 wg=4 iptables=15"
# The same with a drop-in: unit/file=limit.
drop_in_limits="netd/userspace-wireguard.conf=15 broker/docker.conf=4 api/api-admin-group.conf=4"

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "lint: $*" >&2; failed=1; }

exposure() { # UNIT LIMIT LABEL
  local said rc=0
  said=$(systemd-analyze security --offline=true --no-pager --threshold="$2" "$1" 2>&1) || rc=$?
  said=$(sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\) .*/\1/p' <<<"$said")
  [ -n "$said" ] || { fail "$3: no exposure found"; return; }
  printf '  %-40s exposure %4s, limit %s.%s\n' "$3" "$said" "$(($2 / 10))" "$(($2 % 10))"
  [ "$rc" = 0 ] || fail "$3: exposure $said is above its limit"
}

echo "==> units: exposure"
for entry in $limits; do
  exposure "$PWD/cell-${entry%=*}.service" "${entry#*=}" "cell-${entry%=*}.service"
done
for entry in $drop_in_limits; do
  path=${entry%=*}; unit=cell-${path%/*}.service; file=${path#*/}
  mkdir -p "$work/with/$file"; cp "$unit" "$work/with/$file/"
  # Offline analysis reads one file, so the drop-in is appended as systemd would read it.
  cat "drop-in/$unit.d/$file" >> "$work/with/$file/$unit"
  exposure "$work/with/$file/$unit" "${entry#*=}" "$unit with $file"
done

echo "==> units: verify"
mkdir "$work/units"
cp ./*.service ./*.socket ./*.target "$work/units/"
# The programs are installed by the package, not here; what systemd looks for is that they can be run.
sed -i 's,^ExecStart=.*,ExecStart=/bin/true,' "$work"/units/*.service
# Two signs, each of which counts: words about our units (its status is 0 for a value that it ignores), and the status.
rc=0
said=$(SYSTEMD_UNIT_PATH="$work/units:" systemd-analyze verify --man=no "$work"/units/* 2>&1) || rc=$?
ours=$(grep -E "^cell|$work/units" <<<"$said" || true)
[ -z "$ours" ] || fail "$ours"
[ "$rc" = 0 ] || fail "systemd-analyze verify ended with status $rc: $said"

echo "==> units: one common part"
for unit in cell-*.service; do
  sed '1,/^# --- common to all units/d; /^ExecPaths=/d; /^LimitNOFILE=/d' "$unit" > "$work/common-$unit"
  [ -s "$work/common-$unit" ] || fail "$unit has no common part"
  cmp -s "$work/common-$unit" "$work/common-cell-api.service" || fail "$unit: its common part differs from that of cell-api.service"
  # Each connection that egress carries has two.
  files=8192; [ "$unit" != cell-egress.service ] || files=36864
  grep -qx "LimitNOFILE=$files" "$unit" || fail "$unit: LimitNOFILE="
  program=/usr/lib/cell/${unit%.service}; [ "$unit" != cell-tor.service ] || program=/usr/bin/tor
  [ "$unit" != cell-openvpn.service ] || program="$program -/usr/sbin/openvpn"
  grep -qx "ExecPaths=$program /usr/lib /lib /lib64" "$unit" || fail "$unit: ExecPaths="
done
exit $failed
