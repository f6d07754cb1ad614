#!/bin/bash
# Builds the Debian root file system that the system test boots: CACHE/rootfs (unpacked) from CACHE/rootfs-KEY.tar. The tar is
# kept between runs; KEY is made of the packages in it. Needs root, mmdebstrap and a Debian mirror (of the machine's apt).
# Usage: image.sh CACHE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"; cache=$(realpath "$1")

# What a small server has, and the stock clients and tools that the test uses as witnesses.
packages=systemd-sysv,udev,dbus,kmod,init-system-helpers,iproute2,nftables,wireguard-tools,wireguard-go,curl,ca-certificates,procps,iputils-ping,python3,busybox-static

tarkey=$(echo "$packages" | sha256sum | cut -c1-16)
key=$(cat "$here/image.sh" "$here/guest.sh" | sha256sum | cut -c1-16)
tar=$cache/rootfs-$tarkey.tar
if [ ! -s "$tar" ]; then
  echo "==> system test: building a Debian root file system (about a minute, once)"
  # mmdebstrap tells the format from the name's end.
  new=$cache/new.tar
  rm -rf "$cache"/rootfs-*.tar "$new"
  # Debian's own archive as this machine reaches it, in either format.
  sources=()
  for list in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do [ ! -s "$list" ] || sources+=("$list"); done
  mmdebstrap --quiet --variant=minbase --mode=root \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$packages" bookworm "$new" "${sources[@]}"
  mv "$new" "$tar"
fi

# systemd-nspawn: the machine's, or unpacked beside, since installing it would upgrade the machine's systemd.
if ! command -v systemd-nspawn >/dev/null && [ ! -x "$cache/nspawn/run" ]; then
  echo "==> system test: fetching systemd-nspawn"
  rm -rf "$cache/nspawn"; mkdir -p "$cache/nspawn/debs"
  bash "$here/fetch.sh" "$cache/nspawn/debs" systemd-container libsystemd-shared
  for deb in "$cache"/nspawn/debs/*.deb; do dpkg -x "$deb" "$cache/nspawn/root"; done
  library=$(dirname "$(find "$cache/nspawn/root" -name 'libsystemd-shared-*.so' | head -1)")
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$library" "$cache/nspawn/root/usr/bin/systemd-nspawn" > "$cache/nspawn/run"
  chmod 755 "$cache/nspawn/run"
fi

[ "$(cat "$cache/rootfs.key" 2>/dev/null)" != "$key" ] || exit 0
rm -rf "$cache/rootfs" "$cache/rootfs.key"; mkdir "$cache/rootfs"
tar -C "$cache/rootfs" -xf "$tar"
R=$cache/rootfs
echo cell > "$R/etc/hostname"; printf '127.0.0.1 localhost cell\n' > "$R/etc/hosts"
: > "$R/etc/machine-id"
for unit in apt-daily.timer apt-daily-upgrade.timer fstrim.timer dpkg-db-backup.timer systemd-firstboot.service; do
  ln -sf /dev/null "$R/etc/systemd/system/$unit"
done
# The test is a unit of a target of its own, so that it begins on a finished boot.
install -D -m 755 "$here/guest.sh" "$R/usr/local/lib/systemtest"
cat > "$R/etc/systemd/system/systemtest.service" <<'U'
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/usr/local/lib/systemtest
U
mkdir -p "$R/etc/systemd/system/systemtest.target.wants" "$R/systemtest"
cat > "$R/etc/systemd/system/systemtest.target" <<'U'
[Unit]
Requires=multi-user.target
After=multi-user.target
AllowIsolate=yes
U
ln -sf ../systemtest.service "$R/etc/systemd/system/systemtest.target.wants/systemtest.service"
echo "$key" > "$cache/rootfs.key"
