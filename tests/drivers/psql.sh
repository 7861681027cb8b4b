#!/usr/bin/env bash
# Everyday work of psql, as two tenants at once, the super-admin and the owner.
set -uo pipefail
export PGCONNECT_TIMEOUT=60 PSQLRC=/dev/null PAGER=cat LC_ALL=C.UTF-8

A=d0000000-0000-4000-8000-000000000001
B=e0000000-0000-4000-8000-000000000001
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    printf 'FAILED  %s: %s\n' "$who" "$1"
    exit 1
}
passed() {
    echo >> "$work/passed"
    printf 'ok  %s: %s\n' "$who" "$1"
}
# is CHECK EXPECTED GOT: both without the blanks around them.
is() {
    [ "$3" = "$2" ] || fail "$1: expected <$2>, got <$3>"
    passed "$1"
}
# has CHECK PART GOT
has() {
    case "$3" in
        *"$2"*) passed "$1" ;;
        *) fail "$1: <$2> is not in <$3>" ;;
    esac
}
# sql URL [ARGUMENT…]: the script on standard input; errors as psql prints them, with SQLSTATE.
sql() {
    local url=$1
    shift
    psql "$url" -X -q -At -v VERBOSITY=verbose "$@" 2>&1
}
q() {
    sql "$1" -c "$2"
}

as_tenant() {
    local url=$1 session=$2 narrow=$3 own=$4 other=$5 mine=$6 command
    local only="select string_agg(distinct tenant_id::text, ',') from projects"

    is 'connects from the URL as it stands' "$own" "$(q "$url" 'select get_current_tenant()')"
    is 'reads its own rows' "$own" "$(q "$url" "$only")"
    is 'a token in PGPASSWORD' "$own" "$(PGPASSWORD=$(token "$url") q "$(without_token "$url")" "$only")"
    host_and_port "$url" > "$work/pgpass-$mine"
    chmod 600 "$work/pgpass-$mine"
    is 'a token in the password file' "$own" \
        "$(PGPASSFILE=$work/pgpass-$mine q "$(without_token "$url")" "$only")"
    is 'sslmode=prefer and keyword connection strings' "$own" \
        "$(PGPASSWORD=$(token "$url") q "$(keywords "$url") sslmode=prefer application_name=cli" "$only")"
    has 'sslmode=require is for the operator to allow' 'does not support SSL' "$(q "$url?sslmode=require" 'select 1')"

    is 'writes touch its own rows only' "$own
$own
$own
0
$own" "$(sql "$url" -v ON_ERROR_STOP=1 <<SQL
begin;
insert into crm_leads (full_name, email) values ('psql', 'psql@example.org') returning tenant_id;
update crm_leads set status = 'lost';
select distinct tenant_id from crm_leads where status = 'lost';
delete from crm_leads where tenant_id = '$other';
select string_agg(distinct tenant_id::text, ',') from crm_leads;
delete from crm_leads;
select count(*) from crm_leads;
rollback;
select string_agg(distinct tenant_id::text, ',') from crm_leads;
SQL
)"
    has 'a foreign tenant_id is refused' 'ERROR:  42501: new row violates row-level security' \
        "$(q "$url" "insert into crm_leads (tenant_id, full_name, email) values ('$other', 'x', 'x')")"
    has 'moving a row to another tenant is refused' 'ERROR:  42501: new row violates row-level security' \
        "$(q "$url" "update crm_leads set tenant_id = '$other'")"
    is '\copy into a table under policies' "2 $own" "$(sql "$url" <<SQL
begin;
\\copy crm_leads (full_name, email) from program 'printf "x\\ty\\nz\\tw\\n"'
select count(*) || ' ' || min(tenant_id::text) from crm_leads where full_name in ('x', 'z');
rollback;
SQL
)"
    has "and another tenant's rows are refused" 'ERROR:  42501: new row violates row-level security' \
        "$(q "$url" "\\copy crm_leads (tenant_id, full_name, email) from program 'echo $other,x,y' (format csv)")"

    sql "$url" -c "\\copy (select tenant_id, name from projects order by 2) to '$work/out-$mine' csv header" > /dev/null
    is '\copy to a file' "tenant_id
$own" "$(cut -d, -f1 "$work/out-$mine" | uniq)"
    is 'COPY to standard output' "$own" "$(q "$url" 'copy (select tenant_id from projects) to stdout' | uniq)"
    is '\copy from a file into a temporary table' 10000 "$(sql "$session" <<SQL
create temporary table numbers (n integer);
\\copy numbers from program 'seq 10000'
select count(*) from numbers;
SQL
)"
    is 'a large result' '100000 588895' "$(q "$url" 'select generate_series(1, 100000)' | wc -lc | tr -s ' ' | sed 's/^ //')"
    is 'FETCH_COUNT uses a cursor' 2500 "$(sql "$url" -v FETCH_COUNT=100 -c 'select generate_series(1, 2500)' | wc -l)"

    is 'ON_ERROR_STOP ends the script with 3' '3' "$(printf 'select 1/0;\nselect 2;\n' | sql "$url" -v ON_ERROR_STOP=1 > /dev/null; echo $?)"
    has 'errors keep SQLSTATE and position' 'ERROR:  42703: column "no_such" does not exist
LINE 1: select no_such from projects
               ^' "$(q "$url" 'select no_such from projects')"
    has 'errors keep their detail' 'DETAIL:  Key (n)=(1) already exists.' "$(sql "$session" <<'SQL'
create temporary table t (n integer primary key);
insert into t values (1), (1);
SQL
)"
    is 'savepoints' 'one' "$(sql "$session" 2> /dev/null <<'SQL' | grep -v ERROR | grep -v LOCATION
begin;
create temporary table t (x text) on commit drop;
insert into t values ('one');
savepoint s;
insert into t values ('two');
select 1/0;
rollback to s;
select * from t;
commit;
SQL
)"
    is '\gdesc, \gset and \gexec' "id|uuid
n|bigint
$own is $own
7" "$(sql "$url" <<'SQL'
select id, 1::bigint as n from projects \gdesc
select get_current_tenant() as tenant \gset
select :'tenant' || ' is ' || get_current_tenant();
select 'select 7' \gexec
SQL
)"
    is 'PREPARE and EXECUTE, the same name for both tenants' "$mine $own" \
        "$(sql "$session" -c "prepare s0 as select '$mine ' || tenant_id from projects limit 1" -c 'execute s0')"
    is 'settings, and RESET to the client'"'"'s own' 'German, DMY
ISO, YMD
German, DMY
America/Lima
LATIN1
UTF8
cli' "$(PGDATESTYLE=German PGTZ=America/Lima PGAPPNAME=cli sql "$url" <<'SQL'
show datestyle;
set datestyle = 'ISO, YMD';
show datestyle;
reset datestyle;
show datestyle;
show timezone;
\encoding latin1
show client_encoding;
\encoding utf8
show client_encoding;
reset all;
show application_name;
SQL
)"
    is 'text beyond ASCII' 'é — صباح' "$(q "$url" "select 'é — صباح'")"
    has 'notices arrive' 'NOTICE:  00000: hello' "$(q "$session" "do \$\$ begin raise notice 'hello'; end \$\$")"
    has 'LISTEN and NOTIFY' "Asynchronous notification \"psql_$mine\" with payload \"hi\" received" \
        "$(q "$session" "listen psql_$mine; notify psql_$mine, 'hi'")"
    has 'Ctrl-C cancels' 'ERROR:  57014: canceling statement due to user request' "$(interrupted "$url")"

    has '\dt lists the tables' '|projects|table|' "$(q "$url" '\dt')"
    has '\d tells of a table and its policies' 'Policies (forced row security enabled)' "$(sql "$url" -P tuples_only=off -c '\d projects')"
    has '\df lists the functions' 'get_current_tenant' "$(q "$url" '\df')"
    has '\du, \dn, \l' 'cloison_tenant' "$(q "$url" '\du' && q "$url" '\dn+' && q "$url" '\l')"
    has '\dp tells of rights' 'projects' "$(q "$url" '\dp projects')"
    has '\conninfo' 'app' "$(q "$url" '\conninfo')"
    # As it is installed, without anything given back.
    for command in '\d' '\d+ projects' '\d crm_deals' '\da' '\dA' '\dAc' '\db' '\dc' '\dC' '\dd' '\dD' '\ddp' \
        '\dE' '\des' '\det' '\deu' '\dew' '\df+' '\dF' '\dFd' '\dFp' '\dFt' '\dg' '\di' '\dL' '\dm' '\dn' '\do' \
        '\dO' '\dp' '\dP' '\drds' '\dRp' '\dRs' '\ds' '\dS' '\dt *.*' '\dT+' '\du+' '\dv' '\dx' '\dy' '\l' '\z' \
        '\sf get_current_tenant' '\sv tenants'; do
        is "$command" '' "$(q "$url" "$command" | grep ERROR)"
    done

    hostile "$session" "$own" "$other"

    # One server connection for both tenants: what one leaves must not meet the other.
    for round in 1 2 3 4 5; do
        is "one server connection, round $round" "$own
$own
0" "$(sql "$narrow" <<SQL
select get_current_tenant();
$only;
select count(*) from pg_class where relpersistence = 't' and relname = 'left_behind';
prepare left_behind as select 1;
create temporary table left_behind ();
set application_name = '$mine';
set search_path = pg_catalog;
listen left_behind;
SQL
)"
    done
}

# What a transaction finds on the next server connection.
moving() {
    local url=$1 freed=$2 own=$3 mine=$4 statement
    is 'the server connection changes' 2 "$(for _ in $(seq 300); do echo 'select pg_backend_pid();'; done \
        | sql "$url" | awk '!seen[$1]++ && ++n <= 2' | wc -l)"
    while IFS= read -r statement; do
        statement="$(sql "$freed" -c "$statement" -c 'select get_current_tenant()')"
        has 'is refused' 'ERROR:  0A000: ' "$statement"
        has 'with a hint' 'session_statements' "$statement"
        has 'and the session goes on' "$own" "$statement"
    done <<SQL
listen news
create temporary table t (n integer)
prepare p as select 1
declare c cursor with hold for select 1
select pg_advisory_lock(1)
SQL
    is 'settings follow from transaction to transaction' "German, DMY America/Lima cli $mine,public
SQL, DMY Asia/Tokyo other public
German, DMY America/Lima cli $mine,public" "$({
        local show="select concat_ws(' ', current_setting('datestyle'), current_setting('timezone'),
            current_setting('application_name'), current_setting('search_path'));"
        for _ in $(seq 20); do echo "$show"; done
        echo "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Tokyo'; set application_name = 'other'; set search_path = public;"
        for _ in $(seq 20); do echo "$show"; done
        echo 'reset all;'
        for _ in $(seq 20); do echo "$show"; done
    } | PGDATESTYLE=German PGTZ=America/Lima PGAPPNAME=cli PGOPTIONS="-c search_path=$mine,public" sql "$url" | uniq)"
    is 'a temporary table and COPY within a transaction' 10000 "$(sql "$freed" <<'SQL'
begin;
create temporary table numbers (n integer) on commit drop;
\copy numbers from program 'seq 10000'
select count(*) from numbers;
commit;
SQL
)"
    is 'rows of its own in each transaction' "$own" "$(for _ in $(seq 40); do
        echo 'begin; select distinct tenant_id from projects; commit;'; done | sql "$url" | uniq)"
    is 'FETCH_COUNT in every transaction' 2500 "$(sql "$url" -v FETCH_COUNT=100 -c 'select generate_series(1, 2500)' | wc -l)"
    has 'Ctrl-C cancels' 'ERROR:  57014: canceling statement due to user request' "$(interrupted "$url")"
}

# What a tenant may try. The next read shows its own rows, or an error when a function or a
# transaction has done it; the read after that shows its own rows in any case.
hostile() {
    local url=$1 own=$2 other=$3 line got read="select distinct 'row of ' || tenant_id from public.projects"
    while IFS= read -r line; do
        got=$(sql "$url" -c "$line" -c "$read" -c rollback -c "$read" \
            | sed -n -e '/^row of/p' -e 's/.*no tenant is bound to this session/unbound/p' \
                -e 's/.*query would be affected by row-level security.*/unreadable/p')
        case "$line" in
            'set row_security'*) is "unreadable after: $line" $'unreadable\nunreadable' "$got" ;;
            do* | create* | begin*) is "in the end its own rows after: $line" "row of $own" "${got##*$'\n'}" ;;
            *) is "its own rows after: $line" "row of $own"$'\n'"row of $own" "$got" ;;
        esac
        got=$(sql "$url" -c "$line" -c "select 'row of ' || tenant_id from public.projects union all select 'row of ' || tenant_id from public.crm_leads" | grep -c -e "row of $other" -e '^NOTICE.*saw')
        is "nothing foreign after: $line" 0 "$got"
    done <<SQL
set cloison.context = '$other'
set session cloison.context = ''
begin; set local cloison.context = '$other'
select set_config('cloison.context', '$other', false)
select set_config('cloison.context', current_setting('cloison.context'), false)
select set_config('cloison.context', replace(current_setting('cloison.context'), get_current_tenant()::text, 'xyz'), false)
reset all
reset cloison.context
discard all
reset role; reset session authorization
select set_tenant('$other')
select cloison.set_tenant('$other')
select cloison.set_tenant('$other', repeat('0', 64))
select enable_superadmin_mode()
select cloison.enable_superadmin_mode()
set role postgres
set role app_owner
set role cloison_admin
set role cloison_superadmin
set role cloison_control
set session authorization postgres
set row_security = off
set session_replication_role = replica
set search_path = pg_temp, public
do \$\$ begin perform cloison.set_tenant('$other'); exception when others then null; end \$\$
do \$\$ begin perform set_config('cloison.context', '$other', false); end \$\$
do \$\$ begin execute 'discard plans'; execute 'reset all'; end \$\$
create function pg_temp.steal() returns void language plpgsql as \$\$ begin perform set_config('cloison.context', '$other', false); end \$\$; select pg_temp.steal()
create function pg_temp.steal() returns void language sql security definer as \$\$ select cloison.set_tenant('$other') \$\$; select pg_temp.steal()
create function pg_temp.current_tenant_id() returns uuid language sql as \$\$ select '$other'::uuid \$\$; set search_path = pg_temp
create temporary view v as select * from projects; select * from v where tenant_id = '$other'
create function pg_temp.leak(text) returns boolean cost 0.00001 language plpgsql as \$\$ begin raise notice 'saw %', \$1; return true; end \$\$; select 1 from projects where pg_temp.leak(name) and tenant_id = '$other'
alter table projects disable row level security
alter table projects no force row level security
drop policy cloison_isolation on projects
grant cloison_superadmin to cloison_app
select * from cloison.signing_keys
truncate projects
prepare transaction 'x'
lock table projects in access exclusive mode
SQL
}

# Interrupts psql the way a terminal does.
interrupted() {
    local out=$work/interrupted-$$-$RANDOM pid
    # An ignored SIGINT, as background jobs of scripts inherit it, is taken back first.
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execvp("psql", sys.argv[1:])' psql "$1" -X -v VERBOSITY=verbose \
        -c '\echo begun' -c 'select pg_sleep(60)' > "$out" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        grep -q begun "$out" && break
        sleep 0.1
    done
    # It may not have begun to wait: until it ends, once more does no harm.
    for _ in $(seq 50); do
        kill -INT $pid 2> /dev/null || break
        sleep 0.2
    done
    wait $pid
    cat "$out"
}

everyday() {
    as_tenant "$1" "$3" "$4" "$5" "$6" "$7"
    [ "$POOL_MODE" = session ] || moving "$1" "$2" "$5" "$7"
}

token() { printf '%s' "$1" | sed -E 's#^postgres://[^:]*:([^@]*)@.*#\1#'; }
without_token() { printf '%s' "$1" | sed -E 's#^(postgres://[^:]*):[^@]*@#\1@#'; }
host_and_port() { printf '%s' "$1" | sed -E 's#^postgres://([^:]*):([^@]*)@([^:]*):([0-9]*)/(.*)#\3:\4:\5:\1:\2\n#'; }
keywords() { printf '%s' "$1" | sed -E 's#^postgres://([^:]*):([^@]*)@([^:]*):([0-9]*)/(.*)#host=\3 port=\4 dbname=\5 user=\1#'; }

(who='tenant A' && everyday "$TENANT_A_URL" "$FREED_A_URL" "$SESSION_A_URL" "$NARROW_A_URL" $A $B a) > "$work/a" 2>&1 &
first=$!
(who='tenant B' && everyday "$TENANT_B_URL" "$FREED_B_URL" "$SESSION_B_URL" "$NARROW_B_URL" $B $A b) > "$work/b" 2>&1 &
second=$!
wait $first
first=$?
wait $second
second=$?
cat "$work/a" "$work/b"
[ $first = 0 ] && [ $second = 0 ] || exit 1

who='login'
has 'a forged token' 'FATAL:  token was not accepted' "$(q "$FORGED_URL" 'select 1')"
has 'an expired token says so' 'token has expired' "$(q "$EXPIRED_URL" 'select 1')"
has 'no token' 'no password supplied' "$(q "$(without_token "$TENANT_A_URL")" -w)"
has 'a tenant'"'"'s token opens no other road' 'FATAL:  token is not valid for this proxy' \
    "$(q "${TENANT_A_URL/cloison_app:/cloison_owner:}" 'select 1')"
has 'an unknown database' 'database "other" does not exist' "$(q "${TENANT_A_URL%/app}/other" 'select 1')"

if [ "$POOL_MODE" = transaction ]; then
    echo "passed $(wc -l < "$work/passed")"
    exit
fi
who='super-admin'
is 'sees nothing, then everything' "0
3" "$(q "$SUPERADMIN_URL" 'select count(*) from projects; select enable_superadmin_mode(); select count(distinct tenant_id) from projects' | grep .)"

who='owner'
is 'runs migrations' '3' "$(sql "$OWNER_URL" -v ON_ERROR_STOP=1 <<'SQL' | tail -n 1
create table psql_owned (n integer primary key, t text);
create index concurrently on psql_owned (t);
copy psql_owned from stdin;
1	a
2	b
3	c
\.
vacuum psql_owned;
select count(*) from psql_owned;
drop table psql_owned;
SQL
)"
echo "passed $(wc -l < "$work/passed")"
