//! What super-admins may change, and that no function of the kit forgets to ask for the permit.

use crate::support::{Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(every_function_that_changes_something_demands_the_permit,);

/// Functions that a super-admin may call without it: three write no more than the record of the
/// call, and three work on the temporary table of a COPY, whose rows reach a table of others only by
/// an INSERT of the caller.
const EXEMPT: [&str; 6] = [
    "cloison.drop_copy_table()",
    "cloison.enable_superadmin_mode()",
    "cloison.make_copy_table(oid,name[],boolean)",
    "cloison.renew_superadmin(text,text)",
    "cloison.set_tenant(uuid)",
    "cloison.stage_copy(oid,text[],boolean,boolean)",
];

/// Every function of the kit that super-admins may call and that Postgres lets write, with a call of
/// it.
const MAY_WRITE: &str = "
    select p.oid::regprocedure::text || ' ' || format(
        'select cloison.%I(%s)', p.proname,
        (select string_agg('null::' || format_type(t, null), ', ' order by n)
         from unnest(p.proargtypes) with ordinality a (t, n)))
    from pg_proc p
    where p.pronamespace = 'cloison'::regnamespace
      and has_function_privilege('cloison_superadmin', p.oid, 'execute')
      and p.provolatile = 'v'
    order by 1";

async fn every_function_that_changes_something_demands_the_permit(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    add_tenant(&owner, "a", None).await;
    let admin = database.session("superadmin").await;
    let found = texts(&owner, MAY_WRITE).await;
    let exempt = |line: &&String| EXEMPT.iter().any(|name| line.starts_with(name));
    let calls: Vec<&str> = found
        .iter()
        .filter(|line| !exempt(line))
        .map(|line| &line[line.find("select ").unwrap()..])
        .collect();
    assert!(calls.len() >= 5, "{found:?}");
    assert_eq!(found.iter().filter(exempt).count(), EXEMPT.len(), "{found:?}");
    for call in &calls {
        assert!(denied(&admin, call).await.contains("for super-admins"), "{call}");
    }
    batch(&admin, "select cloison.enable_superadmin_mode()").await;
    for call in &calls {
        assert!(denied(&admin, call).await.contains("read-only"), "{call}");
    }
    // It is the permit that they miss: with it they do what they are for, or say what else is wrong.
    database.permit_writes(&admin).await;
    for call in &calls {
        if let Err(error) = admin.batch_execute(call).await {
            let told = error.as_db_error().unwrap().message().to_owned();
            assert!(
                !told.contains("read-only") && !told.contains("super-admins"),
                "{call}: {told}"
            );
        }
    }
}
