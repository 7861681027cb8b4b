//! The questions that one asks after an adoption: is the column there once, is every row filled, is
//! row security on everywhere, how many policies, is there a tenant.

use serde::Serialize;
use tokio_postgres::Client;

use super::Error;
use super::plan::Plan;

/// The answers for one table.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// The table.
    pub table: String,
    /// tenant, shared or global.
    pub class: String,
    /// How often the column is listed: once.
    pub columns: i64,
    /// How many rows there are.
    pub total: i64,
    /// How many have a tenant: as many.
    pub filled: i64,
    /// Whether row security is on, and for the owner, too.
    pub forced: bool,
    /// How many policies there are.
    pub policies: i64,
    /// What `cloison.protection_findings()` says of it.
    pub findings: Vec<String>,
}

/// All answers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// By table.
    pub tables: Vec<Answer>,
    /// How many tenants there are.
    pub tenants: i64,
}

impl Answer {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        let is_filled = self.class != "tenant" || (self.columns == 1 && self.total == self.filled);
        is_filled && self.forced && self.policies > 0 && self.findings.is_empty()
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.tenants > 0 && self.tables.iter().all(Answer::is_good)
    }
}

/// Asks about the tables of a plan.
///
/// # Errors
///
/// What Postgres says.
pub async fn ask(client: &Client, plan: &Plan) -> Result<Report, Error> {
    let doing = |e| Error::statement("asking after the tables", e);
    let names: Vec<&str> = plan.tables.iter().map(|table| table.name.as_str()).collect();
    let columns: Vec<&str> =
        plan.tables.iter().map(|table| table.column.as_deref().unwrap_or(&plan.column)).collect();
    // All tables at once: each of these questions looks at the whole catalogue.
    let rows = client.query(QUESTIONS, &[&names, &columns]).await.map_err(doing)?;
    let mut tables = Vec::new();
    for ((table, column), row) in plan.tables.iter().zip(columns).zip(&rows) {
        let listed = row.get(0);
        let (mut total, mut filled) = (0, 0);
        if table.class == "tenant" && listed == 1 {
            let sql = format!("select count(*), count({column}) from {}", table.name);
            let counts = client.query_one(&sql, &[]).await.map_err(doing)?;
            (total, filled) = (counts.get(0), counts.get(1));
        }
        tables.push(Answer {
            table: table.name.clone(),
            class: table.class.clone(),
            columns: listed,
            total,
            filled,
            forced: row.get(1),
            policies: row.get(2),
            findings: row.get(3),
        });
    }
    let row = client.query_one("select count(*) from cloison.tenants", &[]).await.map_err(doing)?;
    Ok(Report { tables, tenants: row.get(0) })
}

const QUESTIONS: &str = "
    with listed as materialized (
        select format('%I.%I', i.table_schema, i.table_name) as name,
            quote_ident(i.column_name) as column_name, count(*) as times
        from information_schema.columns i
        group by 1, 2
    ),
    found as materialized (
        select f.relation, array_agg(f.problem) as problems
        from cloison.protection_findings() f
        group by f.relation
    )
    select
        coalesce(l.times, 0),
        coalesce(c.relrowsecurity and c.relforcerowsecurity, false),
        (select count(*) from pg_policy p where p.polrelid = c.oid),
        coalesce(f.problems, '{}')
    from unnest($1::text[], $2::text[]) with ordinality w (name, column_name, place)
        left join pg_class c on c.oid = to_regclass(w.name)
        left join listed l on l.name = w.name and l.column_name = w.column_name
        left join found f on f.relation = w.name
    order by w.place";
