#!/bin/sh
# Makes sure of what the tests need from the system: a Postgres server with psql and pg_dump,
# Python with venv, npm, and a JDK with pgjdbc. Installs Debian's packages where it may; elsewhere
# says what is missing.
set -eu

missing=
have_postgres() {
    for bin in /usr/lib/postgresql/*/bin "$(pg_config --bindir 2>/dev/null || true)"; do
        [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] && return 0
    done
    command -v postgres >/dev/null
}
have_postgres && command -v psql >/dev/null && command -v pg_dump >/dev/null ||
    missing="$missing postgresql"
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
command -v npm >/dev/null || missing="$missing npm"
command -v javac >/dev/null || missing="$missing default-jdk-headless"
[ -e /usr/share/java/postgresql.jar ] || missing="$missing libpostgresql-jdbc-java"
[ -e /usr/share/java/HikariCP.jar ] || missing="$missing libhikaricp-java"
command -v cc >/dev/null || missing="$missing gcc"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    # The tests start clusters of their own; Debian's would only stand by.
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/cloison.conf
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq $missing >/dev/null
else
    echo "the tests need these packages (Debian's names):$missing" >&2
    exit 1
fi
