# The interface for accounts (compose/accounts): one static program for all services of the catalog. Which user it runs as, and
# which file it writes, stands in each service's manifest.
user=20001:20001
entrypoint='["/usr/bin/cell-accounts","serve"]'
fill() {
  local triple program=/usr/lib/cell/cell-accounts
  accounts_of "$1" 20001
  if [ -f "$here/../accounts/Cargo.toml" ]; then
    triple=$(uname -m)-unknown-linux-gnu
    (cd "$here/../.." && RUSTFLAGS='-C target-feature=+crt-static' CARGO_INCREMENTAL=0 \
      cargo build --quiet --release --locked -p cell-accounts --target "$triple")
    program=$here/../../target/$triple/release/cell-accounts
  fi
  if readelf --dynamic "$program" | grep -q NEEDED; then
    echo "$program is not static: its image would lack the libraries" >&2; exit 1
  fi
  install -D -m 0755 "$program" "$1/usr/bin/cell-accounts"
  strip "$1/usr/bin/cell-accounts"
  # No folders for volumes: a new volume takes owner and mode from the image of the service that mounts it too.
}
