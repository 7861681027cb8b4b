//! The server's frames on their way to the client, and what they say of the context.

use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Buf;

use super::from_client::uncountable;
use super::{BIND_ATTEMPTS, ContextState, End, Gate, HIGH_WATER, LOOK_LIMIT, Relay, Rest};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::backend;
use crate::protocol::{ClientError, Header, TransactionStatus};
use crate::session::answer::{Answer, ErrorKind};
use crate::session::{copy_in, filter, hint};
use crate::tenant::Scope;

impl Relay<'_> {
    pub(super) fn read_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.client.outgoing.len() >= HIGH_WATER {
            return Ok(false);
        }
        match self.bound.server_mut().stream.poll_fill(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) if self.fatal_seen => Err(End::ServerSaidWhy),
            Poll::Ready(Ok(0) | Err(_)) => Err(End::ServerLost),
            Poll::Ready(Ok(_)) => {
                self.carry_server_frames()?;
                Ok(true)
            }
        }
    }

    fn carry_server_frames(&mut self) -> Result<(), End> {
        loop {
            if self.from_server.bytes > 0 {
                if self.bound.server().stream.incoming.is_empty() {
                    return Ok(());
                }
                self.carry_server_bytes();
                continue;
            }
            let incoming = &self.bound.server().stream.incoming;
            let Some(header) = Header::parse(incoming).map_err(|_| End::ServerLost)? else {
                return Ok(());
            };
            if !self.admit_server_frame(header)? {
                return Ok(());
            }
        }
    }

    /// Notes what the next frame means; false if more of it has to arrive first.
    fn admit_server_frame(&mut self, header: Header) -> Result<bool, End> {
        if self.copying.is_running() && copy_in::is_answer(header.tag) {
            return self.admit_copying_answer(header);
        }
        if header.tag == backend::READY_FOR_QUERY {
            self.copying.release(&mut self.client.outgoing);
        }
        // Of a long error the beginning will do: severity and code come first.
        let look = if Answer::needs_body(header.tag) { header.body_len.min(LOOK_LIMIT) } else { 0 };
        let incoming = &self.bound.server().stream.incoming;
        let Some(body) = incoming.get(HEADER_LEN..HEADER_LEN + look) else {
            return Ok(false);
        };
        let answer = Answer::read(header.tag, body);
        if header.tag == backend::COMMAND_COMPLETE {
            self.copying.completed(body);
        }
        let ours = matches!(self.context, ContextState::Binding { .. });
        let is_error = header.tag == backend::ERROR_RESPONSE && !ours;
        let limited = if ours { None } else { self.tally.received(header.tag, body)? };
        let refusal = if is_error { self.guarded.take(body) } else { None };
        let refusal = refusal.or(limited.map(Box::new));
        let hidden = header.tag == backend::NOTICE_RESPONSE
            && self.hides_plans
            && filter::tells_of_plans(body);
        let is_whole = look == header.body_len;
        let hinted = match &refusal {
            None if is_error && is_whole && self.bound.scope().is_tenants() => hint::add(body),
            Some(_) | None => None,
        };
        if let Some(frame) = &hinted {
            self.client.outgoing.extend_from_slice(frame);
        }
        let is_answered = refusal.is_some() || hinted.is_some();
        let dropped = is_answered || hidden || (ours && !answer.is_for_the_client());
        if answer == Answer::Status && is_whole {
            self.bound.server_mut().note_next_status(header.frame_len());
        }
        if let Answer::Error { is_fatal: true, .. } = answer {
            self.fatal_seen = true;
        }
        if let Some(refusal) = &refusal {
            self.answer_refused(refusal);
        }
        self.from_server = Rest { bytes: header.frame_len(), dropped };
        self.carry_server_bytes();
        if ours {
            self.note_own_answer(answer)?
        } else {
            self.note_answer(answer)?
        }
        Ok(true)
    }

    /// Notes an answer to the client's messages.
    pub(super) fn note_answer(&mut self, answer: Answer) -> Result<(), End> {
        self.exchange.received(answer);
        // A command that undid every setting, and an error that a missing context may have caused:
        // what a function did to the context shows first in such an error.
        let doubtful = matches!(
            answer,
            Answer::Complete { undoes_settings: true, .. }
                | Answer::Error { kind: ErrorKind::NotAllowed, .. }
        );
        if doubtful && self.is_bound_again(answer) {
            self.context = ContextState::Doubtful;
        }
        self.note_blocks(answer);
        if let Answer::Complete { changes_tables: true, .. } = answer {
            self.changes_tables |= self.bound.scope() == Scope::Owner;
        }
        let is_idle = answer == Answer::Ready(Some(TransactionStatus::Idle));
        if matches!(answer, Answer::Ready(_)) {
            self.copying.answered(is_idle);
        }
        if is_idle && std::mem::take(&mut self.changes_tables) {
            self.bound.tables_changed();
        }
        match answer {
            // The Sync that closed the gate was a part of the COPY; another is to come.
            Answer::CopyIn if self.gate == Gate::Closed && self.exchange.unsynced() => {
                self.gate = Gate::ClosesAtSync;
                Ok(())
            }
            Answer::Ready(_) if self.exchange.impossible() => {
                Err(End::Bug("the answers do not fit the requests"))
            }
            Answer::Ready(_) if self.exchange.is_settled() => self.settle(),
            Answer::Complete { .. }
            | Answer::CopyIn
            | Answer::Error { .. }
            | Answer::Other
            | Answer::Reply
            | Answer::Ready(_)
            | Answer::Status
            | Answer::Unasked => Ok(()),
        }
    }

    /// Whether such an answer makes the session be bound again. What a super-admin may not, it may not
    /// afterwards either.
    fn is_bound_again(&self, answer: Answer) -> bool {
        match self.bound.scope() {
            Scope::Tenant(_) => true,
            Scope::Superadmin => matches!(answer, Answer::Complete { .. }),
            Scope::Nobody | Scope::Owner => false,
        }
    }

    /// Notes where transactions end, of which one may begin the next (`COMMIT AND CHAIN`).
    fn note_blocks(&mut self, answer: Answer) {
        match answer {
            Answer::Complete { ends_block, .. } => self.block_ended |= ends_block,
            Answer::Ready(Some(status)) => {
                let has_ended = std::mem::take(&mut self.block_ended);
                if status != TransactionStatus::Transaction {
                    self.chained = None;
                } else if has_ended {
                    self.chained = Some(SystemTime::UNIX_EPOCH);
                }
            }
            Answer::CopyIn
            | Answer::Error { .. }
            | Answer::Other
            | Answer::Reply
            | Answer::Ready(None)
            | Answer::Status
            | Answer::Unasked => {}
        }
    }

    /// When all is answered: binds again if need be, and lets the client go on.
    fn settle(&mut self) -> Result<(), End> {
        let failed = self.exchange.status() == TransactionStatus::Error;
        if self.context == ContextState::Doubtful && !failed {
            if self.exchange.unaccountable() {
                // The answers to a bind could be taken for the client's, and the other way round.
                return Err(End::Told(uncountable()));
            }
            self.bind_again(1, false)
        } else {
            self.gate = Gate::Open;
            self.guarded.settle();
            Ok(())
        }
    }

    /// Renews what the session has been given before it is over.
    pub(super) fn renew(&mut self, now: SystemTime) -> Result<(), End> {
        self.bind_again(1, true)?;
        if let Some(renewed) = &mut self.chained {
            *renewed = now;
            self.bound.renew_soon();
        }
        Ok(())
    }

    fn bind_again(&mut self, attempt: u8, is_renewal: bool) -> Result<(), End> {
        let queued = self.bound.queue_bind();
        if !queued.map_err(|_| End::Bug("the bind could not be written"))? {
            return Err(End::Bug("there is nothing to bind"));
        }
        self.context = ContextState::Binding { attempt, error: None, is_renewal };
        self.gate = Gate::Closed;
        Ok(())
    }

    /// Notes an answer to our own bind.
    fn note_own_answer(&mut self, answer: Answer) -> Result<(), End> {
        let ContextState::Binding { attempt, error, is_renewal } = self.context else {
            return Err(End::Bug("an answer to a bind that was not begun"));
        };
        match answer {
            Answer::Error { kind, .. } => {
                self.context = ContextState::Binding { attempt, error: Some(kind), is_renewal };
                Ok(())
            }
            Answer::Ready(Some(status)) => {
                self.exchange.note_status(status);
                self.finish_bind(attempt, error, is_renewal)
            }
            Answer::Ready(None) => Err(End::Bug("the answer to a bind makes no sense")),
            Answer::Complete { .. }
            | Answer::CopyIn
            | Answer::Other
            | Answer::Reply
            | Answer::Status
            | Answer::Unasked => Ok(()),
        }
    }

    fn finish_bind(
        &mut self,
        attempt: u8,
        error: Option<ErrorKind>,
        is_renewal: bool,
    ) -> Result<(), End> {
        let failed = self.exchange.status() == TransactionStatus::Error;
        match error {
            None => {
                self.context = ContextState::Bound;
                self.gate = Gate::Open;
                Ok(())
            }
            // The client's transaction is lost, and says so to its next statement. When it has
            // ended we try again; until then Postgres shows no rows.
            Some(ErrorKind::Cancelled | ErrorKind::InFailedTransaction) if failed => {
                self.context = ContextState::Doubtful;
                self.gate = Gate::Open;
                Ok(())
            }
            Some(ErrorKind::Cancelled) if attempt < BIND_ATTEMPTS => {
                self.bind_again(attempt + 1, is_renewal)
            }
            Some(_) => Err(End::Told(bind_refused())),
        }
    }

    pub(super) fn carry_server_bytes(&mut self) {
        let incoming = &mut self.bound.server_mut().stream.incoming;
        let count = self.from_server.bytes.min(incoming.len());
        if let (false, Some(bytes)) = (self.from_server.dropped, incoming.get(..count)) {
            self.client.outgoing.extend_from_slice(bytes);
        }
        incoming.advance(count);
        self.from_server.bytes -= count;
    }
}

fn bind_refused() -> ClientError {
    ClientError::fatal("28000", "C203", "the tenant context could not be set again")
        .hint("Connect again. A short statement_timeout or a cancel request can be the reason.")
}
