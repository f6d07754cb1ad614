# Dovecot without root: keeps mail, takes it by LMTP, gives it by IMAP over TLS.
user=20012:20012
entrypoint='["/usr/bin/busybox","sh","/usr/bin/start"]'
environment='["PATH=/usr/sbin:/usr/bin"]'
fill() {
  debian "$1" dovecot-core dovecot-imapd dovecot-lmtpd busybox-static
  local kept=(/usr/sbin/dovecot /usr/bin/doveconf /usr/bin/doveadm /usr/bin/busybox /usr/lib/dovecot/modules/libssl_iostream_openssl.so) file
  # Its master looks for all that it could start.
  for file in "$1"/usr/lib/dovecot/*; do
    if [ -f "$file" ] && [ -x "$file" ] && readelf -h "$file" > /dev/null 2>&1; then kept+=("${file#"$1"}"); fi
  done
  keep "$1" "${kept[@]}"
  accounts_of "$1" 20012
  own "$1" 20012 /mail /accounts /tls /lmtp
  memory_at "$1" /run/dovecot
}
