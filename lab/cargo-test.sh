#!/bin/bash
# What `cargo test` runs, two programs at a time: most of them wait for kernels and daemons most of the time.
# What a program printed is shown when it failed. Usage: cargo-test.sh [argument of cargo test]...
# With CELL_TEST_PACKAGE=FOLDER only programs of that package; `-p` would build what it stands on anew, with other features.
# With CELL_TEST_UNSTEADY=N up to N programs that failed are run once more, alone, and counted by name where they pass then:
# one unlucky moment of a machine does not hide what else a run shows. Without, the first failure is the last word, and so it
# always is but for what $MAY_TWICE names: tests of answers, of people's tools, and of whole cells with all their programs. Never of where
# packets go, of lockouts, of sandboxes, of keys, of the broker, nor what draws other cases each time.
set -euo pipefail
cd "$(dirname "$0")/.."
export ROOT=$PWD PROGRAMS
PROGRAMS=$(mktemp); trap 'rm -f "$PROGRAMS"*' EXIT

cargo test --locked "$@" --no-run --message-format=json-render-diagnostics |
  jq -r --arg package "${CELL_TEST_PACKAGE:+$ROOT/$CELL_TEST_PACKAGE/Cargo.toml}" \
    'select(.reason == "compiler-artifact" and .profile.test and .executable and ($package == "" or .manifest_path == $package)) | [.executable, .manifest_path] | @tsv' > "$PROGRAMS"
[ -s "$PROGRAMS" ] || { echo "cargo-test: there is nothing to run" >&2; exit 1; }

# As cargo would: in the package's folder, with the variable that programs of tests read (The Cargo Book, "Environment variables").
one() {
  local program=$1 package name output passed started=$SECONDS code=0
  package=$(dirname "$2") output=$(mktemp)
  name=${package#"$ROOT"/}/$(basename "${program%-*}")
  (cd "$package" && CARGO_MANIFEST_DIR=$package "$program" > "$output" 2>&1) || code=$?
  passed=$(grep -oE '[0-9]+ passed' "$output" | tail -1 || true)
  { flock 9
    if [ $code = 0 ]; then printf 'ok      %4d s  %s: %s\n' $((SECONDS - started)) "$name" "$passed"
    else
      printf 'FAILED  %4d s  %s: exit %d\n' $((SECONDS - started)) "$name" $code; sed 's/^/    /' "$output"
      printf '%s\t%s\t%s\n' "$program" "$2" "$name" >> "$PROGRAMS.failed"
      # What it died of, for the end of what a run prints: often nobody sees more of it.
      { echo "$name"; grep -m 3 -A 2 -E 'panicked at|^Error' "$output" | cut -c 1-300 | sed 's/^/    /' || true; } >> "$PROGRAMS.why"
    fi
  } 9< "$PROGRAMS"
  rm -f "$output"
  return $code
}
export -f one
# Those that take minutes first, so that the last one has company.
longest='/(images|guards|policy|lockout|first_version_crash|store)-[0-9a-f]*$'
{ cut -f1,2 "$PROGRAMS" | awk -F'\t' -v long="$longest" '$1 ~ long'; awk -F'\t' -v long="$longest" '$1 !~ long' "$PROGRAMS"; } > "$PROGRAMS.ordered"
mv "$PROGRAMS.ordered" "$PROGRAMS"
# xargs ends with 123 when one of them failed, after it ran the others.
code=0; tr '\t' '\n' < "$PROGRAMS" | xargs --max-procs 2 --max-args 2 --delimiter '\n' bash -c 'one "$0" "$1"' || code=$?
failed=0; [ $code = 0 ] || failed=$(wc -l < "$PROGRAMS.failed")
# xargs was broken off: some programs never ran.
[ $code = 0 ] || [ $code = 123 ] || { echo "cargo-test: the tests were not all run (xargs: $code)" >&2; exit 1; }
MAY_TWICE='^((api-server|api-server/core|cellctl|compose/accounts|manifest)/[a-z0-9_]*|egress/(authority|catalogs|connect|limits|many|probes|shortage|stuck)|lab/(lab|catalog[a-z_]*|dependencies|first_version[a-z_]*|images|service_addresses))$'
if [ "$failed" -gt "${CELL_TEST_UNSTEADY:-0}" ] ||
  { [ "$failed" != 0 ] && may="$MAY_TWICE" awk -F'\t' '$3 !~ ENVIRON["may"] || $3 ~ "/guards$" { once = 1 } END { exit !once }' "$PROGRAMS.failed"; }; then
  { echo "cargo-test: $failed programs of tests failed; their output is above, and this is where they began to:"
    head -c 12000 "$PROGRAMS.why"; df -h . /tmp | tail -2; free -m | head -2; } >&2
  echo "cargo-test: $failed programs of tests failed: $(cut -f3 "$PROGRAMS.failed" | tr '\n' ' ')" >&2; exit 1
fi
if [ "$failed" != 0 ]; then
  mv "$PROGRAMS.failed" "$PROGRAMS.again"
  while IFS=$'\t' read -r program manifest name <&3; do
    one "$program" "$manifest" || { echo "cargo-test: $name failed twice; its output is above" >&2; exit 1; }
    echo "UNSTEADY        $name: failed once (above), passed alone"
  done 3< "$PROGRAMS.again"
fi
echo "cargo-test: $(wc -l < "$PROGRAMS") programs of tests passed, $failed of them at the second time"
