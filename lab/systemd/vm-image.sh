#!/bin/bash
# Makes CACHE/vm/{base.ext4,vmlinuz,initrd.gz} from CACHE/rootfs and Debian's cloud kernel, and CACHE/qemu/run: all of it
# unpacked beside, nothing is installed on the machine (qemu-system-x86 would downgrade or remove packages of it).
# Usage: vm-image.sh CACHE
set -euo pipefail
cache=$(realpath "$1"); here=$(cd "$(dirname "$0")" && pwd)
fetch() { bash "$here/fetch.sh" "$@"; }

if [ ! -x "$cache/qemu/run" ] && command -v qemu-system-x86_64 >/dev/null; then
  mkdir -p "$cache/qemu"
  printf '#!/bin/sh\nexec qemu-system-x86_64 "$@"\n' > "$cache/qemu/run"
  chmod 755 "$cache/qemu/run"
elif [ ! -x "$cache/qemu/run" ]; then
  echo "==> system test: fetching QEMU"
  rm -rf "$cache/qemu"; mkdir -p "$cache/qemu/debs" "$cache/qemu/root"
  would() { apt-get install -s --no-install-recommends qemu-system-x86 2>/dev/null | awk '$1 == "Inst" { print $2 }'; }
  wanted=$(would || { apt-get update -qq; would; })
  # shellcheck disable=SC2086  # a list of names
  fetch "$cache/qemu/debs" $wanted
  for deb in "$cache"/qemu/debs/*.deb; do dpkg -x "$deb" "$cache/qemu/root"; done
  root=$cache/qemu/root; library=$root/usr/lib/$(gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
  cat > "$cache/qemu/run" <<Q
#!/bin/sh
export QEMU_MODULE_DIR=$library/qemu LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu:$library
exec $root/usr/bin/qemu-system-x86_64 -L $root/usr/share/qemu -L $root/usr/share/seabios -L $root/usr/lib/ipxe/qemu "\$@"
Q
  chmod 755 "$cache/qemu/run"
fi

key=$(cat "$cache/rootfs.key" "$here/vm-image.sh" | sha256sum | cut -c1-16)
[ "$(cat "$cache/vm/key" 2>/dev/null)" != "$key" ] || exit 0
echo "==> system test: making the disk of the virtual machines"
rm -rf "$cache/vm"; mkdir -p "$cache/vm/debs" "$cache/vm/kernel"
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }'); release=${package#linux-image-}
fetch "$cache/vm/debs" "$package"
dpkg -x "$cache"/vm/debs/*.deb "$cache/vm/kernel"
cp "$cache/vm/kernel/boot/vmlinuz-$release" "$cache/vm/vmlinuz"
cp -a "$cache/rootfs" "$cache/vm/root"; R=$cache/vm/root
mkdir -p "$R/usr/lib/modules"; cp -a "$cache/vm/kernel/lib/modules/$release" "$R/usr/lib/modules/"
# The tools of the image itself: the machine need not have kmod or cpio.
chroot "$R" depmod "$release"
echo '/dev/vda / ext4 rw,noatime 0 0' > "$R/etc/fstab"

# The smallest initrd: the disk's driver, which is a module, and over to systemd.
I=$cache/vm/initrd; mkdir -p "$I"/{bin,proc,sys,dev,modules,new}
cp "$R/bin/busybox" "$I/bin/"
: > "$I/modules/order"
for module in virtio_pci virtio_blk ext4; do
  chroot "$R" modprobe -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }' | while read -r file; do
    name=$(basename "$file")
    grep -qx "$name" "$I/modules/order" || { cp "$R$file" "$I/modules/"; echo "$name" >> "$I/modules/order"; }
  done
done
cat > "$I/init" <<'N'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
while read module; do $b insmod /modules/$module; done < /modules/order
n=0; until [ -b /dev/vda ]; do n=$((n+1)); [ $n -gt 200 ] && $b poweroff -f; $b usleep 50000; done
$b mount -t ext4 -o rw,noatime /dev/vda /new || $b poweroff -f
$b umount /proc /sys; $b mount --move /dev /new/dev
exec $b switch_root /new /sbin/init
N
chmod 755 "$I/init"
(cd "$I" && find . | "$R/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -6) > "$cache/vm/initrd.gz"
truncate -s 3G "$cache/vm/base.ext4"
mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 -m 0 -d "$R" "$cache/vm/base.ext4"
rm -rf "$R" "$I" "$cache/vm/kernel" "$cache/vm/debs"
echo "$key" > "$cache/vm/key"
