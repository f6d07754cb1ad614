#!/bin/bash
# Two address books on a device, kept the same by CardDAV with the published program vdirsyncer: a contact is written in one and, by the
# server, found in the other; changed there, and found changed in the first. Prints both names that were found.
# Usage: contacts.sh URL USER PASSWORD AUTHORITY   with a HOME of its own
set -euo pipefail
url=$1 user=$2 password=$3 authority=$4
book=$HOME/contacts
rm -rf "$book"; mkdir -p "$book"/{one,other}/people
{
  printf '[general]\nstatus_path = "%s/status"\n' "$book"
  for side in one other; do
    printf '[pair %s]\na = "%s_here"\nb = "there"\ncollections = ["people"]\nconflict_resolution = "b wins"\n' $side $side
    printf '[storage %s_here]\ntype = "filesystem"\npath = "%s/%s"\nfileext = ".vcf"\n' $side "$book" $side
  done
  printf '[storage there]\ntype = "carddav"\nurl = "%s"\nusername = "%s"\npassword = "%s"\nverify = "%s"\n' "$url" "$user" "$password" "$authority"
} > "$book/config"
sync() { vdirsyncer --config "$book/config" sync "$1" > "$book/said" 2>&1 || { cat "$book/said" >&2; exit 1; }; }
name() { cat "$book/$1"/people/*.vcf | tr -d '\r' | sed -n 's/^FN://p'; }

printf '%s\r\n' BEGIN:VCARD VERSION:3.0 UID:c1 FN:Carol N:Carol\;\;\;\; TEL:+15550100 END:VCARD > "$book/one/people/c1.vcf"
# It asks before it makes the collection at the server.
printf 'y\ny\n' | vdirsyncer --config "$book/config" discover > "$book/said" 2>&1 || { cat "$book/said" >&2; exit 1; }
sync one
sync other
first=$(name other)
sed -i 's/^FN:Carol/FN:Carol of the choir/' "$book"/other/people/*.vcf
sync other
sync one
echo "$first, $(name one)"
