//! What the program can tell: one handle, one closed list of events.

pub mod event;
mod limit;
pub mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use event::Flood;
use limit::Limit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use event::{Event, Fault};

/// The one place that events go to. Cheap to clone; passed, never global.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// Set in tests, which wait for events rather than sleep.
    channel: Option<UnboundedSender<Event>>,
    /// Bounds the lines that clients can cause at will.
    limits: Arc<Limits>,
    /// Lines of the log that were lost when that was last told.
    lost: Arc<AtomicUsize>,
}

/// A limit for each kind, so that one flood does not hide what is told of another.
#[derive(Debug)]
struct Limits {
    cancels: Limit,
    connections: Limit,
    identities: Limit,
    refusals: Limit,
    statements: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cancels: Limit::new(10),
            // A restart of an application brings all of its clients at once.
            connections: Limit::new(100),
            identities: Limit::new(10),
            refusals: Limit::new(10),
            statements: Limit::new(10),
        }
    }
}

impl Limits {
    const fn of(&self, flood: Flood) -> &Limit {
        match flood {
            Flood::Cancels => &self.cancels,
            Flood::Connections => &self.connections,
            Flood::Identities => &self.identities,
            Flood::Refusals => &self.refusals,
            Flood::Statements => &self.statements,
        }
    }
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
    /// Of events that clients can cause at will the log has a few a second at most; the next one
    /// that is logged comes with the number of those that were not.
    pub fn observe(&self, event: Event) {
        let Some(flood) = event.flood() else { return self.tell(event) };
        if matches!(flood, Flood::Statements) && !log::has_refused_statements() {
            return self.send(event);
        }
        match self.limits.of(flood).admit(Instant::now()) {
            Some(0) => self.tell(event),
            Some(count) => {
                self.tell(Event::RefusalsUntold { what: flood.as_str(), count });
                self.tell(event);
            }
            None => self.send(event),
        }
    }

    /// True while anything listens for [`Event::StatementRefused`], which the log leaves out unless
    /// `log_filter` asks for it.
    pub fn hears_refused_statements(&self) -> bool {
        self.channel.is_some() || log::has_refused_statements()
    }

    /// Tells of lines of the log that were lost since this was last asked for.
    pub fn tell_losses(&self) {
        let lost = log::lost_lines();
        let count = lost.saturating_sub(self.lost.swap(lost, Ordering::Relaxed));
        if count > 0 {
            self.tell(Event::LinesLost { count });
        }
    }

    fn tell(&self, event: Event) {
        log::write(&event);
        self.send(event);
    }

    fn send(&self, event: Event) {
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
    async fn a_flood_of_one_kind_leaves_room_for_others() {
        let observer = Observer::new();
        for _ in 0..100 {
            observer.observe(Event::CancelUnknown);
        }
        let now = Instant::now();
        assert_eq!(observer.limits.of(Flood::Cancels).admit(now), None);
        assert_eq!(observer.limits.of(Flood::Refusals).admit(now), Some(0));
        let address = crate::types::Address::Unix("/run".into());
        for session in 0..1000 {
            let (session, client_addr) = (crate::types::SessionId(session), address.clone());
            observer.observe(Event::ClientConnected { session, client_addr });
        }
        assert_eq!(observer.limits.of(Flood::Connections).admit(now), None);
    }

    /// A log that leaves refused statements out does not say how many it left out, either.
    #[tokio::test]
    async fn refused_statements_are_bounded_only_where_they_are_told() {
        let (observer, mut events) = Observer::with_channel();
        let event = Event::StatementRefused {
            session: crate::types::SessionId(7),
            code: "C405",
            kind: None,
            access: crate::types::Access::Tenant,
            tenant: None,
            subject: None,
        };
        let flood = || (0..100).for_each(|_| observer.observe(event.clone()));
        flood();
        assert_eq!(observer.limits.of(Flood::Statements).admit(Instant::now()), Some(0));
        let filter = tracing_subscriber::EnvFilter::new("info,cloison::refused=debug");
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(subscriber, flood);
        assert_eq!(observer.limits.of(Flood::Statements).admit(Instant::now()), None);
        drop(observer);
        let mut count = 0;
        while events.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 200);
    }

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
