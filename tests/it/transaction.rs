//! Transaction pooling: tenants by turns on one server connection, whatever mode is under test.

mod cancel;
mod clean;
mod context;
mod deaths;
mod pins;
mod pipeline;
mod plans;
mod residue;
mod settings;
mod sharing;
mod statements;
mod tickets;
mod waiting;

use crate::support::postgres::{A, B, Database};
use crate::support::proxy::{self, Builder, Proxy};
use crate::support::wire::{Message, Wire, error, rows, tags};

const PID: &str = "select pg_backend_pid()";
const COUNT: &str = "select count(*) from note";

/// One server connection for all tenants, who may send anything.
fn pooled() -> Builder {
    proxy::new().by_transaction().pool_size(1).unwatched().unfiltered()
}

/// The same without hardening of what leaves something on a connection, or hides that it does:
/// resetting connections is a defence of its own.
fn open() -> Builder {
    pooled().allowing(&[
        "activity",
        "advisory_locks",
        "hidden_sql",
        "languages",
        "notifications",
        "random_seed",
        "settings",
        "temporary",
    ])
}

/// Two tenants that take turns on one server connection.
struct Pair {
    proxy: Proxy,
    a: Wire,
    b: Wire,
}

impl Pair {
    async fn new() -> Self {
        Self::of(pooled()).await
    }

    async fn of(builder: Builder) -> Self {
        Self::on(builder.run().await).await
    }

    /// Without hardening, with what the superuser makes in the database before the proxy looks at it.
    async fn with(sql: &str) -> Self {
        let database = Database::new();
        database.superuser().await.batch_execute(sql).await.unwrap();
        Self::on(open().run_on(database).await).await
    }

    async fn on(proxy: Proxy) -> Self {
        let (a, b) = (Wire::tenant(&proxy, A).await, Wire::tenant(&proxy, B).await);
        Self { proxy, a, b }
    }

    /// Each sees its own rows and no others, and both on the server connection `pid`.
    #[track_caller]
    fn check(&mut self, pid: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            for (wire, count) in [(&mut self.a, "3"), (&mut self.b, "5")] {
                assert_eq!(wire.value(COUNT).await, count, "{at}");
                assert_eq!(wire.value(PID).await, pid, "{at}");
            }
        }
    }

    async fn stop(self) {
        drop((self.a, self.b));
        self.proxy.stop().await;
    }
}

/// The SQLSTATE of what must fail.
async fn refused(wire: &mut Wire, sql: &str) -> String {
    let answer = wire.ask(sql).await;
    assert!(tags(&answer).contains('E'), "{sql}: {}", tags(&answer));
    error(&answer).field('C').to_owned()
}

/// What must not fail.
async fn done(wire: &mut Wire, sql: &str) -> Vec<Message> {
    let answer = wire.ask(sql).await;
    let failed = answer.iter().find(|message| message.tag == 'E');
    assert!(failed.is_none(), "{sql}: {}", failed.unwrap().field('M'));
    assert_eq!(answer.last().map(|message| message.tag), Some('Z'), "{sql}");
    answer
}

/// By Parse, Bind, Execute, Sync, all unnamed.
async fn extended(wire: &mut Wire, sql: &str) -> Vec<Message> {
    wire.run(sql).sync().send().await;
    wire.answer().await
}

/// Executes what was prepared.
async fn execute(wire: &mut Wire, name: &str) -> Vec<Message> {
    wire.bind("", name, &[]).execute("", 0).sync().send().await;
    wire.answer().await
}

/// The rows of what was prepared.
async fn rows_of(wire: &mut Wire, name: &str) -> Vec<String> {
    rows(&execute(wire, name).await)
}
