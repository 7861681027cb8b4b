#!/usr/bin/env bash
# Installs the drivers that tests/drivers/ tests with, at the versions pinned there.
# A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/drivers"

# A stamp holds what was installed: written last, so that half an installation is done again. An
# environment whose Python is gone, or is another one now, does not run.
have_python() {
    cmp -s requirements.txt .venv/requirements.txt && .venv/bin/python3 -c 'import psycopg' 2> /dev/null
}
have_node() {
    cmp -s package-lock.json node_modules/installed-lock.json
}
have_python && have_node && exit
../setup-system.sh test

if ! have_python; then
    echo '==> Python drivers for the tests, from PyPI' >&2
    python3 -m venv --clear .venv
    .venv/bin/python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --requirement requirements.txt
    cp requirements.txt .venv/requirements.txt
fi
if ! have_node; then
    echo '==> Node.js drivers for the tests, from npm' >&2
    npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
    cp package-lock.json node_modules/installed-lock.json
fi
