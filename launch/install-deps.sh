#!/bin/bash
# Installs the Debian packages that `make run` and `make test` need and that are missing; says which. Safe to run again.
# Usage: install-deps.sh [run|test]   (default: test, which includes run)
set -euo pipefail

# Running: users (systemd-sysusers), namespaces, rules as seen by people, WireGuard's own tools.
run=(systemd iproute2 nftables wireguard-tools util-linux ca-certificates)
# Building: a C compiler for SQLite and ring, pkg-config for what looks for libraries.
build=(gcc libc6-dev pkg-config make)
# Testing: stock clients (wg, wireguard-go, iptables to measure against, Docker), Debian root file systems and disks, a browser, the
# servers of exits (OpenSSH, a SOCKS and an HTTP proxy), Tor, OpenVPN, redsocks to measure against, and clients of services.
test=(wireguard-go iptables ipset curl procps iputils-ping jq python3 python3-venv python3-flask
      mmdebstrap e2fsprogs binutils docker.io docker-compose busybox-static openssl zbar-tools iperf3 ethtool chromium libnss3-tools
      fonts-dejavu-core openssh-server openssh-client conntrack microsocks tinyproxy-bin tor openvpn redsocks
      bind9-dnsutils python3-caldav python3-requests rclone litmus davfs2 vdirsyncer)

what=${1:-test}
case $what in
  run) wanted=("${run[@]}" "${build[@]}") ;;
  test) wanted=("${run[@]}" "${build[@]}" "${test[@]}") ;;
  *) echo "usage: $0 [run|test]" >&2; exit 2 ;;
esac

# CoreDNS and Caddy are built from their modules, which need a newer Go than Debian 12 has.
if [ "$what" = test ] && ! command -v go >/dev/null; then
  echo "the tests build CoreDNS and Caddy: install Go 1.26 or newer, then this again" >&2
  exit 1
fi

missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || { echo "==> packages: nothing is missing"; exit 0; }
[ "$(id -u)" = 0 ] || { echo "run this as root: apt-get install ${missing[*]}" >&2; exit 1; }

echo "==> packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# No service is started by being installed: a trial must leave the machine as it was (invoke-rc.d, policy-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" |
  awk '/^(Unpacking|Setting up)/ { print "    " $0; fflush() }'
