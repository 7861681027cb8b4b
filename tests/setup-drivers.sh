#!/usr/bin/env bash
# Installs the drivers that tests/drivers/ tests with, at the versions pinned there.
# A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/drivers"

need() {
    command -v "$1" > /dev/null && return
    echo "$1 is missing: $2" >&2
    exit 1
}
need python3 'install Python 3.10 or newer, with venv (Debian: python3-venv)'
need npm 'install Node.js 20 or newer, with npm (Debian: nodejs npm)'
need psql 'install the client of Postgres (Debian: postgresql-client)'
need javac 'install a JDK 17 or newer (Debian: default-jdk-headless)'
if [ ! -e /usr/share/java/postgresql.jar ]; then
    echo '/usr/share/java/postgresql.jar is missing: install pgjdbc there (Debian: libpostgresql-jdbc-java)' >&2
    exit 1
fi
if [ ! -e /usr/share/java/HikariCP.jar ]; then
    echo '/usr/share/java/HikariCP.jar is missing: install HikariCP and SLF4J there (Debian: libhikaricp-java)' >&2
    exit 1
fi

# A stamp holds what was installed: written last, so that half an installation is done again.
if ! cmp -s requirements.txt .venv/requirements.txt; then
    python3 -m venv --clear .venv
    .venv/bin/python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --requirement requirements.txt
    cp requirements.txt .venv/requirements.txt
fi
if ! cmp -s package-lock.json node_modules/installed-lock.json; then
    npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
    cp package-lock.json node_modules/installed-lock.json
fi
