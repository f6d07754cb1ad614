# Roundcube by Apache: mail in a browser, for accounts of the same service. It speaks to Dovecot and Exim as a program for mail does;
# it has neither the mail nor the file of users.
user=20013:20013
entrypoint='["/usr/bin/busybox","sh","/usr/bin/start"]'
environment='["PATH=/usr/sbin:/usr/bin","LANG=C.UTF-8","PHP_INI_SCAN_DIR="]'
fill() {
  local kept=(/usr/sbin/apache2 /usr/bin/php8.2 /usr/bin/busybox) file
  local trees=(etc/mime.types etc/roundcube usr/share/{roundcube,php,javascript} usr/share/nodejs/bootstrap usr/share/{misc,zoneinfo} var/lib/roundcube)
  debian "$1" roundcube-core roundcube-sqlite3 libapache2-mod-php8.2 php8.2-cli media-types busybox-static
  for file in mpm_prefork authz_core dir env headers mime; do kept+=("/usr/lib/apache2/modules/mod_$file.so"); done
  for file in "$1"/usr/lib/apache2/modules/libphp*.so "$1"/usr/lib/php/20220829/*.so; do kept+=("${file#"$1"}"); done
  tar -C "$1" -cf "$work/trees.tar" "${trees[@]}"
  keep "$1" "${kept[@]}"
  tar -C "$1" -xf "$work/trees.tar"; rm "$work/trees.tar"
  # What is run by hand or once, and what nobody may ask for.
  rm -rf "$1"/usr/share/roundcube/{bin,installer} "$1"/usr/share/roundcube/SQL/{mssql,mysql,oracle,postgres}* "$1"/usr/share/javascript/codemirror
  accounts_of "$1" 20013
  own "$1" 20013 /data
  memory_at "$1" /run/apache
}
