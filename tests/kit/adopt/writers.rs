//! While the application writes; and what --verify finds afterwards.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio_postgres::Client;

use super::support::{adopts, make, printed, program, run_as, value};
use super::vechat::{TABLES, WORDS};
use crate::support::{Server, batch, on_every_major, run};

on_every_major!(writers_notice_nothing);

const ROWS: &str = "
    create table accounts (id serial primary key, org int not null);
    create table orders (
        id bigserial primary key,
        account_id int not null references accounts on delete cascade,
        code text not null unique,
        note text
    );
    insert into accounts (org) select 1 + n % 5 from generate_series(1, 200) n;
    insert into orders (account_id, code)
        select 1 + n % 200, 'code ' || n from generate_series(1, 30000) n";

const MAPPING: &str = "
    column = 'organisation_id'
    type = 'smallint'
    create_tenants = true
    [table.accounts]
    tenant = 'org'
    [table.orders]
    parent = 'accounts'
";

/// Four of the application's sessions, which do not know of tenants, up to the stage in which these
/// come in: none of their statements fails, and every row finds its tenant.
async fn writers_notice_nothing(server: &Server) {
    let database = server.database().await;
    make(&database, ROWS).await;
    let file = std::env::temp_dir().join(format!(
        "writers-{}-{}-{}.toml",
        std::process::id(),
        server.major,
        database.name
    ));
    std::fs::write(&file, MAPPING).unwrap();
    let (ends, statements) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut writers = Vec::new();
    for number in 0..4 {
        let session = database.owner().await;
        let writer = write(session, number, Arc::clone(&ends), Arc::clone(&statements));
        writers.push(tokio::spawn(writer));
    }
    let words = ["--mapping", file.to_str().unwrap(), "--apply", "--stop-after", "contract"];
    let code = run_as(&database, "owner", &words).await;
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(format!("{:?}", code.unwrap()), format!("{:?}", ExitCode::from(2)));
    assert!(statements.load(Ordering::Relaxed) > 100, "the writers were hardly about");
    let owner = database.owner().await;
    let wrong = "select count(*) from orders o left join accounts a on a.id = o.account_id \
                 where o.organisation_id is distinct from a.org \
                 or a.organisation_id is distinct from a.org";
    assert_eq!(value(&owner, wrong).await, "0");
    let new = value(&owner, "select count(*) > 30000 from orders").await;
    assert_eq!(new, "t");
    adopts(&database, &["--apply"]).await;
    std::fs::remove_file(file).unwrap();
}

async fn write(session: Client, number: i32, ends: Arc<AtomicBool>, count: Arc<AtomicUsize>) {
    let mut turn = 0;
    while !ends.load(Ordering::Relaxed) {
        turn += 1;
        let row = (turn * 7919 + number * 104_729) % 30_000 + 1;
        for sql in [
            format!(
                "insert into orders (account_id, code) values ({row} % 200 + 1, '{number}-{turn}')"
            ),
            format!("update orders set note = 'seen' where id = {row}"),
            format!("update orders set note = 'again' where code = '{number}-{turn}'"),
            format!("delete from orders where id = {row} + 15000"),
        ] {
            let done = session.batch_execute(&sql).await;
            done.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The seed's questions have an answer that is wrong once something is.
#[test]
fn verify_finds_what_is_wrong() {
    run(async {
        let server = Server::shared(16);
        let database = server.database().await;
        make(&database, TABLES).await;
        let words = ["--keep-keys", "primary", "--apply"];
        adopts(&database, &[&WORDS[..], &words].concat()).await;
        let owner = database.owner().await;
        for (breaks, mends, told) in [
            (
                "alter table vechat_messages disable row level security",
                "alter table vechat_messages enable row level security",
                "NO",
            ),
            (
                "alter table vechat_messages no force row level security",
                "alter table vechat_messages force row level security",
                "NO",
            ),
            (
                "alter table vechat_messages alter organisation_id drop not null; \
                 insert into vechat_messages (conversation_id, sender_id, body, organisation_id) \
                 values (1, 1, 'nobody''s', null)",
                "delete from vechat_messages where organisation_id is null; \
                 alter table vechat_messages alter organisation_id set not null",
                "500  ",
            ),
            (
                "create policy open on vechat_messages using (true)",
                "drop policy open on vechat_messages",
                "policy",
            ),
            (
                "alter table vechat_messages rename column organisation_id to org",
                "alter table vechat_messages rename column org to organisation_id",
                "0  ",
            ),
        ] {
            batch(&owner, breaks).await;
            let done = program(&database, &["--verify"]).output().unwrap();
            let text = printed(&done);
            assert_eq!(done.status.code(), Some(2), "{breaks}: {text}");
            let wrong: Vec<_> = text.lines().filter(|line| line.ends_with("<- wrong")).collect();
            assert_eq!(wrong.len(), 1, "{breaks}: {text}");
            assert!(wrong[0].starts_with("public.vechat_messages"), "{text}");
            assert!(text.contains(told), "{breaks}: {text}");
            batch(&owner, mends).await;
            adopts(&database, &["--verify"]).await;
        }
    });
}
