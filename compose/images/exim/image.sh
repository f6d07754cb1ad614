# Exim, run without privilege (its specification, chapter 55): takes mail from those who log in over TLS and hands it to Dovecot.
user=20012:20012
entrypoint='["/usr/bin/busybox","sh","/usr/bin/start"]'
environment='["PATH=/usr/sbin:/usr/bin"]'
fill() {
  local log
  debian "$1" exim4-daemon-light busybox-static
  keep "$1" /usr/sbin/exim4 /usr/bin/busybox
  accounts_of "$1" 20012
  # Exim was built to be this user.
  echo 'Debian-exim:x:20012:20012:Exim:/var/spool/exim4:/usr/sbin/nologin' >> "$1/etc/passwd"
  printf 'Debian-exim:x:20012:\nmail:x:8:\n' >> "$1/etc/group"
  mkdir -p "$1/var/log/exim4"
  for log in main reject panic; do ln -s /dev/stderr "$1/var/log/exim4/${log}log"; done
  own "$1" 20012 /var/spool/exim4 /accounts /tls /lmtp
}
