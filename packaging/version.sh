#!/bin/sh
# Prints `version` (that of Cargo.toml) or `epoch` (the time of the last commit, for archives that
# come out the same from the same tree).
set -eu
cd "$(dirname "$0")/.."

case ${1:?version or epoch} in
version) sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1 ;;
epoch)
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
    else
        git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md
    fi
    ;;
esac
