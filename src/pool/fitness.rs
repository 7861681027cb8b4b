//! Whether a new server connection is what the kit has left: its role has no defaults of its own.
//!
//! Any role may change its own settings, and every later session of it starts with them. Those
//! that are open are not touched, and go on.

use postgres_protocol::message::frontend;

use super::{Error, Pool};
use crate::backend::{self, Reply, ServerConnection};
use crate::observe::Event;
use crate::protocol;

const ASK: &str = include_str!("../../sql/control/role_settings.sql");

impl Pool {
    /// A tenant can give the role that all of them share other defaults, and who logs in next
    /// would have them.
    pub(super) async fn demand_fit(&self, server: &mut ServerConnection) -> Result<(), Error> {
        let settings = match changed_settings(server, &self.role_settings).await? {
            Ok(names) if names.is_empty() => return Ok(()),
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
