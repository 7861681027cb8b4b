#!/bin/sh
# Writes what the program is made of, as CycloneDX in JSON, and prints the file's name.
#
#   packaging/sbom.sh FOLDER            needs cargo-cyclonedx
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?a folder for the bill of materials}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
name=cloison-$("$here/version.sh" version)
cd "$here/.."

# It writes beside Cargo.toml.
trap 'rm -f "$name.json"' EXIT
SOURCE_DATE_EPOCH=$("$here/version.sh" epoch) cargo cyclonedx --quiet --format json \
    --spec-version 1.5 --target "$(rustc -vV | sed -n 's/^host: //p')" --override-filename "$name"
mv "$name.json" "$folder/$name.cdx.json"
echo "$folder/$name.cdx.json"
