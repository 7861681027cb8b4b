//! What only an owner or an operator may do, and what roles may do to themselves.

use postgres_protocol::escape::escape_literal;

use super::{Foray, attack, open_unless_refused, refused, taken_back};
use crate::kit::verify::Error;
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Answer, Lost, Wire};

pub(super) async fn all(foray: &mut Foray<'_>) -> Result<(), Error> {
    let roles = powerful(foray).await?;
    let verdict = become_another(foray, &roles).await;
    foray.put(&SET_ROLE, "session", verdict);
    for (table, _) in foray.tables {
        let mut wire = None;
        let mut verdict = Ok(Verdict::HELD);
        for (what, sql) in owners_only(&table.name) {
            verdict = one(&mut wire, foray, &sql, what, &table.mend).await;
            if !verdict.as_ref().is_ok_and(Verdict::is_passed) {
                break;
            }
        }
        if let Some(wire) = wire {
            wire.close().await;
        }
        foray.put(&OWNERS_ONLY, &table.name, verdict);
    }
    let mut wire = None;
    for (attack, sql) in operators_only(foray) {
        let remedy =
            "revoke what lets tenants do it: `cloison install` again, and see the findings";
        let verdict = one(&mut wire, foray, &sql, "it was done", remedy).await;
        foray.put(attack, "session", verdict);
    }
    if let Some(wire) = wire {
        wire.close().await;
    }
    let login = foray.own.login.replace('"', "\"\"");
    for (attack, change) in
        [(&OWN_DEFAULTS, "set statement_timeout = '1h'"), (&OWN_PASSWORD, "password 'x'")]
    {
        let sql = format!("alter role \"{login}\" {change}");
        let answer = once(foray, &sql).await;
        let seen = "the role that all tenants share can change itself, for all of them";
        let remedy = "no grant prevents it: a statement filter does";
        foray.put(attack, "session", answer.map(|a| open_unless_refused(&a, seen, remedy)));
    }
    Ok(())
}

/// In a session of its own.
async fn once(foray: &Foray<'_>, sql: &str) -> Result<Answer, Lost> {
    let mut wire = Wire::open(foray.road).await?;
    let answer = taken_back(&mut wire, sql).await?;
    wire.close().await;
    Ok(answer)
}

async fn one(
    wire: &mut Option<Wire>,
    foray: &Foray<'_>,
    sql: &str,
    seen: &str,
    remedy: &str,
) -> Result<Verdict, Lost> {
    let mut open = match wire.take() {
        Some(open) => open,
        None => Wire::open(foray.road).await?,
    };
    let answer = taken_back(&mut open, sql).await?;
    if !answer.is_closed {
        *wire = Some(open);
    }
    // Policies may hide what would be changed, and then nothing was done.
    let is_untouched = answer.error().is_none()
        && answer
            .tags
            .iter()
            .any(|tag| matches!(tag.as_str(), "UPDATE 0" | "DELETE 0" | "SELECT 0"));
    if is_untouched {
        return Ok(Verdict::by(Layer::Policy));
    }
    // GRANT by somebody who may not is a warning: no privileges were granted.
    if answer.notices.iter().any(|notice| notice.code() == "01007") {
        return Ok(Verdict::by(Layer::Grant));
    }
    Ok(match answer.error() {
        // Not for want of a right: it could not have been tried this way.
        Some(error) if error.code().starts_with("42") && error.code() != "42501" => {
            Verdict::skipped(error.brief())
        }
        Some(_) | None => refused(&answer, seen, remedy),
    })
}

/// Roles that see more than a tenant.
async fn powerful(foray: &Foray<'_>) -> Result<Vec<String>, Error> {
    let doing = "list roles that see more than a tenant";
    let unreadable = |error| Error::statement("operator", doing, &error);
    let rows = foray.operator.query(doing, POWERFUL, &[]).await?;
    rows.iter().map(|row| row.try_get(0).map_err(unreadable)).collect()
}

/// Whether one of the roles can be taken, and shows more.
async fn become_another(foray: &Foray<'_>, roles: &[String]) -> Result<Verdict, Lost> {
    let mut wire = Wire::open(foray.road).await?;
    let mut by = None;
    for role in roles {
        for sql in [
            format!("set local role {role}"),
            format!("set local session authorization {role}"),
            format!(
                "select pg_catalog.set_config('role', {}, true)",
                escape_literal(&role.replace('"', ""))
            ),
        ] {
            let answer = taken_back(&mut wire, &sql).await?;
            match answer.error() {
                None => {
                    wire.close().await;
                    let remedy = format!("revoke {role} from {}", foray.own.login);
                    return Ok(Verdict::failed(format!("the tenant can become {role}"), remedy));
                }
                Some(error) => by = Some(error.layer()),
            }
        }
    }
    wire.close().await;
    Ok(by.map_or(Verdict::skipped("there is no such role"), Verdict::by))
}

/// What of each table is its owner's alone.
fn owners_only(table: &str) -> [(&'static str, String); 8] {
    [
        (
            "row security was switched off",
            format!("alter table {table} disable row level security"),
        ),
        (
            "row security was lifted from the owner",
            format!("alter table {table} no force row level security"),
        ),
        ("a policy was added", format!("create policy cloison_verify on {table} using (true)")),
        (
            "a trigger was added",
            format!(
                "create trigger cloison_verify before insert on {table} for each row execute \
                 function pg_catalog.suppress_redundant_updates_trigger()"
            ),
        ),
        ("a column was added", format!("alter table {table} add column cloison_verify text")),
        ("the table was given away", format!("grant all on {table} to public")),
        (
            "a rule was added",
            format!("create rule cloison_verify as on delete to {table} do also select 1"),
        ),
        ("the table was dropped", format!("drop table {table} cascade")),
    ]
}

/// What a hostile tenant would want of the database, the server and the kit.
fn operators_only(foray: &Foray<'_>) -> Vec<(&'static Attack, String)> {
    let (id, own) = (escape_literal(&foray.other.id), escape_literal(&foray.own.id));
    let copy = |file| format!("copy (select 1) to {file}");
    vec![
        (&CREATE, "create table public.cloison_verify ()".to_owned()),
        (&CREATE_SCHEMA, "create schema cloison_verify".to_owned()),
        (&CREATE_EXTENSION, "create extension if not exists pg_trgm".to_owned()),
        // It reads all that it gets: one that ended sooner could fail the COPY, as if it were refused.
        (&PROGRAM, copy("program 'cat > /dev/null'")),
        (&FILE_READ, "select pg_catalog.pg_read_file('postgresql.conf')".to_owned()),
        (&FILE_WRITE, copy("'/tmp/cloison_verify'")),
        (&LARGE_OBJECT_IMPORT, "select pg_catalog.lo_import('/etc/hostname')".to_owned()),
        (&SIGNING_KEY, "select * from cloison.signing_key".to_owned()),
        (&TENANTS, format!("select 1 from cloison.tenants where id is distinct from {own}::uuid")),
        (&TENANT_STATUS, format!("update cloison.tenants set name = name where id = {id}::uuid")),
        (&AUDIT, "delete from cloison.audit_log".to_owned()),
        (&AUDIT_READ, "select * from cloison.audit_log".to_owned()),
        (&PROTECTED, "delete from cloison.protected_tables".to_owned()),
        (&STATISTICS_BY_NAME, "select stavalues1::text from pg_catalog.pg_statistic".to_owned()),
        (&RELOAD, "select pg_catalog.pg_reload_conf()".to_owned()),
        (&PREPARED_TRANSACTION, "prepare transaction 'cloison_verify'".to_owned()),
    ]
}

use Owasp::{Access, Context, Database, Files, Monitoring};
use Section::{Around, Context as Forging, Roles, Shared, Transactions};

static SET_ROLE: Attack =
    attack("set_role", Roles, Context, "a tenant cannot become a role that sees more");
static OWNERS_ONLY: Attack =
    attack("owners_only", Roles, Database, "what is the owner's to change stays as it is");
static CREATE: Attack = attack("create_table", Roles, Database, "a tenant makes no tables");
static CREATE_SCHEMA: Attack =
    attack("create_schema", Roles, Database, "a tenant makes no schemas");
static CREATE_EXTENSION: Attack =
    attack("create_extension", Roles, Database, "a tenant installs no extensions");
static PROGRAM: Attack = attack("copy_program", Roles, Database, "a tenant runs no programs");
static FILE_READ: Attack = attack("file_read", Roles, Files, "a tenant reads no server files");
static FILE_WRITE: Attack = attack("file_write", Roles, Files, "a tenant writes no server files");
static LARGE_OBJECT_IMPORT: Attack =
    attack("lo_import", Roles, Files, "a tenant imports no server files");
static SIGNING_KEY: Attack =
    attack("signing_key", Forging, Context, "the key that signs contexts cannot be read");
static TENANTS: Attack =
    attack("tenant_list", Shared, Access, "a tenant does not learn who the others are");
static TENANT_STATUS: Attack =
    attack("tenant_update", Shared, Access, "a tenant changes no entry in the list of tenants");
static AUDIT: Attack = attack("audit_log", Roles, Monitoring, "the audit log stays as it is");
static AUDIT_READ: Attack =
    attack("audit_log_read", Roles, Monitoring, "a tenant does not read the audit log");
static PROTECTED: Attack =
    attack("protected_tables", Roles, Database, "the list of protected tables stays as it is");
static STATISTICS_BY_NAME: Attack =
    attack("statistics", Around, Access, "values in the planner's statistics cannot be read");
static RELOAD: Attack = attack("reload", Roles, Database, "a tenant does not reload the server");
static PREPARED_TRANSACTION: Attack =
    attack("prepare_transaction", Transactions, Database, "no transaction outlives its session");
static OWN_DEFAULTS: Attack =
    attack("alter_role_set", Roles, Database, "the shared role's defaults stay as they are");
static OWN_PASSWORD: Attack =
    attack("alter_role_password", Roles, Database, "the shared role's password stays as it is");

const POWERFUL: &str = "
    select pg_catalog.quote_ident(r.rolname)
    from pg_catalog.pg_roles r
    where
        r.rolsuper or r.rolbypassrls or r.rolname in ('cloison_superadmin', 'cloison_control')
        or r.oid in (
            select c.relowner
            from cloison.protected_tables p
            join pg_catalog.pg_class c on c.oid = p.relation)
    order by r.rolsuper desc, 1
    limit 8";
