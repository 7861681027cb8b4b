//! The tenant holds for every statement, whatever the client does to its transactions.

use super::{A, COUNT, PID, Pair, Wire, done, error, refused, rows, tags};
use crate::support::wire::Message;

const OTHERS: &str = "select count(*) from note where tenant_id <> cloison.get_current_tenant()";

fn counts(answer: &[Message]) -> Vec<String> {
    assert!(!tags(answer).contains('E'), "{}", error(answer).field('M'));
    rows(answer)
}

/// A text, what its rows are for A, and for B.
const SCRIPTS: &[(&str, &[&str], &[&str])] = &[
    ("select count(*) from note; select count(*) from note", &["3", "3"], &["5", "5"]),
    (
        "begin; select count(*) from note; commit; select count(*) from note",
        &["3", "3"],
        &["5", "5"],
    ),
    (
        "begin; select count(*) from note; commit and chain; select count(*) from note; commit",
        &["3", "3"],
        &["5", "5"],
    ),
    (
        "begin; select count(*) from note; rollback and chain; select count(*) from note; rollback",
        &["3", "3"],
        &["5", "5"],
    ),
    (
        "begin; savepoint s; select count(*) from note; rollback to s; select count(*) from note; commit",
        &["3", "3"],
        &["5", "5"],
    ),
    (
        "begin; select count(*) from note; savepoint s; select 1; rollback to s; select count(*) from note; commit",
        &["3", "1", "3"],
        &["5", "1", "5"],
    ),
    (
        "begin; savepoint s; select count(*) from note; release s; select count(*) from note; end",
        &["3", "3"],
        &["5", "5"],
    ),
    ("begin isolation level serializable; select count(*) from note; commit", &["3"], &["5"]),
    (
        "begin; set transaction isolation level repeatable read; select count(*) from note; commit",
        &["3"],
        &["5"],
    ),
    ("start transaction read only; select count(*) from note; commit", &["3"], &["5"]),
    ("begin; set transaction read only; select count(*) from note; commit", &["3"], &["5"]),
    ("reset all; select count(*) from note", &["3"], &["5"]),
    ("begin; reset all; select count(*) from note; commit", &["3"], &["5"]),
    ("set cloison.context = ''; select count(*) from note", &["3"], &["5"]),
    (
        "begin; declare c cursor for select count(*) from note; fetch c; close c; commit",
        &["3"],
        &["5"],
    ),
    (";;select count(*) from note;;", &["3"], &["5"]),
    ("/* begin; */ select count(*) from note -- ; commit", &["3"], &["5"]),
    ("commit; select count(*) from note", &["3"], &["5"]),
    ("end; commit; rollback; select count(*) from note", &["3"], &["5"]),
    ("with x as (select * from note) select count(*) from x", &["3"], &["5"]),
    ("table note limit 0; values ((select count(*) from note))", &["3"], &["5"]),
];

#[tokio::test]
async fn every_statement_of_a_text_has_its_tenant() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for (text, of_a, of_b) in SCRIPTS {
        for (wire, expected) in [(&mut pair.a, of_a), (&mut pair.b, of_b)] {
            let answer = wire.ask(text).await;
            assert!(!tags(&answer).contains('E'), "{text}: {}", error(&answer).field('M'));
            assert_eq!(rows(&answer), **expected, "{text}");
            assert_eq!(answer.last().unwrap().body, b"I", "{text}");
            // Each by itself.
            for piece in text.split(';').filter(|_| !text.contains("/*")) {
                let answer = wire.ask(piece).await;
                assert!(!tags(&answer).contains('E'), "{piece}: {}", error(&answer).field('M'));
                if piece.contains("count(*)") && !piece.contains("declare") {
                    assert_eq!(rows(&answer), expected[..1], "{text}: {piece}");
                }
            }
            assert_eq!(wire.value(OTHERS).await, "0", "{text}");
        }
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn every_message_of_a_pipeline_has_its_tenant() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for (text, of_a, of_b) in SCRIPTS.iter().filter(|(text, ..)| !text.contains("/*")) {
        for (wire, expected) in [(&mut pair.a, of_a), (&mut pair.b, of_b)] {
            for syncs in [false, true] {
                let mut answers = 1;
                for piece in text.split(';').filter(|piece| !piece.trim().is_empty()) {
                    wire.run(piece);
                    if syncs {
                        wire.sync();
                        answers += 1;
                    }
                }
                wire.sync().send().await;
                let mut all = Vec::new();
                for _ in 0..answers {
                    all.extend(wire.answer().await);
                }
                // Outside of a block some mean something else without a Sync between them.
                if !tags(&all).contains('E') {
                    assert_eq!(rows(&all), **expected, "{text}: {syncs}");
                } else {
                    assert!(!syncs, "{text}: {}", error(&all).field('M'));
                    assert!(!rows(&all).iter().any(|row| row != expected[0] && row != "1"));
                }
                wire.ask("rollback").await;
                assert_eq!(wire.value(COUNT).await, expected[0], "{text}: {syncs}");
            }
        }
    }
    pair.check(&pid).await;
    pair.stop().await;
}

#[tokio::test]
async fn an_error_undoes_the_implicit_transaction() {
    let mut pair = Pair::new().await;
    let write = "update note set body = 'x'";
    let written = "select count(*) from note where body = 'x'";
    let answer = pair.a.ask(&format!("{write}; select 1/0; {write}")).await;
    assert_eq!(tags(&answer), "CEZ");
    assert_eq!(pair.a.value(written).await, "0");
    // What was committed in the middle stays; what comes after the error never runs.
    let answer = pair.a.ask(&format!("begin; {write}; commit; select 1/0; select 'never'")).await;
    assert_eq!(tags(&answer), "CCCEZ");
    assert_eq!(pair.a.value(written).await, "3");
    let answer = pair.a.ask("update note set body = 'y'; commit; select 1/0").await;
    // COMMIT outside of a block is a warning, and ends what the text has done.
    assert_eq!(error(&answer).field('C'), "22012");
    assert_eq!(pair.b.value(written).await, "0");
    assert_eq!(pair.b.value(COUNT).await, "5");
    // A failed block stays failed until it is ended, for its client alone.
    let answer = pair.a.ask("begin; select 1/0").await;
    assert_eq!(answer.last().unwrap().body, b"E");
    assert_eq!(refused(&mut pair.a, COUNT).await, "25P02");
    assert_eq!(tags(&done(&mut pair.a, "rollback").await), "CZ");
    assert_eq!(counts(&pair.b.ask(COUNT).await), ["5"]);
    assert_eq!(counts(&pair.a.ask(COUNT).await), ["3"]);
    pair.stop().await;
}

#[tokio::test]
async fn a_reset_in_a_pipeline_costs_nobody_a_row() {
    let mut pair = Pair::new().await;
    let pid = pair.a.value(PID).await;
    for reset in ["reset all", "set cloison.context = ''", "discard temp", "deallocate all"] {
        pair.a.run(reset).run(COUNT).sync().send().await;
        assert_eq!(counts(&pair.a.answer().await), ["3"], "{reset}");
        pair.a.run(COUNT).run(reset).run(COUNT).sync().send().await;
        assert_eq!(counts(&pair.a.answer().await), ["3", "3"], "{reset}");
        assert_eq!(pair.b.value(COUNT).await, "5", "{reset}");
    }
    // It may not stand in a transaction; alone in front of a Sync it does not.
    pair.a.run("discard all").sync().run(COUNT).sync().send().await;
    assert_eq!(tags(&pair.a.answer().await), "12CZ");
    assert_eq!(counts(&pair.a.answer().await), ["3"]);
    pair.a.run("discard all").run(COUNT).sync().send().await;
    let answer = pair.a.answer().await;
    assert!(rows(&answer).iter().all(|row| row == "3"), "{}", tags(&answer));
    pair.a.run(COUNT).run("discard all").sync().send().await;
    assert_eq!(error(&pair.a.answer().await).field('C'), "25001");
    pair.check(&pid).await;
    pair.stop().await;
}

/// Code on the server may end the transaction that was bound for it: what follows has no tenant,
/// and sees an error instead of a row.
#[tokio::test]
async fn a_commit_on_the_server_shows_nobody_a_row() {
    let code = "create procedure ends() language plpgsql as $$ begin commit; \
                perform count(*) from note; end $$; grant execute on procedure ends() to it_app";
    let mut pair = Pair::with(code).await;
    let pid = pair.a.value(PID).await;
    for sql in [
        "do $$ begin commit; perform count(*) from note; end $$",
        "do $$ begin rollback; perform count(*) from note; end $$",
        "call ends()",
    ] {
        assert_eq!(pair.b.value(COUNT).await, "5");
        // Behind our bind, Postgres 18 does not let it end the transaction at all.
        let by_query = refused(&mut pair.a, sql).await;
        let extended = super::extended(&mut pair.a, sql).await;
        for code in [by_query.as_str(), error(&extended).field('C')] {
            assert!(["2D000", "42501"].contains(&code), "{sql}: {code}");
        }
        assert_eq!(pair.b.value(COUNT).await, "5", "{sql}");
        assert_eq!(pair.a.value(COUNT).await, "3", "{sql}");
    }
    // Nor does what is prepared to be committed by anybody.
    for sql in ["prepare transaction 'x'", "commit prepared 'x'", "rollback prepared 'x'"] {
        done(&mut pair.a, "begin; update note set body = 'x'").await;
        pair.a.ask(sql).await;
        pair.a.ask("rollback").await;
        let found = "select count(*) from note where body = 'x'";
        assert_eq!(pair.a.value(found).await, "0", "{sql}");
        assert_eq!(pair.b.value(COUNT).await, "5", "{sql}");
    }
    pair.check(&pid).await;
    pair.stop().await;
}

/// The first statement that needs a tenant stands behind an error on a new server connection.
#[tokio::test]
async fn a_bind_that_was_skipped_is_made_later() {
    let mut pair = Pair::new().await;
    pair.a.run("show nothing").run(COUNT).sync().run(COUNT).sync().send().await;
    assert_eq!(error(&pair.a.answer().await).field('C'), "42704");
    assert_eq!(counts(&pair.a.answer().await), ["3"]);
    assert_eq!(counts(&pair.b.ask(COUNT).await), ["5"]);
    pair.stop().await;
}

/// What the proxy prepares ahead of a statement is left out with it, where something has failed before.
/// Nobody waits for the connection here, so that nothing else ends the pipeline.
#[tokio::test]
async fn what_was_left_out_behind_an_error_is_prepared_for_the_next_part() {
    let size = |config: &mut cloison::config::Config| {
        config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = 3;
    };
    for name in ["", "s"] {
        // Its server connections hold nothing yet but what is prepared on the first.
        let proxy = super::pooled().edit(size).run().await;
        let mut wire = Wire::tenant(&proxy, A).await;
        wire.parse("s", COUNT).sync().send().await;
        wire.answer().await;
        let mut other = Wire::tenant(&proxy, A).await;
        done(&mut other, "begin").await;
        let taken = other.value(PID).await;
        let ask = |wire: &mut Wire| {
            if name.is_empty() {
                wire.parse("", COUNT);
            }
            wire.bind("", name, &[]).execute("", 0).sync();
        };
        for _ in 0..3 {
            wire.run("select no_such");
            ask(&mut wire);
            ask(&mut wire);
        }
        wire.send().await;
        for part in 0..3 {
            assert_eq!(error(&wire.answer().await).field('C'), "42703");
            assert_eq!(counts(&wire.answer().await), ["3"], "{name} {part}");
        }
        assert_ne!(wire.value(PID).await, taken);
        done(&mut other, "commit").await;
        drop((wire, other));
        proxy.stop().await;
    }
}

/// Where nobody else waits, a pipeline goes on behind a reset on the same server connection.
#[tokio::test]
async fn a_discard_is_answered_before_anything_else_goes_out() {
    let size = |config: &mut cloison::config::Config| {
        config.pools.get_mut(&cloison::types::Access::Tenant).unwrap().size = 2;
    };
    let mut pair = Pair::of(super::pooled().edit(size)).await;
    for _ in 0..3 {
        pair.a.value(COUNT).await;
        pair.a.run("discard all").sync().run(COUNT).sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "12CZ");
        assert_eq!(counts(&pair.a.answer().await), ["3"]);
        pair.a.query("discard all").query(COUNT).parse("s", COUNT).sync().send().await;
        assert_eq!(tags(&pair.a.answer().await), "CZ");
        assert_eq!(counts(&pair.a.answer().await), ["3"]);
        assert_eq!(tags(&pair.a.answer().await), "1Z");
        pair.a.bind("", "s", &[]).execute("", 0).sync().send().await;
        assert_eq!(counts(&pair.a.answer().await), ["3"]);
        assert_eq!(pair.b.value(COUNT).await, "5");
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_suspended_tenant_is_shown_out_within_a_second_and_others_are_not() {
    let mut pair = Pair::new().await;
    let superuser = pair.proxy.database.superuser().await;
    let status = "update cloison.tenants set status = $1 where slug = 'a'";
    assert_eq!(pair.a.value(COUNT).await, "3");
    let mut open = Wire::tenant(&pair.proxy, A).await;
    superuser.execute(status, &[&"suspended"]).await.unwrap();
    let suspended = std::time::Instant::now();
    // Between two statements, or as the answer to one.
    let told = loop {
        let answer = pair.a.ask(COUNT).await;
        if tags(&answer).contains('E') {
            break error(&answer).clone();
        }
        assert!(suspended.elapsed() < std::time::Duration::from_secs(2));
        assert_eq!(pair.b.value(COUNT).await, "5");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!((told.field('C'), told.field('V')), ("57P01", "FATAL"));
    assert!(pair.a.receive().await.is_none());
    // So is another of its sessions, which has asked for nothing.
    assert_eq!(error(&open.answer().await).field('C'), "57P01");
    assert_eq!(pair.b.value(COUNT).await, "5");
    superuser.execute(status, &[&"active"]).await.unwrap();
    assert_eq!(Wire::tenant(&pair.proxy, A).await.value(COUNT).await, "3");
    assert_eq!(pair.b.value(COUNT).await, "5");
    pair.stop().await;
}

#[tokio::test]
async fn a_new_signing_key_is_learnt_between_two_transactions() {
    let mut pair = Pair::new().await;
    pair.a.value(COUNT).await;
    let superuser = pair.proxy.database.superuser().await;
    for _ in 0..2 {
        superuser.batch_execute(NEW_KEY).await.unwrap();
        // Whoever comes first may have to ask once more.
        let answer = pair.a.ask(COUNT).await;
        if tags(&answer).contains('E') {
            assert!(["28000", "42501"].contains(&error(&answer).field('C')));
            assert!(rows(&answer).is_empty());
        }
        assert_eq!(pair.a.value(COUNT).await, "3");
        assert_eq!(pair.b.value(COUNT).await, "5");
    }
    assert_eq!(Wire::tenant(&pair.proxy, A).await.value(COUNT).await, "3");
    pair.stop().await;
}

/// Another key, with its pads (RFC 2104).
const NEW_KEY: &str = "
    with k as (select sha256(gen_random_uuid()::text::bytea) as key),
    p as (select key, key || decode(repeat('00', 32), 'hex') as long from k),
    x as (
        select key, string_agg(lpad(to_hex(get_byte(long, i) # 54), 2, '0'), '' order by i) as inn,
            string_agg(lpad(to_hex(get_byte(long, i) # 92), 2, '0'), '' order by i) as out
        from p, generate_series(0, 63) i group by key
    )
    update cloison.signing_key s
    set key = x.key, inner_pad = decode(x.inn, 'hex'), outer_pad = decode(x.out, 'hex'), made_at = now()
    from x";

/// Nothing goes ahead of what runs in a transaction of its own, and reads by no policy.
#[tokio::test]
async fn what_runs_in_no_other_transaction_runs_alone() {
    let mut pair = Pair::new().await;
    for (sql, code) in [
        ("commit prepared 'nothing'", "42704"),
        ("rollback prepared 'nothing'", "42704"),
        ("reindex index concurrently note_pkey", "42501"),
        ("create index concurrently on note (body)", "42501"),
        ("cluster note using note_pkey", "42501"),
    ] {
        assert_eq!(refused(&mut pair.a, sql).await, code, "{sql}");
        assert_eq!(pair.b.value(COUNT).await, "5", "{sql}");
    }
    done(&mut pair.a, "vacuum note").await;
    super::extended(&mut pair.a, "vacuum note").await;
    assert_eq!(pair.a.value(COUNT).await, "3");
    // Behind another statement Postgres refuses it, as ever.
    assert_eq!(refused(&mut pair.a, "select 1; vacuum note").await, "25001");
    pair.stop().await;
}
