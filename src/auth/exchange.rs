//! How the token travels: in the password message, which every driver can send.
//!
//! Manual: "Message Flow", section "Start-up", `AuthenticationCleartextPassword`.

use std::time::SystemTime;

use super::api_key::{ApiKeys, Presented};
use super::{Error, VerifiedClaims, Verifier};
use crate::config::{ClientTls, ClientTlsMode};
use crate::observe::Fault;
use crate::protocol::frame::MAX_LENGTH;
use crate::protocol::message::{self, frontend};
use crate::protocol::{self, ClientError, FrameStream, Violation};
use crate::types::Access;

/// The longest token, and the byte that ends it.
const PASSWORD_LIMIT: usize = 64 * 1024 + 1;

/// Why no token was accepted.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection is in clear text, which the configuration does not allow here.
    #[error("the client asked for a session in clear text")]
    ClearText,
    /// Something else came where the token was due.
    #[error("message of type {0:?} came where the token was due")]
    NoPassword(char),
    /// The password message does not hold one text.
    #[error("the password message is malformed")]
    Malformed,
    /// The client broke the protocol, or went away.
    #[error("the token did not arrive")]
    Protocol(#[from] protocol::Error),
    /// The token itself is not good.
    #[error("the token was not accepted")]
    Token(#[from] Error),
}

/// What clients may present, and who judges it.
#[derive(Debug)]
pub struct Door<'a, K> {
    /// Judges tokens.
    pub verifier: &'a Verifier,
    /// Where a token may be sent in clear text.
    pub tls: &'a ClientTls,
    /// Knows API keys, where they are accepted.
    pub api_keys: Option<&'a K>,
}

impl<K: ApiKeys> Door<'_, K> {
    /// Asks for the token, verifies it, and says what it allows.
    ///
    /// # Errors
    ///
    /// Refuses before it asks when others could read the answer.
    pub async fn authenticate(
        &self,
        client: &mut FrameStream,
        access: Access,
    ) -> Result<VerifiedClaims, ExchangeError> {
        demand_privacy(client, self.tls)?;
        message::authentication_cleartext_password(&mut client.outgoing);
        client.flush().await?;
        let frame = client.read_frame(PASSWORD_LIMIT).await?;
        if frame.tag != frontend::PASSWORD {
            return Err(ExchangeError::NoPassword(frame.tag.into()));
        }
        let token = frame.body.strip_suffix(b"\0").and_then(|text| std::str::from_utf8(text).ok());
        let token = token.filter(|text| !text.contains('\0')).ok_or(ExchangeError::Malformed)?;
        Ok(self.judge(token, access).await?)
    }

    async fn judge(&self, token: &str, access: Access) -> Result<VerifiedClaims, Error> {
        let now = SystemTime::now();
        match (self.api_keys, Presented::of(token)) {
            (Some(keys), Some(key)) => key.verify(access, keys, now).await,
            (_, None) | (None, Some(_)) => self.verifier.verify(token, access, now).await,
        }
    }
}

fn demand_privacy(client: &FrameStream, tls: &ClientTls) -> Result<(), ExchangeError> {
    let socket = client.socket();
    let needs_tls = match tls.mode {
        ClientTlsMode::Require => !socket.is_unix(),
        ClientTlsMode::Allow | ClientTlsMode::Disable => {
            !socket.is_private() && !tls.allow_cleartext_token
        }
    };
    if needs_tls && !socket.is_tls() { Err(ExchangeError::ClearText) } else { Ok(()) }
}

impl ExchangeError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::ClearText | Self::NoPassword(_) | Self::Malformed | Self::Protocol(_) => {
                Fault::Client
            }
            Self::Token(error) => error.fault(),
        }
    }
}

impl From<&ExchangeError> for ClientError {
    fn from(error: &ExchangeError) -> Self {
        match error {
            ExchangeError::ClearText => {
                Self::fatal("28000", "C007", "a token may not be sent here in clear text")
                    .hint("Connect with sslmode=require.")
            }
            ExchangeError::NoPassword(tag) => {
                let message = format!("expected a password message, got message type {tag:?}");
                Self::fatal("08P01", "C008", message)
            }
            ExchangeError::Protocol(protocol::Error::Violation(Violation::Length {
                length: 4..=MAX_LENGTH,
                ..
            })) => Self::fatal("28P01", "C100", "the token is longer than 64 KiB"),
            ExchangeError::Malformed | ExchangeError::Protocol(_) => {
                Self::fatal("08P01", "C009", "malformed password message")
            }
            ExchangeError::Token(error) => {
                let refusal = error.refusal();
                let told = Self::fatal(refusal.sqlstate, refusal.code, refusal.message);
                match refusal.hint {
                    Some(hint) => told.hint(hint),
                    None => told,
                }
            }
        }
    }
}
