//! Events as lines of the log, on standard error.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::{Level, debug, enabled, error, info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{self, LogFormat};
use crate::types::{Access, Address, ServerPid, SessionId};

use super::event::{Event, Fault};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter has a wrong syntax.
    #[error("the log filter is not valid")]
    Filter(#[from] ParseError),
    /// Something else in this process has set up a log already.
    #[error("the log is set up already")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Lines that wait for whoever reads standard error. More are lost, and counted.
const MOST_LINES: usize = 8192;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// The target of lines about refused statements, for `log_filter`.
const REFUSED: &str = "cloison::refused";

/// True while the log has lines about refused statements.
pub(super) fn has_refused_statements() -> bool {
    enabled!(target: REFUSED, Level::DEBUG)
}

/// Lines that have been lost until now.
pub(super) fn lost_lines() -> usize {
    LOST.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Writes what is left of the log when it is dropped, for a second at most.
#[must_use]
pub struct Log {
    _worker: WorkerGuard,
}

/// Starts to write the log of this process, by a thread of its own: nobody waits for whoever reads
/// it. To be called once; the lines that wait are written as long as the answer lives.
///
/// # Errors
///
/// If the filter is wrong, or there is a log already.
pub fn init(log: &config::Log) -> Result<Log, Error> {
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST_LINES);
    let (writer, worker) = builder.thread_name("log").finish(io::stderr());
    let _ = LOST.set(writer.error_counter());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(writer);
    match log.format {
        LogFormat::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(Error::Installed)?;
    Ok(Log { _worker: worker })
}

/// Writes one event. Names of fields are stable, messages hold no values.
pub(super) fn write(event: &Event) {
    match event {
        Event::AcceptFailed { address, reason } => {
            error!(listen.addr = %address, reason, "cannot accept a client");
        }
        Event::BindFailed { address, reason } => {
            error!(listen.addr = %address, reason, "cannot listen");
        }
        Event::CancelDropped { client_addr } => {
            warn!(client.addr = %client_addr, "too many cancel requests: one was not looked at");
        }
        Event::CancelForwarded { session } => info!(%session, "cancel request forwarded"),
        Event::CancelUnknown => info!("cancel request for no session"),
        Event::CheckoutTimedOut { pool, waited } => {
            warn!(%pool, waited.ms = millis(*waited), "no server connection became free in time");
        }
        Event::ClientConnected { session, client_addr } => {
            info!(%session, client.addr = %client_addr, "client connected");
        }
        Event::ClientRefused { session, fault, code, sqlstate, detail } => {
            write_refusal(*session, *fault, code, sqlstate, detail);
        }
        Event::ClientsDropped { address } => write_dropped(address),
        Event::DrainFinished { duration } => {
            info!(duration.ms = millis(*duration), "drain finished");
        }
        Event::DrainStarted => info!("drain started"),
        Event::EndsUnknown { reason } => {
            error!(reason, "the database does not tell whose sessions have to end");
        }
        Event::IdentityRefused { session, code, asked_for, reason } => {
            info!(%session, code, tenant.asked_for = asked_for, reason, "in-band identity refused");
        }
        Event::KeyFileKept { rule, reason } => {
            error!(rule, reason, "key file cannot be used: the keys of before stay in force");
        }
        Event::KeyFileRead { rule, keys } => info!(rule, keys, "key file read again"),
        Event::NoKeyFiles => info!("no issuer has a key file to read again"),
        Event::Listening { address } => info!(listen.addr = %address, "listening"),
        Event::LinesLost { count } => {
            error!(count, "lines of the log were lost: whoever reads it is too slow");
        }
        Event::LintCured { key } => info!(key, "a critical finding is gone"),
        Event::LintFailed { reason } => error!(reason, "the database could not be looked over"),
        Event::LintFound { key, detail, fix } => {
            error!(key, detail, fix, "tenants may see each other's rows");
        }
        Event::NotifyFailed { reason } => write_unnotified(reason),
        Event::Ready => info!("ready"),
        Event::RefusalsUntold { what, count } => {
            warn!(what, count, "too many lines a second: some were left out");
        }
        Event::ServerConnected { pool, pid, duration } => write_connected(*pool, *pid, *duration),
        Event::ServerDiscarded { pool, pid, reason } => write_discarded(*pool, *pid, reason),
        Event::ServerLockedOut { pool, role, reason, fix } => {
            write_locked_out(*pool, role, reason, fix);
        }
        Event::ServerUnfit { pool, role, settings } => write_unfit(*pool, role, settings),
        Event::PoolFull { pool, waiting, lasted } => write_full(*pool, *waiting, *lasted),
        Event::PoolRelieved { pool, lasted } => write_relieved(*pool, *lasted),
        Event::PoolLearnt { pool, resets_because } => {
            write_learnt(*pool, resets_because.as_deref())
        }
        Event::SessionEnded { session, reason, duration } => {
            info!(%session, reason, duration.ms = millis(*duration), "session ended");
        }
        Event::SignalIgnored { signal } => write_ignored(signal),
        Event::SessionsEnding { count } => info!(count, "sessions have to end"),
        Event::StatementRefused { .. } => write_statement(event),
        Event::CheckFailed { .. }
        | Event::RunsAsRoot
        | Event::Waiting { .. }
        | Event::WaitingOver { .. } => write_start(event),
        Event::SessionStarted { .. } => write_started(event),
    }
}

fn write_started(event: &Event) {
    let Event::SessionStarted { session, access, tenant, client_addr, issuer, holder, user } =
        event
    else {
        return;
    };
    let tenant = tenant.map(tracing::field::display);
    info!(
        %session, %access, tenant, client.addr = %client_addr, token.issuer = issuer,
        token.holder = holder, user, "session started"
    );
}

/// What is told ahead of the first client.
fn write_start(event: &Event) {
    if let Event::CheckFailed { subject, value, cause, cure } = event {
        warn!(subject, value, cause, cure, "not as it should be; clients are served");
    }
    if let Event::Waiting { what, cause, cure, waited, next } = event {
        let (waited, next) = (millis(*waited), millis(*next));
        warn!(what, cause, cure, waited.ms = waited, next.ms = next, "waiting: not ready");
    }
    if let Event::WaitingOver { waited } = event {
        info!(waited.ms = millis(*waited), "everything is there that was waited for");
    }
    if matches!(event, Event::RunsAsRoot) {
        warn!("running as root, which serving does not need: use a user of its own");
    }
}

fn write_statement(event: &Event) {
    if let Event::StatementRefused { session, code, kind, access, tenant, subject } = event {
        let tenant = tenant.map(tracing::field::display);
        debug!(
            target: REFUSED,
            %session, code, kind, %access, tenant, subject, "statement refused"
        );
    }
}

fn write_connected(pool: Access, pid: ServerPid, duration: Duration) {
    info!(%pool, server.pid = pid.0, duration.ms = millis(duration), "server connected");
}

fn write_discarded(pool: Access, pid: ServerPid, reason: &str) {
    info!(%pool, server.pid = pid.0, reason, "server connection discarded");
}

fn write_relieved(pool: Access, lasted: Duration) {
    info!(%pool, lasted.ms = millis(lasted), "no client waits for a server connection");
}

fn write_unnotified(reason: &str) {
    error!(reason, "cannot tell the service manager at NOTIFY_SOCKET how far serve is");
}

fn write_ignored(signal: &str) {
    warn!(signal, "signal ignored: TERM, INT and QUIT end the proxy, HUP reads key files again");
}

fn write_dropped(address: &Address) {
    warn!(
        listen.addr = %address,
        "far more connections than max_client_conn: some are closed unheard"
    );
}

fn write_full(pool: Access, waiting: usize, lasted: Duration) {
    warn!(
        %pool,
        waiting,
        lasted.ms = millis(lasted),
        "clients wait for a server connection: all of pool_size are in use"
    );
}

fn write_learnt(pool: Access, resets_because: Option<&str>) {
    match resets_because {
        Some(because) => info!(
            %pool,
            because,
            "server connections are reset after every transaction; harmless_functions can vouch"
        ),
        None => info!(%pool, "server connections that are proven clean are not reset"),
    }
}

fn write_locked_out(pool: Access, role: &str, reason: &str, fix: &str) {
    error!(
        %pool,
        role,
        reason,
        fix,
        "Postgres does not let the role in any more: its password is perhaps not the configured \
         one, changed by somebody who has the role"
    );
}

fn write_unfit(pool: Access, role: &str, settings: &str) {
    error!(
        %pool,
        role,
        settings,
        "the role's own defaults have been changed: new server connections are refused; \
         ALTER ROLE … RESET ALL, or name them in role_settings"
    );
}

fn write_refusal(session: SessionId, fault: Fault, code: &str, sqlstate: &str, detail: &str) {
    match fault {
        Fault::Client => info!(%session, %fault, code, sqlstate, detail, "client refused"),
        Fault::Proxy => error!(%session, %fault, code, sqlstate, detail, "client refused"),
        Fault::Server => warn!(%session, %fault, code, sqlstate, detail, "client refused"),
    }
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use crate::types::Address;

    use super::*;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[track_caller]
    fn check(event: &Event, expected: &str) {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || write(event));
        assert_eq!(String::from_utf8(lines.0.lock().unwrap().clone()).unwrap(), expected);
    }

    /// The line is off unless a filter asks for its target, and then has no text of a client's.
    #[test]
    fn refused_statements_are_told_where_the_filter_asks_for_them() {
        let event = Event::StatementRefused {
            session: SessionId(7),
            code: "C405",
            kind: Some("LISTEN"),
            access: Access::Tenant,
            tenant: None,
            subject: Some("tester".to_owned()),
        };
        for (filter, is_told) in [("info", false), ("info,cloison::refused=debug", true)] {
            let lines = Lines::default();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(lines.clone())
                .with_ansi(false)
                .with_target(false)
                .without_time()
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                assert_eq!(has_refused_statements(), is_told);
                write(&event);
            });
            let expected = if is_told {
                "DEBUG statement refused session=7 code=\"C405\" kind=\"LISTEN\" access=tenant \
                 subject=\"tester\"\n"
            } else {
                ""
            };
            assert_eq!(String::from_utf8(lines.0.lock().unwrap().clone()).unwrap(), expected);
        }
    }

    #[test]
    fn fault_decides_the_level() {
        for (fault, level, word) in [
            (Fault::Client, " INFO", "client"),
            (Fault::Proxy, "ERROR", "proxy"),
            (Fault::Server, " WARN", "server"),
        ] {
            let event = Event::ClientRefused {
                session: SessionId(7),
                fault,
                code: "CL101",
                sqlstate: "28P01",
                detail: "token expired".to_owned(),
            };
            let fields = format!(r#"fault={word} code="CL101" sqlstate="28P01""#);
            let expected = format!("client refused session=7 {fields} detail=\"token expired\"");
            check(&event, &format!("{level} {expected}\n"));
        }
    }

    #[test]
    fn what_is_absent_has_no_field() {
        let event = |tenant| Event::SessionStarted {
            session: SessionId(7),
            access: Access::Tenant,
            tenant,
            client_addr: Address::Unix("/run/.s.PGSQL.6432".into()),
            issuer: "tenants".to_owned(),
            holder: tenant.is_some().then(|| "ada".to_owned()),
            user: "app".to_owned(),
        };
        let id = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";
        let named = "token.holder=\"ada\" ";
        for (tenant, field, holder) in
            [(None, String::new(), ""), (id.parse().ok(), format!("tenant={id} "), named)]
        {
            let expected = format!(
                " INFO session started session=7 access=tenant {field}\
                 client.addr=/run/.s.PGSQL.6432 token.issuer=\"tenants\" {holder}user=\"app\"\n"
            );
            check(&event(tenant), &expected);
        }
    }
}
