//! What the program can tell: one handle, one closed list of events.

pub mod event;
mod limit;
pub mod log;

use std::sync::Arc;
use std::time::Instant;

use limit::Limit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use event::{Event, Fault};

/// The one place that events go to. Cheap to clone; passed, never global.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// Set in tests, which wait for events rather than sleep.
    channel: Option<UnboundedSender<Event>>,
    /// Bounds the lines that clients can cause at will.
    refusals: Arc<Limit>,
}

impl Observer {
    /// Tells the log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the log and the receiver. For tests: the channel has no limit.
    pub fn with_channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        (Self { channel: Some(sender), ..Self::default() }, receiver)
    }

    /// Tells what happened. Never blocks, never fails.
    ///
    /// Events that clients can cause at will are told ten times a second at most; the next one that
    /// is told comes with the number of those that were not.
    pub fn observe(&self, event: Event) {
        if event.is_at_clients_will() {
            match self.refusals.admit(Instant::now()) {
                Some(0) => {}
                Some(count) => self.tell(Event::RefusalsUntold { count }),
                None => return,
            }
        }
        self.tell(event);
    }

    fn tell(&self, event: Event) {
        log::write(&event);
        if let Some(channel) = &self.channel {
            // Nobody listens any more: not a reason to stop serving.
            let _ = channel.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_tells_the_same_receiver() {
        let (observer, mut events) = Observer::with_channel();
        observer.clone().observe(Event::DrainStarted);
        observer.observe(Event::Ready);
        assert_eq!(events.recv().await, Some(Event::DrainStarted));
        assert_eq!(events.recv().await, Some(Event::Ready));
        drop(events);
        observer.observe(Event::Ready);
    }
}
