//! The client's frames on their way to the server.

use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Buf;

use super::guarded::Judged;
use super::{ContextState, End, Gate, HIGH_WATER, LOOK_LIMIT, Relay, Rest};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::{self, frontend};
use crate::protocol::{ClientError, Header, TransactionStatus};
use crate::scan;
use crate::session::filter::{self, Rule};
use crate::session::record;
use crate::statement::Lexis;
use crate::tenant::bind::RENEW_AFTER;

/// What became of the client's next frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admitted {
    /// More of it has to arrive first.
    NotAllThere,
    /// Something else has to be answered first.
    NotYet,
    Yes,
}

impl Relay<'_> {
    pub(super) fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.departure.is_some() && !self.client_waits {
            return Ok(false);
        }
        let mut moved = self.carry_client_frames()?;
        let server_has_room = self.bound.server().stream.outgoing.len() < HIGH_WATER;
        // What waits must not pile up; but a client that has gone must be noticed.
        let has_room = !self.client_waits || self.client.incoming.len() < HIGH_WATER;
        if server_has_room && has_room && self.departure.is_none() {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => self.depart(End::ClientGone),
                Poll::Ready(Ok(_)) => {
                    self.tally.hear();
                    self.carry_client_frames()?;
                }
                Poll::Pending => return Ok(moved),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Hands what the client has sent to the server, as far as the gate lets it.
    fn carry_client_frames(&mut self) -> Result<bool, End> {
        let mut moved = false;
        self.client_waits = false;
        while self.bound.server().stream.outgoing.len() < HIGH_WATER {
            if self.from_client.bytes > 0 {
                if self.client.incoming.is_empty() {
                    break;
                }
                self.carry_client_bytes(self.from_client.bytes);
                moved = true;
                continue;
            }
            let header = match Header::parse(&self.client.incoming) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(_) => return Err(End::Told(malformed())),
            };
            self.tally.check(header)?;
            let admitted = if self.copying.is_running() {
                self.admit_while_copying(header)?
            } else {
                self.admit_client_frame(header)?
            };
            match admitted {
                Admitted::Yes => moved = true,
                Admitted::NotAllThere => break,
                Admitted::NotYet => {
                    self.client_waits = true;
                    break;
                }
            }
        }
        Ok(moved)
    }

    /// Decides about the frame whose header is next.
    fn admit_client_frame(&mut self, header: Header) -> Result<Admitted, End> {
        if self.exchange.is_full() && !self.belongs_to_copy(header.tag) {
            // Each is answered by itself, and the client reads on when it is.
            let will_be_answered = self.exchange.pending() > 0;
            return if will_be_answered {
                self.wait(header.tag)
            } else {
                Err(End::Told(uncountable()))
            };
        }
        if self.gate == Gate::Closed && !self.belongs_to_copy(header.tag) {
            return self.wait(header.tag);
        }
        if self.renews_ahead_of(header.tag)? {
            return Ok(Admitted::NotYet);
        }
        if self.client.is_gated()
            && let Some(settled) = self.judge_recorded(header)?
        {
            return Ok(settled);
        }
        match Rule::of(header.tag, self.bound.scope()) {
            Rule::Carry => {}
            Rule::CarryText => {
                if let Some(settled) = self.judge_text(header)? {
                    return Ok(settled);
                }
                let Some(doubtful) = self.look_at_text(header) else {
                    return Ok(Admitted::NotAllThere);
                };
                if doubtful {
                    self.context = ContextState::Doubtful;
                    self.gate = match header.tag {
                        frontend::QUERY => Gate::Closed,
                        _ => Gate::ClosesAtSync,
                    };
                }
            }
            Rule::Leave => {
                self.depart(End::ClientLeft);
                // Nothing that follows a goodbye is meant for anybody.
                self.client.incoming.clear();
                return Ok(Admitted::Yes);
            }
            Rule::Refuse => {
                if self.exchange.unsynced() {
                    // Whether Postgres would answer it depends on what came before it, and the
                    // Sync that would tell us stands behind it.
                    return Err(End::Told(filter::violation(header.tag)));
                }
                // Our answers must not pile up where the client does not read them, nor stand in
                // the middle of a message of the server's.
                let has_room = self.client.outgoing.len() < HIGH_WATER && !self.is_amid_a_message();
                if !self.exchange.is_settled() || !has_room {
                    return self.wait(header.tag);
                }
                self.answer_refused(&filter::function_call_refused());
                let status = self.exchange.status();
                message::ready_for_query(status, &mut self.client.outgoing);
                self.client.incoming.advance(HEADER_LEN);
                self.from_client = Rest { bytes: header.body_len, dropped: true };
                return Ok(Admitted::Yes);
            }
            Rule::Violation => return Err(End::Told(filter::violation(header.tag))),
        }
        if let Some(settled) = self.admit_copy(header)? {
            return Ok(settled);
        }
        if header.tag == frontend::SYNC {
            if self.gate == Gate::ClosesAtSync && !self.exchange.copy_in() {
                self.gate = Gate::Closed;
            }
            self.guarded.synced();
        }
        self.exchange.sent(header.tag);
        self.guarded.passed();
        self.from_client = Rest { bytes: header.frame_len(), dropped: false };
        self.carry_client_bytes(header.frame_len());
        Ok(Admitted::Yes)
    }

    /// Renews what the session has been given, where that is due and the client's next frame begins
    /// something new. True: the frame waits for that, or for what has to be answered ahead of it.
    fn renews_ahead_of(&mut self, tag: u8) -> Result<bool, End> {
        let begins = matches!(
            tag,
            frontend::QUERY
                | frontend::PARSE
                | frontend::BIND
                | frontend::CLOSE
                | frontend::DESCRIBE
                | frontend::EXECUTE
        );
        let may_wait = self.context == ContextState::Bound
            && !self.exchange.unsynced()
            && !self.exchange.copy_in()
            && !self.exchange.unaccountable();
        if !begins || !may_wait {
            return Ok(false);
        }
        let now = SystemTime::now();
        let is_due = match self.exchange.status() {
            TransactionStatus::Idle => self.bound.is_renewal_due(now),
            // What is renewed in there may be rolled back with it, so that counts for itself.
            TransactionStatus::Transaction => self.chained.is_some_and(|renewed| {
                self.bound.is_renewal_due(now) && renewed + RENEW_AFTER <= now
            }),
            TransactionStatus::Error => false,
        };
        if is_due && self.exchange.is_settled() {
            self.renew(now)?;
        }
        Ok(is_due)
    }

    /// What becomes of a text that may not pass, or of which more has to arrive first.
    fn judge_text(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        if self.guarded.is_full() && !self.exchange.unsynced() {
            return self.wait(header.tag).map(Some);
        }
        if let Err(error) = self.guarded.keep(header) {
            return Ok(Some(self.refuse_text(header, header.tag, error)));
        }
        let body = self.client.incoming.get(HEADER_LEN..).unwrap_or_default();
        let depends = |body| scan::contains(body, b'\\') || !scan::is_ascii(body);
        let is_sure = self.exchange.is_settled()
            || !self.guarded.may_set()
            || !body.get(..header.body_len).is_some_and(depends);
        if !is_sure && !self.exchange.unsynced() {
            // How the server reads it, it says with the answer to what is ahead of it.
            return self.wait(header.tag).map(Some);
        }
        let unknown = Lexis { standard_strings: false, safe_encoding: false };
        let lexis = if is_sure { self.bound.server().lexis() } else { unknown };
        Ok(match self.guarded.judge(header, body, lexis)? {
            None => Some(Admitted::NotAllThere),
            Some(Judged::Passes) if self.copy_has_to_wait(header) => Some(Admitted::NotYet),
            Some(Judged::Passes) => None,
            Some(Judged::Refused(error)) => Some(self.refuse_text(header, header.tag, error)),
        })
    }

    /// The same of a message of somebody whose statements are on record: what is there of it has to
    /// be what Postgres will do.
    fn judge_recorded(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        let within = record::names_within(header.tag).min(header.body_len);
        let Some(head) = self.client.incoming.get(HEADER_LEN..HEADER_LEN + within) else {
            return Ok(Some(Admitted::NotAllThere));
        };
        if let Some(error) = record::refuse_names(header, head) {
            if self.guarded.is_full() && !self.exchange.unsynced() {
                return self.wait(header.tag).map(Some);
            }
            return Ok(Some(self.refuse_text(header, frontend::PARSE, Box::new(error))));
        }
        match header.tag {
            frontend::QUERY | frontend::PARSE => self.judge_text(header),
            _ => Ok(None),
        }
    }

    /// The server gets a text that it refuses, in a message with this tag, in place of what we
    /// refuse.
    fn refuse_text(&mut self, header: Header, tag: u8, error: Box<ClientError>) -> Admitted {
        let out = &mut self.bound.server_mut().stream.outgoing;
        self.guarded.refuse(tag, error, out);
        self.guarded.passed();
        self.exchange.sent(tag);
        self.from_client = Rest { bytes: header.frame_len(), dropped: true };
        self.carry_client_bytes(header.frame_len());
        Admitted::Yes
    }

    /// Lets the next frame wait until all is answered; unless that will not be, or nobody can tell
    /// when.
    fn wait(&self, tag: u8) -> Result<Admitted, End> {
        if self.exchange.copy_in() {
            // What would end the COPY stands behind it.
            Err(End::Told(filter::violation(tag)))
        } else if self.exchange.unaccountable() {
            Err(End::Told(uncountable()))
        } else {
            Ok(Admitted::NotYet)
        }
    }

    /// Whether the server reads such a message as a part of COPY, and so must get it even while
    /// everything else waits for the end of that COPY.
    pub(super) const fn belongs_to_copy(&self, tag: u8) -> bool {
        match tag {
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => true,
            frontend::FLUSH | frontend::SYNC => self.exchange.copy_in(),
            _ => false,
        }
    }

    /// Whether the text in the next frame may undo the context; `None` until enough is there.
    fn look_at_text(&self, header: Header) -> Option<bool> {
        let body = self.client.incoming.get(HEADER_LEN..)?;
        if header.body_len > LOOK_LIMIT {
            return Some(true);
        }
        body.get(..header.body_len).map(filter::may_undo_context)
    }

    pub(super) fn carry_client_bytes(&mut self, wanted: usize) {
        let count = wanted.min(self.client.incoming.len());
        if let (false, Some(bytes)) = (self.from_client.dropped, self.client.incoming.get(..count))
        {
            self.bound.server_mut().stream.outgoing.extend_from_slice(bytes);
        }
        self.client.incoming.advance(count);
        self.from_client.bytes -= count;
    }
}

pub(in crate::session::relay) fn uncountable() -> ClientError {
    let message = "lost count of the answers after messages that COPY does not allow";
    ClientError::fatal("08P01", "C012", message).hint("Connect again.")
}

pub(in crate::session) fn malformed() -> ClientError {
    ClientError::fatal("08P01", "C006", "invalid message length")
}
