#!/usr/bin/env bash
# `cloison` as the documents call it. `serve` goes on until it is told to stop: here it is, once it
# has said that it is ready; it fails if it does not say so.
set -euo pipefail
for word in "$@"; do [ "$word" = serve ] && served=yes; done
[ "${served:-}" = yes ] || exec "PROGRAM" "$@"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
CLOISON_LISTEN_PORT=0 "PROGRAM" "$@" 2> "$log" &
for ((tries = 0; tries < 300; tries++)); do
    if grep -q ready "$log"; then
        kill -INT $!
        wait $!
        exit 0
    fi
    kill -0 $! 2> /dev/null || break
    sleep 0.1
done
cat "$log" >&2
exit 1
