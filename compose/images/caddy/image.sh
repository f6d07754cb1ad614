# Caddy: one static program. It starts without a configuration and takes one through its admin socket. The authorities of the
# web are there for ACME.
user=20002:20002
entrypoint='["/usr/bin/caddy","run"]'
environment='["PATH=/usr/bin","HOME=/data","XDG_DATA_HOME=/data","XDG_CONFIG_HOME=/data","CADDY_ADMIN=unix//run/cell/caddy/admin.sock|0660"]'
fill() {
  mkdir -p "$1/usr/bin" "$1/run/cell/caddy"
  accounts_of "$1" 20002
  own "$1" 20002 /data
  certificates "$1"
  go_program "$here/caddy" "$1/usr/bin/caddy" -tags nobadger,nomysql,nopgx
}
