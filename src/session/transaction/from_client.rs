//! The client's frames on their way to the server: renamed, re-framed, bound.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::due::{Due, Whose};
use super::identity::Resolution;
use super::moved::Moved;
pub(super) use super::parts::Parts;
use super::relay::{Copy, Lent, Relay};
use super::told::Outcome;
use super::{identity, memory, named, simple};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::{self, frontend};
use crate::protocol::{ClientError, Header, TransactionStatus};
use crate::session::filter::{function_call_refused, violation};
use crate::session::relay::{End, HIGH_WATER, Rest, malformed};
use crate::session::{record, refused};

/// Of a `Bind`, which may carry large values, the names must stand within so many bytes.
pub(super) const NAMES_WITHIN: usize = 8 * 1024;

const FLUSH: &[u8] = b"H\0\0\0\x04";

/// What became of the client's next frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admitted {
    /// A server connection is needed first.
    NeedsServer,
    /// More of it has to arrive first.
    NotAllThere,
    /// Something else has to be answered first.
    NotYet,
    Yes,
}

/// Statements of a `Query` that have not been sent.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: Bytes,
    /// Where the next one starts.
    pub(super) next: usize,
    /// It may be about the identity, so that each statement is judged when its turn comes.
    pub(super) judges: bool,
}

impl Relay<'_> {
    pub(super) fn read_client(&mut self, cx: &mut Context<'_>) -> Result<Moved, End> {
        if self.has_departed() && !self.client_waits {
            return Ok(Moved::Nothing);
        }
        let mut moved = self.carry_client_frames()?;
        // What waits must not pile up; but a client that has gone must be noticed.
        let has_room = !self.client_waits || self.client.incoming.len() < HIGH_WATER;
        if matches!(moved, Moved::NeedsServer | Moved::Identify)
            || !self.server_has_room()
            || !has_room
            || self.has_departed()
        {
            return Ok(moved);
        }
        match self.client.poll_fill(cx) {
            Poll::Pending => return Ok(moved),
            Poll::Ready(Ok(0) | Err(_)) => self.depart(End::ClientGone),
            Poll::Ready(Ok(_)) => {
                self.tally.hear();
                let first = self.carry_client_frames()?;
                if matches!(first, Moved::NeedsServer | Moved::Identify) {
                    return Ok(first);
                }
            }
        }
        moved = Moved::Something;
        Ok(moved)
    }

    fn server_has_room(&self) -> bool {
        let waiting = |lent: &Lent| lent.bound.server().stream.outgoing.len() < HIGH_WATER;
        self.lent.as_deref().is_none_or(waiting)
    }

    /// Hands what the client has sent to the server, as far as it may go.
    fn carry_client_frames(&mut self) -> Result<Moved, End> {
        let mut moved = Moved::Nothing;
        self.client_waits = false;
        while self.server_has_room() {
            if self.from_client.bytes > 0 {
                if self.client.incoming.is_empty() {
                    break;
                }
                self.carry_client_bytes();
                moved = Moved::Something;
                continue;
            }
            if self.begin_copying() || simple::continue_script(self)? {
                moved = Moved::Something;
                continue;
            }
            if matches!(self.in_band.resolution, Resolution::Wanted(_)) {
                return Ok(Moved::Identify);
            }
            let header = match Header::parse(&self.client.incoming) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(_) => return Err(End::Told(malformed())),
            };
            self.tally.check(header)?;
            match self.admit_client_frame(header)? {
                Admitted::Yes => moved = Moved::Something,
                Admitted::NotAllThere => break,
                Admitted::NotYet => {
                    self.client_waits = true;
                    if matches!(self.in_band.resolution, Resolution::Wanted(_)) {
                        return Ok(Moved::Identify);
                    }
                    break;
                }
                Admitted::NeedsServer => return Ok(Moved::NeedsServer),
            }
        }
        Ok(moved)
    }

    /// Decides about the frame whose header is next.
    fn admit_client_frame(&mut self, header: Header) -> Result<Admitted, End> {
        if self.client.outgoing.len() >= HIGH_WATER {
            // Some answers are ours, and must not pile up where the client does not read them.
            return Ok(Admitted::NotYet);
        }
        if let Some(settled) = self.admit_without_server(header)? {
            return Ok(settled);
        }
        if self.lent.is_none() {
            return self.admit_ahead_of_server(header);
        }
        let Some(lent) = &mut self.lent else {
            return Ok(Admitted::NeedsServer);
        };
        lent.holds &= !lent.dues.is_empty();
        if lent.is_kept() && lent.is_at_rest() && self.in_band.myself.expire() {
            self.in_band.impress(lent);
            if lent.leaves {
                return Ok(Admitted::NotYet);
            }
        }
        if lent.copy == Copy::Data {
            return self.admit_during_copy(header);
        }
        let waits = lent.copy == Copy::Asked
            || lent.discarding
            || lent.holds
            || lent.script.is_some()
            || lent.yields
            // Some answers are ours, and must not stand in the middle of a message of the server's.
            || lent.dues.is_empty() && lent.is_amid_a_message();
        if waits || !lent.has_room() {
            return Ok(Admitted::NotYet);
        }
        if lent.dues.skipping() && !matches!(header.tag, frontend::SYNC | frontend::QUERY) {
            // As Postgres would: what follows an error is read and dropped up to the Sync.
            return Ok(self.drop_frame(header));
        }
        let runs = !matches!(header.tag, frontend::SYNC | frontend::FLUSH | frontend::CLOSE);
        if runs && lent.has_left() {
            simple::refuse_moved(lent, header.tag);
            return Ok(self.drop_frame(header));
        }
        if self.client.is_gated() {
            let within = record::names_within(header.tag).min(header.body_len);
            let Some(head) = self.client.incoming.get(HEADER_LEN..HEADER_LEN + within) else {
                return Ok(Admitted::NotAllThere);
            };
            if let Some(error) = record::refuse_names(header, head) {
                lent.again.answered();
                named::refuse(lent, Box::new(error));
                return Ok(self.drop_frame(header));
            }
        }
        match header.tag {
            frontend::QUERY => self.with_body(header, simple::query),
            frontend::PARSE => self.with_body(header, named::parse),
            frontend::BIND => self.bind(header),
            frontend::DESCRIBE => self.with_body(header, named::describe),
            frontend::EXECUTE => match self.execute_identity(header)? {
                Some(admitted) => Ok(admitted),
                None => self.with_body(header, named::execute),
            },
            frontend::CLOSE => self.with_body(header, named::close),
            frontend::FLUSH => Ok(self.carry_frame(header, None)),
            frontend::SYNC => Ok(self.sync(header)),
            // Outside COPY the server reads and drops them.
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                Ok(self.drop_frame(header))
            }
            frontend::FUNCTION_CALL => self.refuse_function_call(header),
            other => Err(End::Told(violation(other))),
        }
    }

    /// What needs no server connection, or none as long as there is none.
    fn admit_without_server(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        let is_idle = self.lent.is_none();
        match header.tag {
            frontend::TERMINATE => {
                self.depart(End::ClientLeft);
                // Nothing that follows a goodbye is meant for anybody.
                self.client.incoming.clear();
                Ok(Some(Admitted::Yes))
            }
            frontend::SYNC if is_idle => {
                message::ready_for_query(TransactionStatus::Idle, &mut self.client.outgoing);
                Ok(Some(self.drop_frame(header)))
            }
            frontend::FLUSH | frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL
                if is_idle =>
            {
                Ok(Some(self.drop_frame(header)))
            }
            frontend::FUNCTION_CALL if is_idle => self.refuse_function_call(header).map(Some),
            frontend::QUERY
            | frontend::PARSE
            | frontend::BIND
            | frontend::DESCRIBE
            | frontend::EXECUTE
            | frontend::CLOSE
            | frontend::FLUSH
            | frontend::SYNC
            | frontend::COPY_DATA
            | frontend::COPY_DONE
            | frontend::COPY_FAIL
            | frontend::FUNCTION_CALL => Ok(None),
            other => Err(End::Told(violation(other))),
        }
    }

    /// While the server reads COPY data it takes anything but these for a failure of the COPY.
    fn admit_during_copy(&mut self, header: Header) -> Result<Admitted, End> {
        match header.tag {
            frontend::COPY_DATA => Ok(self.carry_frame(header, None)),
            frontend::COPY_DONE if header.body_len > 0 => Err(End::Told(malformed())),
            frontend::COPY_DONE | frontend::COPY_FAIL => {
                let admitted = self.carry_frame(header, None);
                if let Some(lent) = &mut self.lent {
                    lent.copy = Copy::Asked;
                    if header.tag == frontend::COPY_DONE {
                        // What comes next waits for the answer, which would wait for a Sync.
                        lent.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
                    }
                }
                Ok(admitted)
            }
            // "Flush and Sync messages are ignored while in copy-in mode".
            frontend::FLUSH | frontend::SYNC => Ok(self.drop_frame(header)),
            other => {
                let message = format!("unexpected message type {other} during COPY from stdin");
                Err(End::Told(ClientError::fatal("08P01", "C005", message)))
            }
        }
    }

    /// Hands a frame to `act` once all of it is there; the frame is gone then.
    pub(super) fn with_body(
        &mut self,
        header: Header,
        act: impl FnOnce(&mut Lent, &mut Parts<'_>, &[u8]) -> Result<(), End>,
    ) -> Result<Admitted, End> {
        if let Some(admitted) = self.admit_long(header)? {
            return Ok(admitted);
        }
        if self.client.incoming.len() < header.frame_len() {
            return Ok(Admitted::NotAllThere);
        }
        let sent_again = self.sent_again;
        let Some((lent, mut parts, incoming)) = self.parts() else {
            return Ok(Admitted::NeedsServer);
        };
        let frame = incoming.get(..header.frame_len()).unwrap_or_default();
        let body = frame.get(HEADER_LEN..).unwrap_or_default();
        lent.begin(header.tag, body, sent_again);
        lent.again.keep(frame);
        act(lent, &mut parts, body)?;
        self.client.incoming.advance(header.frame_len());
        self.forget_what_came(header);
        Ok(Admitted::Yes)
    }

    /// A `Bind`: its names are looked at, its values pass.
    fn bind(&mut self, header: Header) -> Result<Admitted, End> {
        let look = header.body_len.min(NAMES_WITHIN);
        let Some(head) = self.client.incoming.get(HEADER_LEN..HEADER_LEN + look) else {
            return Ok(Admitted::NotAllThere);
        };
        if self.in_band.binds(head)? {
            return self.with_body(header, identity::bind);
        }
        if self.assigns(head) {
            return self.bind_assigning(header);
        }
        match self.check_told(header) {
            Outcome::Bind => {}
            Outcome::NotAllThere => return Ok(Admitted::NotAllThere),
            Outcome::Refused => return Ok(self.drop_frame(header)),
            Outcome::Waits => return Ok(Admitted::NotYet),
        }
        let sent_again = self.sent_again;
        let Some((lent, mut parts, incoming)) = self.parts() else {
            return Ok(Admitted::NeedsServer);
        };
        let head = incoming.get(HEADER_LEN..HEADER_LEN + look).unwrap_or_default();
        if let Some(refusal) = memory::portal_refused(lent, &mut parts, head) {
            named::refuse(lent, refusal);
            return Ok(self.drop_frame(header));
        }
        lent.begin(header.tag, head, sent_again);
        let named = named::bind(lent, &mut parts, head, header.body_len)?;
        lent.again.keep(incoming.get(..HEADER_LEN + named).unwrap_or_default());
        self.client.incoming.advance(HEADER_LEN + named);
        self.from_client = Rest { bytes: header.body_len - named, dropped: false };
        self.carry_client_bytes();
        Ok(Admitted::Yes)
    }

    fn sync(&mut self, header: Header) -> Admitted {
        if let Some(lent) = &mut self.lent {
            lent.hold_behind_sync();
            lent.block.sync();
            // A client that never lets go would keep others waiting.
            lent.yields = !lent.block.is_open() && !lent.is_kept() && lent.bound.is_scarce();
        }
        self.carry_frame(header, Some(Due::Sync(Whose::Clients)))
    }

    /// Passes a frame as it is, with what is due for it.
    pub(super) fn carry_frame(&mut self, header: Header, due: Option<Due>) -> Admitted {
        if let Some(lent) = &mut self.lent {
            lent.begin(header.tag, &[], self.sent_again);
            if let Some(due) = due {
                lent.dues.push(due);
            }
        }
        self.from_client = Rest { bytes: header.frame_len(), dropped: false };
        self.carry_client_bytes();
        Admitted::Yes
    }

    pub(super) fn drop_frame(&mut self, header: Header) -> Admitted {
        self.from_client = Rest { bytes: header.frame_len(), dropped: true };
        self.carry_client_bytes();
        Admitted::Yes
    }

    /// Sends the client an error in place of an answer of the server's, and tells the log.
    pub(super) fn answer_refused(&mut self, error: &ClientError) {
        error.encode(&mut self.client.outgoing);
        let myself = &self.in_band.myself;
        let identity = myself.acting.now().unwrap_or(myself.acting.login());
        refused::tell(self.observer, myself.id(), identity, error);
    }

    fn refuse_function_call(&mut self, header: Header) -> Result<Admitted, End> {
        let status = match &self.lent {
            None => TransactionStatus::Idle,
            // Whether Postgres would answer it depends on what came before it, and the Sync that
            // would tell us stands behind it.
            Some(lent) if lent.dues.unsynced() => return Err(End::Told(violation(header.tag))),
            Some(lent) if lent.dues.is_empty() => lent.status,
            Some(_) => return Ok(Admitted::NotYet),
        };
        self.answer_refused(&function_call_refused());
        message::ready_for_query(status, &mut self.client.outgoing);
        Ok(self.drop_frame(header))
    }

    pub(super) fn carry_client_bytes(&mut self) {
        let count = self.from_client.bytes.min(self.client.incoming.len());
        let bytes = self.client.incoming.get(..count).unwrap_or_default();
        if let (false, Some(lent)) = (self.from_client.dropped, &mut self.lent) {
            lent.again.keep(bytes);
            lent.bound.server_mut().stream.outgoing.extend_from_slice(bytes);
        }
        self.client.incoming.advance(count);
        self.from_client.bytes -= count;
        if let (0, Some(lent)) = (self.from_client.bytes, &mut self.lent) {
            let behind = std::mem::take(&mut lent.behind_frame);
            lent.bound.server_mut().stream.outgoing.extend_from_slice(behind);
        }
    }
}
