//! Stopped, killed, in the way: it goes on where it stands. And the same by hand, from the files.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::support::{adopts, assert_same, make, printed, program, refuses, run_as, schema, value};
use super::vechat::{TABLES, WORDS};
use crate::support::{Database, Server, batch, on_every_major, run, texts};

on_every_major!(the_files_do_the_same_by_psql);

/// Every step of either way.
const MOST_STEPS: usize = 60;

#[test]
fn it_goes_on_behind_every_step() {
    run(stopped_behind_every_step(&Server::shared(18)));
}

async fn stopped_behind_every_step(server: &Server) {
    let database = server.database().await;
    make(&database, TABLES).await;
    let before = schema(&database).await;
    let words = [&WORDS[..], &["--apply"]].concat();
    adopts(&database, &words).await;
    let up = schema(&database).await;
    adopts(&database, &["--down"]).await;

    // Stopped behind each step, and on from there; then taken back from there.
    let mut stops = 0;
    for steps in 1..MOST_STEPS {
        let number = steps.to_string();
        let stop = ["--stop-after", &number];
        let code = run_as(&database, "owner", &[&words[..], &stop[..]].concat()).await.unwrap();
        if code == ExitCode::SUCCESS {
            assert_same(&up, &schema(&database).await, "one go");
            break;
        }
        stops += 1;
        // Odd ones go on, even ones go back; either is stopped as well.
        if steps % 2 == 1 {
            adopts(&database, &["--apply"]).await;
            assert_same(&up, &schema(&database).await, &format!("on from {steps}"));
            let code = run_as(&database, "owner", &["--down", "--stop-after", &number]).await;
            code.unwrap();
        }
        adopts(&database, &["--down"]).await;
        assert_same(&before, &schema(&database).await, &format!("back from {steps}"));
    }
    assert!(stops > 30 && stops < MOST_STEPS - 1, "{stops}");
    assert_eq!(value(&database.owner().await, "select count(*) from vechat_messages").await, "500");
}

async fn the_files_do_the_same_by_psql(server: &Server) {
    let database = server.database().await;
    make(&database, TABLES).await;
    let before = schema(&database).await;
    let folder = std::env::temp_dir().join(format!(
        "cloison-adopt-{}-{}-{}",
        std::process::id(),
        server.major,
        database.name
    ));
    let path = folder.to_str().unwrap().to_owned();
    adopts(&database, &[&WORDS[..], &["--plan", &path]].concat()).await;
    assert_same(&before, &schema(&database).await, "--plan");
    let psql = |name: String| {
        let done = database.psql("owner", &["-A", "-t", "-f", &format!("{path}/{name}")]);
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        printed(&done)
    };
    let stages = ["1-expand", "2-contract", "3-protect"];
    for stage in stages {
        psql(format!("{stage}.up.sql"));
        let answers = psql(format!("{stage}.verify.sql"));
        assert!(answers.lines().count() > 3, "{answers}");
        assert!(answers.lines().all(|line| line.ends_with("|t")), "{answers}");
    }
    let up = schema(&database).await;
    // The record is that of --apply: it is known to be done, and taken back from there.
    adopts(&database, &["--verify"]).await;
    adopts(&database, &["--down"]).await;
    assert_same(&before, &schema(&database).await, "--down of what psql did");
    let early = database.psql("owner", &["-f", &format!("{path}/2-contract.up.sql")]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("Run 1-expand.up.sql first"));
    psql(format!("{}.up.sql", stages[0]));
    adopts(&database, &["--apply"]).await;
    assert_same(&up, &schema(&database).await, "--apply behind the first file");
    for stage in stages.iter().rev() {
        psql(format!("{stage}.down.sql"));
    }
    assert_same(&before, &schema(&database).await, "down by psql");
    adopts(&database, &[&WORDS[..], &["--apply"]].concat()).await;
    assert_same(&up, &schema(&database).await, "--apply");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Kills the program while Postgres works for it: at each statement that it sends.
#[test]
fn killed_anywhere_it_goes_on() {
    run(async {
        let server = Server::shared(15);
        let database = server.database().await;
        make(&database, TABLES).await;
        // Filled in by batches, so that these are interrupted, too.
        batch(
            &database.owner().await,
            "alter table vechat_messages add column organisation_id integer; \
             insert into vechat_messages (conversation_id, sender_id, body) \
             select 1, n, repeat('x', 200) from generate_series(1, 20000) n",
        )
        .await;
        let before = schema(&database).await;
        let words = [&WORDS[..], &["--apply"]].concat();
        adopts(&database, &words).await;
        let up = schema(&database).await;
        adopts(&database, &["--down"]).await;
        assert_same(&before, &schema(&database).await, "--down");

        let mut kills = 0;
        for pause in (0..400).map(|n| Duration::from_millis(n * 16)) {
            let is_through = interrupted(&database, &words, pause).await;
            kills += usize::from(!is_through);
            adopts(&database, &words).await;
            assert_same(&up, &schema(&database).await, &format!("killed after {pause:?}"));
            interrupted(&database, &["--down"], pause).await;
            adopts(&database, &["--down"]).await;
            assert_same(
                &before,
                &schema(&database).await,
                &format!("back, killed after {pause:?}"),
            );
            if is_through {
                break;
            }
        }
        assert!(kills > 10, "{kills}");
        let rows = "select count(*) from vechat_messages";
        assert_eq!(value(&database.owner().await, rows).await, "20500");
    });
}

/// Starts the program, and kills it and its session so long after it has a plan. Whether it was done
/// before that.
async fn interrupted(database: &Database<'_>, words: &[&str], pause: Duration) -> bool {
    let superuser = database.superuser().await;
    let sessions = "select count(*) from pg_stat_activity where application_name = 'cloison adopt'";
    let mut child =
        program(database, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let plans = "select count(*) from cloison.adoptions where state in ('applying', 'undoing')";
    let began = Instant::now();
    let is_through = loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break true;
        }
        if value(&superuser, plans).await != "0" {
            tokio::time::sleep(pause).await;
            break false;
        }
        assert!(began.elapsed() < Duration::from_secs(30));
    };
    child.kill().unwrap();
    let through = child.wait().unwrap().success();
    texts(
        &superuser,
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where application_name = 'cloison adopt' and datname = current_database()",
    )
    .await;
    while value(&superuser, sessions).await != "0" {
        assert!(began.elapsed() < Duration::from_secs(60), "the session stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    is_through || through
}

/// While somebody holds a table it is not waited for in front of everybody, and said who it is.
#[test]
fn a_lock_that_is_not_to_be_had_is_an_error_and_nothing_half_done() {
    run(async {
        let server = Server::shared(17);
        let database = server.database().await;
        make(&database, TABLES).await;
        let before = schema(&database).await;
        let holder = database.owner().await;
        batch(&holder, "set application_name = 'report'; begin; select * from vechat_presence")
            .await;
        let words = ["--apply", "--lock-timeout", "50", "--lock-tries", "3"];
        let error = refuses(&database, &[&WORDS[..], &words[..]].concat()).await;
        assert!(error.contains("no lock on public.vechat_presence within 3 tries"), "{error}");
        assert!(error.contains("(report, idle in transaction"), "{error}");
        // Another one at the same time, or with another mapping, is refused.
        let other = ["--table", "vechat_presence", "--default-tenant", "1", "--apply"];
        let error = refuses(&database, &other).await;
        assert!(error.contains("under way with another mapping"), "{error}");
        let second = database.owner().await;
        batch(&second, "select pg_advisory_lock(5494051832711412)").await;
        let error = refuses(&database, &["--apply"]).await;
        assert!(error.contains("another `cloison adopt` is running"), "{error}");
        batch(&second, "select pg_advisory_unlock_all()").await;

        batch(&holder, "commit").await;
        adopts(&database, &["--apply"]).await;
        adopts(&database, &["--down"]).await;
        assert_same(&before, &schema(&database).await, "--down");
    });
}
