# The cell itself, for compose/docker-compose.yml: all daemons and cell-launch, with the programs of Debian's that they start, and those
# by which `cell-launch clean-host` takes back what netd left. No shell. Which daemon a container is, and what it may, the compose file says.
user=
entrypoint='["/usr/lib/cell/cell-launch"]'
daemons="cell-api cell-broker cell-egress cell-launch cell-netd cell-openvpn cell-vaultd cell-wg"
fill() {
  local root=$1 base bin program loader said
  bin=${CELL_BIN:-$here/../../target/release}
  # Debian's part, kept by itself: programs of ours change more often.
  base=$cache/base-of-cell-$( { cat "$here/build.sh" "$here/cell/image.sh"; echo "$mirror"; } | sha256sum | cut -c1-24).tar
  if [ -n "$fresh" ] || [ ! -s "$base" ]; then
    debian "$root" openvpn tor iproute2 nftables libgcc-s1
    keep "$root" /usr/sbin/openvpn /usr/bin/tor /usr/bin/ip /usr/sbin/nft
    rm -f "$cache"/base-of-cell-*.tar
    tar -C "$root" --numeric-owner -cf "$base.new" . && mv "$base.new" "$base"
  else
    tar -C "$root" -xf "$base"
  fi
  loader=$(cd "$root" && ls -d usr/lib*/ld-linux-*.so.* lib*/ld-linux-*.so.* 2>/dev/null | head -1)
  for program in $daemons cellctl; do
    install -D -m 0755 "$bin/$program" "$root/usr/lib/cell/$program"
    strip "$root/usr/lib/cell/$program"
    # Built with a newer C library than the image's, or with one more, it would not start.
    said=$(chroot "$root" "/$loader" --list "/usr/lib/cell/$program" 2>&1) && ! grep -q 'not found' <<< "$said" || {
      echo "$bin/$program does not run with the libraries of Debian's $suite: $said" >&2; exit 1; }
  done
  accounts_of_cell "$root"
  mkdir -p "$root/usr/share/cell/catalog"
  cp -r --no-preserve=ownership,mode "$here/../catalog/." "$root/usr/share/cell/catalog/"
  # Where a socket's file is mounted.
  mkdir -p "$root/run"; : > "$root/run/docker.sock"
}

# Users and groups of sysusers.d with their numbers, which say who owns what on the machine.
accounts_of_cell() {
  local conf=$here/../../systemd/sysusers.d/cell.conf
  mkdir -p "$1/etc"
  awk -v passwd="$1/etc/passwd" -v group="$1/etc/group" '
    FNR == NR { if ($0 !~ /^#/) id[$1] = $2; next }
    $1 == "m" { members[$3] = members[$3] (members[$3] ? "," : "") $2; next }
    $1 == "u" || $1 == "g" { if (!($2 in id)) { print "compose/images/cell/ids has no number of " $2 > "/dev/stderr"; exit 1 } }
    $1 == "u" { users[$2] }
    $1 == "u" || $1 == "g" { names[++n] = $2 }
    END {
      print "root:x:0:0:root:/:/usr/sbin/nologin" > passwd; print "root:x:0:" > group
      for (i = 1; i <= n; i++) {
        name = names[i]
        if (name in users) print name ":x:" id[name] ":" id[name] ":" name ":/:/usr/sbin/nologin" > passwd
        print name ":x:" id[name] ":" members[name] > group
      }
    }' "$here/cell/ids" "$conf"
  printf 'hosts: files dns\npasswd: files\ngroup: files\n' > "$1/etc/nsswitch.conf"
}
