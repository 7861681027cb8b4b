//! What binds a transaction: nobody makes, keeps or edits it.

use super::{COUNT, PID, Pair, done, error, rows, tags};

const OTHERS: &str = "select count(*) from note where tenant_id <> cloison.get_current_tenant()";

/// Texts that try to run the next statement as somebody else, or as nobody.
const FORGERIES: &[&str] = &[
    "select set_config('cloison.context', '', true)",
    "select set_config('cloison.context', '', false)",
    "do $$ begin perform set_config('cloi' || 'son.context', '', true); end $$",
    "do $$ begin execute 're' || 'set all'; end $$",
    "select set_config('cloison.context', replace(current_setting('cloison.context'), 'aaaaaaaa-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000002'), true)",
    "select set_config('cloison.context', replace(current_setting('cloison.context'), 'aaaaaaaa-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000002'), false)",
    "select set_config('cloison.context', 's' || substr(current_setting('cloison.context'), 2), false)",
    "do $$ begin set local role cloison_tenant; end $$",
    "set local cloison.context = 'x'",
];

#[tokio::test]
async fn nothing_makes_another_of_a_tenant() {
    let mut pair = Pair::new().await;
    for forgery in FORGERIES {
        for text in [
            format!("{forgery}; {COUNT}"),
            format!("begin; {forgery}; {COUNT}; commit"),
            format!("begin; {COUNT}; {forgery}; {COUNT}; {forgery}; commit; {COUNT}"),
        ] {
            let answer = pair.a.ask(&text).await;
            assert!(!rows(&answer).iter().any(|row| row == "5" || row == "8"), "{text}");
            pair.a.ask("rollback").await;
            // What was left behind does not make A of B either.
            assert_eq!(pair.b.value(COUNT).await, "5", "{text}");
            assert_eq!(pair.b.value(OTHERS).await, "0", "{text}");
            assert_eq!(pair.a.value(COUNT).await, "3", "{text}");
        }
        pair.a.run(forgery).run(COUNT).sync().run(COUNT).sync().send().await;
        for _ in 0..2 {
            let answer = pair.a.answer().await;
            assert!(!rows(&answer).iter().any(|row| row == "5" || row == "8"), "{forgery}");
        }
    }
    pair.stop().await;
}

/// A ticket that somebody has read is worth nothing on another connection, nor once it is edited.
#[tokio::test]
async fn a_ticket_is_for_one_connection_as_it_is() {
    let size = |config: &mut cloison::config::Config| {
        config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = 2;
    };
    let mut pair = Pair::of(super::pooled().edit(size)).await;
    done(&mut pair.b, "begin").await;
    let ticket = pair.b.value("select current_setting('cloison.context')").await;
    assert!(ticket.starts_with('p'), "{ticket}");
    let own = pair.a.value("select current_setting('cloison.context')").await;
    let edited = own.replace("aaaaaaaa-0000-4000-8000-000000000001", super::B);
    assert_ne!(own, edited);
    let later = format!("{}{}{}", &own[..37], "9999999999", &own[47..]);
    let session = format!("s{}", &own[1..]);
    for forged in [&ticket, &edited, &later, &session, &own[..60].to_owned()] {
        for local in ["true", "false"] {
            let forge = format!("select set_config('cloison.context', '{forged}', {local})");
            for text in [format!("{forge}; {COUNT}"), format!("begin; {forge}; {COUNT}; commit")] {
                let answer = pair.a.ask(&text).await;
                assert_eq!(error(&answer).field('C'), "42501", "{forged}: {}", tags(&answer));
                pair.a.ask("rollback").await;
                assert_eq!(pair.a.value(COUNT).await, "3");
            }
        }
    }
    assert_eq!(pair.b.value(COUNT).await, "5");
    done(&mut pair.b, "commit").await;
    pair.stop().await;
}

/// What binds a transaction is gone with it: there is nothing to be read, kept or shown to others.
#[tokio::test]
async fn no_ticket_outlives_its_transaction() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    // SHOW needs no tenant, so that nothing is bound ahead of it.
    let show = "show cloison.context";
    for text in [
        COUNT,
        "begin; select count(*) from note; commit",
        "begin; select count(*) from note; rollback",
        "begin; savepoint s; select count(*) from note; release s; commit",
        "select count(*) from note; select 1/0",
        "set cloison.context = 'kept'",
        "begin; select count(*) from note; set cloison.context = 'kept'; commit",
        "select set_config('cloison.context', current_setting('cloison.context'), false)",
    ] {
        for by_query in [true, false] {
            if by_query {
                pair.a.ask(text).await;
            } else {
                for piece in text.split("; ") {
                    pair.a.run(piece);
                }
                pair.a.sync().send().await;
                pair.a.answer().await;
            }
            for wire in [&mut pair.b, &mut pair.a] {
                let seen = rows(&wire.ask(show).await).concat();
                assert_eq!(seen, "", "{text}: {by_query}");
            }
        }
    }
    pair.check(&pid).await;
    pair.stop().await;
}
