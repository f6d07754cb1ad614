#!/bin/bash
# A device that mounts a WebDAV folder by davfs2: writes, unmounts, mounts anew, and reads back. Prints what it read; davfs2's words where
# it mounts nothing. In a mount namespace of its own (unshare --mount), with a HOME of its own.
# Usage: mounted.sh URL USER PASSWORD AUTHORITY FOLDER   AUTHORITY: a file in PEM; empty: those of the web
set -euo pipefail
umask 077
# davfs2's library would take it for the authorities of the web.
unset SSL_CERT_FILE
url=$1 user=$2 password=$3 authority=$4 folder=$5
at=$HOME/mounted
mkdir -p "$at"
printf '%s "%s" "%s"\n' "$url" "$user" "$password" > "$HOME/davfs2.secrets"
# Its buffer as it is shipped, 16 KiB, is smaller than what kernels of today ask of a folder at once.
printf '%s\n' 'ask_auth 0' 'use_proxy 0' 'delay_upload 0' 'buf_size 256' ${authority:+"trust_ca_cert $authority"} > "$HOME/davfs2.conf"
mount --bind "$HOME/davfs2.conf" /etc/davfs2/davfs2.conf
mount --bind "$HOME/davfs2.secrets" /etc/davfs2/secrets

# What is read must come from the server: each time with an empty cache.
attach() {
  mount -t tmpfs -o mode=0755,uid=davfs2,gid=davfs2 tmpfs /var/cache/davfs2
  mount.davfs "$url" "$at" 2>&1
  findmnt -n -o FSTYPE "$at" | grep -q '^fuse'
}
# Its process ends with the mount, whatever fails.
trap 'umount -i "$at" 2> /dev/null || true' EXIT

attach
mkdir -p "$at/Mounted"
cp -r "$folder/." "$at/Mounted/"
# Waits until all is with the server.
umount "$at" > /dev/null
attach
diff -r "$folder" "$at/Mounted"
mv "$at/Mounted" "$at/Renamed"
(cd "$at/Renamed" && find . -type f | LC_ALL=C sort)
