#!/usr/bin/env bash
# Proves the two commands and the package on a machine that has nothing: a minimal Debian, made for
# this run in a folder of its own, with Rust and make and no more.
#
#   tests/bare.sh [PASS…]      default: bookworm
#
#   bookworm   Debian 12: `make run` as root until psql has read a tenant's rows with a printed URL;
#              then the package, installed and started, until psql has read a row through it
#   trixie     the same on Debian 13
#   user       Debian 12, as an ordinary user: `make test` and `make run` name every package that is
#              missing, before anything is compiled; with these, `make run` works
#   llvm       Debian 12 with llvm-dev: llvm-config and libclang-cpp are there, libclang is not
#
# BARE names the passes, too. What is committed is tried, not what lies about. The package holds the
# program that `make run` has built; with BARE_RELEASE=1 it is built as for a release. BARE_DIR says
# where the folder goes (/var/tmp), and with BARE_KEEP=1 it stays.
#
# All of it runs in mount and process namespaces of its own: when the script ends, however it ends,
# the kernel ends what runs there and unmounts what is mounted, and only then is the folder removed.
set -euo pipefail

tree=$(cd "$(dirname "$0")/.." && pwd)
limit=${BARE_LIMIT:-2400}

fail() {
    printf 'bare: %s\n' "$*" >&2
    exit 1
}

# Outside: makes the folder, enters the namespaces, removes the folder.

enter() {
    [ "$(id -u)" = 0 ] || fail "run this as root: it makes a Debian in a folder and changes into it"
    if ! command -v mmdebstrap > /dev/null && ! command -v debootstrap > /dev/null; then
        echo 'bare: installing mmdebstrap' >&2
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends mmdebstrap > /dev/null ||
            fail "mmdebstrap and debootstrap are missing, and mmdebstrap could not be installed"
    fi
    local parent=${BARE_DIR:-/var/tmp} pass
    # What a run has left that was killed outright.
    for folder in "$parent"/cloison-bare.*/; do
        [ -s "$folder/pid" ] && ! kill -0 "$(cat "$folder/pid")" 2> /dev/null || continue
        remove "${folder%/}"
    done
    folder=$(mktemp -d "$parent/cloison-bare.XXXXXX")
    echo $$ > "$folder/pid"
    # Signals that reach this script have to end what runs inside; the folder goes after that.
    trap 'leave' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for pass in "$@"; do
        case $pass in
        bookworm | trixie | user | llvm) ;;
        *) fail "there is no pass $pass: bookworm, trixie, user, llvm" ;;
        esac
        mkdir "$folder/$pass"
        setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child=KILL \
            "$0" --inside "$pass" "$folder/$pass" < /dev/null &
        inside=$!
        wait "$inside" || fail "the pass $pass failed"
        inside=
        [ -n "${BARE_KEEP:-}" ] || remove "$folder/$pass"
    done
}

leave() {
    local status=$?
    trap - EXIT
    if [ -n "${inside:-}" ]; then
        kill -KILL "$inside" 2> /dev/null || true
        wait "$inside" 2> /dev/null || true
    fi
    if [ -z "${BARE_KEEP:-}" ]; then remove "$folder"; else
        rm -f "$folder/pid"
        echo "bare: kept $folder" >&2
    fi
    exit "$status"
}

# Never through a mount, even if one were left.
remove() {
    if findmnt --list --noheadings --output TARGET | grep -qF "$1/"; then
        fail "something is mounted below $1, so it is not removed"
    fi
    rm -rf --one-file-system "$1"
}

# Inside: the first process of the namespaces.

say() {
    printf '%5d s  %s\n' "$((SECONDS))" "$*"
}

# CPU seconds, in hundredths, of everything that has run in this process namespace.
cpu() {
    # Whatever has ended was waited for by its parent, in the end by the first process: this one.
    cat /proc/[0-9]*/stat 2> /dev/null |
        sed 's/.*) //' | awk '{ sum += $12 + $13 + $14 + $15 } END { printf "%d", sum }'
}

# part NAME: closes one part of the report, and begins the next.
part() {
    local now=$SECONDS all used line
    all=$(cpu)
    used=$((all - part_cpu))
    line=$(printf '%-44s %6d s %6d.%02d CPU min' "$1" $((now - part_began)) \
        $((used / 6000)) $((used % 6000 / 60)))
    say "took: $line"
    report+=$line$'\n'
    part_began=$now
    part_cpu=$all
}

# within USER COMMAND [ARGUMENT…]: in the new Debian, with the settings of this machine's registries.
within() {
    local user=$1 home=/root
    shift
    [ "$user" = root ] || home=/home/$user
    chroot --userspec="$user" "$root" /usr/bin/env -i "${settings[@]}" \
        HOME="$home" USER="$user" LANG=C.UTF-8 CARGO_HOME=/srv/cargo \
        PATH=/srv/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# follow PID LOG TEXT COMMAND…: until the command succeeds; the process must not end before.
follow() {
    local pid=$1 log=$2 text=$3 began=$SECONDS told=$SECONDS
    shift 3
    until "$@"; do
        kill -0 "$pid" 2> /dev/null || {
            sleep 1
            "$@" && return
            tail -n 60 "$log" >&2
            fail "$text: the command ended before"
        }
        ((SECONDS - began < limit)) || {
            tail -n 60 "$log" >&2
            fail "$text: not within $limit s"
        }
        if ((SECONDS - told >= 20)); then
            told=$SECONDS
            say "  waiting for $text: $(tail -n 1 "$log" | tr -cd '[:print:]' | cut -c 1-80)"
        fi
        sleep 0.5
    done
}

make_root() {
    local suite=$1
    # How this machine reaches Debian's packages; the mirror is Debian's own.
    apt-config dump | grep -E '^Acquire::(Check|http|https|ftp|Retries|ForceIPv|Languages)' \
        > "$work/99host" || true
    say "making a minimal Debian ($suite)"
    if command -v mmdebstrap > /dev/null; then
        mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates,make \
            --aptopt="$work/99host" "$suite" "$root" > "$work/debian.log" 2>&1
    else
        debootstrap --variant=minbase --include=ca-certificates,make "$suite" "$root" \
            > "$work/debian.log" 2>&1
    fi || {
        tail -n 30 "$work/debian.log" >&2
        fail "the minimal Debian could not be made"
    }
    cp "$work/99host" "$root/etc/apt/apt.conf.d/99host"
    # It lives for minutes: dpkg need not wait for the disk.
    echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
    cp --dereference /etc/resolv.conf /etc/hosts "$root/etc/"
    # A cluster or a service that a package would start has no place in a folder.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"

    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --bind "$(rustc --print sysroot)" "$(mkdir -p "$root/srv/rust" && echo "$root/srv/rust")"
    mount -o remount,bind,ro "$root/srv/rust"
}

# The registries as this machine is set up for them, and what it has fetched from them.
set_up_registries() {
    local cargo=${CARGO_HOME:-$HOME/.cargo} name file
    if ls /usr/local/share/ca-certificates/*.crt > /dev/null 2>&1; then
        cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
        within root update-ca-certificates > "$work/certificates.log" 2>&1
    fi
    mkdir -p "$root/srv/cargo/registry"
    for name in config.toml config registry/index registry/cache; do
        [ ! -e "$cargo/$name" ] || cp -r "$cargo/$name" "$root/srv/cargo/$name"
    done
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
    for file in .npmrc .config/pip/pip.conf; do
        for home in /root ${user:+"/home/$user"}; do
            [ -e "$HOME/$file" ] || continue
            mkdir -p "$(dirname "$root$home/$file")"
            cp "$HOME/$file" "$root$home/$file"
        done
    done
}

clone() {
    git -C "$tree" diff --quiet HEAD 2> /dev/null ||
        say "changes that are not committed are left out"
    git -c safe.directory='*' clone --quiet --no-hardlinks "$tree" "$root/srv/cloison"
}

# Runs a line that was printed to be pasted, with more arguments for psql.
paste() {
    within "$user_or_root" env PGCONNECT_TIMEOUT=30 sh -c "cd /srv/cloison && $1 -X -At -c \"\$1\"" \
        paste "$2"
}

first_row() {
    local log=$work/run.log lines first second others
    say "make run"
    # It is looked at at once, maybe before make has opened it.
    : > "$log"
    within "$user_or_root" make -C /srv/cloison run > "$log" 2>&1 < /dev/null &
    runner=$!
    printed() { [ "$(grep -cE '^ *psql ' "$log")" -ge 3 ]; }
    follow "$runner" "$log" 'make run to print its URLs' printed
    mapfile -t lines < <(sed -nE 's/^ *(psql .*)/\1/p' "$log")
    local sql="select count(*) > 0, count(distinct tenant_id), min(tenant_id::text) from projects"
    first=$(paste "${lines[0]}" "$sql")
    say "a printed URL reads: $first"
    part "make run, to the first row"
    second=$(paste "${lines[1]}" "$sql")
    say "the other tenant's URL reads: $second"
    [[ $first == 't|1|'* && $second == 't|1|'* && $first != "$second" ]] ||
        fail "each printed URL has to read one tenant's rows, and not the same tenant's"
    # And there is more than one tenant's rows to be seen in that table.
    others=$(paste "${lines[-1]}" "select count(distinct tenant_id) from projects")
    [ "$others" -ge 2 ] || fail "past the proxy there should be two tenants' projects, not $others"

    # Ctrl-C, as the last line says.
    stopped INT "$(processes 'target/debug/cloison dev')"
    wait "$runner" || fail "make run ended with $? after Ctrl-C"
    [ -z "$(processes postgres)$(processes /usr/lib/postgresql)" ] ||
        fail "make run left a Postgres running"
}

# processes WORDS: those whose command line begins so. Only this namespace's are to be seen here.
processes() {
    local folder
    for folder in /proc/[0-9]*; do
        case $(tr '\0' ' ' 2> /dev/null < "$folder/cmdline") in
        "$1"*) echo "${folder#/proc/}" ;;
        esac
    done
}

# stopped SIGNAL PID: as it was told to.
stopped() {
    local began=$SECONDS
    kill "-$1" "$2"
    while [ -d "/proc/$2" ] && ! grep -q '^State:.*zombie' "/proc/$2/status" 2> /dev/null; do
        ((SECONDS - began < 60)) || fail "process $2 did not end within a minute of SIG$1"
        sleep 0.2
    done
}

refused_to_user() {
    local log=$work/refused.log package
    for command in test run; do
        say "make $command as an ordinary user, without packages"
        if within "$user" make -C /srv/cloison "$command" > "$log" 2>&1 < /dev/null; then
            fail "make $command succeeded without a compiler"
        fi
        cat "$log"
        [ ! -e "$root/srv/cloison/target/debug" ] || fail "make $command compiled before it refused"
        for package in gcc libc6-dev libclang-dev postgresql; do
            grep -q "apt-get install.* $package\b" "$log" || fail "make $command did not name $package"
        done
        if [ "$command" = test ]; then
            for package in python3-venv npm default-jdk-headless libpostgresql-jdbc-java \
                libhikaricp-java golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev \
                php-cli php-pgsql ruby-pg ruby-activerecord libdbd-pg-perl odbc-postgresql \
                libpq-dev; do
                grep -q "apt-get install.* $package\b" "$log" ||
                    fail "make test did not name $package"
            done
            advice=$(sed -n 's/.*sudo \(apt-get install .*\)/\1/p' "$log")
        fi
    done
    part "make test and make run name what is missing"
    say "as root: $advice"
    within root apt-get update > "$work/apt.log" 2>&1
    # shellcheck disable=SC2086
    within root env DEBIAN_FRONTEND=noninteractive ${advice/install/install -y} \
        > "$work/apt.log" 2>&1 || {
        tail -n 20 "$work/apt.log" >&2
        fail "the packages that make test named could not be installed"
    }
    within "$user" /srv/cloison/tests/setup-system.sh test ||
        fail "with the packages that it named, make test still lacks something"
    part "the packages that they named"
}

# An operator's road: a Postgres that is there, the package, `cloison init`, TLS, a restart.
package() {
    local made=target/debug/cloison log=$work/package.log owner=owner_password lines client unit row
    if [ -n "${BARE_RELEASE:-}" ]; then made=; fi
    say "make deb${made:+ with the program that make run has built}"
    within root make -C /srv/cloison deb ${made:+"BIN=$made"} > "$log" 2>&1 ||
        { tail -n 30 "$log" >&2; fail "make deb"; }
    part "make deb"

    say "a database, and the package"
    within root sh -c 'cd / && apt-get install -y /srv/cloison/target/packages/cloison_*.deb openssl' \
        > "$log" 2>&1 || { tail -n 30 "$log" >&2; fail "apt-get install of the package"; }
    within root sh -ec 'major=$(ls /usr/lib/postgresql)
        pg_createcluster "$major" main > /dev/null
        pg_ctlcluster "$major" main start
        cd /tmp
        export PGPORT=$(pg_lsclusters --no-header | awk "{ print \$3 }")
        setpriv --reuid postgres --regid postgres --init-groups psql -q -X -v ON_ERROR_STOP=1 \
            -c "create role shop_owner login createrole password '\''$1'\''" \
            -c "create database shop owner shop_owner"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
            -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
            -keyout /etc/cloison/server.key -out /etc/cloison/server.crt 2> /dev/null
        chgrp cloison /etc/cloison/server.key
        chmod 640 /etc/cloison/server.key' sh "$owner" ||
        fail "a Postgres with a database for the package"
    local port url
    port=$(within root pg_lsclusters --no-header | awk '{ print $3 }')
    url=postgres://shop_owner:$owner@localhost:$port/shop
    # The package's own configuration is an example: --force replaces it.
    within root cloison init --database-url "$url" --dir /etc/cloison --force --tenant acme \
        --tls-cert /etc/cloison/server.crt --tls-key /etc/cloison/server.key \
        > "$log.init" 2>&1 || { cat "$log.init" >&2; fail "cloison init"; }
    sed 's/^/         | /' "$log.init"
    within root psql "$url" -q -X -v ON_ERROR_STOP=1 \
        -c 'create table orders (id int primary key)' -c "select cloison.protect('orders')" \
        -c "insert into cloison.tenants (name, slug) values ('Globex', 'globex')" \
        -c "insert into orders (id, tenant_id) select case slug when 'acme' then 1 else 2 end, id
            from cloison.tenants where slug in ('acme', 'globex')" \
        > "$log" 2>&1 || { cat "$log" >&2; fail "a protected table"; }
    mapfile -t lines < <(sed -nE 's/^ *(cloison check .*)/\1/p' "$log.init")
    client=$(sed -nE 's/^ *(.*psql -h .*)/\1/p' "$log.init" | tail -n 1)
    unit=/usr/lib/systemd/system/cloison.service
    [ -e "$root$unit" ] || unit=/lib/systemd/system/cloison.service

    say "${lines[0]}"
    within root sh -c "${lines[0]}" > "$log" 2>&1 || { cat "$log" >&2; fail "${lines[0]}"; }
    serve_as_the_unit "$unit"
    row=$(paste "$client" 'select count(*), min(id) from orders')
    say "through the package's proxy, with TLS: $row"
    [ "$row" = '1|1' ] || fail "acme has to see its one order of two, not $row"
    stopped TERM "$served"
    wait "$server" || fail "the proxy ended with $? at SIGTERM"
    serve_as_the_unit "$unit"
    row=$(paste "$client" 'select count(*), min(id) from orders')
    [ "$row" = '1|1' ] || fail "after a restart acme has to see its one order of two, not $row"
    say "after a restart: $row"
    stopped TERM "$served"
    part "the package: installed, init, TLS, restart"
}

# There is no systemd in here: what the unit says is run as it says.
serve_as_the_unit() {
    local command account log=$work/serve.log
    command=$(sed -n 's/^ExecStart=//p' "$root$1")
    account=$(sed -n 's/^User=//p' "$root$1")
    : > "$log"
    within root sh -c 'set -a; . "$1"; set +a; cd /etc/cloison
        exec setpriv --reuid "$2" --regid "$2" --init-groups --no-new-privs --bounding-set -all \
            $3' sh "$(sed -n 's/^EnvironmentFile=-//p' "$root$1")" "$account" "$command" \
        > "$log" 2>&1 < /dev/null &
    server=$!
    answers() { paste "$client" 'select 1' > "$work/client.log" 2>&1; }
    follow "$server" "$log" "a client of the package's proxy" answers
    served=$(processes "$command")
    [ "$(awk '$1 == "Uid:" { print $2 }' "/proc/$served/status")" = \
        "$(within root id -u "$account")" ] || fail "the proxy does not run as $account"
}

inside() {
    pass=$1
    work=$2
    root=$work/root
    user=
    suite=bookworm
    report=
    part_began=$SECONDS
    part_cpu=0
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mount --make-rprivate /
    mount -t proc proc /proc
    case $pass in
    trixie) suite=trixie ;;
    user) user=ada ;;
    esac
    user_or_root=${user:-root}
    mapfile -t settings < <(env | grep -E \
        '^(SSL_CERT_(FILE|DIR)|CURL_CA_BUNDLE|GIT_SSL_CAINFO|NODE_EXTRA_CA_CERTS|REQUESTS_CA_BUNDLE|PIP_(CERT|INDEX_URL|DEFAULT_TIMEOUT)|(NPM_CONFIG|npm_config)_[a-z]*|CARGO_(HTTP|NET|REGISTRIES|REGISTRY|SOURCE)_[A-Z_]*|([hH][tT][tT][pP][sS]?|[nN][oO]|[aA][lL][lL])_[pP][rR][oO][xX][yY])=' || true)

    make_root "$suite"
    [ -z "$user" ] || within root useradd --create-home --shell /bin/bash "$user"
    set_up_registries
    clone
    [ -z "$user" ] || chroot "$root" chown -R "$user" /srv/cloison /srv/cargo
    if [ "$pass" = llvm ]; then
        say "installing llvm-dev"
        within root apt-get update > "$work/apt.log" 2>&1
        within root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends llvm-dev > "$work/apt.log" 2>&1
        ls "$root"/usr/lib/llvm-*/lib/libclang-cpp.so* > /dev/null ||
            fail "llvm-dev brought no libclang-cpp, so there is nothing to be misled by"
    fi
    part "a minimal Debian and a clone"
    [ -z "$user" ] || refused_to_user
    first_row
    part "the other tenant, and the end of make run"
    [ -n "$user" ] || package
    printf '\nbare: %s, on %s cores with a load of %s\n%s' "$pass" "$(nproc)" \
        "$(cut -d ' ' -f 1 /proc/loadavg)" "$report"
}

if [ "${1:-}" = --inside ]; then
    inside "$2" "$3"
else
    # shellcheck disable=SC2086
    enter ${*:-${BARE:-bookworm}}
fi
