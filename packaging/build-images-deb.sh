#!/bin/bash
# Builds target/cell-images_VERSION_ARCH.deb: the images of the cell's containers, built and packed. Prints its path.
# Usage: build-images-deb.sh [--cache DIR] [--out DIR] [--uncompressed] [NAME...]
#   --cache DIR   archives that are built already; others are built into it  (default target/lab-cache/images)
#   --out DIR     where the package goes                                      (default target)
#   NAME...       these images alone, for tests                               (default all)
# Needs root, dpkg-deb, and what compose/images/build.sh needs but Docker.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(dirname "$here")
cache=$root/target/lab-cache/images out=$root/target compression=(-Zxz -z3) names=()
while [ $# -gt 0 ]; do
  case $1 in
    --cache) cache=$2; shift 2 ;;
    --out) mkdir -p "$2"; out=$(realpath "$2"); shift 2 ;;
    --uncompressed) compression=(-Znone); shift ;;
    -*) sed -n '2,7s/^# \?//p' "$0" >&2; exit 2 ;;
    *) names+=("$1"); shift ;;
  esac
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
arch=$(dpkg --print-architecture)
tree=$(mktemp -d); trap 'rm -rf "$tree"' EXIT; chmod 755 "$tree"
packed=usr/lib/cell/images
mkdir -p "$tree/$packed" "$tree/DEBIAN" "$tree/usr/share/doc/cell-images"
chmod -R 755 "$tree"
# To a file, so that a failure ends this too.
bash "$root/compose/images/build.sh" --cache "$cache" --only-pack "${names[@]:-all}" > "$tree/list"
while read -r name id archive; do
  install -m 644 "$archive" "$tree/$packed/$name.tar"
  echo "$id" > "$tree/$packed/$name.tar.id"; chmod 644 "$tree/$packed/$name.tar.id"
done < "$tree/list"
rm "$tree/list"
install -m 644 "$here/deb/copyright" "$tree/usr/share/doc/cell-images/copyright"

for script in postinst prerm; do install -m 755 "$here/deb-images/$script" "$tree/DEBIAN/$script"; done
install -m 644 "$here/deb-images/triggers" "$tree/DEBIAN/triggers"
sed -e "s/@VERSION@/$version/g; s/@ARCH@/$arch/" \
    -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)/" "$here/deb-images/control" > "$tree/DEBIAN/control"
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) > "$tree/DEBIAN/md5sums"

SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0); export SOURCE_DATE_EPOCH
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
deb=$out/cell-images_${version}_$arch.deb
dpkg-deb --root-owner-group "${compression[@]}" --build "$tree" "$deb" >/dev/null
echo "$deb"
