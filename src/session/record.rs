//! What a super-admin's client sends is in the audit log before it goes anywhere.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde_json::{Value, json};

use crate::protocol::frame::split_cstr;
use crate::protocol::message::frontend;
use crate::protocol::{ClientError, Gate, Header};
use crate::statement;
use crate::statement::identity::{Mention, Wish};
use crate::tenant::{AuditRecord, Directory};

/// Of a statement's text so many bytes are written down.
const LONGEST_TEXT: usize = 8 * 1024;
/// Names stand ahead of the text, or of values.
const LONGEST_NAME: usize = 1024;
/// Longest wait for a record.
const PATIENCE: Duration = Duration::from_secs(10);

type Writing = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

/// Writes down each statement, and lets it pass when that is committed.
pub struct Recorder {
    directory: Arc<Directory>,
    session: AuditRecord,
    writing: Option<Writing>,
    /// The unnamed statement has been prepared, and not been run.
    is_fresh: bool,
}

impl Recorder {
    /// Records what the client of `session` sends.
    pub const fn new(directory: Arc<Directory>, session: AuditRecord) -> Self {
        Self { directory, session, writing: None, is_fresh: false }
    }

    fn write(&self, detail: Value) -> Writing {
        let record = self.session.statement(detail);
        let directory = Arc::clone(&self.directory);
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
    }

    /// What is written down of such a frame, if it is one that runs something.
    fn detail(&mut self, header: Header, body: &[u8]) -> Option<Value> {
        match header.tag {
            frontend::QUERY => Some(text(body, header.body_len)),
            frontend::PARSE => {
                let (name, rest) = split_cstr(body).unwrap_or((body, b""));
                self.is_fresh = name.is_empty();
                let mut detail = text(rest, header.body_len - (body.len() - rest.len()));
                if !name.is_empty() {
                    detail["statement"] = lossy(name).into();
                }
                Some(detail)
            }
            // What was prepared runs again: its text stands further up.
            frontend::BIND => {
                let (_, rest) = split_cstr(body).unwrap_or((body, b""));
                let (name, _) = split_cstr(rest).unwrap_or((rest, b""));
                let is_on_record = name.is_empty() && std::mem::take(&mut self.is_fresh);
                (!is_on_record).then(|| json!({"statement": lossy(name)}))
            }
            _ => None,
        }
    }
}

/// The beginning of a text that ends with a zero byte, and how long the message is if that is not all.
fn text(body: &[u8], length: usize) -> Value {
    let text = split_cstr(body).map_or(body, |(text, _)| text);
    if let Mention::Statement(found) = statement::identity::mention(text)
        && matches!(found.wish, Wish::Token(..))
    {
        // It is not run: a super-admin takes no token in band.
        return json!({"text": "cloison.jwt", "withheld": "a token"});
    }
    let shown = text.get(..LONGEST_TEXT).unwrap_or(text);
    let mut detail = json!({"text": lossy(shown)});
    if shown.len() < text.len() || split_cstr(body).is_none() {
        detail["bytes"] = length.into();
    }
    detail
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Gate for Recorder {
    fn look(&self, tag: u8) -> usize {
        match tag {
            frontend::QUERY | frontend::PARSE => LONGEST_TEXT + LONGEST_NAME,
            frontend::BIND => 2 * LONGEST_NAME,
            _ => 0,
        }
    }

    fn poll_pass(
        &mut self,
        header: Header,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>> {
        if self.writing.is_none() {
            let Some(detail) = self.detail(header, body) else { return Poll::Ready(Ok(())) };
            self.writing = Some(self.write(detail));
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

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_written_down_in_part() {
        assert_eq!(text(b"select 1\0", 9), json!({"text": "select 1"}));
        let long = [&[b'x'; LONGEST_TEXT + 1][..], b"\0"].concat();
        let kept = text(&long, long.len());
        assert_eq!(kept["text"].as_str().map(str::len), Some(LONGEST_TEXT));
        assert_eq!(kept["bytes"], LONGEST_TEXT + 2);
        assert_eq!(text(b"cut", 70), json!({"text": "cut", "bytes": 70}));
        assert_eq!(text(b"\xff\0", 2), json!({"text": "\u{fffd}"}));
    }

    #[test]
    fn a_token_is_not_written_down() {
        for sql in ["set cloison.jwt = 'a.b'", "select set_config('cloison.jwt', 'a.b', true)"] {
            let kept = text(format!("{sql}\0").as_bytes(), sql.len() + 1).to_string();
            assert!(!kept.contains("a.b") && kept.contains("withheld"), "{kept}");
        }
        // What is run is written down, whatever it says.
        let sql = "delete from note /* set cloison.jwt = 'a.b' */";
        assert_eq!(text(format!("{sql}\0").as_bytes(), sql.len() + 1), json!({"text": sql}));
    }
}
