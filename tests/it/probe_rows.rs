//! The rows that the isolation suite makes where a tenant has none, and takes away again.

use cloison::kit::verify::{self, Check, Error, ProbeRows};
use tokio_postgres::Client;

use crate::support::postgres::{A, B};
use crate::support::proxy;
use crate::verify::{failures, roads, run, skips, state, with_tables};

/// Those that take a row.
const MADE: &[&str] = &[
    "public.a_child",
    "public.by_hash",
    "public.by_range",
    "public.checked",
    "public.filled",
    "public.history",
    "public.of_types",
    "public.one_of_two",
    "public.parent",
    "public.unique_keys",
];

/// Those that take none, or not for both tenants, and why.
const UNMADE: &[(&str, &str)] = &[
    ("public.keeping", "something keeps rows from being removed"),
    ("public.lost", "the tenant has no row in nowhere for nowhere to point to"),
    ("public.never", "never_at_all"),
    ("public.one_for_all", "one_for_all_is_one_key"),
    ("public.raising", "not on a Saturday"),
    ("public.swallowing", "something kept the row from being inserted"),
    ("public.told_of", "its triggers leave changes in public.history, which would stay"),
    ("public.watched", "its trigger watching is SECURITY DEFINER"),
];

#[tokio::test]
async fn rows_are_made_as_tables_ask_for_them_or_it_is_told_why_not() {
    let proxy = proxy::new().unwatched().run().await;
    let superuser = with_tables(&proxy).await;
    superuser.batch_execute(include_str!("probe_rows.sql")).await.unwrap();
    // A table that is not empty is not all the suite's: what triggers do to it would stay.
    let own = format!("insert into public.history values ('{A}', 'a'), ('{B}', 'b')");
    superuser.batch_execute(&own).await.unwrap();
    let before = state(&superuser, false).await;
    let url = proxy.database.superuser_url();
    for operator in [Some(&url[..]), None] {
        let roads = roads(&proxy, [A, B], operator);
        let report = run(&roads, ProbeRows::Make).await.unwrap();
        assert_eq!(failures(&report), [""; 0]);
        let skipped = skips(&report);
        let of = |table: &str| {
            let start = format!("{table}: ");
            let of = skipped.iter().filter(|skip| skip.starts_with(&start));
            of.map(String::as_str).collect::<Vec<_>>()
        };
        for table in MADE {
            for check in [Check::Own, Check::Read, Check::Update, Check::Move, Check::Delete] {
                let passed = report.of(table, check).filter(|o| o.verdict.is_passed());
                assert_eq!(passed.count(), 2, "{table} {check:?}: {:#?}", of(table));
            }
        }
        for (table, why) in UNMADE {
            let told = of(table);
            assert!(told.iter().any(|skip| skip.contains(why)), "{table}: {why}: {told:#?}");
        }
        assert_eq!(state(&superuser, false).await, before, "{operator:?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn rows_go_or_are_named_where_the_tenants_are_let_in_no_more() {
    let proxy = proxy::new().unwatched().run().await;
    let superuser = with_tables(&proxy).await;
    superuser.batch_execute("select cloison.protect('public.nothing')").await.unwrap();
    let status = |status| {
        format!("update cloison.tenants set status = '{status}' where id in ('{A}', '{B}')")
    };
    let before = rows(&superuser).await;
    let url = proxy.database.superuser_url();
    for operator in [Some(&url[..]), None] {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut stop = Some(stop);
        let suspended = async {
            let _ = stopped.await;
            superuser.batch_execute(&status("suspended")).await.unwrap();
        };
        let mut progress = |doing: &str| {
            if doing.starts_with("tenant B") {
                stop.take();
            }
        };
        let roads = roads(&proxy, [A, B], operator);
        let outcome = verify::run(&roads, ProbeRows::Make, suspended, &mut progress).await;
        superuser.batch_execute(&status("active")).await.unwrap();
        let Err(error) = outcome else { panic!("it was stopped") };
        // The session of a suspended tenant may end ahead of the interruption.
        let told = error.to_string();
        let is_lost = told.contains("could not go on as tenant B: connection closed");
        if operator.is_none() {
            assert!(told.contains("public.nothing {"), "{told}");
            assert!(is_lost || told.contains("interrupted"), "{told}");
            superuser.batch_execute("delete from public.nothing").await.unwrap();
        } else {
            assert!(is_lost || matches!(error, Error::Interrupted), "{error}");
        }
        assert_eq!(rows(&superuser).await, before, "{operator:?}");
    }
    proxy.stop().await;
}

/// The application's rows.
async fn rows(superuser: &Client) -> Vec<String> {
    let state = state(superuser, false).await;
    state.into_iter().filter(|table| !table.starts_with("cloison.")).collect()
}
