//! How the token travels: in the password message, which every driver can send, or by SASL
//! OAUTHBEARER, on a port of its own.
//!
//! Manual: "Message Flow", section "Start-up", `AuthenticationCleartextPassword` and
//! `AuthenticationSASL`.

use std::time::SystemTime;

use super::api_key::{self, ApiKeys};
use super::oauth::{self, Presented};
use super::{Error, VerifiedClaims, Verifier};
use crate::config::{ClientTls, ClientTlsMode, Oauth};
use crate::observe::Fault;
use crate::protocol::frame::MAX_LENGTH;
use crate::protocol::message::{self, frontend};
use crate::protocol::{self, ClientError, FrameStream, Violation};
use crate::types::Access;

/// The longest token, and the byte that ends it.
const PASSWORD_LIMIT: usize = 64 * 1024 + 1;

/// The longest token, and what OAUTHBEARER puts around it.
const SASL_LIMIT: usize = 64 * 1024 + 512;

/// Why no token was accepted.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection is in clear text, which the configuration does not allow here.
    #[error("the client asked for a session in clear text")]
    ClearText,
    /// Something else came where the token was due.
    #[error("message of type {0:?} came where the token was due")]
    NoPassword(char),
    /// The client asked where to get a token. Its kind does so before it presents one.
    #[error("the client has no token yet")]
    NoToken,
    /// The password message does not hold one text.
    #[error("the password message is malformed")]
    Malformed,
    /// The client broke the protocol, or went away.
    #[error("the token did not arrive")]
    Protocol(#[from] protocol::Error),
    /// The message in which OAUTHBEARER presents a token is not one.
    #[error("the OAUTHBEARER message is malformed: {0}")]
    Sasl(&'static str),
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
    /// What OAUTHBEARER tells, if the client came to its port; `None`: it is asked for a password.
    pub oauth: Option<&'a Oauth>,
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
        match self.oauth {
            None => self.by_password(client, access).await,
            Some(oauth) => self.by_oauth(client, access, oauth).await,
        }
    }

    async fn by_password(
        &self,
        client: &mut FrameStream,
        access: Access,
    ) -> Result<VerifiedClaims, ExchangeError> {
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

    /// One message in which the client presents its token. If that is no good, one in which it is
    /// told where to get a better one, and one in which it gives up.
    async fn by_oauth(
        &self,
        client: &mut FrameStream,
        access: Access,
        oauth: &Oauth,
    ) -> Result<VerifiedClaims, ExchangeError> {
        message::authentication_sasl(&[oauth::MECHANISM], &mut client.outgoing);
        client.flush().await?;
        let frame = client.read_frame(SASL_LIMIT).await?;
        if frame.tag != frontend::PASSWORD {
            return Err(ExchangeError::NoPassword(frame.tag.into()));
        }
        let response = oauth::initial_response(&frame.body).map_err(ExchangeError::Sasl)?;
        let refused = match oauth::first_message(response).map_err(ExchangeError::Sasl)? {
            Presented::Nothing => ExchangeError::NoToken,
            Presented::Token(token) => match self.judge(token, access).await {
                Ok(claims) => return Ok(claims),
                Err(error) => ExchangeError::Token(error),
            },
        };
        message::authentication_sasl_continue(&oauth::refusal(oauth), &mut client.outgoing);
        client.flush().await?;
        let frame = client.read_frame(SASL_LIMIT).await?;
        match (frame.tag, &*frame.body) {
            (frontend::PASSWORD, oauth::GIVEN_UP) => Err(refused),
            (frontend::PASSWORD, _) => Err(ExchangeError::Sasl("it does not give up")),
            (tag, _) => Err(ExchangeError::NoPassword(tag.into())),
        }
    }

    async fn judge(&self, token: &str, access: Access) -> Result<VerifiedClaims, Error> {
        let now = SystemTime::now();
        match (self.api_keys, api_key::Presented::of(token)) {
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
            Self::ClearText
            | Self::NoPassword(_)
            | Self::NoToken
            | Self::Malformed
            | Self::Protocol(_)
            | Self::Sasl(_) => Fault::Client,
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
            ExchangeError::NoToken => Self::fatal("28000", "C115", "no token was presented")
                .hint("The client has been told where to get one."),
            ExchangeError::Sasl(reason) => {
                let message = format!("malformed OAUTHBEARER message: {reason}");
                Self::fatal("08P01", "C116", message)
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
