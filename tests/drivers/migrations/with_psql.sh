#!/usr/bin/env bash
# Numbered SQL as Flyway runs it: under a lock, each file in a transaction with the line that says so,
# unless the file says that it cannot be in one.
set -euo pipefail
export PSQLRC=/dev/null
cd "$(dirname "$0")/sql"

sql() {
    psql "$DATABASE_URL" -X -q -At -v ON_ERROR_STOP=1 "$@"
}
sql -c 'create table if not exists flyway_schema_history (
    installed_rank integer primary key, version text, script text not null, success boolean not null)' 2> /dev/null
for file in ?_*.sql; do
    version=${file%%_*}
    [ "$version" -le "$1" ] || break
    [ "$(sql -c "select count(*) from flyway_schema_history where version = '$version'")" = 0 ] || continue
    done="insert into flyway_schema_history values ($version, '$version', '$file', true)"
    if [ "$(head -n 1 "$file")" = '-- no-transaction' ]; then
        sql -f "$file" -c "$done"
    else
        sql -1 -c 'select pg_advisory_xact_lock(72707)' -f "$file" -c "$done" > /dev/null
    fi
done
