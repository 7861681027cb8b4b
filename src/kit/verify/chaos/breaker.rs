//! What ends server connections, and Postgres itself.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::sleep;

use super::{Arena, add, lock};
use crate::kit::verify::Road;
use crate::kit::verify::session::{Session, told};

/// Ends a few server connections of tenants, again and again.
pub(super) async fn servers(arena: Arc<Arena>, road: Road) {
    let logins: Vec<String> = arena.tenants.iter().map(|tenant| tenant.login.clone()).collect();
    while !arena.is_over() {
        let Ok(session) = Session::open(&road).await else {
            // Postgres may be starting.
            sleep(INTERVAL).await;
            continue;
        };
        loop {
            sleep(INTERVAL).await;
            if arena.is_over() {
                session.close().await;
                return;
            }
            match session.client().query_one(TERMINATE, &[&logins]).await {
                Ok(row) => {
                    let ended: i64 = row.try_get(0).unwrap_or(0);
                    add(&arena.counts.servers_killed, u64::try_from(ended).unwrap_or(0));
                }
                Err(error) if error.code().is_some_and(|code| code.code() == "42501") => {
                    let why = told(&error);
                    arena.could_not(format!("server connections could not be ended: {why}"));
                    return;
                }
                // Postgres is gone, or going.
                Err(_) => break,
            }
        }
    }
}

/// Restarts Postgres once, in the middle.
pub(super) async fn restart(arena: Arc<Arena>, command: String) {
    sleep(arena.plan.duration / 2).await;
    let run = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    match run {
        Ok(status) if status.success() => {
            add(&arena.counts.restarts, 1);
            lock(&arena.progress).restarted = Some(Instant::now());
        }
        Ok(status) => {
            arena.could_not_restart(format!("the command that restarts Postgres: {status}"))
        }
        Err(error) => {
            arena.could_not_restart(format!("the command that restarts Postgres: {error}"))
        }
    }
}

/// Between two blows.
const INTERVAL: Duration = Duration::from_millis(150);

/// One or two of the tenants' server connections, whatever they are at.
const TERMINATE: &str = "
    select count(*) filter (where pg_catalog.pg_terminate_backend(a.pid))
    from (
        select a.pid
        from pg_catalog.pg_stat_activity a
        where
            a.datname = pg_catalog.current_database() and a.usename = any ($1)
            and a.pid <> pg_catalog.pg_backend_pid()
        order by pg_catalog.random()
        limit 2) a";
