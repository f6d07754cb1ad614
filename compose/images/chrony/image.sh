# chronyd, which may not set the clock (-x) and need not be root for it (-U): it tells what the machine's clock says.
user=20004:20004
entrypoint='["/usr/sbin/chronyd","-d","-x","-U","-u","cell","-f","/etc/chrony/chrony.conf"]'
fill() {
  debian "$1" chrony
  keep "$1" /usr/sbin/chronyd /usr/bin/chronyc
  accounts_of "$1" 20004
  memory_at "$1" /run/chrony
}
