//! Whether a new server connection is what the kit has left: its role has the password that is
//! configured, and no defaults of its own.
//!
//! Any role may change its own password and settings, and every later session of it needs the one
//! and starts with the others. Those that are open are not touched, and go on.

use std::sync::atomic::Ordering;

use postgres_protocol::message::frontend;

use super::{Error, Pool};
use crate::backend::{self, Reply, ServerConnection};
use crate::observe::Event;
use crate::protocol;
use crate::types::{Access, ProcessMark, SessionSettings};

/// Gives the role its password back.
const CURE: &str = include_str!("../../sql/control/give_password.sql");
const ASK: &str = include_str!("../../sql/control/role_settings.sql");
const ASK_MARK: &str = include_str!("../../sql/control/this_process.sql");

/// The role is not let in, and the password is wrong: the SQLSTATEs by which Postgres says so.
const NOT_LET_IN: [&str; 2] = ["28000", "28P01"];

impl Pool {
    /// Remembers a login that went well; says of one that does not any more what may have happened
    /// to the role.
    pub(super) fn judge_login(
        &self,
        login: Result<ServerConnection, backend::Error>,
    ) -> Result<ServerConnection, Error> {
        match login {
            Ok(server) => {
                self.has_logged_in.store(true, Ordering::Relaxed);
                Ok(server)
            }
            Err(backend::Error::Refused { sqlstate, message, .. })
                if NOT_LET_IN.contains(&sqlstate.as_str())
                    && self.has_logged_in.load(Ordering::Relaxed) =>
            {
                let (pool, user) = (self.key.access, self.target.user());
                self.observer.observe(Event::ServerLockedOut {
                    pool,
                    role: user.to_owned(),
                    reason: format!("{message} ({sqlstate})"),
                    fix: cure(user, pool),
                });
                Err(Error::LockedOut(user.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A tenant can give the role that all of them share other defaults, and who logs in next
    /// would have them.
    pub(super) async fn demand_fit(&self, server: &mut ServerConnection) -> Result<(), Error> {
        let settings = match changed_settings(server, &self.role_settings).await? {
            Ok(names) if names.is_empty() => return self.ask_mark(server).await,
            Ok(names) => names.join(", "),
            Err(refusal) => refusal,
        };
        self.observer.observe(Event::ServerUnfit {
            pool: self.key.access,
            role: self.target.user().to_owned(),
            settings: settings.clone(),
        });
        Err(Error::Unfit(settings))
    }

    /// Asks what stands for the server process. Nothing is good there that is signed without it.
    pub(super) async fn ask_mark(&self, server: &mut ServerConnection) -> Result<(), Error> {
        frontend::query(ASK_MARK, &mut server.stream.outgoing).map_err(lost)?;
        let mark = match server.round_trip().await.map_err(backend::Error::from)? {
            Reply::Complete { rows, .. } => {
                rows.last().and_then(|row| ProcessMark::parse(text(row)))
            }
            Reply::Refused(sqlstate, message) => {
                return Err(Error::NoMark(format!("{message} ({sqlstate})")));
            }
        };
        server.mark = mark.ok_or_else(|| Error::NoMark("the answer makes no sense".to_owned()))?;
        Ok(())
    }
}

fn lost(error: std::io::Error) -> backend::Error {
    protocol::Error::Io(error).into()
}

/// Logs in as a pool does for a client, and out again. With `known`, the role has no defaults but
/// these.
///
/// # Errors
///
/// As the first client would meet them.
pub async fn try_login(
    target: &backend::Target,
    known: Option<&[String]>,
) -> Result<(), super::Error> {
    let mut server = target.connect(&SessionSettings::default()).await?;
    let changed = match known {
        Some(known) => changed_settings(&mut server, known).await?,
        None => Ok(Vec::new()),
    };
    server.terminate().await;
    match changed {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) => Err(Error::Unfit(names.join(", "))),
        Err(refusal) => Err(Error::Unfit(refusal)),
    }
}

/// The statement for a superuser, its comment left out.
fn cure(role: &str, pool: Access) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let statement = CURE.lines().filter(|line| !line.starts_with("--")).collect::<String>();
    statement.replace("{role}", &role).replace("{pool}", pool.as_str())
}

/// The names of settings that the connection's role has been given, and `known` does not hold; or
/// why Postgres did not tell.
///
/// # Errors
///
/// The connection may be lost.
async fn changed_settings(
    server: &mut ServerConnection,
    known: &[String],
) -> Result<Result<Vec<String>, String>, backend::Error> {
    frontend::query(ASK, &mut server.stream.outgoing).map_err(protocol::Error::Io)?;
    let rows = match server.round_trip().await? {
        Reply::Complete { rows, .. } => rows,
        Reply::Refused(sqlstate, message) => return Ok(Err(format!("{message} ({sqlstate})"))),
    };
    let settings = rows.iter().map(|row| String::from_utf8_lossy(text(row)).into_owned());
    // The value may be anything, so the log gets the name alone.
    let name = |setting: String| setting.split('=').next().unwrap_or_default().to_owned();
    Ok(Ok(settings.filter(|setting| !known.contains(setting)).map(name).collect()))
}

/// The only value of a `DataRow`.
fn text(row: &[u8]) -> &[u8] {
    const BEFORE: usize = 2 + 4;
    row.get(BEFORE..).unwrap_or_default()
}
