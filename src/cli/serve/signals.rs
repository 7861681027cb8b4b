//! The signals that the program hears, and what each one means to a proxy that serves.
//!
//! TERM, INT and QUIT end it after a drain. HUP reads key files again. USR1 and USR2 mean something
//! to other poolers, so they are heard and change nothing: unheard, they would end the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Error, Running};
use crate::observe::Event;

/// The signals, held back from the moment when this is made. Before, they end the program at once.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Request {
    /// Drain, then end.
    End,
    /// Read the key files again.
    Reread,
    /// Nothing. The name is for the log.
    Nothing(&'static str),
}

impl Signals {
    /// Takes the signals.
    pub(super) fn listen() -> Result<Self, Error> {
        let hear = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            quit: hear(SignalKind::quit())?,
            hang_up: hear(SignalKind::hangup())?,
            user_1: hear(SignalKind::user_defined1())?,
            user_2: hear(SignalKind::user_defined2())?,
        })
    }

    /// Resolves when the program is asked to end. Other signals change nothing.
    pub(super) async fn received(&mut self) {
        while self.next().await != Request::End {}
    }

    /// Waits for the next signal. Cancellation safe: a signal that came meanwhile is not lost.
    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::End,
            _ = self.interrupt.recv() => Request::End,
            _ = self.quit.recv() => Request::End,
            _ = self.hang_up.recv() => Request::Reread,
            _ = self.user_1.recv() => Request::Nothing("USR1"),
            _ = self.user_2.recv() => Request::Nothing("USR2"),
        }
    }
}

/// Resolves when the program is asked to end by TERM or INT.
///
/// # Errors
///
/// Fails when signals cannot be heard.
pub async fn until_signalled() -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

impl Running {
    /// Resolves when the proxy is asked to end; until then, does what other signals ask for.
    ///
    /// # Errors
    ///
    /// Fails when signals cannot be heard.
    pub async fn until_signalled(&self) -> Result<(), Error> {
        self.until_ended(&mut Signals::listen()?).await;
        Ok(())
    }

    /// The same with signals that were taken before.
    pub(super) async fn until_ended(&self, signals: &mut Signals) {
        loop {
            match signals.next().await {
                Request::End => return,
                Request::Reread => self.reread_key_files().await,
                Request::Nothing(signal) => {
                    self.observer.observe(Event::SignalIgnored { signal });
                }
            }
        }
    }

    async fn reread_key_files(&self) {
        let read = self.shared.verifier.reread_key_files().await;
        if read.is_empty() {
            self.observer.observe(Event::NoKeyFiles);
        }
        for (rule, keys) in read {
            let rule = rule.to_owned();
            self.observer.observe(match keys {
                Ok(keys) => Event::KeyFileRead { rule, keys },
                Err(error) => Event::KeyFileKept { rule, reason: error.to_string() },
            });
        }
    }
}
