//! How many cancel requests are carried out, and how many guesses are heard.
//!
//! A request is no session and has no token, and each one costs a connection to Postgres. What is
//! over a limit is dropped without a word, as every cancel request is answered without one.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::recent::Recent;
use crate::types::Address;

/// Requests that are carried out at a time, each over a connection of its own.
const AT_ONCE: usize = 16;
/// Requests that wait for their turn.
const QUEUE: usize = 64;
/// Requests to one session, with the one that is being carried out: the next one cancels what began
/// after that, and any more would cancel the same.
const PER_SESSION: usize = 2;
/// Wrong keys from one address in a second; after that no key from there is looked at until the
/// second is over. A short key has 32 random bits: at this rate half of them take three years.
const GUESSES: u32 = 20;
const GUESSES_IN: Duration = Duration::from_secs(1);
/// Addresses that are remembered for wrong keys.
const ADDRESSES: usize = 10_000;

/// The limits, and what counts against them.
pub(super) struct CancelLimit {
    running: Arc<Semaphore>,
    under_way: AtomicUsize,
    guesses: Recent<Sender, (Instant, u32)>,
}

/// Whom wrong keys are counted for. Whoever has an IPv6 address has 2^64 of them.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Sender {
    Local,
    Tcp(IpAddr),
}

/// Counts the requests to one session.
#[derive(Default)]
pub(super) struct PerSession(AtomicUsize);

/// A request that is under way; counts until it is dropped.
pub(super) struct UnderWay<'a> {
    _of_session: Counted<'a>,
    _of_all: Counted<'a>,
    _turn: OwnedSemaphorePermit,
}

/// One more, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl CancelLimit {
    pub(super) fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            under_way: AtomicUsize::new(0),
            guesses: Recent::new(ADDRESSES),
        }
    }

    /// Whether a key from there is looked at now.
    pub(super) fn hears(&self, from: &Address, now: Instant) -> bool {
        self.wrong_keys(from, now) < GUESSES
    }

    /// Counts a wrong key.
    pub(super) fn count_guess(&self, from: &Address, now: Instant) {
        let sender = Sender::of(from);
        let since = match self.guesses.get(&sender) {
            Some((since, _)) if now.duration_since(since) < GUESSES_IN => since,
            Some(_) | None => now,
        };
        let count = self.wrong_keys(from, now);
        self.guesses.insert(sender, (since, count + 1));
    }

    /// How many there were in this second.
    fn wrong_keys(&self, from: &Address, now: Instant) -> u32 {
        match self.guesses.get(&Sender::of(from)) {
            Some((since, count)) if now.duration_since(since) < GUESSES_IN => count,
            Some(_) | None => 0,
        }
    }

    /// Waits for a request's turn; `None` if there are too many.
    pub(super) async fn turn<'a>(&'a self, session: &'a PerSession) -> Option<UnderWay<'a>> {
        let of_session = Counted::within(&session.0, PER_SESSION)?;
        let of_all = Counted::within(&self.under_way, AT_ONCE + QUEUE)?;
        // The semaphore is never closed.
        let turn = Arc::clone(&self.running).acquire_owned().await.ok()?;
        Some(UnderWay { _of_session: of_session, _of_all: of_all, _turn: turn })
    }
}

impl Sender {
    fn of(address: &Address) -> Self {
        match address {
            Address::Unix(_) => Self::Local,
            Address::Tcp(address) => match address.ip() {
                ip @ IpAddr::V4(_) => Self::Tcp(ip),
                IpAddr::V6(ip) => Self::Tcp(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
            },
        }
    }
}

impl<'a> Counted<'a> {
    fn within(count: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let counted = Self(count);
        // If it was one too many, dropping it takes it back.
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ip: &str) -> Address {
        Address::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into())
    }

    #[test]
    fn guesses_are_counted_by_address_and_second() {
        let (limit, start) = (CancelLimit::new(), Instant::now());
        let (one, other) = (tcp("192.0.2.1"), tcp("192.0.2.2"));
        for _ in 0..GUESSES {
            assert!(limit.hears(&one, start));
            limit.count_guess(&one, start);
        }
        assert!(!limit.hears(&one, start + GUESSES_IN / 2));
        assert!(limit.hears(&other, start));
        let later = start + GUESSES_IN;
        assert!(limit.hears(&one, later));
        for _ in 0..GUESSES {
            limit.count_guess(&one, later);
        }
        assert!(!limit.hears(&one, later));
    }

    #[test]
    fn a_network_of_ipv6_is_one_sender() {
        let (limit, now) = (CancelLimit::new(), Instant::now());
        for host in 0..GUESSES {
            limit.count_guess(&tcp(&format!("2001:db8::{host:x}")), now);
        }
        assert!(!limit.hears(&tcp("2001:db8::ffff"), now));
        assert!(limit.hears(&tcp("2001:db8:0:1::1"), now));
    }

    #[tokio::test]
    async fn requests_have_their_turn_and_those_over_the_limit_have_none() {
        use futures_util::FutureExt as _;

        let limit = CancelLimit::new();
        let sessions: Vec<_> = (0..=AT_ONCE + QUEUE).map(|_| PerSession::default()).collect();
        let mut under_way = Vec::new();
        let mut waiting = Vec::new();
        for (number, session) in sessions.iter().enumerate() {
            let mut turn = Box::pin(limit.turn(session));
            match turn.as_mut().now_or_never() {
                Some(Some(turn)) => under_way.push(turn),
                Some(None) => assert_eq!(number, AT_ONCE + QUEUE),
                None => waiting.push(turn),
            }
        }
        assert_eq!((under_way.len(), waiting.len()), (AT_ONCE, QUEUE));
        under_way.clear();
        assert!(waiting.remove(0).await.is_some());
        waiting.clear();

        let session = PerSession::default();
        let first = limit.turn(&session).await;
        let second = limit.turn(&session).await;
        assert!(first.is_some() && second.is_some() && limit.turn(&session).await.is_none());
        drop(first);
        assert!(limit.turn(&session).await.is_some());
    }
}
