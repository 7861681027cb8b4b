//! What becomes of the actions of foreign keys, and of the application's code in them.

use super::{Draft, Kind};
use crate::kit::adopt::catalogue::ForeignKey;

impl Draft<'_> {
    /// Says it of each key whose action begins at a table of tenants.
    pub(super) fn actions(&mut self) {
        let catalogue = self.catalogue;
        for key in &catalogue.foreign_keys {
            let acts = |action: &Option<String>| {
                action.as_ref().is_some_and(|action| action != "RESTRICT")
            };
            let is_tenants = self.tenant_table(key.referenced).is_some()
                || catalogue
                    .table(key.referenced)
                    .is_some_and(|parent| parent.class.as_deref() == Some("tenant"));
            if key.partition_of.is_some() || !is_tenants {
                continue;
            }
            if acts(&key.on_delete) || acts(&key.on_update) {
                self.note_action(key);
            }
        }
    }

    fn note_action(&mut self, key: &ForeignKey) {
        let (bare, table) = (&key.bare, &key.table_name);
        let is_guarded = self.tenant_table(key.table).is_some()
            || self
                .catalogue
                .table(key.table)
                .is_some_and(|child| child.class.as_deref() == Some("tenant"));
        let is_partitioned =
            self.catalogue.table(key.referenced).is_some_and(|parent| parent.kind == "p");
        let code = key.row_code.as_ref().or(key.statement_code.as_ref());
        if let (false, Some(code)) = (is_guarded, code) {
            self.note(table, format!(
                "the action of its foreign key {bare} runs {code} past row security, and the table \
                 is not one of tenants, which would be guarded: no tenant is served until {bare} has \
                 no action (`cloison lint` has the SQL)"
            ));
            return;
        }
        if !is_guarded {
            return;
        }
        match &key.row_code {
            Some(code) if is_partitioned => self.note(table, format!(
                "the action of its foreign key {bare} runs {code}: tenants are refused what would \
                 come to that, because {} is partitioned",
                key.referenced_name
            )),
            Some(code) => self.note(table, format!(
                "the action of its foreign key {bare} runs {code}: in a tenant's session it is \
                 done in the tenant's name from then on, and what runs has the tenant's rights"
            )),
            None => {}
        }
        if let Some(code) = &key.statement_code {
            self.note(table, format!(
                "the action of its foreign key {bare} would run {code} past row security: tenants \
                 are refused it until cloison.fence_trigger() has been called for that"
            ));
        }
        if !key.has_tenant && self.stays_as_it_is(key) {
            self.note(table, format!(
                "the action of its foreign key {bare} can come to another tenant's row, which is \
                 refused: such a row keeps the one that it refers to from being deleted"
            ));
        }
    }

    /// Whether the key will not hold the tenant.
    fn stays_as_it_is(&self, key: &ForeignKey) -> bool {
        let is_tenants = |oid| {
            self.targets
                .iter()
                .any(|target| target.table.oid == oid && matches!(target.kind, Kind::Tenant(_)))
        };
        !(is_tenants(key.table) && is_tenants(key.referenced)) || self.stays(key).is_some()
    }
}
