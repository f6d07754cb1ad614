# CoreDNS: one static program. Its configuration is a folder of cell-api's, mounted read-only at /etc/coredns.
user=20003:20003
entrypoint='["/usr/bin/coredns","-conf","/etc/coredns/Corefile"]'
fill() {
  mkdir -p "$1/usr/bin" "$1/etc/coredns"
  accounts_of "$1" 20003
  go_program "$here/coredns" "$1/usr/bin/coredns"
}
