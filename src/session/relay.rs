//! Passes bytes both ways, looking at headers, until the session is over.
//!
//! One task, four streams of bytes: from and to the client, from and to the server. Each step
//! does what can be done without waiting. Of each direction no more is held than a few chunks:
//! when one side does not take, the other is not read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use tokio::time::Sleep;

use super::answer::{Answer, ErrorKind};
use super::exchange::Exchange;
use super::filter::{self, Rule};
use crate::pool::{Bound, Residue};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::{self, frontend};
use crate::protocol::{ClientError, FrameStream, Header, TransactionStatus};
use crate::tenant::Scope;

/// A side that has this much to write is not fed before it has written.
const HIGH_WATER: usize = 64 * 1024;

/// Messages that the proxy looks into are at most this long; of longer ones it assumes the worst.
const LOOK_LIMIT: usize = 8 * 1024;

/// After the client is gone, so long may its last statements still run before they are cancelled.
const PATIENCE: Duration = Duration::from_secs(5);

/// A bind that the client's own cancel request or timeout has hit is tried so often.
const BIND_ATTEMPTS: u8 = 3;

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// A rule of our own was broken; the text says which.
    Bug(&'static str),
    /// The client's connection is gone.
    ClientGone,
    /// The client said goodbye.
    ClientLeft,
    /// The server's connection is gone, and it did not say why.
    ServerLost,
    /// The server's connection is gone, and the client has its reason.
    ServerSaidWhy,
    /// We end it, and the client is told why.
    Told(ClientError),
}

impl End {
    /// The label in logs and metrics.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Bug(_) => "bug",
            Self::ClientGone => "client_gone",
            Self::ClientLeft => "client_left",
            Self::ServerLost | Self::ServerSaidWhy => "server_lost",
            Self::Told(_) => "ended",
        }
    }
}

/// A client and the server connection that serves it.
pub(super) struct Relay<'a> {
    client: &'a mut FrameStream,
    bound: &'a mut Bound,
    exchange: Exchange,
    /// Where in a frame of the client's we are.
    from_client: Rest,
    /// Where in a frame of the server's we are.
    from_server: Rest,
    /// What becomes of the client's next frames.
    gate: Gate,
    /// Whether the context has to be bound again, or is being bound.
    context: ContextState,
    /// How the client went, once it has, and how long that may matter to the server.
    departure: Option<(End, Pin<Box<Sleep>>)>,
    /// What the client is told as soon as nothing is open.
    last_word: Option<ClientError>,
    /// The server has sent an error that ends the connection.
    fatal_seen: bool,
}

/// The bytes of the current frame's body that have not passed.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    bytes: usize,
    /// They go nowhere.
    dropped: bool,
}

/// What becomes of the client's next frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gate {
    Open,
    /// The pipeline has text that may undo the context: closes behind its Sync.
    ClosesAtSync,
    /// Everything but COPY data waits until all that was asked is answered.
    Closed,
}

/// Whether the tenant's context is in force, as far as can be told from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ContextState {
    Bound,
    /// It may have been undone.
    Doubtful,
    /// It is being bound; answers up to `ReadyForQuery` are ours.
    Binding {
        attempt: u8,
        error: Option<ErrorKind>,
    },
}

impl<'a> Relay<'a> {
    pub(super) const fn new(client: &'a mut FrameStream, bound: &'a mut Bound) -> Self {
        Self {
            client,
            bound,
            exchange: Exchange::new(),
            from_client: Rest { bytes: 0, dropped: false },
            from_server: Rest { bytes: 0, dropped: false },
            gate: Gate::Open,
            context: ContextState::Bound,
            departure: None,
            last_word: None,
            fatal_seen: false,
        }
    }

    /// Moves what can be moved; ready when the session is over. May be dropped between calls.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.step(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Ends the session with `error` as soon as nothing is open.
    pub(super) fn end_at_rest(&mut self, error: ClientError) {
        self.last_word = Some(error);
    }

    /// What the session leaves on the server connection.
    pub(super) fn residue(&self, end: &End) -> Residue {
        let server = self.bound.server();
        Residue {
            lost: matches!(end, End::ServerLost | End::ServerSaidWhy),
            unaccountable: self.exchange.unaccountable()
                || matches!(self.context, ContextState::Binding { .. }),
            pending: self.exchange.pending(),
            unsynced: self.exchange.unsynced(),
            unread: server.stream.incoming.len()
                + server.stream.outgoing.len()
                + self.from_client.bytes
                + self.from_server.bytes,
            status: self.exchange.status(),
            too_old: false,
        }
    }

    /// One round over the four directions; false if nothing could be done.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = self.read_client(cx)?;
        moved |= self.write_server(cx)?;
        moved |= self.read_server(cx)?;
        moved |= self.write_client(cx);
        self.check_departure(cx)?;
        self.check_last_word()?;
        Ok(moved)
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
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

    fn write_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let stream = &mut self.bound.server_mut().stream;
        let before = stream.outgoing.len();
        match stream.poll_drain(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => Ok(stream.outgoing.len() < before),
            // What the server said before it went is still to be read.
            Poll::Ready(Err(_)) => {
                stream.outgoing.clear();
                Ok(false)
            }
        }
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
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
        let server = self.bound.server_mut();
        let look = Answer::needs_body(header.tag) && header.body_len <= LOOK_LIMIT;
        let wanted = if look { header.frame_len() } else { HEADER_LEN };
        let Some(body) = server.stream.incoming.get(HEADER_LEN..wanted) else {
            return Ok(false);
        };
        let answer = Answer::read(header.tag, body);
        if answer == Answer::Status && look {
            server.note_next_status(header.frame_len());
        }
        if let Answer::Error { is_fatal: true, .. } = answer {
            self.fatal_seen = true;
        }
        let ours = matches!(self.context, ContextState::Binding { .. });
        self.from_server =
            Rest { bytes: header.frame_len(), dropped: ours && !answer.is_unasked() };
        self.carry_server_bytes();
        if ours {
            self.note_own_answer(answer)?
        } else {
            self.note_answer(answer)?
        }
        Ok(true)
    }

    /// Notes an answer to the client's messages.
    fn note_answer(&mut self, answer: Answer) -> Result<(), End> {
        self.exchange.received(answer);
        if answer == (Answer::Complete { undoes_settings: true })
            && matches!(self.bound.scope(), Scope::Tenant(_))
        {
            self.context = ContextState::Doubtful;
        }
        match answer {
            Answer::Ready(_) if self.exchange.unaccountable() => {
                Err(End::Bug("the answers do not fit the requests"))
            }
            Answer::Ready(_) if self.exchange.is_settled() => self.settle(),
            Answer::Complete { .. }
            | Answer::CopyIn
            | Answer::Error { .. }
            | Answer::Other
            | Answer::Ready(_)
            | Answer::Status
            | Answer::Unasked => Ok(()),
        }
    }

    /// When all is answered: binds again if need be, and lets the client go on.
    fn settle(&mut self) -> Result<(), End> {
        let failed = self.exchange.status() == TransactionStatus::Error;
        if self.context == ContextState::Doubtful && !failed {
            self.bind_again(1)
        } else {
            self.gate = Gate::Open;
            Ok(())
        }
    }

    fn bind_again(&mut self, attempt: u8) -> Result<(), End> {
        self.bound.queue_bind().map_err(|_| End::Bug("the bind could not be written"))?;
        self.context = ContextState::Binding { attempt, error: None };
        self.gate = Gate::Closed;
        Ok(())
    }

    /// Notes an answer to our own bind.
    fn note_own_answer(&mut self, answer: Answer) -> Result<(), End> {
        let ContextState::Binding { attempt, error } = self.context else {
            return Err(End::Bug("an answer to a bind that was not begun"));
        };
        match answer {
            Answer::Error { kind, .. } => {
                self.context = ContextState::Binding { attempt, error: Some(kind) };
                Ok(())
            }
            Answer::Ready(Some(status)) => {
                self.exchange.note_status(status);
                self.finish_bind(attempt, error)
            }
            Answer::Ready(None) => Err(End::Bug("the answer to a bind makes no sense")),
            Answer::Complete { .. }
            | Answer::CopyIn
            | Answer::Other
            | Answer::Status
            | Answer::Unasked => Ok(()),
        }
    }

    fn finish_bind(&mut self, attempt: u8, error: Option<ErrorKind>) -> Result<(), End> {
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
            Some(ErrorKind::Cancelled) if attempt < BIND_ATTEMPTS => self.bind_again(attempt + 1),
            Some(_) => Err(End::Told(bind_refused())),
        }
    }

    fn carry_server_bytes(&mut self) {
        let incoming = &mut self.bound.server_mut().stream.incoming;
        let count = self.from_server.bytes.min(incoming.len());
        if let (false, Some(bytes)) = (self.from_server.dropped, incoming.get(..count)) {
            self.client.outgoing.extend_from_slice(bytes);
        }
        incoming.advance(count);
        self.from_server.bytes -= count;
    }

    fn write_client(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.client.outgoing.len();
        match self.client.poll_drain(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => self.client.outgoing.len() < before,
            Poll::Ready(Err(_)) => {
                // Nobody will read the rest, but the server may still be at work.
                self.client.outgoing.clear();
                self.depart(End::ClientGone);
                before > 0
            }
        }
    }

    fn depart(&mut self, end: End) {
        self.departure.get_or_insert_with(|| (end, Box::pin(tokio::time::sleep(PATIENCE))));
    }

    /// Once the client is gone, what it asked for is still done, as Postgres itself would.
    fn check_departure(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let binding = matches!(self.context, ContextState::Binding { .. });
        let done = self.exchange.pending() == 0 && !binding;
        let hopeless =
            self.exchange.unsynced() || self.exchange.copy_in() || self.from_client.bytes > 0;
        let over = |(_, patience): &mut (End, Pin<Box<Sleep>>)| {
            done || hopeless || patience.as_mut().poll(cx).is_ready()
        };
        match self.departure.take_if(over) {
            Some((end, _)) => Err(end),
            None => Ok(()),
        }
    }

    fn check_last_word(&mut self) -> Result<(), End> {
        let binding = matches!(self.context, ContextState::Binding { .. });
        let open = binding || self.from_client.bytes > 0 || !self.exchange.is_at_rest();
        match self.last_word.take_if(|_| !open) {
            Some(error) => Err(End::Told(error)),
            None => Ok(()),
        }
    }
}

fn malformed() -> ClientError {
    ClientError::fatal("08P01", "C006", "invalid message length")
}

fn bind_refused() -> ClientError {
    ClientError::fatal("28000", "C203", "the tenant context could not be set again")
        .hint("Connect again. A short statement_timeout or a cancel request can be the reason.")
}
