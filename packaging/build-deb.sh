#!/bin/bash
# Builds target/cell_VERSION_ARCH.deb from programs that are built already. Prints its path.
# Usage: build-deb.sh [--bin DIR] [--accounts FILE] [--out DIR] [--uncompressed]    (the last for tests)
#   --bin DIR        the programs                                  (default target/release)
#   --accounts FILE  cell-accounts, static, as its image takes it  (default that of DIR)
#   --out DIR        where the package goes                        (default target)
# Needs dpkg-deb alone. The same sources give the same bytes: times are those of the last commit.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(dirname "$here")
bin=$root/target/release out=$root/target accounts= compression=(-Zgzip -z6)
while [ $# -gt 0 ]; do
  case $1 in
    --bin) bin=$(realpath "$2"); shift 2 ;;
    --accounts) accounts=$(realpath "$2"); shift 2 ;;
    --out) mkdir -p "$2"; out=$(realpath "$2"); shift 2 ;;
    --uncompressed) compression=(-Znone); shift ;;
    *) echo "usage: $0 [--bin DIR] [--accounts FILE] [--out DIR] [--uncompressed]" >&2; exit 2 ;;
  esac
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
arch=$(dpkg --print-architecture)
daemons="cell-api cell-netd cell-egress cell-openvpn cell-wg cell-iptables cell-broker cell-vaultd"
accounts=${accounts:-$bin/cell-accounts}
for program in $(printf "$bin/%s\n" $daemons cellctl) "$accounts"; do
  [ -x "$program" ] || { echo "build-deb: $program is missing: make build" >&2; exit 1; }
done

tree=$(mktemp -d); trap 'rm -rf "$tree"' EXIT; chmod 755 "$tree"
put() { install -D -m "$1" "$2" "$tree/$3"; } # MODE FROM TO

for program in $daemons; do put 755 "$bin/$program" "usr/lib/cell/$program"; done
put 755 "$bin/cellctl" usr/bin/cellctl
# Not a daemon of the machine: what the image `accounts` is made of.
put 755 "$accounts" usr/lib/cell/cell-accounts
strip --strip-debug "$tree"/usr/lib/cell/* "$tree/usr/bin/cellctl" 2>/dev/null || true
for unit in "$root"/systemd/*.service "$root"/systemd/*.socket "$root"/systemd/*.target; do
  put 644 "$unit" "lib/systemd/system/$(basename "$unit")"
done
put 644 "$root/systemd/sysusers.d/cell.conf" usr/lib/sysusers.d/cell.conf
put 644 "$root/systemd/tmpfiles.d/cell.conf" usr/lib/tmpfiles.d/cell.conf
put 644 "$root/systemd/sysctl.d/60-cell.conf" usr/lib/sysctl.d/60-cell.conf
for policy in "$root"/systemd/etc/*; do put 644 "$policy" "etc/cell/$(basename "$policy")"; done
for drop_in in "$root"/systemd/drop-in/*/*.conf; do
  put 644 "$drop_in" "usr/share/cell/drop-in/${drop_in#"$root"/systemd/drop-in/}"
done
# The catalog, whose files the broker takes without a signature, and what images are built from.
(cd "$root/compose/catalog" && find . -type f -printf '%P\n') | while read -r file; do
  put 644 "$root/compose/catalog/$file" "usr/share/cell/catalog/$file"
done
(cd "$root/compose/images" && find . -type f -printf '%P\n') | while read -r file; do
  put 644 "$root/compose/images/$file" "usr/share/cell/images/$file"
done
chmod 755 "$tree/usr/share/cell/images/build.sh"
ln -s ../share/cell/images/build.sh "$tree/usr/bin/cell-images"
put 644 "$root/compose/README.md" usr/share/doc/cell/containers.md
put 644 "$root/systemd/README.md" usr/share/doc/cell/units.md
put 644 "$here/deb/copyright" usr/share/doc/cell/copyright

mkdir "$tree/DEBIAN"
for script in postinst prerm postrm; do put 755 "$here/deb/$script" "DEBIAN/$script"; done
put 644 "$here/deb/triggers" DEBIAN/triggers
(cd "$tree" && find etc -type f -printf '/%p\n' | sort) > "$tree/DEBIAN/conffiles"
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/" \
    -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)/" "$here/deb/control" > "$tree/DEBIAN/control"
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) > "$tree/DEBIAN/md5sums"

SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0); export SOURCE_DATE_EPOCH
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
deb=$out/cell_${version}_$arch.deb
dpkg-deb --root-owner-group "${compression[@]}" --build "$tree" "$deb" >/dev/null
echo "$deb"
