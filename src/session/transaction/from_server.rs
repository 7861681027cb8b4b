//! The server's frames on their way to the client: each is the answer to what is due.

use std::task::{Context, Poll};

use bytes::Buf;

use super::due::{Describe, Due, Execute, Parse, Whose};
use super::moved::Moved;
use super::named;
use super::relay::{Copy, Lent, Relay};
use super::tracked::Ended;
use crate::backend::HeldBinds;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::backend;
use crate::protocol::{ClientError, Header, TransactionStatus};
use crate::session::relay::{End, HIGH_WATER, LOOK_LIMIT, Rest};
use crate::session::{filter, hint};
use crate::statement::{Deallocated, Kind};
use crate::tenant::Scope;

/// What becomes of a frame of the server's.
#[derive(Debug)]
pub(super) enum Fate {
    Drop,
    Forward,
    /// The client gets this in its place.
    Instead(&'static [u8]),
    /// The client gets this error in its place.
    Refuse(Box<ClientError>),
}

impl Relay<'_> {
    pub(super) fn read_server(&mut self, cx: &mut Context<'_>) -> Result<Moved, End> {
        let Some(lent) = &mut self.lent else { return Ok(Moved::Nothing) };
        if self.client.outgoing.len() >= HIGH_WATER {
            return Ok(Moved::Nothing);
        }
        match lent.bound.server_mut().stream.poll_fill(cx) {
            Poll::Pending => Ok(Moved::Nothing),
            Poll::Ready(Ok(0) | Err(_)) if lent.fatal_seen => Err(End::ServerSaidWhy),
            Poll::Ready(Ok(0) | Err(_)) => Err(End::ServerLost),
            Poll::Ready(Ok(_)) => {
                self.carry_server_frames()?;
                Ok(Moved::Something)
            }
        }
    }

    fn carry_server_frames(&mut self) -> Result<(), End> {
        loop {
            let Some(lent) = &mut self.lent else { return Ok(()) };
            if lent.from_server.bytes > 0 {
                if lent.bound.server().stream.incoming.is_empty() {
                    return Ok(());
                }
                self.carry_server_bytes();
                continue;
            }
            let incoming = &lent.bound.server().stream.incoming;
            let Some(header) = Header::parse(incoming).map_err(|_| End::ServerLost)? else {
                return Ok(());
            };
            if !self.admit_answer(header)? {
                return Ok(());
            }
        }
    }

    /// Notes what the next frame means; false if more of it has to arrive first.
    pub(super) fn admit_server_frame(&mut self, header: Header) -> Result<bool, End> {
        let Some(lent) = &mut self.lent else { return Ok(false) };
        let needs_body = matches!(
            header.tag,
            backend::COMMAND_COMPLETE
                | backend::ERROR_RESPONSE
                | backend::NOTICE_RESPONSE
                | backend::PARAMETER_STATUS
                | backend::READY_FOR_QUERY
        );
        // Of a long error the beginning will do: severity and code come first.
        let look = if needs_body { header.body_len.min(LOOK_LIMIT) } else { 0 };
        let look = lent.described(header).unwrap_or(look);
        if lent.bound.server().stream.incoming.len() < HEADER_LEN + look {
            return Ok(false);
        }
        if header.tag == b't' && !lent.knows_what_follows(header) {
            return Ok(false);
        }
        let limited = self.tally.received(header.tag, lent.body(look))?;
        let Ok(mut fate) = lent.fate_of(header, look) else {
            lent.impossible = true;
            return Err(End::Bug("an answer that was not due"));
        };
        if let (Fate::Forward, Some(error)) = (&fate, limited) {
            fate = Fate::Refuse(Box::new(error));
        }
        if header.tag == backend::NOTICE_RESPONSE
            && filter::hides_plans(lent.bound.scope(), self.guard)
            && filter::tells_of_plans(lent.body(look))
        {
            fate = Fate::Drop;
        }
        let is_error = header.tag == backend::ERROR_RESPONSE && look == header.body_len;
        let hinted = match fate {
            Fate::Forward if is_error && self.in_band.myself.is_tenants => {
                hint::add(lent.body(look))
            }
            Fate::Drop | Fate::Forward | Fate::Instead(_) | Fate::Refuse(_) => None,
        };
        let dropped = !matches!(fate, Fate::Forward) || hinted.is_some();
        if !matches!(fate, Fate::Drop) {
            lent.again.answered();
        }
        lent.from_server = Rest { bytes: header.frame_len(), dropped };
        match fate {
            Fate::Instead(frame) => self.client.outgoing.extend_from_slice(frame),
            Fate::Refuse(error) => self.answer_refused(&error),
            Fate::Drop | Fate::Forward => {}
        }
        if let Some(frame) = hinted {
            self.client.outgoing.extend_from_slice(&frame);
        }
        if header.tag == backend::ERROR_RESPONSE {
            self.drop_skipped();
        }
        self.carry_server_bytes();
        let Some(lent) = &mut self.lent else { return Ok(true) };
        if let Some(ended) = lent.ended.take() {
            self.in_band.note(lent, ended);
            self.ending.follow(&self.in_band.myself);
        }
        while let Some(frame) = lent.dues.pop_owed() {
            self.client.outgoing.extend_from_slice(frame);
        }
        if let Some(dropped) = lent.names_dropped.take() {
            self.drop_names(dropped);
        }
        Ok(true)
    }

    /// After an error: what the server skips was not done.
    pub(super) fn drop_skipped(&mut self) {
        let Some(lent) = &mut self.lent else { return };
        if lent.fatal_seen {
            return;
        }
        lent.block.doubt();
        while let Some(skipped) = lent.dues.pop_skipped() {
            let parse = match skipped {
                Due::Parse(parse) => parse,
                Due::Execute(Execute { kind, .. }) => {
                    lent.settle(&kind);
                    continue;
                }
                // A Close of ours should have made room; what it should have closed is there.
                Due::Close(Whose::Ours) => {
                    lent.dirty = true;
                    continue;
                }
                // A COPY in it is over, too.
                Due::Query => {
                    lent.copy = Copy::None;
                    continue;
                }
                Due::Bind(_) | Due::Close(_) | Due::Describe(_) | Due::Owed(_) | Due::Sync(_) => {
                    continue;
                }
            };
            let server = lent.bound.server_mut();
            match parse {
                Parse::Clients => {
                    server.unnamed = 0;
                    self.names.unnamed = None;
                }
                Parse::LocalBind { has_claims } => *server.held_binds.get_mut(has_claims) = false,
                Parse::Named(statement, name) => {
                    server.prepared.remove(&statement);
                    if let Some(name) = name {
                        self.names.remove(&name);
                    }
                }
                Parse::Ours | Parse::Refused(_) => server.unnamed = 0,
            }
        }
    }

    pub(super) fn carry_server_bytes(&mut self) {
        let Some(lent) = &mut self.lent else { return };
        let incoming = &mut lent.bound.server_mut().stream.incoming;
        let count = lent.from_server.bytes.min(incoming.len());
        if let (false, Some(bytes)) = (lent.from_server.dropped, incoming.get(..count)) {
            self.client.outgoing.extend_from_slice(bytes);
        }
        incoming.advance(count);
        lent.from_server.bytes -= count;
    }
}

/// The answer is none that is due.
struct Impossible;

impl Lent {
    /// What becomes of the next frame, of which `look` bytes of the body are there.
    fn fate_of(&mut self, header: Header, look: usize) -> Result<Fate, Impossible> {
        match header.tag {
            b'1' => match self.dues.pop() {
                Some(Due::Parse(Parse::Refused(_))) => Err(Impossible),
                Some(Due::Parse(parse)) => Ok(of(parse.whose())),
                _ => Err(Impossible),
            },
            b'2' => match self.dues.pop() {
                Some(Due::Bind(whose)) => Ok(of(whose)),
                _ => Err(Impossible),
            },
            b'3' => match self.dues.pop() {
                Some(Due::Close(whose)) => Ok(of(whose)),
                _ => Err(Impossible),
            },
            // ParameterDescription comes ahead of the description of the rows.
            b't' => match self.dues.front() {
                Some(Due::Describe(_)) if self.fails_behind(header) => Ok(Fate::Drop),
                Some(&Due::Describe(Describe { whose, .. })) => {
                    self.note_parameters(look);
                    Ok(of(whose))
                }
                _ => Err(Impossible),
            },
            // A `Query` is answered by a description of its rows only if there can be any.
            b'T' | backend::DATA_ROW | b'd' | b'c' | b'H' if self.answers_query() => {
                Ok(Fate::Forward)
            }
            backend::COPY_IN_RESPONSE if self.answers_query() => {
                self.copy = Copy::Data;
                Ok(Fate::Forward)
            }
            backend::COMMAND_COMPLETE | b'I' if self.answers_query() => {
                self.copy = Copy::None;
                let (whose, kind) = (Whose::Clients, Kind::Other);
                Ok(self.complete(header, look, Execute { whose, kind, instead: None }))
            }
            b'T' | b'n' => match self.dues.pop() {
                Some(Due::Describe(describe)) => Ok(self.note_columns(header, look, &describe)),
                _ => Err(Impossible),
            },
            backend::DATA_ROW | b'd' | b'c' | b'H' => match self.dues.front() {
                Some(Due::Execute(execute)) => Ok(of(execute.whose)),
                _ => Err(Impossible),
            },
            backend::COPY_IN_RESPONSE => match self.dues.front() {
                Some(Due::Execute(execute))
                    if execute.whose == Whose::Clients && self.copy == Copy::Asked =>
                {
                    self.copy = Copy::Data;
                    Ok(Fate::Forward)
                }
                _ => Err(Impossible),
            },
            backend::COMMAND_COMPLETE | b'I' | b's' => match self.dues.pop() {
                Some(Due::Execute(execute)) => Ok(self.complete(header, look, execute)),
                _ => Err(Impossible),
            },
            backend::ERROR_RESPONSE => Ok(self.fail(look)),
            backend::READY_FOR_QUERY => self.ready(look),
            backend::PARAMETER_STATUS => {
                if look == header.body_len {
                    self.note_reported(look);
                    self.bound.server_mut().note_next_status(header.frame_len());
                }
                Ok(Fate::Forward)
            }
            backend::NOTICE_RESPONSE => Ok(match self.dues.front() {
                // What our own bind may have to say is nothing to the client.
                Some(Due::Execute(Execute { whose: Whose::Ours, .. })) => Fate::Drop,
                _ => Fate::Forward,
            }),
            backend::NOTIFICATION_RESPONSE => Ok(Fate::Forward),
            _ => Err(Impossible),
        }
    }

    /// Whether what comes is the answer to a `Query` that went out as it was.
    fn answers_query(&self) -> bool {
        matches!(self.dues.front(), Some(Due::Query))
    }

    /// Such a statement has been answered, or will not be.
    fn settle(&mut self, kind: &Kind) {
        if *kind == Kind::CopyFromStdin {
            self.copy = Copy::None;
        } else if named::discards(kind) {
            self.discarding = false;
        }
    }

    pub(super) fn body(&self, look: usize) -> &[u8] {
        let incoming = &self.bound.server().stream.incoming;
        incoming.get(HEADER_LEN..HEADER_LEN + look).unwrap_or_default()
    }

    /// A command has completed, or given all rows that were asked for.
    fn complete(&mut self, header: Header, look: usize, execute: Execute) -> Fate {
        self.settle(&execute.kind);
        if execute.whose == Whose::Ours && execute.kind == Kind::Rows {
            self.note_bound();
        }
        if header.tag == b's' && execute.kind == Kind::Identity {
            // Its one row is all that it does.
            self.note_ended(Some(Ended::Identity));
        }
        if header.tag == backend::COMMAND_COMPLETE {
            let body = self.body(look);
            let tag = body.strip_suffix(b"\0").unwrap_or(body);
            let fits = execute.kind.accepts_tag(tag);
            let ended = Ended::by(&execute.kind, tag);
            let changes_tables =
                matches!(self.bound.scope(), Scope::Owner) && filter::changes_tables(tag);
            let discards_all = filter::discards_all(tag);
            let drops_statements = discards_all || tag == b"DEALLOCATE ALL";
            // A reading that was wrong is no proof of anything.
            if !fits {
                self.dirty = true;
                self.settling.doubt();
            }
            if drops_statements {
                let server = self.bound.server_mut();
                server.prepared.clear();
                server.held_binds = HeldBinds::default();
                server.unnamed = 0;
            }
            if discards_all {
                // Nothing was sent behind it, so nothing is forgotten that it has not undone.
                self.bound.server_mut().forget_session();
                self.touched.clear();
                self.settling.restart();
                self.discarded = true;
                // And what the client came with is on the next one.
                self.keeps = false;
                self.names_dropped = Some(Deallocated::All);
            }
            self.stale_plan |= changes_tables;
            self.note_ended(ended);
            if let Kind::Set(names) = &execute.kind {
                self.touched.extend(names.iter().cloned());
            }
            self.note_dropped(&execute.kind);
        }
        self.note_assigned(&execute.kind);
        match execute.instead {
            Some(frame) if header.tag != b's' => Fate::Instead(frame),
            _ => of(execute.whose),
        }
    }

    fn ready(&mut self, look: usize) -> Result<Fate, Impossible> {
        let status = match *self.body(look) {
            [status] => TransactionStatus::try_from(status).map_err(|_| Impossible)?,
            _ => return Err(Impossible),
        };
        if self.answers_query() {
            self.copy = Copy::None;
            self.dues.pop();
        }
        let Some(Due::Sync(whose)) = self.dues.pop() else {
            return Err(Impossible);
        };
        self.status = status;
        self.note_ready(status);
        if self.dues.is_empty() && self.script.is_none() {
            self.block.settle(status);
            // It cannot go to anybody else now; what waits for that would wait for ever.
            self.yields &= status == TransactionStatus::Idle;
        }
        if status == TransactionStatus::Idle {
            self.portals = super::portals::Portals::default();
        }
        Ok(if self.again.is_due() { Fate::Drop } else { of(whose) })
    }
}

const fn of(whose: Whose) -> Fate {
    match whose {
        Whose::Clients => Fate::Forward,
        Whose::Ours => Fate::Drop,
    }
}
