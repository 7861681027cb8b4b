//! What the program can tell: one handle, one closed list of events.

pub mod event;
pub mod log;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use event::{Event, Fault};

/// The one place that events go to. Cheap to clone; passed, never global.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// Set in tests, which wait for events rather than sleep.
    channel: Option<UnboundedSender<Event>>,
}

impl Observer {
    /// Tells the log.
    pub const fn new() -> Self {
        Self { channel: None }
    }

    /// Tells the log and the receiver. For tests: the channel has no limit.
    pub fn with_channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        (Self { channel: Some(sender) }, receiver)
    }

    /// Tells what happened. Never blocks, never fails.
    pub fn observe(&self, event: Event) {
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
