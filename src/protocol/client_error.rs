//! What a client is told when something is refused or fails: an `ErrorResponse`.
//!
//! Written by hand for each case, never made from an error's `Display`: that one is for our log.
//! Manual: "Error and Notice Message Fields"; SQLSTATEs: appendix "PostgreSQL Error Codes".

use std::borrow::Cow;

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::ErrorResponse;

/// Whether the session goes on after the error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// The session goes on; `ReadyForQuery` follows at its time.
    Error,
    /// The connection closes.
    Fatal,
}

/// A function of Postgres' own, by which drivers know an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Routine {
    /// A prepared statement does not fit its tables any more.
    RevalidateCachedQuery,
}

/// An error as a client sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientError {
    /// Whether the session goes on.
    pub severity: Severity,
    /// Five characters from Postgres' own table.
    pub sqlstate: &'static str,
    /// Stable short code, `C` and three digits; the first digit is the stage.
    pub code: &'static str,
    /// What happened, and which value.
    pub message: Cow<'static, str>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// Where in the statement's text, in characters from 1.
    pub position: Option<u32>,
    /// The function of Postgres' own that says the same, where drivers know the error by it.
    pub routine: Option<Routine>,
    /// The kind of statement that was refused, for the log only: never the statement's text.
    pub kind: Option<&'static str>,
}

impl ClientError {
    /// An error that ends the connection.
    pub fn fatal(
        sqlstate: &'static str,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = message.into();
        let (severity, hint, position, routine) = (Severity::Fatal, None, None, None);
        Self { severity, sqlstate, code, message, hint, position, routine, kind: None }
    }

    /// An error that the session survives.
    pub fn error(
        sqlstate: &'static str,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { severity: Severity::Error, ..Self::fatal(sqlstate, code, message) }
    }

    /// Our own bug: the client learns nothing but where to look.
    pub fn internal(session: impl std::fmt::Display) -> Self {
        Self::fatal("XX000", "C900", format!("internal error in session {session}"))
            .hint("The proxy's log has the cause.")
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where in the statement's text it is.
    #[must_use]
    pub fn at(mut self, position: Option<usize>) -> Self {
        self.position = position.and_then(|position| u32::try_from(position).ok());
        self
    }

    /// Bytes that are kept for it beyond its own size.
    pub fn bytes(&self) -> usize {
        self.message.len() + self.hint.as_ref().map_or(0, |hint| hint.len())
    }

    /// Adds the function of Postgres' own that says the same.
    #[must_use]
    pub const fn routine(mut self, routine: Routine) -> Self {
        self.routine = Some(routine);
        self
    }

    /// Adds the kind of statement that was refused, for the log.
    #[must_use]
    pub const fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Appends the `ErrorResponse` to `buffer`.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.sqlstate.to_owned()),
            (b'M', self.message.replace('\0', "")),
            (b'D', format!("cloison: {}", self.code)),
        ];
        if let Some(hint) = &self.hint {
            fields.push((b'H', hint.replace('\0', "")));
        }
        if let Some(position) = self.position {
            fields.push((b'P', position.to_string()));
        }
        if let Some(routine) = self.routine {
            fields.push((b'R', format!("{routine:?}")));
        }
        let start = buffer.len();
        if ErrorResponse::new(fields).encode(buffer).is_err() {
            // Only a text beyond pgwire's limit can fail, and none of ours is that long.
            buffer.truncate(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_fields_that_drivers_read() {
        let mut buffer = BytesMut::new();
        ClientError::fatal("28P01", "C101", "token has expired")
            .hint("Ask for a new one.")
            .encode(&mut buffer);
        let text = String::from_utf8_lossy(&buffer).replace('\0', "|");
        assert!(
            text.ends_with(
                "SFATAL|VFATAL|C28P01|Mtoken has expired|Dcloison: C101|HAsk for a new one.||"
            ),
            "{text}"
        );
    }
}
