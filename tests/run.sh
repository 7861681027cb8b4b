#!/usr/bin/env bash
# Runs every test and closes with one line that counts them all.
#
#   tests/run.sh [arguments of cargo test]
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --locked --no-fail-fast --lib --tests "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

awk '/^test result:/ {
        for (i = 1; i < NF; i++) {
            if ($(i + 1) ~ /^passed/) passed += $i
            if ($(i + 1) ~ /^failed/) failed += $i
        }
    }
    /^test .* \.\.\. FAILED$/ { names = names "\n  " $2 }
    END {
        if (names) print "\nfailed:" names
        printf "\n%d passed, %d failed\n", passed, failed
    }' "$log"
exit "$status"
