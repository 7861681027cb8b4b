#!/usr/bin/env bash
# Runs every test, those of the proxy in either pool mode, and closes with one line that counts all.
#
#   tests/run.sh [arguments of cargo test]
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
took=

# Each answer that a test waits for has a limit of its own; this one is for what nobody thought of.
run() {
    local began=$SECONDS
    timeout 2700 cargo test --locked --no-fail-fast "$@" 2>&1 | tee -a "$log"
    local failed=${PIPESTATUS[0]}
    if ((failed)); then status=$failed; fi
    took+="${took:+, }$TEST_POOL_MODE $((SECONDS - began)) s"
}

TEST_POOL_MODE=session run --lib --tests "$@"
TEST_POOL_MODE=transaction run --test it "$@"

printf '\nthe tests took: %s\n' "$took"
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
