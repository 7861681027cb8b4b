//! Closes the idle and the old.

use std::collections::VecDeque;

use super::{Idle, Pool, Reason, lock};
use crate::backend::ServerConnection;

impl Pool {
    /// Closes idle connections that are past their time.
    pub(super) async fn reap(&self) {
        let (idle_limit, age_limit) =
            (self.limits.server_idle_timeout, self.limits.server_lifetime);
        let is_past = |entry: &Idle| {
            let too_idle = !idle_limit.is_zero() && entry.since.elapsed() >= idle_limit;
            let too_old = !age_limit.is_zero() && entry.server.age() >= age_limit;
            too_idle || too_old
        };
        let past: Vec<_> = {
            let mut idle = lock(&self.idle);
            let (past, kept) = idle.drain(..).partition(is_past);
            *idle = kept;
            VecDeque::into_iter(past).map(|entry| entry.server).collect()
        };
        for server in past {
            self.observe_discard(&server, Reason::Age);
            server.terminate().await;
        }
    }

    /// Idle connections that have to make room for one more.
    pub(super) fn take_surplus(&self) -> Vec<ServerConnection> {
        let mut idle = lock(&self.idle);
        let in_use = self.size - self.queue.free().min(self.size);
        let surplus = (in_use + idle.len()).saturating_sub(self.size).min(idle.len());
        idle.drain(..surplus).map(|entry| entry.server).collect()
    }
}
