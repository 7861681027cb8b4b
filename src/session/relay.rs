//! Passes bytes both ways, looking at headers, until the session is over.
//!
//! One task, four streams of bytes: from and to the client, from and to the server. Each step
//! does what can be done without waiting. Of each direction no more is held than a few chunks:
//! when one side does not take, the other is not read.

mod copying;
mod from_client;
mod from_server;
mod guarded;

use copying::Copying;
pub(super) use from_client::malformed;
use guarded::Guarded;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::Sleep;

use super::answer::ErrorKind;
use super::exchange::Exchange;
use super::memory::Memory;
use super::tally::{Progress, Standing, Tally};
use super::watch::FLUSH;
use super::{Common, Terms};
use super::{filter, refused};
use crate::observe::Observer;
use crate::pool::{Bound, Residue};
use crate::protocol::{ClientError, FrameStream};

/// A side that has this much to write is not fed before it has written.
pub(super) const HIGH_WATER: usize = 64 * 1024;

/// After so many reads and writes in a row a session lets the others of its thread go first, however
/// much its client has sent.
pub(super) const ROUNDS: usize = 8;

/// Messages that the proxy looks into are at most this long; of longer ones it assumes the worst.
pub(super) const LOOK_LIMIT: usize = 8 * 1024;

/// After the client is gone, so long may its last statements still run before they are cancelled.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

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
    /// We end it in the middle of a message, where nothing can be said.
    Cut,
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
            Self::Cut | Self::Told(_) => "ended",
        }
    }
}

/// A client and the server connection that serves it.
pub(super) struct Relay<'a> {
    observer: &'a Observer,
    terms: &'a Terms,
    client: &'a mut FrameStream,
    bound: &'a mut Bound,
    exchange: Exchange,
    copying: Copying,
    guarded: Guarded<'a>,
    tally: Tally,
    /// Where in a frame of the client's we are.
    from_client: Rest,
    /// The client's next frame waits for an answer to others.
    client_waits: bool,
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
    /// Counts what the client has taken.
    written: u64,
    /// The owner has changed tables in the transaction that is open.
    changes_tables: bool,
    /// The client may not be here any more.
    has_lost_leave: bool,
    /// A transaction has ended since the last `ReadyForQuery`.
    block_ended: bool,
    /// The transaction that is open began with the end of another; when it last renewed the context.
    chained: Option<SystemTime>,
    /// Notices that may tell of plans go nowhere.
    hides_plans: bool,
}

/// The bytes of the current frame's body that have not passed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    pub(super) bytes: usize,
    /// They go nowhere.
    pub(super) dropped: bool,
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
        /// What is there is good still.
        is_renewal: bool,
    },
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        client: &'a mut FrameStream,
        bound: &'a mut Bound,
        common: &Common<'a>,
        terms: &'a Terms,
    ) -> Self {
        let guard = common.guard_for(bound.scope());
        let limits = common.limits_for(bound.scope());
        let is_tenants = bound.scope().is_tenants();
        // Nothing is kept but the text that is on its way.
        let memory = Memory::of(terms, usize::MAX);
        Self {
            observer: common.observer,
            terms,
            guarded: Guarded::new(guard, is_tenants, client.is_gated(), memory),
            client,
            hides_plans: filter::hides_plans(bound.scope(), guard),
            bound,
            exchange: Exchange::new(),
            copying: Copying::default(),
            tally: Tally::new(limits, &terms.identity),
            from_client: Rest { bytes: 0, dropped: false },
            client_waits: false,
            from_server: Rest { bytes: 0, dropped: false },
            gate: Gate::Open,
            context: ContextState::Bound,
            departure: None,
            last_word: None,
            fatal_seen: false,
            written: 0,
            changes_tables: false,
            has_lost_leave: false,
            block_ended: false,
            chained: None,
        }
    }

    /// Sends the client an error in place of an answer of the server's, and tells the log.
    fn answer_refused(&mut self, error: &ClientError) {
        error.encode(&mut self.client.outgoing);
        refused::tell(self.observer, self.terms.id, &self.terms.identity, error);
    }

    /// Moves what can be moved; ready when the session is over. May be dropped between calls.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS {
            match self.step(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        // The other clients of this thread have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What is going on, for limits of time.
    pub(super) fn standing(&self) -> Standing {
        let unread = (!self.client.outgoing.is_empty()).then_some(self.written);
        let server_took_all = self.bound.server().stream.outgoing.is_empty();
        let is_due = self.exchange.waits_for_client() || self.takes_data();
        let client_is_due = is_due || self.from_client.bytes > 0;
        let is_amid_a_frame = self.from_client.bytes > 0 && !self.from_client.dropped;
        let progress = Progress {
            is_asked: !self.exchange.is_settled(),
            waits_for_client: client_is_due && server_took_all && !self.client_waits,
            may_hold_answers: self.exchange.may_hold_answers() && !is_amid_a_frame,
        };
        Standing { unread, ..self.tally.standing(progress, self.exchange.status()) }
    }

    /// Asks the server for the answers that it holds back.
    pub(super) fn flush_server(&mut self) {
        self.tally.flush();
        self.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
    }

    /// What is running will be cancelled because it has lasted too long.
    pub(super) const fn cancel_is_due(&mut self) {
        self.tally.cancel();
    }

    /// Ends the session with `error` as soon as nothing is open.
    pub(super) fn end_at_rest(&mut self, error: ClientError) {
        self.last_word = Some(error);
    }

    /// Ends the session with the error that it was to end with at rest, without waiting for that.
    pub(super) fn end_now(&mut self) -> End {
        let in_frame = self.from_server.bytes > 0 && !self.from_server.dropped;
        match self.last_word.take() {
            Some(error) if !in_frame => End::Told(error),
            Some(_) | None => End::Cut,
        }
    }

    /// The client may not be here any more: nobody else is to have its server connection.
    pub(super) const fn lose_leave(&mut self) {
        self.has_lost_leave = true;
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
            ended: self.has_lost_leave,
            too_old: false,
            dirty: true,
        }
    }

    /// Whether the client has the beginning of a message of the server's, and not its end.
    pub(super) const fn is_amid_a_message(&self) -> bool {
        self.from_server.bytes > 0 && !self.from_server.dropped
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

    fn write_client(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.client.outgoing.len();
        match self.client.poll_drain(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => {
                let has_moved = self.client.outgoing.len() < before;
                self.written += u64::from(has_moved);
                has_moved
            }
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
        let done = self.exchange.pending() == 0 && !binding && !self.client_waits;
        let hopeless = self.exchange.unsynced() || self.takes_data() || self.from_client.bytes > 0;
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
