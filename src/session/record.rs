//! What a super-admin's client sends is in the audit log before it goes anywhere.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::protocol::frame::split_cstr;
use crate::protocol::message::frontend;
use crate::protocol::{ClientError, Gate, Header};
use crate::statement;
use crate::statement::identity::{Mention, Wish};
use crate::tenant::{AuditRecord, Directory};

/// Of a statement's text so many bytes are written down, with the hash of all of it.
const LONGEST_TEXT: usize = 8 * 1024;
/// A message with a longer text cannot be looked at as a whole.
const LONGEST_MESSAGE: usize = 16 << 20;
/// Postgres cuts longer names (NAMEDATALEN), so that two of them may be one.
const LONGEST_NAME: usize = 63;
/// A name in another encoding may take four times as many bytes on the server.
const LONGEST_FOREIGN_NAME: usize = LONGEST_NAME / 4;
/// Longest wait for a record.
const PATIENCE: Duration = Duration::from_secs(10);

type Writing = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

/// Commits a record.
type Write = Box<dyn Fn(Value) -> Writing + Send>;

/// Writes down each statement, and lets it pass when that is committed.
pub struct Recorder {
    write: Write,
    writing: Option<Writing>,
    /// The unnamed statement has been prepared in this pipeline, and not been run.
    is_fresh: bool,
}

impl Recorder {
    /// Records what the client of `session` sends.
    pub fn new(directory: Arc<Directory>, session: AuditRecord) -> Self {
        Self::by(Box::new(move |detail| {
            let record = session.statement(detail);
            let directory = Arc::clone(&directory);
            Box::pin(async move {
                let written = tokio::time::timeout(PATIENCE, directory.record(&record)).await;
                let error = match written {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "it took too long".to_owned(),
                };
                tracing::warn!(error, "a statement could not be recorded, and was not run");
                Err(())
            })
        }))
    }

    fn by(write: Write) -> Self {
        Self { write, writing: None, is_fresh: false }
    }

    /// What is written down of such a frame, if it is one that runs something.
    fn detail(&mut self, header: Header, body: &[u8]) -> Option<Value> {
        if refuse_names(header, body).is_some() {
            return None;
        }
        match header.tag {
            frontend::QUERY => {
                self.is_fresh = false;
                Some(text(body))
            }
            frontend::PARSE => {
                let (name, rest) = split_cstr(body)?;
                self.is_fresh = name.is_empty();
                let mut detail = text(rest);
                if !name.is_empty() {
                    detail["statement"] = lossy(name).into();
                }
                Some(detail)
            }
            // What was prepared runs again: its text stands further up.
            frontend::BIND => {
                let (_, rest) = split_cstr(body)?;
                let (name, _) = split_cstr(rest)?;
                let is_on_record = name.is_empty() && std::mem::take(&mut self.is_fresh);
                (!is_on_record).then(|| json!({"statement": lossy(name)}))
            }
            // Behind an error Postgres has skipped what was prepared.
            frontend::SYNC => {
                self.is_fresh = false;
                None
            }
            _ => None,
        }
    }
}

/// Within so many bytes of its body the names of such a message end, if they may pass.
pub(super) const fn names_within(tag: u8) -> usize {
    match tag {
        frontend::PARSE | frontend::EXECUTE => LONGEST_NAME + 1,
        frontend::CLOSE | frontend::DESCRIBE => LONGEST_NAME + 2,
        frontend::BIND => 2 * (LONGEST_NAME + 1),
        _ => 0,
    }
}

/// The error for a message with a name that Postgres would cut: what ran would not be what is on
/// record. `body` may be its beginning, of [`names_within`] bytes. The recorder and the relay both
/// ask, so that what the one lets through unrecorded the other refuses.
pub(super) fn refuse_names(header: Header, body: &[u8]) -> Option<ClientError> {
    let within = names_within(header.tag).min(header.body_len);
    let mut rest = body.get(..within).unwrap_or(body);
    let names = match header.tag {
        frontend::BIND => 2,
        frontend::PARSE | frontend::EXECUTE | frontend::CLOSE | frontend::DESCRIBE => 1,
        _ => 0,
    };
    if matches!(header.tag, frontend::CLOSE | frontend::DESCRIBE) {
        rest = rest.get(1..).unwrap_or_default();
    }
    for _ in 0..names {
        match split_cstr(rest) {
            Some((name, behind)) if is_kept_whole(name) => rest = behind,
            None if within == header.body_len => {
                return Some(ClientError::error("08P01", "C006", "invalid message format"));
            }
            Some(_) | None => {
                let message = "the name of a prepared statement or a portal is longer than \
                               63 bytes, or than 15 where it is not in ASCII";
                let hint = "Postgres would cut it, and the record would be of another statement.";
                return Some(ClientError::error("42622", "C412", message).hint(hint));
            }
        }
    }
    None
}

fn is_kept_whole(name: &[u8]) -> bool {
    name.len() <= if name.is_ascii() { LONGEST_NAME } else { LONGEST_FOREIGN_NAME }
}

/// What is written down of a text that ends with a zero byte: its beginning, without tokens, and
/// its length and hash.
fn text(body: &[u8]) -> Value {
    let text = split_cstr(body).map_or(body, |(text, _)| text);
    let mut detail = match statement::identity::mention(text) {
        // It is not run: a super-admin takes no token in band.
        Mention::Statement(found) if matches!(found.wish, Wish::Token(..)) => {
            json!({"text": "cloison.jwt", "withheld": "a token"})
        }
        Mention::None | Mention::Unknown | Mention::Statement(_) => {
            json!({"text": without_tokens(&lossy(text.get(..LONGEST_TEXT).unwrap_or(text)))})
        }
    };
    let hash = digest::digest(&digest::SHA256, text);
    detail["sha256"] =
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    detail["bytes"] = text.len().into();
    detail
}

/// A text with whatever looks like a JWT or an API key left out.
fn without_tokens(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, behind) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        kept.push_str(before);
        kept.push_str(if is_token(word, behind.is_empty()) { "[a token]" } else { word });
        rest = behind;
    }
    kept + rest
}

/// Whether a word is a JWT or an API key; of the last one the end may be missing.
fn is_token(word: &str, is_last: bool) -> bool {
    /// Shorter ones say nothing.
    const SHORTEST: usize = 36;
    /// `cl_`, 32 digits, `_`, 64 digits.
    const API_KEY: usize = 100;
    let is_jwt = word.contains("eyJ") && (is_last || word.matches('.').count() >= 2);
    let is_key = word.starts_with("cl_") && (is_last || word.len() == API_KEY);
    word.len() >= SHORTEST && (is_jwt || is_key)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Gate for Recorder {
    fn look(&self, header: Header) -> usize {
        match header.tag {
            // One reading: of a part of a text nobody knows what the whole says.
            frontend::QUERY | frontend::PARSE if header.body_len <= LONGEST_MESSAGE => {
                header.body_len
            }
            tag => names_within(tag),
        }
    }

    fn poll_pass(
        &mut self,
        header: Header,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>> {
        if matches!(header.tag, frontend::QUERY | frontend::PARSE)
            && header.body_len > LONGEST_MESSAGE
        {
            return Poll::Ready(Err(too_long(header.body_len)));
        }
        if self.writing.is_none() {
            let Some(detail) = self.detail(header, body) else { return Poll::Ready(Ok(())) };
            self.writing = Some((self.write)(detail));
        }
        let Some(writing) = &mut self.writing else { return Poll::Ready(Ok(())) };
        let written = ready!(writing.as_mut().poll(cx));
        self.writing = None;
        Poll::Ready(written.map_err(|()| {
            ClientError::fatal(
                "08006",
                "C205",
                "the statement was not run: it could not be recorded",
            )
            .hint("The proxy's log has the cause.")
        }))
    }
}

fn too_long(length: usize) -> ClientError {
    let message = format!("a statement of {length} bytes is too long to be recorded");
    ClientError::fatal("54000", "C013", message)
        .hint("At most 16 MiB. Send values as parameters or by COPY.")
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
