#!/bin/sh
# Makes Debian's package from a built program, and prints its name.
#
#   packaging/deb.sh BINARY FOLDER     the package goes to FOLDER
#
# With dpkg-deb, which every Debian has, and the compiler's binutils: the list of libraries below is
# checked, so a program that needs another one makes no package.
set -eu

binary=${1:?the built program}
folder=${2:?a folder for the package}
here=$(cd "$(dirname "$0")" && pwd)
version=$("$here/version.sh" version)
epoch=$("$here/version.sh" epoch)
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
mkdir -p "$folder"

# What the program is linked with, and from which version of the C library its symbols are.
for library in $(readelf -d "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    case $library in
    libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | ld-linux-*) ;;
    libgcc_s.so.1) gcc_s=', libgcc-s1 (>= 4.2)' ;;
    *)
        echo "$binary needs $library, and packaging/deb.sh knows no package for it" >&2
        exit 1
        ;;
    esac
done
glibc=$(readelf -V "$binary" | grep -o 'GLIBC_2\.[0-9.]*' | sort -uV | tail -n 1)
depends="libc6 (>= ${glibc#GLIBC_})${gcc_s:-}"

root=$stage/root
mkdir "$root"
chmod 755 "$root"
DESTDIR=$root PREFIX=/usr ZSH_DIR=share/zsh/vendor-completions "$here/install.sh" "$binary"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/cloison"
gzip -9n "$root"/usr/share/man/man1/*.1
# Debian makes the user by the package's own script, and has licences in its own place.
rm -r "$root/usr/lib/sysusers.d" "$root/usr/share/doc/cloison/LICENSE"
date=$(LC_ALL=C date --utc --date="@$epoch" '+%a, %d %b %Y %H:%M:%S +0000')
sed -e "s|@VERSION@|$version|; s|@DATE@|$date|" "$here/deb/changelog" \
    >"$root/usr/share/doc/cloison/changelog"
gzip -9n "$root/usr/share/doc/cloison/CHANGELOG.md" "$root/usr/share/doc/cloison/changelog"
install -m 644 "$here/deb/copyright" "$root/usr/share/doc/cloison/copyright"
install -D -m 644 "$here/deb/lintian-overrides" "$root/usr/share/lintian/overrides/cloison"
install -D -m 640 "$here/cloison.toml" "$root/etc/cloison/cloison.toml"

mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "$here/deb/$script" "$root/DEBIAN/$script"
done
echo /etc/cloison/cloison.toml >"$root/DEBIAN/conffiles"
chmod 644 "$root/DEBIAN/conffiles"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
size=$(du -k -s --apparent-size "$root" | cut -f 1)
sed -e "s|@VERSION@|$version|; s|@ARCHITECTURE@|$architecture|; s|@DEPENDS@|$depends|" \
    -e "s|@SIZE@|$size|" "$here/deb/control" >"$root/DEBIAN/control"

find "$root" -exec touch --no-dereference --date="@$epoch" {} +
package=$folder/cloison_${version}_$architecture.deb
SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$package" >/dev/null
echo "$package"
