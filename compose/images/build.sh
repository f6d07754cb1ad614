#!/bin/bash
# Builds images of the cell's containers from Debian's packages and Go's modules, without a container registry, and lists
# them where the broker looks: name = "sha256:<image id>". What went in decides the id (tar sorted, one date, no build's own
# metadata): the same packages give the same image.
#
# Usage: build.sh [--cache DIR] [--list FILE] [--mirror URL] [--fresh] [--only-pack | --from DIR] NAME...|all
#   --cache DIR   where archives are kept            (default /var/cache/cell/images)
#   --list FILE   the list that the broker reads     (default /etc/cell/images.toml)
#   --mirror URL  Debian's archive                   (default: as apt of this machine has it)
#   --fresh       build again what is in the cache: newer packages
#   --only-pack   make the archives; load none, list none
#   --from DIR    build nothing: load and list the archives of --only-pack that lie in DIR
# Needs root, mmdebstrap, binutils, jq, Go for coredns and caddy, cargo for accounts in a checkout; Docker as DOCKER_HOST says.
# The package has it as the command cell-images. In a checkout there is one more, `cell`: the daemons themselves, as CELL_BIN
# (default target/release) has them, for compose/docker-compose.yml. It is no service, so it is not of `all` and is not listed.
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022
here=$(dirname "$(readlink -f "$0")")
all=(coredns caddy chrony accounts radicale webdav exim dovecot webmail)
# Images are of one release, whatever the machine's is: what was tested is what runs.
suite=bookworm

usage() { sed -n '2,/^# Needs/s/^# \?//p' "$0" >&2; exit 2; }

cache=/var/cache/cell/images list=/etc/cell/images.toml fresh= pack_only= from= mirror=
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --cache) cache=$2; shift 2 ;;
    --list) list=$2; shift 2 ;;
    --mirror) mirror=$2; shift 2 ;;
    --from) from=$(realpath "$2"); shift 2 ;;
    --fresh) fresh=1; shift ;;
    --only-pack) pack_only=1; shift ;;
    all) names+=("${all[@]}"); shift ;;
    -*) usage ;;
    *) [ -f "$here/$1/image.sh" ] || { echo "there is no image $1; there are: ${all[*]}" >&2; exit 2; }
       names+=("$1"); shift ;;
  esac
done
[ ${#names[@]} -gt 0 ] || usage
[ "$(id -u)" = 0 ] || { echo "$(basename "$0") makes files of root: run it as root" >&2; exit 1; }

# needed NAME...: what is missing for these images, all of it at once.
needed() {
  local name words=() packages=() go wanted
  lacks() { ! command -v "$1" > /dev/null; }
  if [ -z "$pack_only" ] && ! docker version > /dev/null 2>&1; then
    if lacks docker; then words+=("Docker is not installed"); packages+=(docker.io); else words+=("Docker does not answer: systemctl start docker"); fi
  fi
  for name in $([ -n "$from" ] || echo "$@"); do
    case $name in
      coredns|caddy)
        wanted=$(sed -n 's/^go //p' "$here/$name/go.mod")
        go=$(go env GOVERSION 2> /dev/null | sed 's/^go//' || true)
        # An older one from 1.21 on fetches the one that is wanted.
        if [ -z "$go" ]; then words+=("$name is built with Go $wanted, and there is no Go")
        elif [ "$(printf '%s\n' 1.21 "$go" | sort -V | head -1)" != 1.21 ]; then words+=("$name is built with Go $wanted, and this is Go $go")
        fi ;;
      cell) [ -x "${CELL_BIN:-$here/../../target/release}/cell-launch" ] || words+=("cell is made of the programs of a checkout: make build there, or CELL_BIN=DIR") ;;
      accounts) [ ! -f "$here/../accounts/Cargo.toml" ] || ! lacks cargo || words+=("accounts is built with cargo, in a checkout") ;;
    esac
  done
  if [ -z "$from" ]; then
    ! lacks mmdebstrap || packages+=(mmdebstrap)
    ! lacks readelf || packages+=(binutils)
    ! lacks jq || packages+=(jq)
  fi
  [ ${#packages[@]} = 0 ] || words+=("apt-get install ${packages[*]}")
  [ ${#words[@]} = 0 ] || {
    printf '%s\n' "${words[@]}" | sort -u | sed "s/^/$(basename "$0"): /" >&2
    case "${words[*]}" in *"with Go"*)
      echo "$(basename "$0"): Go of go.dev, or golang-go of Debian's backports; or install the package cell-images, which brings images that are built" >&2 ;;
    esac
    exit 1
  }
}
needed "${names[@]}"

mkdir -p "$cache"; cache=$(realpath "$cache")
# Go keeps what it fetches and builds below it.
export HOME="${HOME:-/root}"
# One at a time: what another is building is waited for, not built twice.
exec 9> "$cache/lock"; flock 9
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# --- what an image.sh uses -------------------------------------------------------------------------------------------

# debian ROOT PACKAGE...: the packages and what they depend on, unpacked; none of their scripts run.
debian() {
  local root=$1 sources=() file; shift
  [ -z "$mirror" ] || sources+=("deb $mirror $suite main")
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -n "$mirror" ] || [ ! -s "$file" ] || { sed -E 's/\b(trixie|forky|sid)\b/'$suite'/g' "$file" > "$work/$(basename "$file")"; sources+=("$work/$(basename "$file")"); }
  done
  [ ${#sources[@]} -gt 0 ] || { echo "apt of this machine has no archive of Debian's: say which with --mirror https://deb.debian.org/debian" >&2; exit 1; }
  mmdebstrap --quiet --variant=extract --mode=root \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "5"' \
    --setup-hook='for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s usr/$d "$1/$d"; done' \
    --extract-hook='mkdir -p "$1/usr/share/cell"; for deb in "$1"/var/cache/apt/archives/*.deb; do basename "$deb" .deb; done > "$1/usr/share/cell/packages"' \
    --include="$(IFS=,; echo "$*")" "$suite" "$root" "${sources[@]}"
  # Nothing is installed or configured in a running container, and nobody reads manuals there.
  rm -rf "$root"/var/{cache,lib/apt,lib/dpkg,log} "$root"/usr/share/{doc,man,info,locale,lintian,bug,debconf,perl,zoneinfo/right} \
    "$root"/usr/share/bash-completion "$root"/etc/{apt,init.d,cron*,logrotate.d,default,systemd} "$root"/usr/lib/systemd
  mkdir -p "$root"/var/{cache,log}
}

# keep ROOT PROGRAM...: of all that was unpacked only these programs, with the libraries that they are linked with.
keep() {
  local root=$1 file loader threads; shift
  loader=$(cd "$root" && ls -d usr/lib*/ld-linux-*.so.* lib*/ld-linux-*.so.* 2>/dev/null | head -1)
  mkdir -p "$root.kept/usr/share"
  for file in bin sbin lib lib64; do mkdir -p "$root.kept/usr/$file"; ln -s "usr/$file" "$root.kept/$file"; done
  cp -a "$root/usr/share/cell" "$root.kept/usr/share/"
  # The C library looks for it by name when a thread ends.
  threads=$(cd "$root" && ls -d usr/lib/*/libgcc_s.so.1 2>/dev/null | head -1)
  { printf '%s\n' ${threads:+"/$threads"} "$@"; for file; do
      # A static one needs none.
      if readelf --dynamic "$root$file" | grep -q NEEDED; then chroot "$root" "/$loader" --list "$file" | grep -o '/[^ ]*'; fi
    done; } | sort -u |
    while read -r file; do install -D "$root$file" "$root.kept$file"; done
  rm -rf "$root"; mv "$root.kept" "$root"
}

# accounts_of ROOT UID: the users that programs look up.
accounts_of() {
  mkdir -p "$1/etc"
  printf 'root:x:0:0:root:/:/usr/sbin/nologin\ncell:x:%s:%s:cell:/:/usr/sbin/nologin\n' "$2" "$2" > "$1/etc/passwd"
  printf 'root:x:0:\ncell:x:%s:\n' "$2" > "$1/etc/group"
  printf 'hosts: files dns\npasswd: files\ngroup: files\n' > "$1/etc/nsswitch.conf"
}

# own ROOT UID PATH...: folders that volumes are mounted at; Docker gives a new volume this owner and mode.
own() {
  local root=$1 uid=$2 path; shift 2
  for path; do mkdir -p "$root$path"; chown "$uid:$uid" "$root$path"; chmod 0750 "$root$path"; done
}

# memory_at ROOT PATH...: folders that memory is mounted at. With the mode that manifests give it: when a container starts
# again, runc takes the folder's instead.
memory_at() {
  local root=$1 path; shift
  for path; do mkdir -p "$root$path"; chmod 1777 "$root$path"; done
}

# go_program FOLDER OUTPUT [ARGUMENT...]: a Go program, static, from modules that go.sum pins.
go_program() {
  local folder=$1 output=$2; shift 2
  # All modules first, and again where their server had a bad moment.
  (cd "$folder" && { go mod download || { sleep 5; go mod download; } || { sleep 20; go mod download; }; } &&
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' "$@" -o "$output" .)
}

# certificates ROOT: the authorities of the web, for what speaks TLS to the internet.
certificates() {
  mkdir -p "$1/etc/ssl/certs"
  debian "$work/ca" ca-certificates
  find "$work/ca/usr/share/ca-certificates/mozilla" -name '*.crt' | sort | xargs cat > "$1/etc/ssl/certs/ca-certificates.crt"
  rm -rf "$work/ca"
}

# --- building --------------------------------------------------------------------------------------------------------

# What an image is made from.
key() {
  {
    tar -C "$here" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - build.sh "$1"
    if [ "$1" = cell ]; then
      (cd "${CELL_BIN:-$here/../../target/release}" && sha256sum cell-{api,broker,egress,launch,netd,openvpn,vaultd,wg} cellctl)
      tar -C "$here/../.." --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - compose/catalog systemd/sysusers.d
    elif [ "$1" = accounts ]; then
      if [ -f "$here/../accounts/Cargo.toml" ]; then
        tar -C "$here/../.." --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - compose/accounts Cargo.lock
      else
        cat /usr/lib/cell/cell-accounts
      fi
    fi
  } | sha256sum | cut -c1-24
}

# pack NAME ROOT ARCHIVE: one layer and its description as `docker load` takes them.
pack() {
  local name=$1 root=$2 archive=$3 out=$work/archive layer config
  mkdir -p "$out"
  # Nobody becomes root by a file.
  find "$root" -xdev -type f -perm /6000 -exec chmod ug-s {} +
  # Where Docker mounts, so that a root that cannot be written to has the places.
  mkdir -p "$root"/{dev,proc,sys,etc,tmp,run}; chmod 1777 "$root/tmp"
  : > "$root/etc/resolv.conf"; : > "$root/etc/hosts"; : > "$root/etc/hostname"
  tar -C "$root" --sort=name --mtime=@0 --numeric-owner --format=gnu -cf "$out/layer.tar" .
  layer=$(sha256sum "$out/layer.tar" | cut -d' ' -f1)
  jq -nSc --arg arch "$(dpkg --print-architecture)" --arg layer "sha256:$layer" --argjson entrypoint "$entrypoint" --argjson env "$environment" --arg user "$user" '{
    architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z",
    config: {User: $user, Entrypoint: $entrypoint, Env: $env, WorkingDir: "/"},
    rootfs: {type: "layers", diff_ids: [$layer]},
    history: [{created: "1970-01-01T00:00:00Z", created_by: "compose/images/build.sh"}]
  }' | tr -d '\n' > "$out/config.json"
  config=$(sha256sum "$out/config.json" | cut -d' ' -f1)
  mv "$out/config.json" "$out/$config.json"
  jq -nSc --arg config "$config.json" --arg tag "cell/$name:local" '[{Config: $config, Layers: ["layer.tar"], RepoTags: [$tag]}]' > "$out/manifest.json"
  tar -C "$out" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -cf "$archive.new" manifest.json "$config.json" layer.tar
  echo "sha256:$config" > "$archive.id.new"
  mv "$archive.id.new" "$archive.id"; mv "$archive.new" "$archive"
  rm -rf "$out"
}

build() {
  local name=$1 archive=$2 root=$work/root
  echo "==> image $name: building" >&2
  rm -rf "$root"; mkdir -p "$root"
  environment='["PATH=/usr/sbin:/usr/bin"]' entrypoint= user=
  # shellcheck source=/dev/null
  . "$here/$name/image.sh"
  fill "$root"
  # Files of ours over those of packages.
  [ ! -d "$here/$name/root" ] || cp -r --no-preserve=mode,ownership "$here/$name/root/." "$root/"
  pack "$name" "$root" "$archive"
  rm -rf "$root"
}

# note NAME ID: in the list, the rest of which stays; replaced as a whole.
note() {
  local name=$1 id=$2
  mkdir -p "$(dirname "$list")"
  { echo "# Images that root built on this machine (compose/images/build.sh). The broker takes local:NAME by this list."
    echo "[images]"
    { [ ! -s "$list" ] || grep -E '^[a-z0-9-]+ = "sha256:[0-9a-f]{64}"$' "$list" | grep -v "^$name = " || true
      echo "$name = \"$id\""; } | sort
  } > "$list.new"
  chmod 0644 "$list.new"; mv "$list.new" "$list"
}

for name in "${names[@]}"; do
  if [ -n "$from" ]; then archive=$from/$name.tar; else archive=$cache/$name-$(key "$name").tar; fi
  if [ -n "$from" ]; then
    [ -s "$archive" ] || { echo "image $name: $archive is missing" >&2; exit 1; }
  elif [ -n "$fresh" ] || [ ! -s "$archive" ]; then
    build "$name" "$archive"
    find "$cache" -maxdepth 1 -name "$name-*.tar*" ! -name "$(basename "$archive")*" -delete
  fi
  id=$(cat "$archive.id")
  if [ -z "$pack_only" ]; then
    docker load --quiet --input "$archive" >&2
    [ "$(docker image inspect --format '{{.Id}}' "$id")" = "$id" ] || {
      echo "image $name: Docker knows it by another id than its archive's; its containerd image store is on. In /etc/docker/daemon.json: \"features\": {\"containerd-snapshotter\": false}; restart Docker" >&2; exit 1; }
    # The list is of what the broker may run.
    [ "$name" = cell ] || note "$name" "$id"
  fi
  echo "$name $id $archive"
done
