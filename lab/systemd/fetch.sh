#!/bin/bash
# Downloads Debian packages without installing them. Usage: fetch.sh DIR PACKAGE...
set -euo pipefail
cd "$1"; shift
fetch() { apt-get download -qq -o APT::Sandbox::User=root "$@"; }
# A machine on which nothing was missing has not asked for the archive's lists yet, or has old ones.
fetch "$@" 2>/dev/null || { apt-get update -qq; fetch "$@"; }
