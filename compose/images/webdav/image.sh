# Apache with mod_dav: files over WebDAV, and a page that manages them in a browser. Each account is a line of /accounts/users, which
# the container `accounts` writes, and a folder of /data.
user=20011:20011
entrypoint='["/usr/sbin/apache2","-D","FOREGROUND","-f","/etc/apache2/apache2.conf"]'
environment='["PATH=/usr/sbin","LANG=C.UTF-8"]'
fill() {
  local module modules=() types
  for module in mpm_event authn_core authn_file authz_core authz_user auth_basic alias dav dav_fs dir env headers mime setenvif; do
    modules+=("/usr/lib/apache2/modules/mod_$module.so")
  done
  debian "$1" apache2-bin media-types busybox-static
  # What keeps locks is loaded by name.
  for module in "$1"/usr/lib/*/apr-util-1/apr_dbm_db*.so; do modules+=("${module#"$1"}"); done
  types=$(cat "$1/etc/mime.types")
  keep "$1" /usr/sbin/apache2 /usr/bin/busybox "${modules[@]}"
  accounts_of "$1" 20011
  echo "$types" > "$1/etc/mime.types"
  own "$1" 20011 /data /accounts
  memory_at "$1" /run/apache
}
