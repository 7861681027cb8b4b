//! What stands in the way of adopting one table.

use super::{Draft, Kind, Target};
use crate::kit::adopt::catalogue::{LaxPolicy, Table};

/// What is wrong, and what to do about it.
type Fault = (String, String);

impl Draft<'_> {
    /// Everything that is wrong with a table.
    pub(super) fn faults(&self, target: &Target<'_>) -> Vec<Fault> {
        let table = target.table;
        let is_tenants = matches!(target.kind, Kind::Tenant(_));
        let mut found = unsupported(table, is_tenants);
        let mut fault = |yes: bool, why: &str, help: &str| {
            if yes {
                found.push((why.to_owned(), help.to_owned()));
            }
        };
        fault(
            !table.may_alter,
            &format!("it belongs to {}", table.owner),
            "run it as its owner or as a superuser",
        );
        if let (true, Some(column)) = (is_tenants, &table.column) {
            let (kind, has) = (self.mapping.column_type.as_str(), &column.type_name);
            let why = format!("{} is of type {has} there, not {kind}", self.column(table));
            fault(has != kind, &why, "name its type with --type");
            let why = "the column is generated, so it cannot name the tenant";
            fault(column.is_generated, why, "choose another name with --column");
        }
        let blind = table.has_rls && table.forces_rls && !self.catalogue.is_superuser;
        fault(
            is_tenants && blind && !table.policies.is_empty(),
            "row security is forced there by policies of its own, so its owner may not see all rows",
            "run it as a superuser",
        );
        if self.mapping.policies_to.is_empty() {
            for LaxPolicy { name: policy, .. } in &table.lax_policies {
                let why = format!(
                    "its own policy {policy} is permissive and for everybody, so for tenants, too"
                );
                let help = format!(
                    "say in the mapping for whom such policies are, policies_to = [\"ROLE\"], or do \
                     it: alter policy {policy} on {} to ROLE",
                    table.name
                );
                fault(true, &why, &help);
            }
        }
        found
    }
}

/// What no mapping and no right changes about it: such tables can be left out all together.
pub(super) fn unsupported(table: &Table, is_tenants: bool) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut fault = |yes: bool, why: &str, help: &str| {
        if yes {
            found.push((why.to_owned(), help.to_owned()));
        }
    };
    let is_table = table.kind == "r" || table.kind == "p";
    fault(!is_table, "it is not a table", "adopt the tables below it");
    fault(table.persistence == "t", "it is a temporary table", "leave it out");
    fault(table.is_ours_or_postgres, "it is not a table of the application", "leave it out");
    fault(table.is_partition, "it is a partition", "adopt what it is a partition of");
    fault(table.is_extensions, "it belongs to an extension", "leave it out");
    fault(
        table.has_foreign,
        "it has a foreign table among its partitions, which row security does not reach",
        "detach that",
    );
    fault(
        table.has_children || table.is_child,
        "it inherits or is inherited from, so that its keys do not hold for all its rows",
        "leave it out with skip = \"unsupported\", or use partitions",
    );
    fault(
        is_tenants && table.is_typed,
        "it is a table OF a type, which takes no further column",
        "ALTER TABLE … NOT OF first",
    );
    if let (true, Some(user)) = (is_tenants, &table.row_type_in) {
        let why = format!("its row type is that of a column of {user}");
        fault(true, &why, "a row with a tenant would stand in there; leave it out");
    }
    found
}
