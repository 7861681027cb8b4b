//! A private Postgres cluster in a folder of its own, which survives restarts.
//!
//! Whatever way the process that started it ends, the server ends too. One process at a time
//! may have a cluster running: the folder is locked.

mod account;
mod error;
mod files;
mod postmaster;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

pub use self::error::Error;
use self::files::Files;
use self::postmaster::Postmaster;
use super::binaries::{self, Binaries};
use crate::types::Secret;

/// A running cluster. Dropping it stops the server.
#[derive(Debug)]
pub struct Cluster {
    // Before the files, which are locked until the server has stopped.
    postmaster: Postmaster,
    files: Files,
    port: u16,
    password: Secret<String>,
}

impl Cluster {
    /// A cluster that is temporary and has Postgres' own settings, unless it is told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Ends every session and stops the server.
    pub async fn stop(mut self) -> Result<(), Error> {
        let stopped = tokio::task::spawn_blocking(move || {
            self.postmaster.stop().map_err(|source| Error::Stop { source })
        });
        stopped.await.map_err(|_| Error::Interrupted)?
    }

    /// Logs in over TCP. The connection lives as long as the client that is returned.
    pub async fn connect(
        &self,
        database: &str,
        user: &str,
        password: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        connect(self.port, database, user, password).await
    }

    /// Logs in as the superuser.
    pub async fn connect_superuser(
        &self,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        self.connect(database, SUPERUSER, self.password.expose()).await
    }

    /// The address of the TCP endpoint: loopback, always.
    pub fn host(&self) -> &'static str {
        HOST
    }

    /// The port of the TCP endpoint, and the number in the Unix socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.files.socket_dir()
    }

    /// The folder that holds everything of the cluster.
    pub fn data_dir(&self) -> &Path {
        self.files.folder()
    }

    /// The name of the superuser.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password, which stays the same over restarts.
    pub fn superuser_password(&self) -> &str {
        self.password.expose()
    }

    /// The process id of the server's main process.
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster.id()
    }

    /// The end of the server's log since this start.
    pub fn log_tail(&self) -> String {
        self.files.log_tail()
    }
}

/// How a cluster is to be found or made, and run.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    data_dir: Option<PathBuf>,
    bin_dir: Option<PathBuf>,
    settings: Vec<(String, String)>,
}

impl Builder {
    /// The cluster's folder, made if it is missing. Without one the cluster is temporary: it lies
    /// in `/tmp` and goes when it stops, or when this process ends.
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// The folder of `initdb` and `postgres`; found by [`binaries::find`] otherwise.
    pub fn bin_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(folder.into());
        self
    }

    /// A run-time parameter of the server, such as `fsync`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the cluster if it is missing, starts it, and waits until it answers.
    pub async fn start(self) -> Result<Cluster, Error> {
        // Making a cluster takes seconds of another program's work.
        let prepared = tokio::task::spawn_blocking(move || self.prepare());
        let Prepared { files, binaries, settings, password } =
            prepared.await.map_err(|_| Error::Interrupted)??;
        let mut port = choose_port(files.remembered_port())?;
        for attempt in 1.. {
            let mut postmaster = launch(&files, &binaries, &settings, port)?;
            match wait_until_ready(&mut postmaster, &files, port, &password).await {
                Ok(()) => {
                    files.remember_port(port)?;
                    return Ok(Cluster { postmaster, files, port, password });
                }
                Err(error) if attempt < ATTEMPTS && is_passing(&error, port) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    port = choose_port(Some(port))?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Interrupted)
    }

    fn prepare(self) -> Result<Prepared, Error> {
        let files = Files::open(self.data_dir)?;
        let binaries = match (self.bin_dir, files.made_by()?) {
            (Some(folder), _) => Binaries::at(&folder)?,
            (None, Some(major)) => match binaries::find_major(major) {
                Some(binaries) => binaries,
                None => binaries::find()?,
            },
            (None, None) => binaries::find()?,
        };
        let without_sync =
            self.settings.iter().any(|(name, value)| name == "fsync" && value == "off");
        let password = files.superuser_password()?;
        files.account().check_reach(binaries.folder())?;
        files.make_cluster(&binaries, SUPERUSER, without_sync)?;
        postmaster::clear_leftover(&files.data())
            .map_err(|source| Error::file("clear", &files.data(), source))?;
        files.clear_sockets();
        Ok(Prepared { files, binaries, settings: self.settings, password })
    }
}

/// A cluster that exists and does not run.
struct Prepared {
    files: Files,
    binaries: Binaries,
    settings: Vec<(String, String)>,
    password: Secret<String>,
}

fn launch(
    files: &Files,
    binaries: &Binaries,
    settings: &[(String, String)],
    port: u16,
) -> Result<Postmaster, Error> {
    let mut command = files.command(binaries, "postgres");
    command.arg("-D").arg(files.data()).args(["-p", &port.to_string()]);
    set(&mut command, "listen_addresses", HOST);
    set(&mut command, "unix_socket_directories", &files.socket_dir().to_string_lossy());
    // The log says what went wrong in words that we know, and belongs where we look for it.
    set(&mut command, "lc_messages", "C");
    set(&mut command, "logging_collector", "off");
    set(&mut command, "log_destination", "stderr");
    for (name, value) in settings {
        set(&mut command, name, value);
    }
    let log = files.new_log()?;
    Postmaster::start(command, files.account(), log, files.passing_folders())
        .map_err(|source| Error::file("run postgres in", binaries.folder(), source))
}

fn set(command: &mut Command, name: &str, value: &str) {
    command.arg("-c").arg(format!("{name}={value}"));
}

/// Waits until a login succeeds, or the server gives up.
async fn wait_until_ready(
    postmaster: &mut Postmaster,
    files: &Files,
    port: u16,
    password: &Secret<String>,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = postmaster.ended().map_err(|source| Error::Stop { source })?;
        if let Some(status) = ended {
            return Err(Error::Ended { status, log: files.log_tail() });
        }
        match connect(port, "postgres", SUPERUSER, password.expose()).await {
            Ok(_) => return Ok(()),
            Err(error) if !is_starting(&error) => {
                return Err(Error::Login { log: files.log_tail(), source: error });
            }
            Err(_) if Instant::now() > deadline => {
                return Err(Error::NotReady { patience: PATIENCE, log: files.log_tail() });
            }
            Err(_) => tokio::time::sleep(postmaster::POLL).await,
        }
    }
}

/// Whether a login may succeed a moment later: nobody listens yet, or recovery is going on.
fn is_starting(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::CANNOT_CONNECT_NOW,
        None => true,
    }
}

/// Whether the server gave up for a reason that goes away.
fn is_passing(error: &Error, port: u16) -> bool {
    let Error::Ended { log, .. } = error else { return false };
    // Another program took the port after we had looked at it, or the processes of a killed
    // server have not noticed yet that they have no parent.
    !is_free(port) || log.contains("pre-existing shared memory block")
}

async fn connect(
    port: u16,
    database: &str,
    user: &str,
    password: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(HOST).port(port).dbname(database).user(user).password(password);
    config.connect_timeout(Duration::from_secs(10)).application_name("cloison dev");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the private cluster ended");
        }
    });
    Ok(client)
}

/// The wanted port, or any other if that one is taken.
fn choose_port(wanted: Option<u16>) -> Result<u16, Error> {
    match wanted {
        Some(port) if is_free(port) => Ok(port),
        Some(_) | None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
            .map_err(|source| Error::NoPort { source }),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

const HOST: &str = "127.0.0.1";
const SUPERUSER: &str = "postgres";
/// How often a start is tried when what stopped it goes away by itself.
const ATTEMPTS: u32 = 20;
/// The longest that recovery after a crash may take.
const PATIENCE: Duration = Duration::from_secs(120);
