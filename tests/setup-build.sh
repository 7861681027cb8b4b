#!/bin/sh
# Makes sure of what the build needs from the system besides Rust: a C compiler for Postgres' own
# grammar, and libclang, which reads its headers. Installs Debian's packages where it may;
# elsewhere says what is missing.
set -eu

missing=
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    command -v llvm-config >/dev/null && ls "$(llvm-config --libdir)"/libclang*.so* >/dev/null 2>&1 && return 0
    for lib in /usr/lib/llvm-*/lib /usr/lib /usr/lib64 /usr/lib/*-linux-gnu /usr/local/lib \
        /opt/homebrew/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        for file in "$lib"/libclang.so* "$lib"/libclang-[0-9]*.so* "$lib"/libclang.dylib; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}
have_libclang || missing="$missing libclang-dev"
command -v cc >/dev/null || missing="$missing gcc"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "the build needs these packages (Debian's names):$missing" >&2
    exit 1
fi
