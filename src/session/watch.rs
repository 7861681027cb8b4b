//! The time that a tenant's statements and transactions take, looked at now and then: no statement
//! has a timer of its own.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::tally::Standing;
use crate::config::TenantLimits;
use crate::protocol::ClientError;

/// How much later than its limit something may be noticed: a quarter of the limit, within these.
const SOONEST: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_secs(1);

/// A statement that goes on so long after it was cancelled will not end by that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the server send the answers that it has. Manual: "Message Flow", "Extended Query".
pub(super) const FLUSH: &[u8] = b"H\0\0\0\x04";

/// Looks at a session now and then.
pub(super) struct Watch {
    limits: TenantLimits,
    every: Duration,
    next: Pin<Box<Sleep>>,
    query: Seen,
    transaction: Seen,
    idle: Seen,
    rest: Seen,
    unread: Seen,
    unflushed: Seen,
    /// When the statement that goes on was cancelled.
    cancelled: Option<(u64, Instant)>,
}

/// What has lasted too long.
#[derive(Debug)]
pub(super) enum Exceeded {
    /// What is running has to be cancelled.
    Cancel,
    /// The session has to end.
    End(ClientError),
    /// The client is silent, and only the answers that the server may hold back tell whether it
    /// waits for the server: a Flush has to go out.
    Flush,
}

/// Something by its number, and since when it goes on.
#[derive(Debug, Default)]
struct Seen(Option<(u64, Instant)>);

impl Seen {
    /// How long it has gone on.
    fn look(&mut self, now: Instant, number: Option<u64>) -> Duration {
        let since = match (self.0, number) {
            (Some((seen, since)), Some(number)) if seen == number => since,
            _ => now,
        };
        self.0 = number.map(|number| (number, since));
        now - since
    }
}

impl Watch {
    /// `None` if nothing has to be looked at.
    pub(super) fn new(limits: Option<TenantLimits>) -> Option<Self> {
        let limits = limits?;
        let TenantLimits {
            query, transaction, idle_transaction, client_idle, client_write, ..
        } = limits;
        let set = [query, transaction, idle_transaction, client_idle, client_write];
        let shortest = set.into_iter().filter(|limit| !limit.is_zero()).min()?;
        let every = (shortest / 4).clamp(SOONEST, LATEST);
        Some(Self {
            limits,
            every,
            next: Box::pin(tokio::time::sleep(every)),
            query: Seen::default(),
            transaction: Seen::default(),
            idle: Seen::default(),
            rest: Seen::default(),
            unread: Seen::default(),
            unflushed: Seen::default(),
            cancelled: None,
        })
    }

    /// Whether a client that rests is looked at, too.
    pub(super) const fn limits_rest(&self) -> bool {
        !self.limits.client_idle.is_zero()
    }

    /// Ready when something has lasted too long.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        standing: impl Fn() -> Standing,
    ) -> Poll<Exceeded> {
        while self.next.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.next.as_mut().reset(now + self.every);
            if let Some(exceeded) = self.look(now, standing()) {
                return Poll::Ready(exceeded);
            }
        }
        Poll::Pending
    }

    fn look(&mut self, now: Instant, standing: Standing) -> Option<Exceeded> {
        if !self.unflushed.look(now, standing.unflushed).is_zero() {
            return Some(Exceeded::Flush);
        }
        let is_past = |lasted: Duration, limit: Duration| !limit.is_zero() && lasted >= limit;
        let lasted = self.transaction.look(now, standing.transaction);
        if is_past(lasted, self.limits.transaction) {
            return Some(ended("25P04", "transaction", "transaction_timeout"));
        }
        let lasted = self.idle.look(now, standing.idle);
        if is_past(lasted, self.limits.idle_transaction) {
            return Some(ended("25P03", "idle-in-transaction", "idle_transaction_timeout"));
        }
        let lasted = self.rest.look(now, standing.rest);
        if is_past(lasted, self.limits.client_idle) {
            return Some(ended("57P05", "idle-session", "client_idle_timeout"));
        }
        let lasted = self.unread.look(now, standing.unread);
        if is_past(lasted, self.limits.client_write) {
            return Some(not_taken());
        }
        let lasted = self.query.look(now, standing.query);
        if !is_past(lasted, self.limits.query) {
            return None;
        }
        match (self.cancelled, standing.query) {
            (Some((number, since)), Some(query)) if number == query => {
                (now - since >= PATIENCE).then(|| ended("57014", "statement", "query_timeout"))
            }
            (_, Some(query)) => {
                self.cancelled = Some((query, now));
                Some(Exceeded::Cancel)
            }
            (_, None) => None,
        }
    }
}

/// The client gets this if it begins to read at last.
fn not_taken() -> Exceeded {
    let message = "terminating connection because its client does not take what it is sent";
    let hint = "Read results as they come, or ask for less at a time. The operator of the proxy has \
                set client_write_timeout.";
    Exceeded::End(ClientError::fatal("57014", "C311", message).hint(hint))
}

fn ended(sqlstate: &'static str, what: &str, key: &str) -> Exceeded {
    let message = format!("terminating connection due to the proxy's {what} timeout");
    let hint = format!("The operator of the proxy has set {key}.");
    Exceeded::End(ClientError::fatal(sqlstate, "C015", message).hint(hint))
}
