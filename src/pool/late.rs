//! What transaction pooling does with a loan: binds in the client's pipeline, and settings.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut, Bytes};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::Bound;
use super::knowledge::Knowledge;
use crate::backend::{MOST_ROWS, Reply};
use crate::protocol::{self, ClientError};
use crate::statement;
use crate::tenant::Scope;
use crate::types::SessionSettings;

const SET: &str = "select pg_catalog.set_config($1, $2, false)";
const READ: &str = "select pg_catalog.current_setting($1, true)";
const FORGET: &str = "discard plans";
/// The portal that it runs in where a client may have an unnamed one.
const FORGETTING: &str = "_cloison_forgetting";
const TEXT_OID: u32 = 25;

/// Why a server connection does not have the settings that its client has asked for.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The connection was lost.
    #[error("the server connection was lost while settings were applied")]
    Lost(#[from] protocol::Error),
    /// Postgres refused a setting.
    #[error("a setting was refused: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// The server's SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// More settings than we look after.
    #[error("too many settings")]
    TooMany,
    /// A value that is not ASCII in an encoding that is not UTF-8.
    #[error("a setting's value could not be read")]
    Unreadable,
}

impl From<&SettingsError> for ClientError {
    fn from(error: &SettingsError) -> Self {
        match error {
            SettingsError::Lost(_) => {
                Self::fatal("08006", "C304", "the connection to Postgres was lost")
            }
            SettingsError::Refused { .. } => {
                let message = "the session's settings could not be applied to a server connection";
                Self::fatal("08006", "C307", message).hint("The proxy's log has the cause.")
            }
            SettingsError::TooMany | SettingsError::Unreadable => {
                let message = "the session's settings cannot be kept with transaction pooling";
                Self::fatal("53400", "C307", message).hint("Set fewer of them.")
            }
        }
    }
}

impl Bound {
    /// Queues what binds the transaction that the next message belongs to. False: there is no
    /// tenant to bind.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn queue_local_bind(&mut self) -> std::io::Result<LocalBindQueued> {
        let Scope::Tenant(tenant) = self.scope else {
            return Ok(LocalBindQueued::Nothing);
        };
        let server = &mut self.loan.server;
        let statement = &self.loan.pool.local_bind;
        let claims = self.claims.as_deref();
        let held = std::mem::replace(server.held_binds.get_mut(claims.is_some()), true);
        if !held {
            statement.parse(claims.is_some(), &mut server.stream.outgoing)?;
        }
        let (mark, now) = (server.mark, SystemTime::now());
        self.signer.bind_local(tenant, claims, mark, statement, now, &mut server.stream.outgoing);
        Ok(match held {
            true => LocalBindQueued::Bind,
            false => LocalBindQueued::ParseAndBind { has_claims: claims.is_some() },
        })
    }

    /// Tables may have changed: every statement is prepared anew.
    pub fn tables_changed(&self) {
        self.loan.pool.tables_changed();
    }

    /// What is known of the role and the database.
    pub fn knowledge(&self) -> Arc<Knowledge> {
        self.loan.pool.knowledge()
    }

    /// Whether somebody may be waiting for a server connection.
    pub fn is_scarce(&self) -> bool {
        self.loan.pool.is_scarce()
    }

    /// Whether the settings on top of what the connection was started with are those of `wanted`.
    pub fn has(&self, wanted: &Arc<SessionSettings>) -> bool {
        let present = &self.loan.server.overrides;
        Arc::ptr_eq(present, wanted) || present == wanted
    }

    /// Makes the settings on top of what the connection was started with those of `wanted`.
    ///
    /// # Errors
    ///
    /// The connection must not be used by the client then.
    pub async fn apply(&mut self, wanted: &Arc<SessionSettings>) -> Result<(), SettingsError> {
        let server = &mut self.loan.server;
        let present = Arc::clone(&server.overrides);
        let out = &mut server.stream.outgoing;
        let (mut changes, mut bears_on_plans) = (0, false);
        for (name, _) in present.iter().filter(|(name, _)| wanted.value(name).is_none()) {
            frontend::parse("", &reset(name), [], out).map_err(protocol::Error::Io)?;
            execute(&[], out)?;
            changes += 1;
            bears_on_plans |= statement::bears_on_plans(name);
        }
        for (name, value) in
            wanted.iter().filter(|(name, value)| present.value(name) != Some(*value))
        {
            frontend::parse("", SET, [TEXT_OID, TEXT_OID], out).map_err(protocol::Error::Io)?;
            execute(&[name, value], out)?;
            changes += 1;
            bears_on_plans |= statement::bears_on_plans(name);
        }
        if bears_on_plans {
            queue_forgetting(out)?;
        }
        frontend::sync(out);
        server.unnamed = 0;
        if changes > MOST_ROWS {
            return Err(SettingsError::TooMany);
        }
        complete(server.round_trip().await?)?;
        server.overrides = Arc::clone(wanted);
        Ok(())
    }

    /// Makes Postgres forget what it has made of statements, those of functions included: each is
    /// analysed and planned anew, under the settings of who runs it next. Manual: "DISCARD".
    ///
    /// # Errors
    ///
    /// The connection must be reset then.
    pub async fn forget_plans(&mut self) -> Result<(), SettingsError> {
        let server = &mut self.loan.server;
        queue_forgetting(&mut server.stream.outgoing)?;
        frontend::sync(&mut server.stream.outgoing);
        server.unnamed = 0;
        complete(server.round_trip().await?)?;
        Ok(())
    }

    /// Queues the same, in a portal that no client names by chance, so that the client's unnamed one
    /// stays what it is.
    ///
    /// # Errors
    ///
    /// Cannot fail for texts of this length.
    pub fn queue_forgetting(&mut self) -> std::io::Result<()> {
        let server = &mut self.loan.server;
        server.unnamed = 0;
        let out = &mut server.stream.outgoing;
        frontend::parse("", FORGET, [], out)?;
        run_in(FORGETTING, &[], out)
    }

    /// Asks for the values of `names`, and takes them for what is set on the connection now.
    ///
    /// # Errors
    ///
    /// What is set is not known then, and the connection must be reset.
    pub async fn read_overrides(
        &mut self,
        names: &[String],
    ) -> Result<Arc<SessionSettings>, SettingsError> {
        let server = &mut self.loan.server;
        if names.len() > MOST_ROWS {
            return Err(SettingsError::TooMany);
        }
        for name in names {
            let out = &mut server.stream.outgoing;
            frontend::parse("", READ, [TEXT_OID], out).map_err(protocol::Error::Io)?;
            execute(&[name], out)?;
        }
        frontend::sync(&mut server.stream.outgoing);
        server.unnamed = 0;
        let rows = complete(server.round_trip().await?)?;
        let is_utf8 = server.statuses().get("client_encoding").is_some_and(|name| name == "UTF8");
        let overrides = Arc::make_mut(&mut server.overrides);
        for (name, row) in names.iter().zip(&rows) {
            match text(row) {
                None => drop(overrides.remove(name)),
                Some(value) if is_utf8 || value.is_ascii() => match std::str::from_utf8(value) {
                    Ok(value) => overrides.set(name.clone(), value.to_owned()),
                    Err(_) => return Err(SettingsError::Unreadable),
                },
                Some(_) => return Err(SettingsError::Unreadable),
            }
        }
        Ok(Arc::clone(&server.overrides))
    }
}

/// What was queued, and so which answers are due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalBindQueued {
    /// `BindComplete` and the rest of one `Execute`.
    Bind,
    /// Nothing.
    Nothing,
    /// `ParseComplete` ahead of that.
    ParseAndBind {
        /// Which of the two statements is prepared.
        has_claims: bool,
    },
}

/// The statement that undoes a setting: a part of its name may be a keyword, and none has quotes.
fn reset(name: &str) -> String {
    format!("reset \"{}\"", name.replace('.', "\".\""))
}

/// Appends `Bind` and `Execute` of the unnamed statement with text parameters.
fn execute(parameters: &[&str], out: &mut bytes::BytesMut) -> Result<(), protocol::Error> {
    Ok(run_in("", parameters, out)?)
}

fn run_in(portal: &str, parameters: &[&str], out: &mut bytes::BytesMut) -> std::io::Result<()> {
    let put = |value: &&str, out: &mut bytes::BytesMut| {
        out.put_slice(value.as_bytes());
        Ok(IsNull::No)
    };
    frontend::bind(portal, "", [], parameters.iter(), put, [], out).map_err(
        |error| match error {
            frontend::BindError::Conversion(error) => std::io::Error::other(error),
            frontend::BindError::Serialization(error) => error,
        },
    )?;
    frontend::execute(portal, 0, out)
}

fn queue_forgetting(out: &mut bytes::BytesMut) -> Result<(), protocol::Error> {
    frontend::parse("", FORGET, [], out)?;
    execute(&[], out)
}

fn complete(reply: Reply) -> Result<Vec<Bytes>, SettingsError> {
    match reply {
        Reply::Complete { rows, .. } => Ok(rows),
        Reply::Refused(sqlstate, message) => Err(SettingsError::Refused { sqlstate, message }),
    }
}

/// The only value of a `DataRow`; `None` for null.
fn text(row: &[u8]) -> Option<&[u8]> {
    let (_, rest) = row.split_first_chunk::<2>()?;
    let (length, value) = rest.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) != u32::MAX).then_some(value)
}
