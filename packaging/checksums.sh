#!/bin/sh
# Writes SHA256SUMS for what is in a folder: `sha256sum -c SHA256SUMS` checks it there.
set -eu
cd "${1:?a folder}"

sums=$(find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum --)
echo "$sums" >SHA256SUMS
