#!/bin/sh
# Makes a tarball from a built program, and prints its name. The same tree and program make the same
# bytes.
#
#   packaging/dist.sh BINARY FOLDER     the tarball goes to FOLDER
set -eu

binary=${1:?the built program}
folder=${2:?a folder for the tarball}
here=$(cd "$(dirname "$0")" && pwd)
epoch=$("$here/version.sh" epoch)
target=$(rustc -vV | sed -n 's/^host: //p')
name=cloison-$("$here/version.sh" version)-$target
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
mkdir -p "$folder" "$stage/$name"

ROOT=$stage/$name PREFIX=/usr/local "$here/install.sh" "$binary"
strip --strip-unneeded "$stage/$name/bin/cloison"
# These are looked for at the top.
for document in README.md LICENSE; do
    mv "$stage/$name/share/doc/cloison/$document" "$stage/$name/$document"
done

tar --directory "$stage" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
    --format=gnu --mode=u+rwX,go+rX,go-w --create "$name" | gzip -9n >"$folder/$name.tar.gz"
echo "$folder/$name.tar.gz"
