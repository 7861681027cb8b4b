//! Policies, grants, views: from here on tenants may come in.

use super::step::{Estimate, MOMENT, PATH};
use super::trigger::{drop_trigger, trigger_rule};
use super::{Act, Back, Draft, Fill, Kind, Lock, Phase, Stage, Step, Target, check};
use crate::kit::adopt::catalogue::{LaxPolicy, Table, View};
use crate::kit::adopt::{identifier, literal};

impl Draft<'_> {
    /// Everything that lets tenants in, and nobody else.
    pub(super) fn protect(&mut self) {
        for target in self.targets.clone() {
            if let Kind::Tenant(fill) = &target.kind {
                self.know_tenants(target.table, fill);
            }
            self.protect_table(&target);
        }
        let mut schemas: Vec<&str> = Vec::new();
        for target in self.targets.clone() {
            let schema = target.table.schema.as_str();
            if target.table.needs_usage && !schemas.contains(&schema) {
                schemas.push(schema);
                self.close_schema(schema);
            }
        }
        if self.catalogue.version >= 150_000 {
            for view in self.catalogue.views.iter().filter(|view| view.kind == "v") {
                self.open_view(view);
                if view.needs_usage && !schemas.contains(&view.schema.as_str()) {
                    schemas.push(&view.schema);
                    self.open_schema(view);
                }
            }
        }
    }

    /// Where no foreign key says so.
    fn know_tenants(&mut self, table: &Table, fill: &Fill) {
        let key = self.mapping.column_type.tenant_key();
        let column = self.column(table);
        if key == "id" || (matches!(fill, Fill::Constant(_)) && table.column.is_none()) {
            return;
        }
        if !matches!(fill, Fill::Constant(_)) {
            self.add_tenants_of(table, Phase::Known, Stage::Protect);
        }
        self.up(
            Phase::Known,
            Step {
                stage: Stage::Protect,
                table: table.name.clone(),
                what: "look for rows of tenants that are not there".to_owned(),
                why: "nobody would see them".to_owned(),
                lock: Lock::Reads,
                millis: Estimate(table).scan(),
                act: Act::Check {
                    sql: format!(
                        "select format('  %s rows: there is no tenant with the external_key %s', \
                         v.n, v.value) from (select t.{column}::text as value, count(*) as n \
                         from {} t group by 1) v where not exists (select from cloison.tenants k \
                         where k.{key} = v.value) order by v.n desc limit 10",
                        table.name
                    ),
                    search_path: PATH.to_owned(),
                    problem: format!("rows of {} of unknown tenants", table.name),
                },
                done: None,
                old_key: None,
            },
        );
    }

    fn protect_table(&mut self, target: &Target<'_>) {
        let table = target.table;
        let (name, bare) = (&table.name, self.bare_column(table));
        let mut sql = Vec::new();
        for sequence in &table.free_sequences {
            sql.push(format!(
                "grant usage on sequence {sequence} to cloison_tenant, cloison_superadmin"
            ));
        }
        let (class, why) = match &target.kind {
            Kind::Tenant(fill) => {
                if trigger_rule(table, fill, self.mapping.column_type).is_some() {
                    sql.extend(drop_trigger(table));
                }
                (
                    "tenant",
                    "policies, forced; grants to tenants; the default is the context's tenant",
                )
            }
            Kind::Shared => ("shared", "every tenant reads, none writes"),
            Kind::Global => ("global", "no tenant sees it"),
        };
        let column = match &target.kind {
            Kind::Tenant(_) => format!(", {}", literal(bare)),
            Kind::Shared | Kind::Global => String::new(),
        };
        for LaxPolicy { name: policy, .. } in &table.lax_policies {
            let roles: Vec<_> = self.mapping.policies_to.iter().map(|r| identifier(r)).collect();
            sql.push(format!("alter policy {policy} on {name} to {}", roles.join(", ")));
        }
        sql.push(format!("select cloison.protect({}, '{class}'{column})", literal(name)));
        let is_there = check::is_protected(name);
        self.up(
            Phase::Protect,
            Step {
                stage: Stage::Protect,
                table: name.clone(),
                what: format!("protect as {class}"),
                why: why.to_owned(),
                lock: Lock::Moment,
                millis: MOMENT * 4,
                act: Act::Together(sql),
                done: Some(is_there.clone()),
                old_key: None,
            },
        );
        let sql = self.unprotect(target);
        self.down(
            Back::Unprotect,
            Step {
                stage: Stage::Protect,
                table: name.clone(),
                what: "unprotect".to_owned(),
                why: "tenants see nothing of it from here on; others what they saw before"
                    .to_owned(),
                lock: Lock::Moment,
                millis: MOMENT * 4,
                act: Act::Together(sql),
                done: Some(format!("not {is_there}")),
                old_key: None,
            },
        );
    }

    /// What `protect()` changed, as it was before.
    fn unprotect(&self, target: &Target<'_>) -> Vec<String> {
        let table = target.table;
        let (name, column) = (&table.name, self.column(table));
        let mut sql = vec![format!("select cloison.unprotect({})", literal(name))];
        if let Kind::Tenant(fill) = &target.kind {
            // The column stays a while, and the application writes on.
            if let Some(expression) = trigger_rule(table, fill, self.mapping.column_type) {
                sql.extend(self.make_trigger(table, &expression));
            } else if let Fill::Constant(tenant) = fill {
                sql.push(format!(
                    "alter table {name} alter column {column} set default {}",
                    literal(tenant)
                ));
            } else if let Some(default) = table.column.as_ref().and_then(|c| c.default.as_ref()) {
                sql.push(format!("alter table {name} alter column {column} set default {default}"));
            }
            if let Some(key) = self.tenants_key(table) {
                sql.push(format!(
                    "alter table {name} add constraint {} {}",
                    identifier(&key.bare),
                    key.definition
                ));
            }
        }
        for sequence in &table.free_sequences {
            sql.push(format!(
                "revoke usage on sequence {sequence} from cloison_tenant, cloison_superadmin"
            ));
        }
        for LaxPolicy { name: policy, roles } in &table.lax_policies {
            sql.push(format!("alter policy {policy} on {name} to {roles}"));
        }
        let on = if table.has_rls { "enable" } else { "disable" };
        sql.push(format!("alter table {name} {on} row level security"));
        if table.forces_rls {
            sql.push(format!("alter table {name} force row level security"));
        }
        sql.extend(table.grants.iter().cloned());
        sql
    }

    /// A view in a schema of its own is read by nobody who may not use the schema.
    fn open_schema(&mut self, view: &View) {
        let schema = &view.schema;
        self.up(
            Phase::View,
            Step {
                stage: Stage::Protect,
                table: schema.clone(),
                what: "let tenants use the schema".to_owned(),
                why: format!("they read {} there", view.name),
                lock: Lock::Moment,
                millis: MOMENT,
                act: Act::Together(vec![format!(
                    "grant usage on schema {schema} to cloison_tenant, cloison_superadmin"
                )]),
                done: Some(format!(
                    "has_schema_privilege('cloison_tenant', to_regnamespace({})::oid, 'usage')",
                    literal(schema)
                )),
                old_key: None,
            },
        );
        self.close_schema(schema);
    }

    fn close_schema(&mut self, schema: &str) {
        let text = literal(schema);
        self.down(
            Back::View,
            Step {
                stage: Stage::Protect,
                table: schema.to_owned(),
                what: "close the schema to tenants".to_owned(),
                why: "as it was before".to_owned(),
                lock: Lock::Moment,
                millis: MOMENT,
                act: Act::Together(vec![format!(
                    "revoke usage on schema {schema} from cloison_tenant, cloison_superadmin"
                )]),
                done: Some(format!(
                    "(not exists (select from pg_namespace n, aclexplode(n.nspacl) a \
                 where n.oid = to_regnamespace({text}) and a.grantee in \
                 ('cloison_tenant'::regrole, 'cloison_superadmin'::regrole)) \
                 or exists (select from cloison.protected_tables p join pg_class c \
                 on c.oid = p.relation where c.relnamespace = to_regnamespace({text})))"
                )),
                old_key: None,
            },
        );
    }

    fn open_view(&mut self, view: &View) {
        let name = &view.name;
        let mut up = Vec::new();
        let mut down = Vec::new();
        let option = |is_on: bool| {
            format!(
                "exists (select from pg_class c where c.oid = to_regclass({}) and \
                 coalesce(array_to_string(c.reloptions, ' ') ~ 'security_invoker=(true|on|1|yes)', \
                 false) = {is_on})",
                literal(name)
            )
        };
        let granted = format!(
            "exists (select from pg_class c, aclexplode(c.relacl) a where c.oid = to_regclass({}) \
             and a.grantee = 'cloison_tenant'::regrole and a.privilege_type = 'SELECT')",
            literal(name)
        );
        let mut is_up = vec![granted.clone()];
        let mut is_down = Vec::new();
        if !view.is_invoker {
            up.push(format!("alter view {name} set (security_invoker = true)"));
            down.push(if view.has_option {
                format!("alter view {name} set (security_invoker = false)")
            } else {
                format!("alter view {name} reset (security_invoker)")
            });
            is_up.push(option(true));
            is_down.push(option(false));
        }
        if !view.is_granted {
            up.push(format!("grant select on {name} to cloison_tenant, cloison_superadmin"));
            down.push(format!("revoke select on {name} from cloison_tenant, cloison_superadmin"));
            is_down.push(format!("not {granted}"));
        }
        if up.is_empty() {
            return;
        }
        let step = |what: &str, why: &str, sql, done: Vec<String>| Step {
            stage: Stage::Protect,
            table: name.clone(),
            what: what.to_owned(),
            why: why.to_owned(),
            lock: Lock::Moment,
            millis: MOMENT,
            act: Act::Together(sql),
            done: Some(done.join(" and ")),
            old_key: None,
        };
        let why = "who reads it needs a right on its tables, too, and sees what that shows him";
        let what = "run as whoever reads it, and let tenants";
        self.up(Phase::View, step(what, why, up, is_up));
        self.down(Back::View, step("run as before", "as it was before", down, is_down));
    }
}
