//! When a session has to end, whatever its client does.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::time::Sleep;

use crate::protocol::ClientError;
use crate::session::{draining, expired, remaining};
use crate::shutdown::Shutdown;

/// Waits for the end of the token and for the end of the program.
pub(super) struct Ending {
    expires_at: SystemTime,
    expiry: Pin<Box<Sleep>>,
    /// Waits until the program begins to end, and from then on for its deadline.
    shutdown: Pin<Box<dyn Future<Output = Shutdown> + Send>>,
    draining: bool,
    signal: Shutdown,
    told: bool,
}

/// How the session ends.
#[derive(Debug)]
pub(super) enum Verdict {
    /// As soon as nothing is open.
    AtRest(ClientError),
    /// At once.
    Now(ClientError),
}

impl Ending {
    pub(super) fn new(expires_at: SystemTime, mut shutdown: Shutdown) -> Self {
        let signal = shutdown.clone();
        Self {
            signal,
            expires_at,
            expiry: Box::pin(tokio::time::sleep(remaining(expires_at))),
            shutdown: Box::pin(async move {
                shutdown.draining().await;
                shutdown
            }),
            draining: false,
            told: false,
        }
    }

    /// Whether the program is ending, so that its deadline must not be missed.
    pub(super) fn is_near(&self) -> bool {
        self.signal.is_draining()
    }

    /// The session ends at another time.
    pub(super) fn set(&mut self, expires_at: SystemTime) {
        if expires_at != self.expires_at && !self.told {
            self.expires_at = expires_at;
            let left = tokio::time::Instant::now() + remaining(expires_at);
            self.expiry.as_mut().reset(left);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        if !self.draining
            && let Poll::Ready(mut shutdown) = self.shutdown.as_mut().poll(cx)
        {
            self.draining = true;
            self.shutdown = Box::pin(async move {
                shutdown.deadline().await;
                shutdown
            });
            if !std::mem::replace(&mut self.told, true) {
                return Poll::Ready(Verdict::AtRest(draining()));
            }
        }
        while !self.told && self.expiry.as_mut().poll(cx).is_ready() {
            // A clock that was set back must not lengthen a session, nor a coarse timer
            // shorten it.
            let left = remaining(self.expires_at);
            if left.is_zero() {
                self.told = true;
                return Poll::Ready(Verdict::AtRest(expired()));
            }
            self.expiry.as_mut().reset(tokio::time::Instant::now() + left);
        }
        if self.draining {
            return self.shutdown.as_mut().poll(cx).map(|_| Verdict::Now(draining()));
        }
        Poll::Pending
    }
}
