//! What a proxy may rely on that binds each transaction: facts about Postgres' own answers, straight
//! from every major, without a proxy between.
//!
//! In a transcript, rows stand in brackets, tags as they are, errors behind `!` and warnings behind
//! `~`, and the status of the transaction at the end.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Database, Server, add_tenant, batch, on_every_major, texts};
use crate::wire::Wire;

on_every_major!(
    a_bind_ahead_holds_for_its_pipeline,
    after_a_bind_that_fails_nothing_runs,
    a_bind_ahead_of_begin_holds_for_the_block,
    a_bind_comes_too_late_for_an_isolation_level,
    a_savepoint_undoes_the_binds_behind_it,
    the_end_of_a_transaction_ends_the_bind,
    an_error_does_not_take_the_bind_from_the_next_block,
    pieces_with_one_sync_are_one_transaction,
    pieces_differ_from_one_query_where_a_block_is_asked_for,
    a_bind_ahead_makes_a_block_from_18_on,
);

const NOTES: &str = "select body from public.note order by 1";
/// What a bind answers.
const BOUND: &str = "[] SELECT 1";

struct World<'a> {
    database: Database<'a>,
    owner: Client,
    a: Uuid,
    b: Uuid,
    wire: Wire,
    proof: String,
}

/// Two tenants with a note each, a table without protection, and a tenant's raw session.
async fn world(server: &Server) -> World<'_> {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    let b = add_tenant(&owner, "b", None).await;
    batch(
        &owner,
        "create table public.note (body text); select cloison.protect('public.note'); \
         create table public.log (n int); grant select, insert on public.log to cloison_tenant",
    )
    .await;
    owner
        .execute("insert into public.note (body, tenant_id) values ('a', $1), ('b', $2)", &[&a, &b])
        .await
        .unwrap();
    let wire = Wire::login(&database, "tenant").await;
    let proof = database.proof(a, &wire.mark).await;
    World { database, owner, a, b, wire, proof }
}

impl World<'_> {
    /// Sends these with one Sync behind them, `bind` standing for the bind.
    async fn pipeline(&mut self, pieces: &[&str]) -> String {
        for piece in pieces {
            if *piece == "bind" {
                self.wire.tenant(self.a, &self.proof);
            } else {
                self.wire.run(piece);
            }
        }
        self.wire.sync().ask().await
    }

    async fn log(&self) -> String {
        texts(&self.owner, "select n from public.log order by n").await.join(" ")
    }
}

async fn a_bind_ahead_holds_for_its_pipeline(server: &Server) {
    let mut world = world(server).await;
    assert_eq!(world.pipeline(&["bind", NOTES]).await, format!("{BOUND} [a] SELECT 1 I"));
    assert_eq!(
        world.pipeline(&["bind", "insert into public.note values ('more')", NOTES]).await,
        format!("{BOUND} INSERT 0 1 [a] [more] SELECT 2 I")
    );
    // After the Sync it is gone, for a pipeline and for a Query.
    assert_eq!(world.pipeline(&[NOTES]).await, "!42501 I");
    assert_eq!(world.wire.query(NOTES).ask().await, "!42501 I");
    // Another tenant on the same connection.
    let proof = world.database.proof(world.b, &world.wire.mark).await;
    let told = world.wire.tenant(world.b, &proof).run(NOTES).sync().ask().await;
    assert_eq!(told, format!("{BOUND} [b] SELECT 1 I"));
}

async fn after_a_bind_that_fails_nothing_runs(server: &Server) {
    let mut world = world(server).await;
    let insert = "insert into public.log values (1)";
    let right = std::mem::replace(&mut world.proof, "0".repeat(64));
    assert_eq!(world.pipeline(&["bind", insert]).await, "!42501 I");
    assert_eq!(world.pipeline(&["bind", "begin", insert, "commit"]).await, "!42501 I");
    assert_eq!(world.log().await, "");

    // What a tenant may leave behind: the bind takes longer than is allowed.
    world.proof = right;
    assert_eq!(world.wire.query("set statement_timeout = 50").ask().await, "SET I");
    batch(&world.owner, "begin; lock table cloison.tenants").await;
    assert_eq!(world.pipeline(&["bind", insert]).await, "!57014 I");
    assert_eq!(world.log().await, "");
    // With a Sync of its own the statement would run, as whoever was there before.
    world.wire.tenant(world.a, &world.proof).sync().run(insert).sync();
    assert_eq!(world.wire.ask().await, "!57014 I");
    assert_eq!(world.wire.ask().await, "INSERT 0 1 I");
    batch(&world.owner, "rollback").await;
    assert_eq!(world.log().await, "1");
}

async fn a_bind_ahead_of_begin_holds_for_the_block(server: &Server) {
    let mut world = world(server).await;
    assert_eq!(world.pipeline(&["bind", "begin"]).await, format!("{BOUND} BEGIN T"));
    assert_eq!(world.pipeline(&[NOTES]).await, "[a] SELECT 1 T");
    assert_eq!(world.wire.query(NOTES).ask().await, "[a] SELECT 1 T");
    // Binding again changes nothing.
    assert_eq!(world.pipeline(&["bind", NOTES]).await, format!("{BOUND} [a] SELECT 1 T"));
    assert_eq!(world.wire.query("commit").ask().await, "COMMIT I");
    assert_eq!(world.wire.query(NOTES).ask().await, "!42501 I");

    assert_eq!(
        world.pipeline(&["bind", "begin", NOTES, "commit", NOTES]).await,
        format!("{BOUND} BEGIN [a] SELECT 1 COMMIT !42501 I")
    );
}

async fn a_bind_comes_too_late_for_an_isolation_level(server: &Server) {
    let mut world = world(server).await;
    let serializable = "begin isolation level serializable";
    assert_eq!(world.wire.query(serializable).ask().await, "BEGIN T");
    assert_eq!(world.pipeline(&["bind", NOTES]).await, format!("{BOUND} [a] SELECT 1 T"));
    let level = "show transaction_isolation";
    assert_eq!(world.wire.query(level).ask().await, "[serializable] SHOW T");
    assert_eq!(world.wire.query("rollback").ask().await, "ROLLBACK I");
    assert_eq!(
        world.pipeline(&[serializable, "bind", NOTES, "commit"]).await,
        format!("BEGIN {BOUND} [a] SELECT 1 COMMIT I")
    );

    assert_eq!(world.pipeline(&["bind", serializable]).await, format!("{BOUND} !25001 I"));
    world.pipeline(&["begin", "bind"]).await;
    let set = "set transaction isolation level serializable";
    assert_eq!(world.wire.query(set).ask().await, "!25001 E");
    assert_eq!(world.wire.query("rollback").ask().await, "ROLLBACK I");
    // What may still be changed after a bind.
    for (mode, told) in [
        ("set transaction read only", "SET T"),
        ("set transaction read write", "!25001 E"),
        ("set transaction deferrable", "!25001 E"),
    ] {
        world.pipeline(&["begin read only", "bind"]).await;
        assert_eq!(world.wire.query(mode).ask().await, told, "{mode}");
        world.wire.query("rollback").ask().await;
    }
}

async fn a_savepoint_undoes_the_binds_behind_it(server: &Server) {
    let mut world = world(server).await;
    assert_eq!(
        world.pipeline(&["begin", "savepoint s", "bind", NOTES]).await,
        format!("BEGIN SAVEPOINT {BOUND} [a] SELECT 1 T")
    );
    assert_eq!(world.wire.query("rollback to s").ask().await, "ROLLBACK T");
    assert_eq!(world.wire.query(NOTES).ask().await, "!42501 E");
    world.wire.query("rollback").ask().await;

    assert_eq!(
        world.pipeline(&["begin", "bind", "savepoint s", NOTES]).await,
        format!("BEGIN {BOUND} SAVEPOINT [a] SELECT 1 T")
    );
    assert_eq!(world.wire.query("rollback to s").ask().await, "ROLLBACK T");
    assert_eq!(world.wire.query(NOTES).ask().await, "[a] SELECT 1 T");
    // A release keeps what was bound behind the savepoint.
    world.wire.query("rollback").ask().await;
    world.pipeline(&["begin", "savepoint s", "bind", "release s"]).await;
    assert_eq!(world.wire.query(NOTES).ask().await, "[a] SELECT 1 T");
    world.wire.query("rollback").ask().await;
    // Back from an error to a savepoint behind the bind.
    world.pipeline(&["begin", "bind", "savepoint s", "select 1/0"]).await;
    assert_eq!(world.pipeline(&["bind"]).await, "!25P02 E");
    assert_eq!(world.wire.query("rollback to s").ask().await, "ROLLBACK T");
    assert_eq!(world.wire.query(NOTES).ask().await, "[a] SELECT 1 T");
}

async fn the_end_of_a_transaction_ends_the_bind(server: &Server) {
    for (end, told) in [
        ("commit", "COMMIT I"),
        ("rollback", "ROLLBACK I"),
        ("commit and chain", "COMMIT T"),
        ("rollback and chain", "ROLLBACK T"),
    ] {
        let mut world = world(server).await;
        world.pipeline(&["begin", "bind"]).await;
        assert_eq!(world.wire.query(end).ask().await, told);
        let denied = world.wire.query(NOTES).ask().await;
        assert!(denied.starts_with("!42501"), "{end}: {denied}");
        world.wire.query("rollback").ask().await;
        // In one pipeline too.
        let denied = world.pipeline(&["bind", "begin", end, NOTES]).await;
        assert!(denied.contains(" !42501 "), "{end}: {denied}");
        world.wire.query("rollback").ask().await;
        assert_eq!(world.pipeline(&["bind", NOTES]).await, format!("{BOUND} [a] SELECT 1 I"));
    }
}

async fn an_error_does_not_take_the_bind_from_the_next_block(server: &Server) {
    let mut world = world(server).await;
    assert_eq!(
        world.pipeline(&["bind", "begin", "select 1/0"]).await,
        format!("{BOUND} BEGIN !22012 E")
    );
    assert_eq!(world.wire.query("commit").ask().await, "ROLLBACK I");
    assert_eq!(world.pipeline(&["bind", NOTES]).await, format!("{BOUND} [a] SELECT 1 I"));
}

/// What the same pieces come to as one Query, and with one Sync behind them.
async fn both_ways(world: &World<'_>, pieces: &[&str]) -> [String; 2] {
    let mut both = [String::new(), String::new()];
    for (way, outcome) in both.iter_mut().enumerate() {
        batch(&world.owner, "truncate public.log").await;
        let mut wire = Wire::login(&world.database, "owner").await;
        if way == 0 {
            wire.query(&pieces.join("; "));
        } else {
            for piece in pieces {
                wire.run(piece);
            }
            wire.sync();
        }
        let told = wire.ask().await;
        wire.query("rollback").ask().await;
        *outcome = format!("{told} | {}", world.log().await);
    }
    both
}

const ONE: &str = "insert into public.log values (1)";
const TWO: &str = "insert into public.log values (2)";
const THREE: &str = "insert into public.log values (3)";

async fn pieces_with_one_sync_are_one_transaction(server: &Server) {
    let world = world(server).await;
    for (pieces, told) in [
        (&[ONE, TWO, "select 1/0"][..], "INSERT 0 1 INSERT 0 1 !22012 I | "),
        (&[ONE, "commit", TWO, "select 1/0"], "INSERT 0 1 ~25P01 COMMIT INSERT 0 1 !22012 I | 1"),
        (&[ONE, "rollback", TWO], "INSERT 0 1 ~25P01 ROLLBACK INSERT 0 1 I | 2"),
        // The block takes in what came before it.
        (&[ONE, "begin", TWO], "INSERT 0 1 BEGIN INSERT 0 1 T | "),
        (
            &[ONE, "begin", TWO, "commit", THREE, "select 1/0"],
            "INSERT 0 1 BEGIN INSERT 0 1 COMMIT INSERT 0 1 !22012 I | 1 2",
        ),
        (&["begin", ONE, "commit", "select 1/0"], "BEGIN INSERT 0 1 COMMIT !22012 I | 1"),
        (&["begin", ONE, "commit and chain", TWO], "BEGIN INSERT 0 1 COMMIT INSERT 0 1 T | 1"),
        // What follows an error is skipped, a ROLLBACK too.
        (&["begin", "select 1/0", TWO, "rollback", THREE], "BEGIN !22012 E | "),
        (&[ONE, "commit and chain", TWO], "INSERT 0 1 !25P01 I | "),
        (&[ONE, "savepoint s", TWO], "INSERT 0 1 !25P01 I | "),
        (&[ONE, "begin isolation level serializable"], "INSERT 0 1 !25001 I | "),
        (&[ONE, "vacuum public.log"], "INSERT 0 1 !25001 I | "),
        (&[ONE, "discard all"], "INSERT 0 1 !25001 I | "),
    ] {
        let [query, pipeline] = both_ways(&world, pieces).await;
        assert_eq!((query.as_str(), pipeline.as_str()), (told, told), "{pieces:?}");
    }
}

/// Several statements of one Query are a block from the first one on. Pieces become one with the
/// second message, and only from 18 on.
async fn pieces_differ_from_one_query_where_a_block_is_asked_for(server: &Server) {
    let world = world(server).await;
    let block = server.major >= 18;
    let lock = "lock table public.log";
    let local = "set local work_mem = '1MB'";
    let cursor = "declare c cursor for select 1";
    for (pieces, query, pipeline) in [
        (&[lock, "select 1"][..], "LOCK TABLE [1] SELECT 1 I | ", "!25P01 I | "),
        (
            &["select 1", lock],
            "[1] SELECT 1 LOCK TABLE I | ",
            if block { "[1] SELECT 1 LOCK TABLE I | " } else { "[1] SELECT 1 !25P01 I | " },
        ),
        (&[cursor, "fetch c"], "DECLARE CURSOR [1] FETCH 1 I | ", "!25P01 I | "),
        (
            &["select 1", cursor, "fetch c"],
            "[1] SELECT 1 DECLARE CURSOR [1] FETCH 1 I | ",
            if block {
                "[1] SELECT 1 DECLARE CURSOR [1] FETCH 1 I | "
            } else {
                "[1] SELECT 1 !25P01 I | "
            },
        ),
        // It warns, and does it nevertheless.
        (&[local, "show work_mem"], "SET [1MB] SHOW I | ", "~25P01 SET [1MB] SHOW I | "),
        (
            &["select 1", local, "show work_mem"],
            "[1] SELECT 1 SET [1MB] SHOW I | ",
            if block {
                "[1] SELECT 1 SET [1MB] SHOW I | "
            } else {
                "[1] SELECT 1 ~25P01 SET [1MB] SHOW I | "
            },
        ),
        // What a block refuses is not refused where it comes first.
        (&["vacuum public.log", ONE], "!25001 I | ", "VACUUM INSERT 0 1 I | 1"),
        (&["discard all", ONE], "!25001 I | ", "DISCARD ALL INSERT 0 1 I | 1"),
        // A Query is read to its end before any of it runs.
        (&[ONE, "selec"], "!42601 I | ", "INSERT 0 1 !42601 I | "),
    ] {
        let told = both_ways(&world, pieces).await;
        assert_eq!(told, [query, pipeline].map(str::to_owned), "{pieces:?}");
    }
}

async fn a_bind_ahead_makes_a_block_from_18_on(server: &Server) {
    let mut world = world(server).await;
    let block = server.major >= 18;
    // Alone they are refused, whatever the framing.
    for (statement, done) in [
        ("lock table public.log in access share mode", "LOCK TABLE"),
        ("declare c cursor for select 1", "DECLARE CURSOR"),
    ] {
        assert_eq!(world.wire.query(statement).ask().await, "!25P01 I");
        let told = world.pipeline(&["bind", statement]).await;
        let expected = if block { done } else { "!25P01" };
        assert_eq!(told, format!("{BOUND} {expected} I"), "{statement}");
    }
    // Here the warning is lost.
    let local = "set local work_mem = '1MB'";
    assert_eq!(world.wire.query(local).ask().await, "~25P01 SET I");
    let told = world.pipeline(&["bind", local]).await;
    assert_eq!(told, format!("{BOUND} {}SET I", if block { "" } else { "~25P01 " }));
    // And what must not be in a transaction is refused behind a bind.
    for statement in ["vacuum public.log", "discard all"] {
        let told = world.pipeline(&["bind", statement]).await;
        assert_eq!(told, format!("{BOUND} !25001 I"), "{statement}");
    }
}
