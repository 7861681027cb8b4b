#!/bin/sh
# Puts a built program and what belongs to it below $DESTDIR$PREFIX. `make install`, `make deb` and
# `make dist` all go through here.
#
#   packaging/install.sh BINARY
#
# PREFIX (/usr/local) is where the files will be used, and ROOT ($DESTDIR$PREFIX) where they are put.
set -eu

binary=${1:?the built program}
prefix=${PREFIX:-/usr/local}
root=${ROOT:-${DESTDIR:-}$prefix}
here=$(cd "$(dirname "$0")" && pwd)
tree=$(dirname "$here")
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT
umask 022

file() { # SOURCE TARGET [MODE]
    install -D -m "${3:-644}" "$1" "$root/$2"
}

"$binary" generate "$generated"
file "$binary" bin/cloison 755
for page in "$generated"/man/*.1; do
    file "$page" "share/man/man1/$(basename "$page")"
done
file "$generated/completions/cloison.bash" share/bash-completion/completions/cloison
file "$generated/completions/_cloison" "${ZSH_DIR:-share/zsh/site-functions}/_cloison"
file "$generated/completions/cloison.fish" share/fish/vendor_completions.d/cloison.fish
for example in example.toml minimal.toml; do
    file "$tree/config/$example" "share/doc/cloison/examples/$example"
done
for document in README.md SECURITY.md CHANGELOG.md LICENSE; do
    file "$tree/$document" "share/doc/cloison/$document"
done
# Where the README's links lead.
for document in "$tree"/docs/*.md; do
    file "$document" "share/doc/cloison/docs/$(basename "$document")"
done
file "$here/sysusers.conf" lib/sysusers.d/cloison.conf
file "$here/cloison.service" lib/systemd/system/cloison.service
# The program may be elsewhere than in /usr.
sed -i "s|/usr/bin/cloison|$prefix/bin/cloison|" "$root/lib/systemd/system/cloison.service"
