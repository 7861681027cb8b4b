//! SIGTERM and SIGINT, by which the program is asked to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;

/// The signals, held back for [`Signals::received`] from the moment when this is made. Before, they
/// end the program at once.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals.
    pub(super) fn listen() -> Result<Self, Error> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Error::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Error::Signals)?,
        })
    }

    /// Resolves when one of them has come.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Resolves when the program is asked to end.
///
/// # Errors
///
/// Fails when signals cannot be heard.
pub async fn until_signalled() -> Result<(), Error> {
    Signals::listen()?.received().await;
    Ok(())
}
