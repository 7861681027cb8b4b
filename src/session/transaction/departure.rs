//! How a client goes, or is sent away.

use std::pin::Pin;
use std::task::Context;

use tokio::time::Sleep;

use super::relay::{Copy, Lent, Relay};
use crate::session::relay::{End, PATIENCE};

impl Relay<'_> {
    pub(super) const fn has_departed(&self) -> bool {
        self.departure.is_some()
    }

    pub(super) fn depart(&mut self, end: End) {
        self.departure.get_or_insert_with(|| (end, Box::pin(tokio::time::sleep(PATIENCE))));
    }

    /// Once the client is gone, what it asked for is still done, as Postgres itself would.
    pub(super) fn check_departure(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let (done, hopeless) = match &self.lent {
            None => (!self.client_waits, true),
            Some(lent) => (
                lent.dues.is_empty() && lent.script.is_none() && !self.client_waits,
                lent.dues.unsynced() && lent.script.is_none() || lent.copy != Copy::None,
            ),
        };
        let hopeless = hopeless || self.from_client.bytes > 0;
        let over = |(_, patience): &mut (End, Pin<Box<Sleep>>)| {
            done || hopeless || patience.as_mut().poll(cx).is_ready()
        };
        match self.departure.take_if(over) {
            Some((end, _)) => Err(end),
            None => Ok(()),
        }
    }

    pub(super) fn check_last_word(&mut self) -> Result<(), End> {
        let at_rest = self.lent.as_deref().is_none_or(Lent::is_at_rest);
        match self.last_word.take_if(|_| at_rest && self.from_client.bytes == 0) {
            Some(error) => Err(End::Told(error)),
            None => Ok(()),
        }
    }
}
