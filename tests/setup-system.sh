#!/bin/sh
# Makes sure of what a machine has to have before anything is compiled or tested.
#
#   tests/setup-system.sh [build|run|test]      default: test
#
# build: Rust, a C compiler for Postgres' own grammar, libclang, which reads its headers.
# run:   a Postgres server, too.
# test:  psql and pg_dump, openssl, Python with venv, Node with npm, a JDK with pgjdbc and HikariCP, Go with
#        lib/pq and pgx, PHP with PDO, Ruby with pg and ActiveRecord, Perl with DBD::Pg, psqlODBC,
#        libpq's headers, too. Debian 12 and 13 have all of them by the same names.
#
# As root on Debian it installs what is missing; elsewhere it names all of it at once. Each check
# tries the thing itself, because a name proves little: libclang-cpp.so.14 is another library than
# libclang, and the psql of postgresql-client-common runs nothing without a second package.
set -eu
cd "$(dirname "$0")/.."

purpose=${1:-test}
case $purpose in
build | run | test) ;;
*)
    echo "usage: tests/setup-system.sh [build|run|test]" >&2
    exit 2
    ;;
esac

# Not in /tmp, which may let no program run.
mkdir -p "${CARGO_TARGET_DIR:-target}"
work=$(mktemp -d "${CARGO_TARGET_DIR:-target}/setup.XXXXXX")
work=$(cd "$work" && pwd)
running=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; exit 130' INT
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; exit 143' TERM

# What was found missing: packages of Debian, and lines for people. What no package cures is a
# matter for people alone.
packages=
by_package=
by_hand=
newline='
'

# lacks "PACKAGES" TEXT
lacks() {
    packages="$packages $1"
    by_package="$by_package$newline  $2 (Debian: $1)"
}

needs() {
    by_hand="$by_hand$newline  $1"
}

# The first line that a command has left in $work/said.
said() {
    sed -n '1s/^[^ ]*setup-system.sh: \([0-9]*: \)*//; 1p' "$work/said" | cut -c 1-160
}

# at_least WANTED FOUND, both of numbers and dots.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# number TEXT: the first version number in it.
number() {
    printf '%s\n' "$1" | sed -n '1s/^[^0-9]*\([0-9][0-9.]*\).*/\1/p'
}

check_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    how="install it with rustup (https://rustup.rs; Debian 13: apt-get install rustup), which then \
fetches the version that rust-toolchain.toml names"
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        if [ -x "${HOME:-/root}/.cargo/bin/cargo" ]; then
            needs "Rust: put ${HOME:-/root}/.cargo/bin on the PATH; cargo is there"
        else
            needs "Rust $wanted or newer, with cargo: $how"
        fi
        return
    fi
    # rustup may have to fetch the version, and says so itself.
    if ! found=$(rustc --version) || ! cargo --version >/dev/null; then
        needs "Rust $wanted or newer: rustc or cargo does not run, for the reason above"
    elif ! at_least "$wanted" "$(number "$found")"; then
        needs "Rust $wanted or newer, not $(number "$found"): $how"
    fi
}

# Compiles and links as the build does: with CC, or cc, and the linker of Rust is cc.
have_compiler=
check_compiler() {
    have_compiler=
    printf '#include <pthread.h>\n#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' \
        >"$work/try.c"
    for compiler in cc ${CC:-}; do
        if ! command -v "$compiler" >/dev/null; then
            echo "there is no $compiler" >"$work/said"
        elif "$compiler" -o "$work/try" "$work/try.c" >"$work/said" 2>&1 && "$work/try" >/dev/null; then
            continue
        fi
        lacks 'gcc libc6-dev' "a C compiler that compiles and links: $(said)"
        return
    done
    if ! command -v "${AR:-ar}" >/dev/null; then
        lacks binutils "an archiver: there is no ${AR:-ar}"
    fi
    have_compiler=yes
}

# libclangs_in FOLDER…: the files that the build takes for libclang.
libclangs_in() {
    for folder in "$@"; do
        for file in "$folder"/libclang.so "$folder"/libclang-*.so "$folder"/libclang.so.* \
            "$folder"/libclang-*.so.* "$folder"/libclang.dylib; do
            case $file in
            *-cpp.*) ;;
            *) [ ! -e "$file" ] || echo "$file" ;;
            esac
        done
    done
}

# The build takes the highest version (crate clang-sys), of equals the first.
libclangs() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        if [ -d "$LIBCLANG_PATH" ]; then
            libclangs_in "$LIBCLANG_PATH"
        else
            libclangs_in "$(dirname "$LIBCLANG_PATH")" | grep -Fx "$LIBCLANG_PATH" || true
        fi
    else
        prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null || true)
        [ -z "$prefix" ] || libclangs_in "$prefix/bin" "$prefix/lib" "$prefix/lib64"
        IFS=:
        # shellcheck disable=SC2086
        libclangs_in ${LD_LIBRARY_PATH:-} ${LIBRARY_PATH:-}
        unset IFS
        libclangs_in /usr/local/llvm*/lib* /usr/local/lib*/*/* /usr/local/lib*/* /usr/local/lib* \
            /usr/lib*/*/* /usr/lib*/* /usr/lib* /opt/homebrew/opt/llvm*/lib \
            /usr/local/opt/llvm*/lib /Library/Developer/CommandLineTools/usr/lib
    fi | awk '{
        version = $0
        sub(/.*\//, "", version)
        if (sub(/^libclang-/, "", version)) version = substr(version, 1, length(version) - 3)
        else if (!sub(/^libclang\.so\./, "", version)) version = "0"
        gsub(/so/, "0", version)
        printf "%s\t%d\t%s\n", version, NR, $0
    }' | sort -k1,1Vr -k2,2n | cut -f 3
}

check_libclang() {
    libclangs >"$work/libclangs"
    if [ ! -s "$work/libclangs" ]; then
        if [ -n "${LIBCLANG_PATH:-}" ]; then
            needs "libclang: LIBCLANG_PATH is $LIBCLANG_PATH, and there is none; correct or unset it"
        else
            lacks libclang-dev 'libclang: no libclang.so where the build looks'
        fi
        return
    fi
    # Without a compiler it cannot be tried; it is tried when there is one.
    [ -n "$have_compiler" ] || return 0
    cc -o "$work/setup-libclang" tests/setup-libclang.c -ldl
    while read -r library; do
        if "$work/setup-libclang" "$library" >"$work/said" 2>&1; then
            return
        fi
        # The build passes over those of another architecture, too.
        grep -q 'wrong ELF class' "$work/said" || break
    done <"$work/libclangs"
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        needs "libclang: LIBCLANG_PATH is $LIBCLANG_PATH, and it does not work: $(said)"
    else
        lacks libclang-dev "libclang that works: $(said)"
    fi
}

check_certificates() {
    [ -n "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}" ] && return
    [ -d /etc/ssl/certs ] && [ -n "$(ls /etc/ssl/certs)" ] && return
    [ ! -e /etc/debian_version ] || lacks ca-certificates 'certificate authorities, for cargo'
}

check_server() {
    if [ -n "${CLOISON_PG_BIN:-}" ]; then
        "$CLOISON_PG_BIN/initdb" --version >"$work/said" 2>&1 &&
            "$CLOISON_PG_BIN/postgres" --version >"$work/said" 2>&1 ||
            needs "Postgres: CLOISON_PG_BIN is $CLOISON_PG_BIN, and it holds no server: $(said)"
        return
    fi
    path=$(command -v postgres 2>/dev/null || true)
    for folder in /usr/lib/postgresql/*/bin ${path:+"$(dirname "$path")"} /usr/pgsql-*/bin \
        "$(pg_config --bindir 2>/dev/null || true)" /opt/homebrew/opt/postgresql*/bin \
        /usr/local/opt/postgresql*/bin /usr/local/pgsql*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin; do
        "$folder/initdb" --version >/dev/null 2>&1 || continue
        found=$("$folder/postgres" --version 2>/dev/null) || continue
        at_least 14 "$(number "${found#*PostgreSQL}")" && return
    done
    lacks postgresql 'a Postgres server, 14 or newer'
}

check_client() {
    for program in psql pg_dump; do
        "$program" --version >"$work/said" 2>&1 || {
            lacks postgresql-client "$program: $(said)"
            return
        }
    done
}

check_openssl() {
    openssl version >"$work/said" 2>&1 || lacks openssl "openssl: $(said)"
}

check_python() {
    if ! found=$(python3 --version 2>&1); then
        lacks python3-venv 'Python 3.10 or newer, with venv: there is no python3'
    elif ! at_least 3.10 "$(number "$found")"; then
        needs "Python 3.10 or newer as python3, not $(number "$found")"
    elif ! python3 -c 'import venv, ensurepip' >"$work/said" 2>&1; then
        lacks python3-venv "Python's venv: $(tail -n 1 "$work/said")"
    fi
}

check_node() {
    if ! found=$(node --version 2>&1); then
        lacks npm 'Node.js 18.18 or newer, with npm: there is no node that runs'
    elif ! at_least 18.18 "$(number "$found")"; then
        needs "Node.js 18.18 or newer, not $(number "$found")"
    elif ! npm --version >"$work/said" 2>&1; then
        lacks npm "npm: $(said)"
    fi
}

check_java() {
    printf 'class Try { public static void main(String[] arguments) {} }\n' >"$work/Try.java"
    if ! found=$(javac -version 2>&1) || ! java -version >"$work/said" 2>&1; then
        lacks default-jdk-headless 'a JDK, 17 or newer: there is no javac and java that run'
    elif ! at_least 17 "$(number "$found")"; then
        needs "a JDK, 17 or newer, not $(number "$found")"
    fi
    for jar in postgresql:libpostgresql-jdbc-java HikariCP:libhikaricp-java \
        slf4j-api:libslf4j-java slf4j-nop:libslf4j-java; do
        file=/usr/share/java/${jar%%:*}.jar
        [ -s "$file" ] || lacks "${jar#*:}" "$file"
    done
}

check_go() {
    go version >"$work/said" 2>&1 || lacks golang-go "Go: $(said)"
    for source in lib/pq:golang-github-lib-pq-dev jackc/pgx/v4:golang-github-jackc-pgx-v4-dev; do
        folder=/usr/share/gocode/src/github.com/${source%%:*}
        [ -d "$folder" ] || lacks "${source#*:}" "$folder, for Go"
    done
}

# runs "PACKAGES" WHAT COMMAND…: the command tries it.
runs() {
    wanted=$1 what=$2
    shift 2
    "$@" >"$work/said" 2>&1 || lacks "$wanted" "$what: $(said)"
}

check_scripting() {
    runs 'php-cli php-pgsql' "PHP with PDO" php -r 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);'
    runs 'ruby ruby-pg ruby-activerecord' 'Ruby with pg and ActiveRecord' \
        ruby -e 'require "pg"; require "active_record"'
    runs libdbd-pg-perl "Perl's DBD::Pg" perl -e 'use DBD::Pg;'
}

check_odbc() {
    for file in /usr/lib/*/odbc/psqlodbcw.so; do
        [ ! -e "$file" ] || return 0
    done
    lacks odbc-postgresql 'psqlODBC: no psqlodbcw.so in /usr/lib/*/odbc'
}

check_libpq() {
    if [ -z "$have_compiler" ]; then
        # It cannot be tried; it is tried when there is one.
        command -v pg_config >/dev/null || lacks libpq-dev "libpq's headers: there is no pg_config"
        return
    fi
    printf '#include <libpq-fe.h>\nint main(void) { return !PQlibVersion(); }\n' >"$work/libpq.c"
    cc -o "$work/libpq" -I "$(pg_config --includedir 2>/dev/null)" "$work/libpq.c" \
        -L "$(pg_config --libdir 2>/dev/null)" -lpq >"$work/said" 2>&1 && "$work/libpq" ||
        lacks libpq-dev "libpq's headers: $(said)"
}

check() {
    packages='' by_package='' by_hand=''
    check_rust
    check_compiler
    check_libclang
    check_certificates
    if [ "$purpose" != build ]; then
        check_server
    fi
    if [ "$purpose" = test ]; then
        check_client
        check_openssl
        check_python
        check_node
        check_java
        check_go
        check_scripting
        check_odbc
        check_libpq
    fi
    # Each package once.
    packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
    packages=${packages% }
}

# Runs a command that says much: a line of it every ten seconds, and all of it when it fails.
quietly() {
    echo "==> $*" >&2
    "$@" >"$work/log" 2>&1 </dev/null &
    running=$!
    seconds=0
    while kill -0 "$running" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        [ $((seconds % 10)) != 0 ] ||
            echo "    $seconds s: $(tail -n 1 "$work/log" | cut -c 1-70)" >&2
    done
    if ! wait "$running"; then
        running=
        cat "$work/log" >&2
        return 1
    fi
    running=
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    case " $packages " in
    *' postgresql '*)
        # Cloison and its tests start clusters of their own; Debian's would only stand by.
        mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/cloison.conf
        ;;
    esac
    quietly apt-get update
    # shellcheck disable=SC2086
    quietly apt-get install -y --no-install-recommends $packages
}

# report HEADING
report() {
    echo "$1$by_hand$by_package" >&2
}

check
[ -n "$by_hand$packages" ] || exit 0

if [ -n "$by_hand" ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    report 'cloison: this machine lacks'
    if [ -n "$packages" ] && command -v apt-get >/dev/null; then
        echo "Debian's packages in one go:" >&2
        echo "  sudo apt-get update && sudo apt-get install --no-install-recommends $packages" >&2
    fi
    exit 1
fi
report 'cloison: this machine lacks, and as root on Debian it gets now:'
install
check
if [ -n "$by_hand$packages" ]; then
    report "cloison: Debian's packages are installed, and this machine still lacks"
    exit 1
fi
