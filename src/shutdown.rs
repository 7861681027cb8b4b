//! The end of the program as its parts see it: first drain, then a deadline.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How far the end has come.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing has been said.
    Serving,
    /// Sessions end when nothing is open; all of them at the deadline, if there is one.
    Draining(Option<Instant>),
}

/// Starts the end.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Phase>);

/// Waits for the end. Each part of the program has its own.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// Makes a trigger and what it is heard by.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Says that no new work is taken, and when work must be over; zero means never.
    pub fn drain(&self, timeout: Duration) {
        let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        self.0.send_replace(Phase::Draining(deadline));
    }
}

impl Shutdown {
    /// Whether no new work should be taken.
    pub fn is_draining(&self) -> bool {
        matches!(*self.0.borrow(), Phase::Draining(_))
    }

    /// Resolves when no new work should be taken.
    pub async fn draining(&mut self) {
        let is_draining = |phase: &Phase| matches!(phase, Phase::Draining(_));
        let unheard = self.0.wait_for(is_draining).await.is_err();
        if unheard {
            // Nobody is left who could start the end.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when work must be over.
    pub async fn deadline(&mut self) {
        self.draining().await;
        let phase = *self.0.borrow();
        match phase {
            Phase::Draining(Some(deadline)) => tokio::time::sleep_until(deadline).await,
            Phase::Draining(None) | Phase::Serving => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_comes_before_the_deadline() {
        let (trigger, mut shutdown) = channel();
        let started = Instant::now();
        trigger.drain(Duration::from_secs(30));
        shutdown.draining().await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        shutdown.deadline().await;
        assert!(started.elapsed() >= Duration::from_secs(30));
    }
}
