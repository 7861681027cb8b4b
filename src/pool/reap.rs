//! Closes the idle and the old.

use std::collections::VecDeque;

use super::{Idle, Pool, Reason, lock};
use crate::backend::ServerConnection;

/// Connections that so many clients have had again are kept before others.
const ESTABLISHED: u32 = 8;

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

    /// Idle connections that have to make room for one more: first those that hardly anybody has
    /// used again, so that many logins with settings of their own leave others their connections.
    pub(super) fn take_surplus(&self) -> Vec<ServerConnection> {
        let mut idle = lock(&self.idle);
        let in_use = self.size - self.queue.free().min(self.size);
        let surplus = (in_use + idle.len()).saturating_sub(self.size).min(idle.len());
        let is_new = |entry: &Idle| entry.server.uses < ESTABLISHED;
        let take =
            |idle: &mut VecDeque<Idle>| idle.remove(idle.iter().position(is_new).unwrap_or(0));
        (0..surplus).filter_map(|_| take(&mut idle)).map(|entry| entry.server).collect()
    }
}
