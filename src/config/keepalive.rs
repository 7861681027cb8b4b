//! How soon a peer that has vanished is noticed.

use std::io;
use std::time::Duration;

use super::reader::Section;

/// TCP keepalive, towards clients and towards Postgres, as in tcp(7). Zero leaves the system's value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Keepalive {
    /// Whether silent connections are probed.
    pub is_on: bool,
    /// Silence before the first probe, in whole seconds.
    pub idle: Duration,
    /// Time between two probes, in whole seconds.
    pub interval: Duration,
    /// Probes without an answer after which the connection is given up.
    pub probes: u32,
    /// Longest wait for the peer to acknowledge what it has been sent, in milliseconds.
    pub user_timeout: Duration,
}

/// What Linux takes.
const MOST_PROBES: i64 = 127;

pub(super) fn read(top: &Section<'_>) -> Keepalive {
    Keepalive {
        is_on: top.boolean("tcp_keepalive"),
        idle: top.whole_seconds("tcp_keepidle"),
        interval: top.whole_seconds("tcp_keepintvl"),
        probes: top.number("tcp_keepcnt", 0..=MOST_PROBES).unwrap_or_default(),
        user_timeout: top.duration("tcp_user_timeout"),
    }
}

impl Keepalive {
    /// Sets it for a TCP socket. Sockets that a listening one accepts take it over.
    ///
    /// # Errors
    ///
    /// Fails as the system does.
    pub fn apply<'a>(&self, socket: impl Into<socket2::SockRef<'a>>) -> io::Result<()> {
        let socket = socket.into();
        if !self.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        }
        if !self.is_on {
            return socket.set_keepalive(false);
        }
        let mut probing = socket2::TcpKeepalive::new();
        if !self.idle.is_zero() {
            probing = probing.with_time(self.idle);
        }
        if !self.interval.is_zero() {
            probing = probing.with_interval(self.interval);
        }
        if self.probes > 0 {
            probing = probing.with_retries(self.probes);
        }
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(&probing)
    }
}
