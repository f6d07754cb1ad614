# Radicale: calendars and contacts. Each account is a line of /accounts/users, which the container `accounts` writes.
user=20010:20010
entrypoint='["/usr/bin/python3","-I","-B","-m","radicale","--config","/etc/radicale/config"]'
environment='["PATH=/usr/bin","HOME=/data","PYTHONDONTWRITEBYTECODE=1"]'
fill() {
  debian "$1" python3-radicale python3-bcrypt python3-passlib
  accounts_of "$1" 20010
  own "$1" 20010 /data /accounts
  # With a root that cannot be written to, what is not compiled now never is; by content, so that the same files give the
  # same image.
  chroot "$1" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.11 2>/dev/null || true
  rm -rf "$1"/usr/lib/python3.11/{test,idlelib,lib2to3,tkinter,pydoc_data} "$1"/usr/share/{python3,perl5,pixmaps,applications}
}
