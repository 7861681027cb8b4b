//! When a session has to end, whatever its client does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::Sleep;

use super::relay::{Lent, Relay};
use crate::protocol::ClientError;
use crate::session::identity::Myself;
use crate::session::relay::End;
use crate::session::{EXPIRED_GRACE, REVOKED_GRACE, draining, expired, remaining};
use crate::shutdown::Shutdown;
use crate::tenant::{Identity, Stay};

/// Waits for the end of the token, of the leave to stay, and of the program.
pub(super) struct Ending {
    expires_at: SystemTime,
    /// The login's leave to stay.
    login: Arc<Stay>,
    /// That of whom the client has named in band.
    presented: Option<Arc<Stay>>,
    /// That one has not been waited for yet.
    is_new: bool,
    expiry: Pin<Box<Sleep>>,
    /// Waits until the program begins to end, and from then on for its deadline.
    shutdown: Pin<Box<dyn Future<Output = Shutdown> + Send>>,
    draining: bool,
    signal: Shutdown,
    told: bool,
    /// A super-admin's or the owner's session ends whatever is open.
    is_privileged: bool,
    /// The client may not be here any more.
    has_lost_leave: bool,
    /// How long the end waits for the transaction that is open, and what is said then.
    grace: Option<(Pin<Box<Sleep>>, ClientError)>,
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
    pub(super) fn new(login: &Identity, mut shutdown: Shutdown) -> Self {
        let signal = shutdown.clone();
        let expires_at = login.context().expires_at();
        Self {
            signal,
            expires_at,
            login: Arc::clone(login.stay()),
            presented: None,
            is_new: false,
            expiry: Box::pin(tokio::time::sleep(remaining(expires_at))),
            shutdown: Box::pin(async move {
                shutdown.draining().await;
                shutdown
            }),
            draining: false,
            told: false,
            is_privileged: login.is_privileged(),
            has_lost_leave: false,
            grace: None,
        }
    }

    /// Whether something of it must not be missed: the deadline of a program that is ending, or the
    /// end of somebody new.
    pub(super) fn is_near(&self) -> bool {
        self.is_new || self.is_privileged || self.grace.is_some() || self.signal.is_draining()
    }

    /// Whether the client may not be here any more.
    pub(super) const fn has_lost_leave(&self) -> bool {
        self.has_lost_leave
    }

    /// The session ends: at once, or when nothing is open, but soon.
    fn end(&mut self, error: ClientError, grace: Duration) -> Verdict {
        self.told = true;
        if self.is_privileged {
            return Verdict::Now(error);
        }
        self.grace = Some((Box::pin(tokio::time::sleep(grace)), error.clone()));
        Verdict::AtRest(error)
    }

    /// The session is somebody else, and ends when that one has to go.
    pub(super) fn follow(&mut self, myself: &Myself) {
        let presented = myself.acting.now().ok().map(|identity| identity.stay());
        let presented = presented.filter(|stay| !Arc::ptr_eq(stay, &self.login));
        if self.presented.as_ref().map(Arc::as_ptr) != presented.map(Arc::as_ptr) {
            (self.presented, self.is_new) = (presented.cloned(), true);
        }
        let expires_at = myself.ends_at();
        if expires_at != self.expires_at && !self.told {
            self.expires_at = expires_at;
            let left = tokio::time::Instant::now() + remaining(expires_at);
            self.expiry.as_mut().reset(left);
        }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        self.is_new = false;
        match &self.presented {
            Some(stay) if let Poll::Ready(error) = stay.poll_ended(cx) => Poll::Ready(error),
            Some(_) | None => self.login.poll_ended(cx),
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
        if !self.told
            && let Poll::Ready(error) = self.poll_ended(cx)
        {
            self.has_lost_leave = true;
            return Poll::Ready(self.end(error, REVOKED_GRACE));
        }
        while !self.told && self.expiry.as_mut().poll(cx).is_ready() {
            // A clock that was set back must not lengthen a session, nor a coarse timer
            // shorten it.
            let left = remaining(self.expires_at);
            if left.is_zero() {
                return Poll::Ready(self.end(expired(), EXPIRED_GRACE));
            }
            self.expiry.as_mut().reset(tokio::time::Instant::now() + left);
        }
        if let Some((grace, error)) = &mut self.grace
            && grace.as_mut().poll(cx).is_ready()
        {
            let error = error.clone();
            self.grace = None;
            return Poll::Ready(Verdict::Now(error));
        }
        if self.draining {
            return self.shutdown.as_mut().poll(cx).map(|_| Verdict::Now(draining()));
        }
        Poll::Pending
    }
}

impl Lent {
    /// Whether a message to the client has begun and not ended.
    const fn is_in_frame(&self) -> bool {
        self.from_server.bytes > 0 && !self.from_server.dropped
    }
}

impl Relay<'_> {
    /// Whether the client has to be told from now on that the session ends.
    pub(super) fn poll_ending(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        match self.ending.poll(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Verdict::AtRest(error)) => {
                self.last_word = Some(error);
                Ok(true)
            }
            Poll::Ready(Verdict::Now(_)) if self.lent.as_deref().is_some_and(Lent::is_in_frame) => {
                Err(End::Cut)
            }
            Poll::Ready(Verdict::Now(error)) => Err(End::Told(error)),
        }
    }
}
