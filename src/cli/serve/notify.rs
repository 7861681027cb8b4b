//! Tells the service manager how far `serve` is, as sd_notify(3) describes: one datagram to the
//! socket that `NOTIFY_SOCKET` names. Without that variable every call does nothing.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The variable in which a service manager names its socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long a service manager may take to make room in its socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What the manager adds to the drain: the time to close what is left, and to exit.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// The way to the service manager, if one asked to be told.
#[derive(Debug)]
pub struct Notify {
    socket: Option<OsString>,
}

impl Notify {
    /// Takes the socket's name from the environment.
    pub fn from_environment() -> Self {
        Self::to(std::env::var_os(VARIABLE))
    }

    /// A socket's name as in the environment: a path, or `@` and an abstract name.
    pub fn to(socket: Option<OsString>) -> Self {
        Self { socket: socket.filter(|name| !name.is_empty()) }
    }

    /// Clients are served from now on.
    ///
    /// # Errors
    ///
    /// Fails when the service manager cannot be told. It would wait for this message, so log it.
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1\nSTATUS=Serving clients")
    }

    /// The drain has begun, and ends after `shutdown_timeout` at the latest; zero is no limit.
    ///
    /// # Errors
    ///
    /// Fails when the service manager cannot be told.
    pub fn stopping(&self, shutdown_timeout: Duration) -> io::Result<()> {
        let mut text = String::from("STOPPING=1\nSTATUS=Waiting for clients to finish");
        if !shutdown_timeout.is_zero() {
            let limit = shutdown_timeout.saturating_add(STOP_MARGIN).as_micros();
            // Writing to a String does not fail.
            let _ = write!(text, "\nEXTEND_TIMEOUT_USEC={limit}");
        }
        self.send(&text)
    }

    /// One line for `systemctl status`, such as what the start waits for.
    ///
    /// # Errors
    ///
    /// Fails when the service manager cannot be told.
    pub fn status(&self, text: &str) -> io::Result<()> {
        // A line break would begin another assignment.
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")))
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let Some(name) = &self.socket else { return Ok(()) };
        let address = address(name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.send_to_addr(message.as_bytes(), &address).map(|_| ())
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => abstract_address(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VARIABLE} is {name:?}: neither an absolute path nor @ and a name"),
        )),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;

    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn tells_a_manager_at(manager: &UnixDatagram, name: &str) {
        let notify = Notify::to(Some(name.into()));
        notify.status("Waiting for Postgres\nREADY=1").unwrap();
        assert_eq!(received(manager), "STATUS=Waiting for Postgres READY=1");
        notify.ready().unwrap();
        assert!(received(manager).lines().any(|line| line == "READY=1"));
        notify.stopping(Duration::from_secs(30)).unwrap();
        let stopping = received(manager);
        assert!(stopping.lines().any(|line| line == "STOPPING=1"), "{stopping}");
        assert!(stopping.lines().any(|line| line == "EXTEND_TIMEOUT_USEC=40000000"), "{stopping}");
        notify.stopping(Duration::ZERO).unwrap();
        assert!(!received(manager).contains("EXTEND_TIMEOUT_USEC"));
    }

    #[test]
    fn a_manager_at_a_path_is_told() {
        let path = std::env::temp_dir().join(format!("cloison-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        tells_a_manager_at(&manager, path.to_str().unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_manager_at_an_abstract_name_is_told() {
        let name = format!("cloison-notify-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        tells_a_manager_at(&manager, &format!("@{name}"));
    }

    #[test]
    fn without_a_manager_nothing_is_sent() {
        for name in [None, Some(OsString::new())] {
            Notify::to(name).ready().unwrap();
        }
    }

    #[test]
    fn a_name_of_another_kind_or_without_a_manager_is_an_error() {
        let other = Notify::to(Some("vsock:2:1234".into())).ready().unwrap_err();
        assert!(other.to_string().contains("vsock:2:1234"), "{other}");
        let gone = Notify::to(Some("/nonexistent/notify".into())).ready().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
