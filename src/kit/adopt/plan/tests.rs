use serde_json::{Value, json};

use super::*;
use crate::kit::adopt::mapping::ColumnType;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn table(oid: i64, bare: &str, rows: i64) -> Table {
    from(json!({
        "oid": oid, "name": format!("public.{bare}"), "schema": "public", "bare": bare, "kind": "r",
        "persistence": "p", "is_partition": false, "is_typed": false, "is_ours_or_postgres": false,
        "has_children": false, "is_child": false, "row_type_in": null, "is_extensions": false,
        "owner": "app", "may_alter": true, "has_rls": false, "forces_rls": false, "class": null,
        "needs_usage": true, "column": null, "leaves": [format!("public.{bare}")], "rows": rows,
        "bytes": rows * 100, "has_foreign": false, "policies": [], "lax_policies": [],
        "update_triggers": [], "rules": [], "grants": [], "free_sequences": []
    }))
}

fn key(table: i64, oid: i64, bare: &str, kind: &str, column: &str) -> Key {
    from(json!({
        "table": table, "oid": oid, "bare": bare, "index": format!("public.{bare}"), "kind": kind,
        "is_valid": true, "columns": [column], "attributes": [column],
        "definition": format!("CREATE UNIQUE INDEX {bare} ON public.t USING btree ({column})"),
        "body": format!("btree ({column})"), "method": "btree", "is_constraint": kind == "primary",
        "constraint_definition": null, "is_deferrable": false, "is_deferred": false,
        "is_temporal": false, "predicate": null, "index_comment": null, "constraint_comment": null,
        "is_clustered": false, "is_replica_identity": false, "tablespace": null,
        "has_statistics": false, "tenant_fits": true, "is_random": false
    }))
}

fn reference(table: i64, referenced: i64, index: i64, on_delete: Option<&str>) -> ForeignKey {
    from(json!({
        "table": table, "table_name": "public.line", "referenced": referenced,
        "referenced_name": "public.bill", "bare": "line_bill_fkey", "index": index,
        "definition": "FOREIGN KEY (bill) REFERENCES public.bill(id)", "columns": ["bill"],
        "referenced_columns": ["id"], "is_match_full": false, "on_update": null,
        "on_delete": on_delete, "set_columns": [], "is_deferrable": false, "is_deferred": false,
        "is_validated": true, "is_unusual": false, "comment": null, "has_tenant": false
    }))
}

/// A bill and its lines.
fn catalogue(version: i32, on_delete: Option<&str>) -> Catalogue {
    Catalogue {
        version,
        database: "shop".into(),
        role: "app".into(),
        owns_kit: true,
        column: "tenant_id".into(),
        tables: vec![table(1, "bill", 50_000), table(2, "line", 10)],
        names: [("bill", "public.bill"), ("line", "public.line")]
            .map(|(name, full)| (name.to_owned(), full.to_owned()))
            .into(),
        keys: vec![
            key(1, 10, "bill_pkey", "primary", "id"),
            key(2, 20, "line_pkey", "primary", "id"),
            key(2, 21, "line_note", "plain", "note"),
        ],
        foreign_keys: vec![reference(2, 1, 10, on_delete)],
        ..Catalogue::default()
    }
}

fn mapping() -> Mapping {
    Mapping {
        tables: vec!["bill".into(), "line".into()],
        column_type: ColumnType::Integer,
        default_tenant: Some("1".into()),
        create_tenants: true,
        ..Mapping::default()
    }
}

#[test]
fn stages_follow_each_other_on_either_way() {
    let plan = make(&mapping(), &catalogue(150_000, Some("SET NULL"))).unwrap();
    let up: Vec<Stage> = plan.up.iter().map(|step| step.stage).collect();
    let down: Vec<Stage> = plan.down.iter().map(|step| step.stage).collect();
    assert!(up.is_sorted(), "{up:?}");
    assert!(down.iter().rev().is_sorted(), "{down:?}");
    for step in plan.up.iter().chain(&plan.down) {
        let can_repeat = matches!(step.act, Act::Check { .. } | Act::Repeatable(_));
        assert!(step.done.is_some() || can_repeat, "{step:?}");
        assert_ne!(step.lock, Lock::Blocking, "{step:?}");
    }
    // As it is kept.
    let kept = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(kept).unwrap(), plan);
}

#[test]
fn a_large_table_is_served_while_its_key_changes() {
    let plan = make(&mapping(), &catalogue(150_000, None)).unwrap();
    let looks: Vec<_> =
        plan.up.iter().filter(|s| s.what.contains("who look")).map(|s| s.table.as_str()).collect();
    assert_eq!(looks, ["public.bill"; 2]);
}

#[test]
fn a_key_stays_with_a_foreign_key_that_cannot_change() {
    let plan = make(&mapping(), &catalogue(140_000, Some("SET NULL"))).unwrap();
    let widened: Vec<_> = plan.up.iter().filter(|s| s.what.contains(" is (")).collect();
    assert_eq!(widened.len(), 1, "{widened:?}");
    assert_eq!(widened[0].what, "line_pkey is (tenant_id, id)");
    assert!(plan.notes.iter().any(|note| note.text.contains("from Postgres 15 on")));
    // A foreign key that can: over a second key, because the first was asked to stay.
    let keep = Mapping { keep_keys: vec!["bill_pkey".into()], ..mapping() };
    let plan = make(&keep, &catalogue(150_000, Some("SET NULL"))).unwrap();
    assert!(plan.up.iter().any(|step| step.what == "index tenant_id_bill_pkey (tenant_id, id)"));
    let adds =
        plan.up.iter().find(|step| step.what == "add line_bill_fkey with tenant_id").unwrap();
    let Act::Together(sql) = &adds.act else { panic!("{adds:?}") };
    assert!(sql[0].ends_with(
        "foreign key (tenant_id, bill) references public.bill (tenant_id, id) \
         on delete SET NULL (bill) not valid"
    ));
}

#[test]
fn code_in_an_action_is_told_before_it_begins() {
    let told = |catalogue: &Catalogue, mapping: &Mapping| {
        let plan = make(mapping, catalogue).unwrap();
        let notes = plan.notes.iter().map(|note| format!("{}: {}", note.about, note.text));
        notes.filter(|note| note.contains("the action of")).collect::<Vec<_>>()
    };
    let mut catalogue = catalogue(150_000, Some("CASCADE"));
    assert_eq!(told(&catalogue, &mapping()), [""; 0]);
    catalogue.foreign_keys[0].row_code = Some("trigger counted".into());
    catalogue.foreign_keys[0].statement_code = Some("trigger summed".into());
    let notes = told(&catalogue, &mapping());
    assert!(notes[0].contains("line_bill_fkey runs trigger counted: in a tenant's"), "{notes:?}");
    assert!(notes[1].contains("would run trigger summed past row security"), "{notes:?}");
    // A table that no guard stands on.
    let global = Mapping { global: vec!["line".into()], tables: vec!["bill".into()], ..mapping() };
    let notes = told(&catalogue, &global);
    assert!(notes[0].contains("no tenant is served until line_bill_fkey has no"), "{notes:?}");
    // A key that cannot be widened.
    catalogue.foreign_keys[0].is_match_full = true;
    let notes = told(&catalogue, &mapping());
    assert!(notes[2].contains("can come to another tenant's row"), "{notes:?}");
}

#[test]
fn all_that_stands_in_the_way_is_said_at_once() {
    let mut catalogue = catalogue(150_000, None);
    catalogue.owns_kit = false;
    catalogue.tables[0].is_typed = true;
    catalogue.tables[1].may_alter = false;
    let refusals = make(&mapping(), &catalogue).unwrap_err();
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    let unnamed = Mapping { default_tenant: None, ..mapping() };
    let refusals = make(&unnamed, &catalogue).unwrap_err();
    assert!(refusals[0].why.contains("nothing says whose"), "{refusals:?}");
}
