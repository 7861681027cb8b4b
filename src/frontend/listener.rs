//! ACCEPT: the loop that takes connections, counts them, and hands each to its own task.
//!
//! Does not know what a connection is for.

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::config::Keepalive;
use crate::protocol::Socket;
use crate::types::Address;
use crate::workers::Workers;

/// Connections that the system completes before we accept them.
const BACKLOG: i32 = 1024;
/// Connections beyond the limit that are heard at a time, so that one of them can be a cancel
/// request, and the others are told why they are refused. Any more are closed unheard.
const BEYOND: usize = 64;
/// First pause after a failed accept; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_millis(5);
/// Longest pause after a failed accept.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// One bound address.
#[derive(Debug)]
pub enum Listener {
    /// An address and a port.
    Tcp(TcpListener),
    /// A Unix socket, and its path, which is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds a TCP address. Accepted sockets have its `keepalive`.
    ///
    /// # Errors
    ///
    /// Fails when the address is taken or not ours.
    pub fn tcp(address: SocketAddr, keepalive: &Keepalive) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM.nonblocking(),
            Some(socket2::Protocol::TCP),
        )?;
        if address.is_ipv6() {
            // The IPv4 half of `::` is bound by itself.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        // Accepted sockets take it over.
        socket.set_tcp_nodelay(true)?;
        keepalive.apply(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// Binds the Unix socket by which libpq finds `port` in `folder`.
    ///
    /// # Errors
    ///
    /// Fails when somebody answers on that socket already.
    pub fn unix(folder: &Path, port: u16) -> io::Result<Self> {
        let path = folder.join(format!(".s.PGSQL.{port}"));
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => {
                let listener = UnixListener::bind(&path)?;
                // Clients run as other users than the proxy. The token decides, and who may enter
                // the folder, as with Postgres.
                std::fs::set_permissions(&path, Permissions::from_mode(0o777))?;
                Ok(Self::Unix(listener, path))
            }
        }
    }

    /// What was bound, with the port that the system picked if none was asked for.
    ///
    /// # Errors
    ///
    /// Fails as the system does.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => Ok(Socket::Tcp(listener.accept().await?.0)),
            Self::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Gone already is as good as removed.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether a connection is within the limit on their number.
#[derive(Debug)]
pub enum Admission {
    /// It is; the permit counts it until it is dropped.
    Admitted(OwnedSemaphorePermit),
    /// It is one too many, and should be told so, unless a place is reserved for it; the permit
    /// counts it among those.
    Full(OwnedSemaphorePermit),
}

/// How many connections there may be, on all addresses together.
#[derive(Clone, Debug)]
pub struct Room {
    admitted: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
}

impl Room {
    /// Room for so many clients, and `BEYOND` more that are told that there is none.
    pub fn new(clients: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { admitted: semaphore(clients), beyond: semaphore(BEYOND) }
    }

    /// `None`: the connection is to be closed unheard.
    fn admit(&self) -> Option<Admission> {
        let take = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        take(&self.admitted)
            .map(Admission::Admitted)
            .or_else(|| take(&self.beyond).map(Admission::Full))
    }
}

/// Something that goes wrong while connections are accepted; the loop goes on.
#[derive(Debug)]
pub enum Trouble {
    /// An accept failed.
    Accept(io::Error),
    /// There is no room even for telling that there is none. Told when that begins.
    NoRoom,
}

/// Accepts connections until `shutdown` resolves, then waits for those being served.
///
/// After an accept that fails there is a pause.
pub async fn run<Served>(
    listener: Listener,
    room: Room,
    workers: Arc<Workers>,
    serve: impl Fn(Socket, Admission) -> Served + Clone + Send + 'static,
    trouble: impl Fn(Trouble),
    shutdown: impl Future<Output = ()>,
) where
    Served: Future<Output = ()> + Send + 'static,
{
    let mut clients = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut pause = BACK_OFF;
    let mut had_room = true;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok(socket) => {
                    pause = BACK_OFF;
                    let admission = room.admit();
                    if admission.is_none() && had_room {
                        trouble(Trouble::NoRoom);
                    }
                    had_room = admission.is_some();
                    let Some(admission) = admission else { continue };
                    if let Err(error) = hand_over(&mut clients, &workers, &serve, socket, admission) {
                        trouble(Trouble::Accept(error));
                    }
                }
                Err(error) => {
                    trouble(Trouble::Accept(error));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACK_OFF_MAX);
                }
            },
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
}

/// Gives a connection to the worker that has the fewest.
fn hand_over<Served>(
    clients: &mut JoinSet<()>,
    workers: &Workers,
    serve: &(impl Fn(Socket, Admission) -> Served + Clone + Send + 'static),
    socket: Socket,
    admission: Admission,
) -> io::Result<()>
where
    Served: Future<Output = ()> + Send + 'static,
{
    let place = workers.place();
    if !place.is_elsewhere {
        // A block that awaits it would hold room for it twice.
        clients.spawn(serve(socket, admission).map(|()| drop(place)));
        return Ok(());
    }
    let (socket, serve, handle) = (socket.detach()?, serve.clone(), place.handle.clone());
    clients.spawn_on(
        async move {
            // A socket that the system has no room for is closed, as at accept.
            if let Ok(socket) = socket.attach() {
                serve(socket, admission).await;
            }
            drop(place);
        },
        &handle,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_hold_nothing_back_and_are_probed() {
        let second = Duration::from_secs(1);
        let keepalive = Keepalive {
            is_on: true,
            idle: 7 * second,
            interval: 3 * second,
            probes: 2,
            user_timeout: 9 * second,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::tcp(address, &keepalive).unwrap();
        let Ok(Address::Tcp(address)) = listener.address() else { panic!("no address") };
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let Ok(Socket::Tcp(accepted)) = listener.accept().await else { panic!("no socket") };
        assert!(accepted.nodelay().unwrap());
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), keepalive.idle);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), keepalive.probes);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(keepalive.user_timeout));
    }

    #[tokio::test]
    async fn every_user_of_the_machine_may_connect_to_the_unix_socket() {
        let folder = std::env::temp_dir().join(format!("cloison-socket-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = Listener::unix(&folder, 6432).unwrap();
        let socket = std::fs::metadata(folder.join(".s.PGSQL.6432")).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, 0o777);
        drop(listener);
        std::fs::remove_dir(folder).unwrap();
    }
}
