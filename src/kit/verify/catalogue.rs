//! What there is to try, read from the catalogue: tables, tenants, rows, and what the kit finds.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::Error;
use super::report::Side;
use super::session::{Reaction, Session, Step};
use crate::types::TenantId;

/// The class of a protected table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    /// Each row is one tenant's.
    Tenant,
    /// A partition or a child, which tenants reach through its parent only.
    Part,
    /// Every tenant reads every row.
    Shared,
    /// Tenants see nothing.
    Global,
}

/// A protected table. All names are quoted.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Schema and name.
    pub(super) name: String,
    /// Its number: a name cannot be looked up in a schema that the operator may not use.
    pub(super) relation: u32,
    pub(super) class: Class,
    /// The tenant column; of a table without, any column.
    pub(super) column: String,
    /// The tenant column's type.
    pub(super) column_type: String,
    /// Columns, besides the tenant's, that would be filled by a default.
    pub(super) defaulted: Vec<String>,
    /// What mends it, whatever its policies have become.
    pub(super) mend: String,
    /// All columns, besides the tenant's, that can be written.
    pub(super) others: Vec<String>,
    /// Why a tenant without rows could not be given one: A, B.
    unmade: [Option<String>; 2],
}

/// Who a tenant is, as far as anybody may know.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TenantName {
    /// Its id.
    #[serde(serialize_with = "as_text")]
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
}

/// Who a tenant is, in the words of tenant columns.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) side: Side,
    pub(super) name: TenantName,
    /// The id as text: in columns of type uuid.
    pub(super) id: String,
    /// In columns of other types.
    pub(super) external_key: Option<String>,
    /// The role that its sessions run as.
    pub(super) login: String,
}

/// How many rows an operator counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) a: i64,
    pub(super) b: i64,
    pub(super) total: i64,
}

/// A row of `protection_findings()` or `role_findings()`.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) subject: String,
    pub(super) problem: String,
    pub(super) fix: String,
}

impl Table {
    /// A parameter, cast to the tenant column's type.
    pub(super) fn parameter(&self, number: usize) -> String {
        format!("${number}::pg_catalog.text::{}", self.column_type)
    }

    /// How the tenant column names a tenant; none for one without an external key.
    pub(super) fn value<'a>(&self, tenant: &'a Tenant) -> Option<&'a str> {
        if self.column_type == "uuid" { Some(&tenant.id) } else { tenant.external_key.as_deref() }
    }

    /// Why a tenant without rows has been given none.
    pub(super) fn unmade(&self, side: Side) -> Option<&str> {
        let [a, b] = &self.unmade;
        match side {
            Side::A => a.as_deref(),
            Side::B => b.as_deref(),
        }
    }

    pub(super) fn set_unmade(&mut self, side: Side, why: String) {
        let [a, b] = &mut self.unmade;
        match side {
            Side::A => *a = Some(why),
            Side::B => *b = Some(why),
        }
    }

    /// Whether there are rows for tenants to see, update and delete.
    pub(super) fn is_tenants(&self) -> bool {
        self.class == Class::Tenant
    }
}

impl Counts {
    pub(super) fn of(self, side: Side) -> i64 {
        match side {
            Side::A => self.a,
            Side::B => self.b,
        }
    }

    pub(super) fn of_other(self, side: Side) -> i64 {
        match side {
            Side::A => self.b,
            Side::B => self.a,
        }
    }
}

/// Every protected table that is still there.
pub(super) async fn tables(operator: &Session) -> Result<Vec<Table>, Error> {
    let rows = operator.query("read cloison.protected_tables", TABLES, &[]).await?;
    let unreadable = |error| Error::statement("operator", "read cloison.protected_tables", &error);
    let mut tables = Vec::new();
    for row in &rows {
        let class: String = row.try_get(1).map_err(unreadable)?;
        let is_part: bool = row.try_get(4).map_err(unreadable)?;
        let class = match (class.as_str(), is_part) {
            ("tenant", false) => Class::Tenant,
            ("shared", false) => Class::Shared,
            ("tenant" | "shared", true) => Class::Part,
            _ => Class::Global,
        };
        tables.push(Table {
            name: row.try_get(0).map_err(unreadable)?,
            relation: row.try_get(8).map_err(unreadable)?,
            class,
            column: row.try_get(2).map_err(unreadable)?,
            column_type: row.try_get(3).map_err(unreadable)?,
            defaulted: row.try_get(5).map_err(unreadable)?,
            others: row.try_get(6).map_err(unreadable)?,
            mend: row.try_get(7).map_err(unreadable)?,
            unmade: [None, None],
        });
    }
    Ok(tables)
}

/// Who the session's tenant is; refuses a role that policies do not hold for.
pub(super) async fn tenant(session: &Session, side: Side) -> Result<Tenant, Error> {
    let who = format!("tenant {side}");
    let login = fit_role(session, &who).await?;
    let doing = "ask for the current tenant";
    let rows = session.query(doing, TENANT, &[]).await?;
    let Some(row) = rows.first() else { return Err(Error::NoTenant { who }) };
    let unreadable = |error| Error::statement(&who, doing, &error);
    let id: Uuid = row.try_get(0).map_err(unreadable)?;
    Ok(Tenant {
        side,
        id: id.to_string(),
        name: TenantName {
            id: TenantId::new(id),
            slug: row.try_get(1).map_err(unreadable)?,
            name: row.try_get(2).map_err(unreadable)?,
        },
        external_key: row.try_get(3).map_err(unreadable)?,
        login,
    })
}

/// The role that the session runs as, unless policies do not hold for it.
pub(super) async fn fit_role(session: &Session, who: &str) -> Result<String, Error> {
    let doing = "ask for the session's role";
    let rows = session.query(doing, ROLE, &[]).await?;
    let unreadable = |error| Error::statement(who, doing, &error);
    let mut login = String::new();
    for row in &rows {
        let role: String = row.try_get(0).map_err(unreadable)?;
        let is_superuser: bool = row.try_get(1).map_err(unreadable)?;
        if is_superuser || row.try_get(2).map_err(unreadable)? {
            let why = if is_superuser { "is a superuser" } else { "has BYPASSRLS" };
            return Err(Error::Bypasses { who: who.to_owned(), role, why });
        }
        if row.try_get(3).map_err(unreadable)? {
            login = role;
        }
    }
    Ok(login)
}

/// What tells one database from another.
pub(super) async fn database(session: &Session) -> Result<String, Error> {
    let doing = "ask which database it is";
    let rows = session.query(doing, DATABASE, &[]).await?;
    let name = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(name.map_err(|error| Error::statement("a session", doing, &error))?.unwrap_or_default())
}

/// What an operator counts in a table; none if it may not read it.
pub(super) async fn counts(
    operator: &Session,
    table: &Table,
    tenants: &[Tenant; 2],
) -> Result<Option<Counts>, Error> {
    let Table { name, column, .. } = table;
    let total = format!("select count(*) from {name}");
    let mut steps = vec![Step::Count(total.clone(), Vec::new())];
    if matches!(table.class, Class::Tenant) {
        for tenant in tenants {
            let of = format!("{total} where {column} = {}", table.parameter(1));
            steps.push(Step::Count(of, vec![table.value(tenant)]));
        }
    }
    let counted: Vec<i64> = operator
        .attempts(&steps)
        .await?
        .into_iter()
        .filter_map(|reaction| if let Reaction::Ran(n) = reaction { Some(n) } else { None })
        .collect();
    Ok(match counted[..] {
        [total, a, b] => Some(Counts { a, b, total }),
        [total] if steps.len() == 1 => Some(Counts { a: 0, b: 0, total }),
        _ => None,
    })
}

/// What the kit finds wrong with tables and functions, and with the logins.
pub(super) async fn findings(
    operator: &Session,
    logins: &BTreeMap<String, &'static str>,
) -> Result<Vec<Finding>, Error> {
    let unreadable = |error| Error::statement("operator", "read the findings", &error);
    let mut findings = Vec::new();
    let doing = "call cloison.protection_findings()";
    let sql = "select relation, problem, fix from cloison.protection_findings()";
    for row in &operator.query(doing, sql, &[]).await? {
        findings.push(Finding {
            subject: row.try_get(0).map_err(unreadable)?,
            problem: row.try_get(1).map_err(unreadable)?,
            fix: row.try_get(2).map_err(unreadable)?,
        });
    }
    for (login, access) in logins {
        let doing = "call cloison.role_findings()";
        let sql = "select problem, fix from cloison.role_findings($1::text::name, $2::text)";
        for row in &operator.query(doing, sql, &[login, access]).await? {
            findings.push(Finding {
                subject: format!("login {login}"),
                problem: row.try_get(0).map_err(unreadable)?,
                fix: row.try_get(1).map_err(unreadable)?,
            });
        }
    }
    Ok(findings)
}

/// Tenants that can be served, besides the one that stands for none, each with a nought.
pub(super) async fn active_tenants(operator: &Session) -> Result<Vec<(Tenant, usize)>, Error> {
    let doing = "list the tenants";
    let unreadable = |error| Error::statement("operator", doing, &error);
    let mut tenants = Vec::new();
    for row in &operator.query(doing, ACTIVE_TENANTS, &[]).await? {
        let id: Uuid = row.try_get(0).map_err(unreadable)?;
        let tenant = Tenant {
            side: Side::A,
            id: id.to_string(),
            name: TenantName {
                id: TenantId::new(id),
                slug: row.try_get(1).map_err(unreadable)?,
                name: row.try_get(2).map_err(unreadable)?,
            },
            external_key: row.try_get(3).map_err(unreadable)?,
            login: String::new(),
        };
        tenants.push((tenant, 0));
    }
    Ok(tenants)
}

/// Whether an operator sees a row of the tenant.
pub(super) async fn has_rows(
    operator: &Session,
    table: &Table,
    tenant: &Tenant,
) -> Result<bool, Error> {
    let Table { name, column, .. } = table;
    let sql = format!(
        "select exists (select from {name} where {column} = {})::int::bigint",
        table.parameter(1),
    );
    let reaction = operator.attempt(Step::Count(sql, vec![table.value(tenant)])).await?;
    Ok(reaction == Reaction::Ran(1))
}

fn as_text<S: Serializer>(id: &TenantId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

const ACTIVE_TENANTS: &str = "
    select t.id, t.slug, t.name, t.external_key
    from cloison.tenants t
    where t.status = 'active' and t.slug <> 'system-default'
    order by t.created_at, t.slug";

const ROLE: &str = "
    select r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolname = session_user
    from pg_catalog.pg_roles r
    where r.rolname in (session_user, current_user)";

const TENANT: &str = "
    select t.id, t.slug, t.name, t.external_key
    from cloison.tenants t
    where t.id = cloison.get_current_tenant()";

const DATABASE: &str = "
    select pg_catalog.format('%s %s %s', d.oid, d.datname, pg_catalog.pg_postmaster_start_time())
    from pg_catalog.pg_database d
    where d.datname = pg_catalog.current_database()";

/// A domain's own checks would speak before the policies do, so what is of a domain is left to its
/// default.
const TABLES: &str = "
    with writable as (
        select
            a.attrelid as relation,
            a.attname,
            a.attnum as number,
            pg_catalog.quote_ident(a.attname) as name,
            a.atthasdef or a.attidentity <> '' as has_default,
            t.typtype = 'd' as is_domain
        from
            pg_catalog.pg_attribute a
            join pg_catalog.pg_type t
                on t.oid = a.atttypid
        where
            a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    )
    select
        pg_catalog.format('%I.%I', n.nspname, c.relname),
        p.class,
        pg_catalog.quote_ident(coalesce(p.tenant_column, (
            select a.attname from pg_catalog.pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              and a.attgenerated = '' order by a.attnum limit 1), 'none')),
        coalesce(pg_catalog.format_type(p.column_type, null), 'text'),
        p.part_of is not null,
        array(select w.name from writable w where w.relation = c.oid and w.has_default
              and not w.is_domain and w.attname is distinct from p.tenant_column order by w.number),
        array(select w.name from writable w where w.relation = c.oid
              and w.attname is distinct from p.tenant_column order by w.number),
        pg_catalog.format('select cloison.protect(%L, %L%s)', (
                select pg_catalog.format('%s.%I', w.relnamespace::pg_catalog.regnamespace, w.relname)
                from pg_catalog.pg_class w where w.oid = coalesce(p.part_of, p.relation)), p.class,
            ', ' || pg_catalog.quote_literal(p.tenant_column))
            || '; where its policies are as they were made, `cloison install` again',
        p.relation::pg_catalog.oid
    from
        cloison.protected_tables p
        join pg_catalog.pg_class c
            on c.oid = p.relation
        join pg_catalog.pg_namespace n
            on n.oid = c.relnamespace
    order by
        1";
