//! What a tenant's session has taken so far, held against its limits (pure).

use std::sync::Arc;

use crate::config::TenantLimits;
use crate::protocol::message::backend;
use crate::protocol::{ClientError, Header, TransactionStatus, message};
use crate::session::relay::End;
use crate::tenant::{Identity, Pot};

/// Counts savepoints, and numbers what can last too long.
///
/// A number that has not changed between two looks means that the same thing is still going on:
/// so nothing on the way of a message has to look at a clock.
#[derive(Debug)]
pub(super) struct Tally {
    limits: Option<Counted>,
    /// Savepoints of this transaction.
    savepoints: usize,
    /// Those of all sessions of the tenant, this one's counted in.
    all_savepoints: Option<Arc<Pot>>,
    /// Answers that are over.
    answers: u64,
    /// Transactions that are over.
    transactions: u64,
    /// We have asked the server to cancel what is running.
    cancelled: bool,
    /// Counts what the client has sent, read by read.
    heard: u64,
    /// `heard` when the server was last asked to send the answers that it holds back.
    flushed_at: Option<u64>,
}

/// The limits that are held against what is counted here: every client has them with it.
#[derive(Clone, Copy, Debug)]
struct Counted {
    packet: usize,
    savepoints: usize,
}

/// How far the server is with what the client has asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Progress {
    /// Something was asked and not answered, or no Sync has ended it.
    pub(super) is_asked: bool,
    /// Nothing happens until the client sends more.
    pub(super) waits_for_client: bool,
    /// The server may hold answers back until a Sync or a Flush.
    pub(super) may_hold_answers: bool,
}

/// What is going on, by number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Standing {
    /// Something was asked and not answered.
    pub(super) query: Option<u64>,
    /// A transaction is open: a block, or what Postgres makes of statements outside of one.
    pub(super) transaction: Option<u64>,
    /// It waits for the client.
    pub(super) idle: Option<u64>,
    /// The client asks for nothing, outside a transaction.
    pub(super) rest: Option<u64>,
    /// The client has not taken all of what it was sent; what it has taken last.
    pub(super) unread: Option<u64>,
    /// The server may hold answers back, and has not been asked for them.
    pub(super) unflushed: Option<u64>,
}

impl Tally {
    /// For a session of whoever `identity` is.
    pub(super) fn new(limits: Option<TenantLimits>, identity: &Identity) -> Self {
        let member = identity.member().filter(|_| limits.is_some());
        let limits =
            limits.map(|TenantLimits { packet, savepoints, .. }| Counted { packet, savepoints });
        Self {
            limits,
            savepoints: 0,
            all_savepoints: member.map(|member| Arc::clone(member.savepoints())),
            answers: 0,
            transactions: 0,
            cancelled: false,
            heard: 0,
            flushed_at: None,
        }
    }

    /// The client has sent something.
    pub(super) const fn hear(&mut self) {
        self.heard = self.heard.wrapping_add(1);
    }

    /// The server is asked to send the answers that it holds back.
    pub(super) const fn flush(&mut self) {
        self.flushed_at = Some(self.heard);
    }

    /// The client's next message, before it is awaited.
    pub(super) fn check(&self, header: Header) -> Result<(), End> {
        match &self.limits {
            Some(limits) if header.frame_len() > limits.packet => {
                let message = format!("a message of {} bytes is too long", header.frame_len());
                let hint = format!("At most {} (max_packet_size).", limits.packet);
                Err(told("54000", "C014", message, hint))
            }
            _ => Ok(()),
        }
    }

    /// The server's next message; an error of ours if the client gets that in its place.
    pub(super) fn received(&mut self, tag: u8, body: &[u8]) -> Result<Option<ClientError>, End> {
        let Some(limits) = &self.limits else { return Ok(None) };
        match tag {
            backend::COMMAND_COMPLETE if body == b"SAVEPOINT\0" => {
                self.savepoints += 1;
                let (before, now) = (self.savepoints - 1, self.savepoints);
                if let Some(all) =
                    self.all_savepoints.as_ref().filter(|all| !all.exchange(before, now))
                {
                    self.savepoints = before;
                    return Err(all_used(all));
                }
                if limits.savepoints > 0 && self.savepoints > limits.savepoints {
                    let message =
                        format!("more than {} savepoints in a transaction", limits.savepoints);
                    let hint = "Use fewer, or raise max_savepoints.".to_owned();
                    return Err(told("54000", "C014", message, hint));
                }
            }
            backend::READY_FOR_QUERY => {
                self.answers += 1;
                self.cancelled = false;
                if body == b"I" {
                    self.transactions += 1;
                    self.give_savepoints_back();
                }
            }
            backend::ERROR_RESPONSE
                if self.cancelled && message::error_field(body, b'C') == Some("57014") =>
            {
                self.cancelled = false;
                return Ok(Some(query_cancelled()));
            }
            _ => {}
        }
        Ok(None)
    }

    fn give_savepoints_back(&mut self) {
        let made = std::mem::take(&mut self.savepoints);
        if let Some(all) = self.all_savepoints.as_ref().filter(|_| made > 0) {
            all.exchange(made, 0);
        }
    }

    /// What is going on.
    pub(super) fn standing(&self, progress: Progress, status: TransactionStatus) -> Standing {
        let Progress { is_asked, waits_for_client, may_hold_answers } = progress;
        let is_open = is_asked || status != TransactionStatus::Idle;
        let is_idle = is_open && (waits_for_client || !is_asked);
        let is_unflushed = may_hold_answers && self.flushed_at != Some(self.heard);
        Standing {
            query: is_asked.then_some(self.answers),
            transaction: is_open.then_some(self.transactions),
            // Each of the two only grows, so a sum that is the same means that neither has.
            idle: is_idle.then_some(self.answers.wrapping_add(self.heard)),
            rest: (!is_open).then_some(self.answers),
            unread: None,
            unflushed: is_unflushed.then_some(self.heard),
        }
    }

    /// We have asked the server to cancel what is running.
    pub(super) const fn cancel(&mut self) {
        self.cancelled = true;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.give_savepoints_back();
    }
}

fn all_used(all: &Pot) -> End {
    let (whose, limit) = (all.whose, all.limit());
    let message = format!("more than {limit} savepoints in the open transactions of {whose}");
    let hint = "Use fewer at a time, or raise max_savepoints: all transactions together have twice \
                that number.";
    told("54000", "C014", message, hint.to_owned())
}

fn query_cancelled() -> ClientError {
    ClientError::error("57014", "C015", "canceling statement due to the proxy's query_timeout")
        .hint("The operator of the proxy has set how long a tenant's statement may run.")
}

fn told(sqlstate: &'static str, code: &'static str, message: String, hint: String) -> End {
    End::Told(ClientError::fatal(sqlstate, code, message).hint(hint))
}
