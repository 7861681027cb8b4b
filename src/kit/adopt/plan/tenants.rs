//! The tenants that rows go to: whether they are there, and adding those that are not.

use super::column::filled_constraint;
use super::step::{Estimate, MOMENT, PATH};
use super::{Act, Draft, Fill, Lock, Phase, Stage, Step, check};
use crate::kit::adopt::catalogue::Table;
use crate::kit::adopt::literal;
use crate::kit::adopt::mapping::ColumnType;

impl<'a> Draft<'a> {
    /// Tenants that rows go to, and that are not there.
    pub(super) fn make_default_tenants(&mut self) {
        let mut names: Vec<String> = Vec::new();
        for (_, fill) in self.tenants() {
            if let Fill::Constant(tenant) = fill
                && !names.contains(&tenant)
            {
                names.push(tenant);
            }
        }
        let key = self.mapping.column_type.tenant_key();
        let tenants = &self.catalogue.tenants;
        names.retain(|name| {
            !tenants.iter().any(|t| t.id == *name || t.external_key.as_ref() == Some(name))
        });
        for name in names {
            self.up(
                Phase::Tenants,
                Step {
                    stage: Stage::Expand,
                    table: "cloison.tenants".to_owned(),
                    what: format!("add the tenant {name}"),
                    why: "rows become its own; give it a name of its own afterwards".to_owned(),
                    lock: Lock::Rows,
                    millis: MOMENT,
                    act: Act::Together(vec![insert_tenants(
                        self.mapping.column_type,
                        &format!("(values ({}, null, null)) v (value, name, slug)", literal(&name)),
                    )]),
                    done: Some(format!(
                        "exists (select from cloison.tenants t where t.{key}::text = {})",
                        literal(&name)
                    )),
                    old_key: None,
                },
            );
        }
    }

    /// Rows that a rule finds no tenant for, and tenants that are none, before anything is written.
    pub(super) fn match_tenants(&mut self, table: &'a Table, expression: &str, by_parent: bool) {
        let (name, column) = (&table.name, self.column(table));
        // Once there is a column, it has been looked at; the rows without a tenant still are.
        let (rest, done) = if table.column.is_some() || by_parent {
            let constraint = filled_constraint(table);
            let done = check::is_filled(name, self.bare_column(table), column, &constraint);
            (format!(" where this.{column} is null"), done)
        } else {
            (String::new(), check::has_column(name, self.bare_column(table)))
        };
        // A parent's column is there only once that is filled.
        let creates = self.mapping.create_tenants && !by_parent;
        let phase = if by_parent { Phase::Fill } else { Phase::Match };
        self.match_values(table, Values { expression, rest: &rest, done: &done, creates, phase });
    }

    /// The same for the values of a column that is there already.
    pub(super) fn match_column(&mut self, table: &'a Table, fill: &Fill) {
        let column = self.column(table);
        let expression = format!("this.{column}");
        let rest = format!(" where this.{column} is not null");
        let done = check::is_protected(&table.name);
        let creates = self.mapping.create_tenants || matches!(fill, Fill::Itself { .. });
        let phase = Phase::Match;
        let values = Values { expression: &expression, rest: &rest, done: &done, creates, phase };
        self.match_values(table, values);
        let says = self.rule(table).is_some_and(|rule| rule.default_tenant.is_some())
            || self.mapping.default_tenant.is_some();
        if matches!(fill, Fill::Constant(_)) && !says {
            self.refuse_nulls(table);
        }
    }

    /// A null may mean every tenant, and is made one tenant's only where the mapping says so.
    fn refuse_nulls(&mut self, table: &'a Table) {
        let (name, column) = (&table.name, self.column(table));
        self.up(
            Phase::Match,
            Step {
                stage: Stage::Expand,
                table: name.clone(),
                what: format!("look for rows whose {column} is null"),
                why: "whose they are has to be said".to_owned(),
                lock: Lock::Reads,
                millis: Estimate(table).scan(),
                act: Act::Check {
                    sql: format!(
                        "select pg_catalog.format('  %s rows: give a default_tenant; or, if they are \
                         for every tenant, move them to a table of their own, which can be shared', \
                         pg_catalog.count(*)) from {name} where {column} is null \
                         having pg_catalog.count(*) > 0"
                    ),
                    search_path: PATH.to_owned(),
                    problem: format!("rows of {name} whose {column} is null"),
                },
                done: Some(check::has_constraint(name, &filled_constraint(table))),
                old_key: None,
            },
        );
    }

    /// Looks for values that are no tenant's, and adds those tenants first if that is wanted.
    fn match_values(&mut self, table: &'a Table, values: Values<'_>) {
        let Values { expression, rest, done, creates, phase } = values;
        let (name, kind) = (&table.name, self.mapping.column_type);
        let path = format!("pg_catalog, {}, pg_temp", table.schema);
        // Grouped first, so that the rule is asked once a row.
        let grouped = format!(
            "select {expression} as value, pg_catalog.count(*) as n \
             from {name} as this{rest} group by 1"
        );
        let key = kind.tenant_key();
        let mut unknown = format!(
            "not exists (select from cloison.tenants t \
             where t.{key}::pg_catalog.text = v.value::pg_catalog.text)"
        );
        // Its rows become tenants in a moment.
        let root = self.targets.iter().map(|target| target.table);
        if let Some(root) = root.into_iter().find(|other| self.is_root(other)) {
            unknown.push_str(&format!(
                " and not exists (select from {} r \
                 where r.{}::pg_catalog.text = v.value::pg_catalog.text)",
                root.name,
                self.column(root)
            ));
        }
        let check = |what: &str, unknown: &str| Step {
            stage: Stage::Expand,
            table: name.clone(),
            what: what.to_owned(),
            why: "a row without a tenant, or with one that is not there, stops it here".to_owned(),
            lock: Lock::Reads,
            millis: Estimate(table).scan(),
            act: Act::Check {
                sql: format!(
                    "select pg_catalog.format('  %s rows: %s', v.n, \
                     case when v.value is null then 'the rule finds no tenant' \
                     else 'there is no tenant ' || v.value::text end) \
                     from ({grouped}) v where v.value is null or {unknown} \
                     order by v.n desc limit 10"
                ),
                search_path: path.clone(),
                problem: format!("rows of {name} that are no tenant's"),
            },
            done: Some(done.to_owned()),
            old_key: None,
        };
        if creates {
            // Before anything is written, and again of what was added.
            self.up(phase, check("see that its rows have a tenant", "false"));
            let add = Step {
                stage: Stage::Expand,
                table: "cloison.tenants".to_owned(),
                what: format!("add the tenants of {name}"),
                why: "rows become theirs; give them names of their own afterwards".to_owned(),
                lock: Lock::Rows,
                millis: Estimate(table).scan(),
                act: Act::Repeatable(vec![
                    format!("set local search_path = {path}"),
                    insert_tenants(kind, &self.tenants_of(table, expression, rest)),
                ]),
                done: Some(done.to_owned()),
                old_key: None,
            };
            self.up(Phase::Tenants, add);
        }
        let phase = if creates { Phase::Tenants } else { phase };
        self.up(phase, check("match its rows with tenants", &unknown));
    }

    /// The tenants of a table's rows, as [`insert_tenants`] takes them.
    fn tenants_of(&self, table: &Table, expression: &str, rest: &str) -> String {
        let tenant = self.tenants().into_iter().find(|(other, _)| other.oid == table.oid);
        match tenant {
            Some((_, Fill::Itself { name, slug })) => format!(
                "(select {expression} as value, ({name})::pg_catalog.text as name, \
                 case when pg_catalog.row_number() over (partition by {slug} order by {expression}) = 1 \
                 then ({slug})::pg_catalog.text end as slug from {} as this{rest}) v",
                table.name
            ),
            _ => format!(
                "(select distinct {expression} as value, null::pg_catalog.text as name, \
                 null::pg_catalog.text as slug from {} as this{rest}) v",
                table.name
            ),
        }
    }

    /// Tenants that the rule has led to since it was tried.
    pub(super) fn add_tenants_of(&mut self, table: &Table, phase: Phase, stage: Stage) {
        if !self.mapping.create_tenants && !self.is_root(table) {
            return;
        }
        let name = &table.name;
        let values = self.tenants_of(table, &format!("this.{}", self.column(table)), "");
        let step = Step {
            stage,
            table: "cloison.tenants".to_owned(),
            what: format!("add the tenants that rows of {name} have by now"),
            why: "the application has gone on writing".to_owned(),
            lock: Lock::Rows,
            millis: Estimate(table).scan(),
            act: Act::Repeatable(vec![
                format!("set local search_path = pg_catalog, {}, pg_temp", table.schema),
                insert_tenants(self.mapping.column_type, &values),
            ]),
            done: Some(check::is_protected(name)),
            old_key: None,
        };
        self.up(phase, step);
    }
}

/// The values of a table that are to be tenants.
struct Values<'v> {
    /// What is read, over the row `this`.
    expression: &'v str,
    /// Which rows, as from WHERE on.
    rest: &'v str,
    /// What says that nobody needs to look any more.
    done: &'v str,
    /// Whether tenants that are not there are added.
    creates: bool,
    /// When it is looked at first.
    phase: Phase,
}

/// Adds the tenants of `values` that are not there: a relation `v` with their keys, and with names and
/// slugs, or null.
fn insert_tenants(kind: ColumnType, values: &str) -> String {
    let key = kind.tenant_key();
    let cast = if kind == ColumnType::Uuid { "::uuid" } else { "" };
    format!(
        "insert into cloison.tenants (name, slug, {key}) \
         select distinct coalesce(nullif(v.name, ''), 'Tenant ' || v.value), \
         case when v.slug ~ '^[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?$' and not exists \
         (select from cloison.tenants t where t.slug = v.slug) then v.slug else \
         'tenant-' || case when v.value::text ~ '^[a-z0-9]([a-z0-9-]{{0,40}}[a-z0-9])?$' \
         then v.value::text else left(md5(v.value::text), 16) end end, \
         v.value::text{cast} from {values} \
         where v.value is not null and not exists \
         (select from cloison.tenants t where t.{key}::text = v.value::text)"
    )
}
