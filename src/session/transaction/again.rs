//! Messages that are sent again, because a prepared statement did not fit its tables any more.
//!
//! Statements are prepared once for all clients, so a client can meet one that somebody prepared
//! before a change of the schema that nobody told us of. Postgres refuses it when it is bound or
//! described ("cached plan must not change result type"), and then nothing of the pipeline has been
//! done. If nothing of it has been answered either, and the client asks in it for the description
//! of its rows, so that it does not count on the old one, then the client need not hear of it: the
//! pipeline is done again on a connection that has prepared the statement anew.

use bytes::BytesMut;

use super::relay::Lent;
use crate::protocol::message::{backend, frontend};
use crate::protocol::{Header, TransactionStatus};
use crate::session::relay::HIGH_WATER;

/// A longer pipeline is not kept; who sends it may hear of the change.
const MOST_KEPT: usize = 16 * 1024;

/// What has been kept of a client's pipeline, from its first `Bind` or `Describe` on.
#[derive(Debug, Default)]
pub(super) enum Again {
    /// Nothing.
    #[default]
    Nothing,
    /// The messages so far.
    Keeping(Kept),
    /// All of it, up to its Sync; nothing has been sent behind that.
    Kept(BytesMut),
    /// It has failed, and is sent again once the server has answered the Sync.
    Due(BytesMut),
}

/// The messages of a pipeline that has not ended.
#[derive(Debug)]
pub(super) struct Kept {
    messages: BytesMut,
    /// The client will be told what the rows look like.
    described: bool,
    bound: bool,
    /// Its last message is a Flush.
    flushed: bool,
}

impl Again {
    /// Notes that a message with this tag goes out, of whose body `head` is there, and which begins
    /// a pipeline if nothing else is open.
    fn begin(&mut self, tag: u8, head: &[u8], nothing_is_open: bool) {
        if let Self::Keeping(kept) = self {
            kept.flushed = tag == frontend::FLUSH;
        }
        *self = match (std::mem::take(self), tag) {
            (Self::Nothing, frontend::BIND | frontend::DESCRIBE) if nothing_is_open => {
                let described = tag == frontend::DESCRIBE;
                let messages = BytesMut::with_capacity(256);
                Self::Keeping(Kept { messages, described, bound: !described, flushed: false })
            }
            (Self::Keeping(mut kept), frontend::DESCRIBE) => {
                // There is no portal but the one of this pipeline.
                kept.described |= head.first() == Some(&b'P');
                Self::Keeping(kept)
            }
            (Self::Keeping(kept), frontend::BIND) if !kept.bound => {
                Self::Keeping(Kept { bound: true, ..kept })
            }
            (Self::Keeping(kept), frontend::FLUSH) => Self::Keeping(kept),
            (Self::Keeping(kept), frontend::EXECUTE) if kept.described => Self::Keeping(kept),
            (Self::Keeping(kept), frontend::SYNC) if kept.described => Self::Kept(kept.messages),
            (Self::Due(messages), _) => Self::Due(messages),
            _ => Self::Nothing,
        };
    }

    /// The client was told nothing of the rows that the `Bind` is about.
    pub(super) const fn counts_on_nothing(&mut self) {
        if let Self::Keeping(kept) = self {
            kept.described = true;
        }
    }

    /// Keeps bytes of the message that goes out.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let messages = match self {
            Self::Keeping(kept) => &mut kept.messages,
            Self::Kept(messages) => messages,
            Self::Nothing | Self::Due(_) => return,
        };
        if messages.len() + bytes.len() > MOST_KEPT {
            *self = Self::Nothing;
        } else {
            messages.extend_from_slice(bytes);
        }
    }

    /// The client gets an answer.
    pub(super) fn answered(&mut self) {
        if !self.is_due() {
            *self = Self::Nothing;
        }
    }

    /// The statement did not fit. True: the client need not hear of it.
    pub(super) fn failed(&mut self) -> bool {
        *self = match std::mem::take(self) {
            Self::Kept(messages) => Self::Due(messages),
            Self::Keeping(kept) if kept.described && kept.flushed => Self::Due(kept.messages),
            Self::Nothing | Self::Keeping(_) | Self::Due(_) => Self::Nothing,
        };
        self.is_due()
    }

    /// Whether a failure may come to that.
    pub(super) const fn is_possible(&self) -> bool {
        matches!(self, Self::Keeping(_) | Self::Kept(_))
    }

    /// Whether no Sync has ended the pipeline.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Keeping(_))
    }

    pub(super) const fn is_due(&self) -> bool {
        matches!(self, Self::Due(_))
    }

    /// What has to be sent again.
    pub(super) fn take(&mut self) -> Option<BytesMut> {
        match std::mem::take(self) {
            Self::Due(messages) => Some(messages),
            Self::Nothing | Self::Keeping(_) | Self::Kept(_) => None,
        }
    }
}

impl Lent {
    /// Notes that a message of the client's goes out, of whose body `head` is there. What was
    /// `sent_again` is not sent a third time.
    pub(super) fn begin(&mut self, tag: u8, head: &[u8], sent_again: bool) {
        let nothing_is_open = !sent_again
            && !self.is_kept()
            && self.status == TransactionStatus::Idle
            && self.dues.is_empty()
            && !self.dues.unsynced()
            && !self.block.is_open();
        self.again.begin(tag, head, nothing_is_open);
    }

    /// Behind a ParameterDescription comes that of the rows, or an error, and then nothing of the
    /// pipeline has been answered yet. Whether that matters not, or can be told.
    pub(super) fn knows_what_follows(&self, header: Header) -> bool {
        let incoming = &self.bound.server().stream.incoming;
        !self.again.is_possible() || incoming.len() > header.frame_len().min(HIGH_WATER)
    }

    pub(super) fn fails_behind(&self, header: Header) -> bool {
        let incoming = &self.bound.server().stream.incoming;
        self.again.is_possible()
            && incoming.get(header.frame_len()) == Some(&backend::ERROR_RESPONSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages by their tags, `p` for a `Describe` of a portal and `!` for an answer; whether the
    /// pipeline can be sent again when it then fails.
    #[track_caller]
    fn check(messages: &str, expected: bool) {
        let mut again = Again::default();
        for (at, message) in messages.bytes().enumerate() {
            match message {
                b'!' => again.answered(),
                b'p' => again.begin(frontend::DESCRIBE, b"P", at == 0),
                b'D' => again.begin(frontend::DESCRIBE, b"S", at == 0),
                tag => again.begin(tag, b"", at == 0),
            }
            again.keep(&[message]);
        }
        assert_eq!(again.failed(), expected, "{messages}");
        let kept = again.take();
        let kept = kept.as_deref().map(|kept| String::from_utf8_lossy(kept).into_owned());
        assert_eq!(kept.as_deref(), expected.then_some(messages), "{messages}");
    }

    #[test]
    fn a_whole_pipeline_that_asks_for_the_rows_is_sent_again() {
        check("BpES", true);
        check("DS", true);
        check("DBES", true);
        check("BpHS", true);
    }

    #[test]
    fn what_was_answered_or_goes_on_is_not() {
        check("BES", false);
        check("BEpS", false);
        check("BpE", false);
        check("BpH", true);
        check("DH", true);
        check("BH", false);
        check("BpESB", false);
        check("BpES!", false);
        check("BpEBES", false);
        check("BpECS", false);
        check("BDES", false);
    }

    #[test]
    fn a_long_one_is_not_kept() {
        let mut again = Again::default();
        again.begin(frontend::DESCRIBE, b"S", true);
        again.keep(&vec![0; MOST_KEPT]);
        again.keep(b"x");
        again.begin(frontend::SYNC, b"", true);
        assert!(!again.failed());
    }

    #[test]
    fn an_open_transaction_is_not_begun_anew() {
        let mut again = Again::default();
        again.begin(frontend::DESCRIBE, b"S", false);
        again.begin(frontend::SYNC, b"", false);
        assert!(!again.failed());
    }
}
