//! The client's frames on their way to the server.

use std::task::{Context, Poll};

use bytes::Buf;

use super::{ContextState, End, Gate, HIGH_WATER, LOOK_LIMIT, Relay, Rest};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::{self, frontend};
use crate::protocol::{ClientError, Header};
use crate::session::filter::{self, Rule};

impl Relay<'_> {
    pub(super) fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.departure.is_some() {
            return Ok(false);
        }
        let mut moved = self.carry_client_frames()?;
        let has_room = self.bound.server().stream.outgoing.len() < HIGH_WATER;
        // What waits behind a closed gate must not pile up.
        let passes = self.gate != Gate::Closed || self.client.incoming.is_empty();
        if has_room && self.departure.is_none() && (passes || self.exchange.copy_in()) {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => self.depart(End::ClientGone),
                Poll::Ready(Ok(_)) => {
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
        while self.departure.is_none() && self.bound.server().stream.outgoing.len() < HIGH_WATER {
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
            if !self.admit_client_frame(header)? {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Decides about the frame whose header is next; false if it has to wait.
    fn admit_client_frame(&mut self, header: Header) -> Result<bool, End> {
        let is_copy =
            matches!(header.tag, frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL);
        if self.gate == Gate::Closed && !is_copy {
            return Ok(false);
        }
        match Rule::of(header.tag, self.bound.scope()) {
            Rule::Carry => {}
            Rule::CarryText => {
                let Some(doubtful) = self.look_at_text(header) else {
                    return Ok(false);
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
                return Ok(true);
            }
            Rule::Refuse => {
                if !self.exchange.is_settled() {
                    return Ok(false);
                }
                filter::function_call_refused().encode(&mut self.client.outgoing);
                let status = self.exchange.status();
                message::ready_for_query(status, &mut self.client.outgoing);
                self.client.incoming.advance(HEADER_LEN);
                self.from_client = Rest { bytes: header.body_len, dropped: true };
                return Ok(true);
            }
            Rule::Violation => return Err(End::Told(filter::violation(header.tag))),
        }
        if header.tag == frontend::SYNC && self.gate == Gate::ClosesAtSync {
            self.gate = Gate::Closed;
        }
        self.exchange.sent(header.tag);
        self.from_client = Rest { bytes: header.frame_len(), dropped: false };
        self.carry_client_bytes(header.frame_len());
        Ok(true)
    }

    /// Whether the text in the next frame may undo the context; `None` until enough is there.
    fn look_at_text(&self, header: Header) -> Option<bool> {
        let body = self.client.incoming.get(HEADER_LEN..)?;
        if header.body_len > LOOK_LIMIT {
            return Some(true);
        }
        body.get(..header.body_len).map(filter::may_undo_context)
    }

    fn carry_client_bytes(&mut self, wanted: usize) {
        let count = wanted.min(self.client.incoming.len());
        if let (false, Some(bytes)) = (self.from_client.dropped, self.client.incoming.get(..count))
        {
            self.bound.server_mut().stream.outgoing.extend_from_slice(bytes);
        }
        self.client.incoming.advance(count);
        self.from_client.bytes -= count;
    }
}

fn malformed() -> ClientError {
    ClientError::fatal("08P01", "C006", "invalid message length")
}
