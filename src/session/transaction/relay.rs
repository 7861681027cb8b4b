//! The state of one client between and within transactions, and the rounds of the relay.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::Sleep;

use super::again::Again;
use super::block::Block;
use super::copying::Copying;
use super::due::Dues;
use super::ending::Ending;
use super::from_client::Script;
use super::identity::InBand;
use super::memory::Memory;
use super::moved::{Moved, Step};
use super::names::{Names, Statements};
use super::portals::Portals;
use super::settling::Settling;
use super::touched::Touched;
use super::tracked::{Ended, Tracked};
use crate::backend::Shape;
use crate::guard::Guard;
use crate::observe::Observer;
use crate::pool::{Bound, Knowledge, Residue};
use crate::protocol::{ClientError, FrameStream, TransactionStatus};
use crate::session::acting::Lost;
use crate::session::identity::Myself;
use crate::session::relay::{End, HIGH_WATER, ROUNDS, Rest};
use crate::session::tally::Tally;
use crate::session::watch::Watch;
use crate::session::{Common, Terms};
use crate::statement::{self, Deallocated, Next};
use crate::types::TenantId;

/// A client, and the server connection that carries its transaction, if one does.
pub(super) struct Relay<'a> {
    pub(super) client: FrameStream,
    pub(super) statements: &'a Statements,
    pub(super) observer: &'a Observer,
    pub(super) pins: bool,
    pub(super) max_prepared: usize,
    /// What the client's statements may be.
    pub(super) guard: Option<&'a Guard>,
    pub(super) tally: Tally,
    /// What is kept for the client.
    pub(super) memory: Box<Memory>,
    pub(super) watch: Option<Box<Watch>>,
    /// Large, and most clients have none.
    pub(super) lent: Option<Box<Lent>>,
    pub(super) names: Names,
    /// Who the client is.
    pub(super) in_band: Box<InBand>,
    /// Where in a frame of the client's we are.
    pub(super) from_client: Rest,
    /// The client's next frame waits for an answer to others.
    pub(super) client_waits: bool,
    /// What the client sent last is sent again; once will do.
    pub(super) sent_again: bool,
    /// How the client went, once it has, and how long that may matter to the server.
    pub(super) departure: Option<(End, Pin<Box<Sleep>>)>,
    pub(super) ending: Ending,
    /// What the client is told as soon as nothing is open.
    pub(super) last_word: Option<ClientError>,
}

/// A server connection while it carries a client's transaction.
pub(super) struct Lent {
    pub(super) bound: Bound,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) dues: Dues,
    pub(super) block: Block,
    /// What the last `ReadyForQuery` said.
    pub(super) status: TransactionStatus,
    pub(super) portals: Portals,
    /// What the server has said of the unnamed statement of a number.
    pub(super) unnamed: Option<(u64, Shape)>,
    /// Where in a frame of the server's we are.
    pub(super) from_server: Rest,
    /// What goes out behind the frame of the client's that is passing.
    pub(super) behind_frame: &'static [u8],
    /// Counts what the client has taken.
    pub(super) written: u64,
    pub(super) copy: Copy,
    /// A COPY that the proxy runs step by step.
    pub(super) copying: Option<Box<Copying>>,
    /// An error that goes out together with the `ReadyForQuery` of its `Query`, as Postgres sends
    /// them: drivers take the one for both.
    pub(super) held: BytesMut,
    /// The rest of a `Query` with several statements, or with a COPY.
    pub(super) script: Option<Script>,
    /// The client's next frames wait until the connection has gone to somebody else and back.
    pub(super) yields: bool,
    /// Something that outlives the transaction may have been left.
    pub(super) dirty: bool,
    pub(super) settling: Settling,
    /// Settings of the session that statements have changed.
    pub(super) touched: Touched,
    /// Of these, what a function has set: the value may be the tenant's.
    pub(super) assigned: BTreeSet<String>,
    /// The tenant for whom a function has set what holds here.
    pub(super) assigned_for: Option<TenantId>,
    /// The connection stays with the client until it leaves.
    pub(super) pinned: bool,
    /// A bind was refused: the signing key may have been changed.
    pub(super) bind_refused: bool,
    /// The session's state was discarded by the client's own wish.
    pub(super) discarded: bool,
    /// Statements of the client's that were dropped.
    pub(super) names_dropped: Option<Deallocated>,
    /// That was asked for; nothing else goes out until the server has answered.
    pub(super) discarding: bool,
    /// An answer came that cannot belong to anything.
    pub(super) impossible: bool,
    /// The server has sent an error that ends the connection.
    pub(super) fatal_seen: bool,
    /// A plan did not fit its tables any more.
    pub(super) stale_plan: bool,
    pub(super) again: Again,
    /// It stays the client's from one transaction to the next.
    pub(super) keeps: bool,
    /// What has been left there is a tenant's whom the client is no more: nothing else runs.
    pub(super) leaves: bool,
    /// Nothing else goes out until everything is answered.
    pub(super) holds: bool,
    /// Since the last Sync we have prepared a statement, which an error ahead of it leaves out.
    pub(super) prepares: bool,
    /// How much of who the client is depends on what is on its way.
    pub(super) tracked: Tracked,
    pub(super) lost: Option<Lost>,
    /// The tenant for whom the transaction has run a statement.
    pub(super) ran_as: Option<TenantId>,
    /// And that claims went along with it.
    pub(super) ran_with_claims: bool,
    /// The tenant for whom anything has run here since the client has it.
    pub(super) served: Option<TenantId>,
    pub(super) has_savepoint: bool,
    /// Something has failed since the last Sync.
    pub(super) failed: bool,
    /// What has just ended, as far as it matters to who the client is.
    pub(super) ended: Option<Ended>,
}

/// How far a COPY FROM STDIN has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Copy {
    /// There is none.
    #[default]
    None,
    /// It was asked for; nothing else goes out until the server has answered.
    Asked,
    /// The server reads data.
    Data,
}

impl Lent {
    pub(super) fn new(bound: Bound, keeps: bool, most_dues: usize) -> Self {
        let knowledge = bound.knowledge();
        Self {
            bound,
            knowledge,
            dues: Dues::new(most_dues),
            block: Block::default(),
            status: TransactionStatus::Idle,
            portals: Portals::default(),
            unnamed: None,
            from_server: Rest::default(),
            behind_frame: &[],
            written: 0,
            copy: Copy::None,
            copying: None,
            held: BytesMut::new(),
            script: None,
            yields: false,
            dirty: false,
            touched: Touched::default(),
            assigned: BTreeSet::new(),
            assigned_for: None,
            settling: Settling::default(),
            pinned: false,
            bind_refused: false,
            discarded: false,
            names_dropped: None,
            discarding: false,
            impossible: false,
            fatal_seen: false,
            stale_plan: false,
            again: Again::default(),
            keeps,
            leaves: false,
            holds: false,
            prepares: false,
            tracked: Tracked::default(),
            lost: None,
            ran_as: None,
            ran_with_claims: false,
            served: None,
            has_savepoint: false,
            failed: false,
            ended: None,
        }
    }

    /// Whether nothing is open and nothing on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.dues.is_empty()
            && !self.dues.unsynced()
            && self.status == TransactionStatus::Idle
            && self.script.is_none()
            && self.copy == Copy::None
            && self.from_server.bytes == 0
    }

    /// Whether the client has the beginning of a message of the server's, and not its end.
    pub(super) const fn is_amid_a_message(&self) -> bool {
        self.from_server.bytes > 0 && !self.from_server.dropped
    }

    /// Reads the first statement of a text, as the server will.
    pub(super) fn read(&self, text: &[u8]) -> Next {
        statement::next(text, self.bound.server().lexis(), &self.knowledge.surroundings)
    }

    /// What is left on the connection.
    pub(super) fn residue(&self, lost: bool, unsent: usize) -> Residue {
        let server = self.bound.server();
        Residue {
            lost,
            unaccountable: self.impossible,
            pending: self.dues.len() + usize::from(self.copying.is_some()),
            unsynced: self.dues.unsynced() || self.script.is_some(),
            unread: server.stream.incoming.len()
                + server.stream.outgoing.len()
                + self.from_server.bytes
                + unsent,
            status: self.status,
            ended: false,
            too_old: false,
            dirty: self.is_dirty(),
        }
    }
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        client: FrameStream,
        common: &Common<'a>,
        terms: &Terms,
        ending: Ending,
    ) -> Self {
        let myself = Myself::new(&terms.identity, common.choice_outlives_transaction, terms.id);
        let scope = myself.scope();
        let limits = common.limits_for(scope);
        Self {
            client,
            statements: common.statements,
            observer: common.observer,
            pins: common.pooling.pins,
            max_prepared: common.pooling.max_prepared,
            guard: common.guard_for(scope),
            tally: Tally::new(limits, &terms.identity),
            memory: Box::new(Memory::of(terms, common.limits.session_memory)),
            watch: Watch::new(limits).map(Box::new),
            lent: None,
            names: Names::default(),
            in_band: Box::new(InBand::new(myself)),
            from_client: Rest::default(),
            client_waits: false,
            sent_again: false,
            departure: None,
            ending,
            last_word: None,
        }
    }

    /// Moves what can be moved; ready when something else has to be done first.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let mut has_moved = false;
        for _ in 0..ROUNDS {
            match self.step(cx) {
                Ok(Moved::Something) => has_moved = true,
                Ok(Moved::Nothing) => {
                    // Whoever wakes us for nothing else means this. Where something else moved,
                    // the end of a token has time until the transaction is over.
                    if !has_moved || self.lent.is_none() || self.ending.is_near() {
                        match self.poll_ending(cx) {
                            Ok(true) => continue,
                            Ok(false) => {}
                            Err(end) => return Poll::Ready(Step::End(end)),
                        }
                    }
                    if self.lent.is_none() {
                        self.client.shrink();
                    }
                    return self.poll_watch(cx);
                }
                Ok(Moved::Identify) => return Poll::Ready(Step::Identify),
                Ok(Moved::NeedsServer) => return Poll::Ready(Step::NeedsServer),
                Ok(Moved::Rest) => return Poll::Ready(Step::Rest),
                Err(end) => return Poll::Ready(Step::End(end)),
            }
        }
        // The other clients of this thread have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// While the client waits for a server connection: ready if it has gone, or must go.
    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.write_client(cx);
        if self.client.incoming.len() < HIGH_WATER {
            while let Poll::Ready(read) = self.client.poll_fill(cx) {
                match read {
                    Ok(0) | Err(_) => return Poll::Ready(End::ClientGone),
                    Ok(_) if self.client.incoming.len() >= HIGH_WATER => break,
                    Ok(_) => {}
                }
            }
        }
        match self.poll_ending(cx) {
            Err(end) => Poll::Ready(end),
            Ok(_) => match self.last_word.take() {
                Some(error) => Poll::Ready(End::Told(error)),
                None => Poll::Pending,
            },
        }
    }

    /// One round; says whether anything could be done, or what has to be done first.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Moved, End> {
        let mut moved = self.read_client(cx)?;
        if matches!(moved, Moved::NeedsServer | Moved::Identify) {
            return Ok(moved);
        }
        moved = moved.or(self.write_server(cx));
        moved = moved.or(self.read_server(cx)?);
        moved = moved.or(self.write_client(cx));
        let at_rest = self.lent.as_ref().is_some_and(|lent| lent.is_at_rest() && !lent.is_kept())
            && self.from_client.bytes == 0;
        if at_rest {
            return Ok(Moved::Rest);
        }
        self.check_departure(cx)?;
        self.check_last_word()?;
        Ok(moved)
    }

    fn write_server(&mut self, cx: &mut Context<'_>) -> Moved {
        let Some(lent) = &mut self.lent else { return Moved::Nothing };
        let stream = &mut lent.bound.server_mut().stream;
        if stream.outgoing.is_empty() {
            return Moved::Nothing;
        }
        let before = stream.outgoing.len();
        match stream.poll_drain(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => Moved::from(stream.outgoing.len() < before),
            // What the server said before it went is still to be read.
            Poll::Ready(Err(_)) => {
                stream.outgoing.clear();
                Moved::Nothing
            }
        }
    }

    fn write_client(&mut self, cx: &mut Context<'_>) -> Moved {
        let before = self.client.outgoing.len();
        if before == 0 {
            return Moved::Nothing;
        }
        match self.client.poll_drain(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => {
                let has_moved = self.client.outgoing.len() < before;
                if let Some(lent) = self.lent.as_mut().filter(|_| has_moved) {
                    lent.written += 1;
                }
                Moved::from(has_moved)
            }
            Poll::Ready(Err(_)) => {
                // Nobody will read the rest, but the server may still be at work.
                self.client.outgoing.clear();
                self.depart(End::ClientGone);
                Moved::Something
            }
        }
    }

    pub(super) fn is_amid_a_message(&self) -> bool {
        self.lent.as_deref().is_some_and(Lent::is_amid_a_message)
    }
}
