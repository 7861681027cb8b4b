//! How far a server connection is with what its client has asked for, held against limits of time.

use std::task::{Context, Poll};

use super::moved::Step;
use super::relay::{Copy, Lent, Relay};
use crate::protocol::TransactionStatus;
use crate::session::relay::{End, Rest};
use crate::session::tally::{Progress, Standing};
use crate::session::watch::{Exceeded, FLUSH};

impl Lent {
    /// How far the server is, while the client's frame that is passing, if one is, lacks its rest.
    fn progress(&self, rest: Rest) -> Progress {
        let is_run = self.script.is_some() || self.copying.is_some();
        let is_answered = self.dues.is_empty() && !is_run;
        let client_is_due =
            rest.bytes > 0 || self.copy == Copy::Data || is_answered && self.dues.unsynced();
        let is_amid_a_frame = rest.bytes > 0 && !rest.dropped;
        Progress {
            is_asked: !is_answered || self.dues.unsynced(),
            waits_for_client: client_is_due && self.bound.server().stream.outgoing.is_empty(),
            may_hold_answers: self.dues.unsynced() && !self.dues.is_empty() && !is_amid_a_frame,
        }
    }
}

impl Relay<'_> {
    /// Ready when something has lasted too long.
    pub(super) fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        let (lent, tally) = (self.lent.as_deref(), &self.tally);
        if lent.is_none() && !watch.limits_rest() {
            return Poll::Pending;
        }
        let is_unread = !self.client.outgoing.is_empty();
        let (rest, client_waits) = (self.from_client, self.client_waits);
        let standing = || {
            let Some(lent) = lent else {
                return tally.standing(Progress::default(), TransactionStatus::Idle);
            };
            let progress = lent.progress(rest);
            let waits_for_client = progress.waits_for_client && !client_waits;
            let progress = Progress { waits_for_client, ..progress };
            let unread = is_unread.then_some(lent.written);
            Standing { unread, ..tally.standing(progress, lent.status) }
        };
        watch.poll(cx, standing).map(|exceeded| match exceeded {
            Exceeded::Cancel => Step::Cancel,
            Exceeded::End(error) => Step::End(End::Told(error)),
            Exceeded::Flush => Step::Flush,
        })
    }

    /// Asks the server for the answers that it holds back.
    pub(super) fn flush_server(&mut self) {
        self.tally.flush();
        if let Some(lent) = &mut self.lent {
            lent.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
        }
    }
}
