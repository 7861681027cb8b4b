//! Running the verb, and the schema as text to compare.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};

use clap::Parser;
use cloison::cli::adopt;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Database, batch, texts};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    adopt: adopt::Args,
}

/// Runs the verb as the login of this access.
pub(super) async fn run_as(
    database: &Database<'_>,
    access: &str,
    words: &[&str],
) -> Result<ExitCode, adopt::Error> {
    let url = match access {
        "superuser" => database.url("owner").replace(&database.login("owner"), "postgres"),
        access => database.url(access),
    };
    let words = ["adopt", "--database-url", &url].into_iter().chain(words.iter().copied());
    adopt::run(Program::parse_from(words).adopt).await
}

/// Runs the verb as the owner; it has to do all of it.
#[track_caller]
pub(super) fn adopts<'a>(
    database: &'a Database<'_>,
    words: &'a [&'a str],
) -> impl Future<Output = ()> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        match run_as(database, "owner", words).await {
            Ok(code) => assert_eq!(code, ExitCode::SUCCESS, "{caller}: {words:?}"),
            Err(error) => panic!("{caller}: {words:?}: {error}"),
        }
    }
}

/// Runs the verb as the owner; it has to give up, and says why.
#[track_caller]
pub(super) fn refuses<'a>(
    database: &'a Database<'_>,
    words: &'a [&'a str],
) -> impl Future<Output = String> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        match run_as(database, "owner", words).await {
            Ok(code) => panic!("{caller}: {words:?}: was not refused: {code:?}"),
            Err(error) => error.to_string(),
        }
    }
}

/// The program itself, to be killed, or for what it prints.
pub(super) fn program(database: &Database<'_>, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.arg("adopt").arg("--database-url").arg(database.url("owner")).args(words);
    command
}

pub(super) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The schema: as pg_dump shows it, where the installed one can, and an object a line. Without what
/// the way there and back changes and nobody sees: the places of columns, and a right that is
/// written down as against one that is there by default.
pub(super) async fn schema(database: &Database<'_>) -> String {
    let superuser = database.superuser().await;
    let mut schema = texts(&superuser, FINGERPRINT).await.join("\n");
    if database.server.major <= 15 {
        for line in database.dump_as_superuser().lines() {
            if !line.contains("restrict ") {
                schema.push('\n');
                schema.push_str(line);
            }
        }
    }
    schema
}

/// Shows the first lines that differ: two schemas as a whole are too long to read.
#[track_caller]
pub(super) fn assert_same(before: &str, after: &str, when: &str) {
    let only = |one: &str, other: &str| -> Vec<String> {
        let lines: std::collections::BTreeSet<&str> = other.lines().collect();
        one.lines().filter(|line| !lines.contains(line)).take(12).map(str::to_owned).collect()
    };
    let (gone, new) = (only(before, after), only(after, before));
    assert!(gone.is_empty() && new.is_empty(), "{when}: gone {gone:#?}\nnew {new:#?}");
    assert_eq!(before.lines().count(), after.lines().count(), "{when}: a line more than once");
}

/// A tenant's session, by its external key.
pub(super) async fn tenant(database: &Database<'_>, key: &str) -> Client {
    let owner = database.owner().await;
    let sql = "select id from cloison.tenants where external_key = $1 or slug = $1";
    let id: Uuid = owner.query_one(sql, &[&key]).await.unwrap().get(0);
    database.tenant(id).await
}

/// One value.
pub(super) async fn value(session: &Client, sql: &str) -> String {
    let mut values = texts(session, sql).await;
    assert_eq!(values.len(), 1, "{sql}");
    values.remove(0)
}

/// Fails unless Postgres refuses it with this SQLSTATE.
#[track_caller]
pub(super) fn fails_with<'a>(
    session: &'a Client,
    code: &'a str,
    sql: &'a str,
) -> impl Future<Output = ()> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        let Err(error) = session.batch_execute(sql).await else {
            panic!("{caller}: was not refused: {sql}")
        };
        let found = error.code().map(|code| code.code().to_owned());
        assert_eq!(found.as_deref(), Some(code), "{caller}: {sql}: {:?}", error.as_db_error());
    }
}

/// Up, down and up, compared; it is up in the end.
pub(super) async fn round_trip(database: &Database<'_>, words: &[&str]) {
    let before = schema(database).await;
    let apply = [words, &["--apply"]].concat();
    adopts(database, &apply).await;
    let up = schema(database).await;
    assert_ne!(before, up);
    // Nothing to do the second time.
    adopts(database, &apply).await;
    assert_same(&up, &schema(database).await, "a second --apply");
    adopts(database, &["--down"]).await;
    assert_same(&before, &schema(database).await, "--down");
    adopts(database, &["--down"]).await;
    adopts(database, &apply).await;
    assert_same(&up, &schema(database).await, "--apply once more");
    adopts(database, &["--verify"]).await;
    let findings = "select relation || ': ' || problem from cloison.protection_findings()";
    assert_eq!(texts(&database.owner().await, findings).await, [""; 0]);
}

pub(super) async fn make(database: &Database<'_>, sql: &str) {
    batch(&database.owner().await, sql).await;
}

/// A file with this mapping.
pub(super) fn mapping(database: &Database<'_>, text: &str) -> PathBuf {
    let name =
        format!("adopt-{}-{}-{}.toml", std::process::id(), database.server.major, database.name);
    let file = std::env::temp_dir().join(name);
    fs::write(&file, text).unwrap();
    file
}

const FINGERPRINT: &str = "
    with n as (select oid, nspname, nspowner, nspacl from pg_namespace
               where nspname !~ '^pg_' and nspname <> 'information_schema'),
    c as (
        select c.*, c.oid::regclass::text as name,
            array(select x::text from unnest(coalesce(c.relacl, acldefault(
                case when c.relkind = 'S' then 's' else 'r' end::\"char\", c.relowner))) x
                order by 1) as acl
        from pg_class c join n on n.oid = c.relnamespace
    )
    select 'schema ' || nspname || array(select x::text
        from unnest(coalesce(nspacl, acldefault('n', nspowner))) x order by 1)::text as line from n
    union all select format('relation %s %s %s %s %s %s %s %s', name, relkind, relrowsecurity,
        relforcerowsecurity, relowner::regrole, acl, reloptions, relreplident)
        from c where relkind not in ('i', 'I')
    union all select format('column %s.%s %s %s %s %s %s %s', c.name, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
            array(select x::text from unnest(a.attacl) x order by 1),
            pg_get_expr(d.adbin, d.adrelid))
        from c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped and a.attnum > 0
            left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relkind not in ('i', 'I')
    union all select format('index %s %s %s %s %s', pg_get_indexdef(i.indexrelid), i.indisvalid,
            i.indisclustered, i.indisreplident, obj_description(i.indexrelid, 'pg_class'))
        from c join pg_index i on i.indrelid = c.oid
    union all select format('constraint %s %s %s %s %s', c.name, k.conname,
            pg_get_constraintdef(k.oid), k.convalidated, obj_description(k.oid, 'pg_constraint'))
        from c join pg_constraint k on k.conrelid = c.oid
    union all select format('trigger %s', pg_get_triggerdef(t.oid))
        from c join pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal
    union all select format('policy %s %s %s %s %s %s %s', c.name, p.polname, p.polcmd,
            p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
            pg_get_expr(p.polwithcheck, p.polrelid))
        from c join pg_policy p on p.polrelid = c.oid
    union all select format('view %s %s', c.name, pg_get_viewdef(c.oid))
        from c where relkind in ('v', 'm')
    union all select format('function %s %s', p.oid::regprocedure, p.proowner::regrole)
        from pg_proc p join n on n.oid = p.pronamespace
    order by 1";
