//! `cloison serve`: builds what all clients share, binds the addresses, serves, drains.

mod ends;
pub mod notify;
mod ready;
mod signals;
pub(super) mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::configuration::{self, Source};
use super::readiness;
use crate::auth::{self, Verifier};
use crate::config::Config;
use crate::frontend::listener::{self, Listener, Room, Trouble};
use crate::guard::{Guard, Policy};
use crate::observe::{Event, Observer};
use crate::pool::{Knowledge, Pools};
use crate::proxy::{self, Arrival, Shared};
use crate::session::{Cancels, Statements};
use crate::shutdown::{self, Shutdown, Trigger};
use crate::tenant::{self, Directory, Shares, Stays};
use crate::tls;
use crate::types::Address;
use crate::workers::{Aside, Workers};

pub use signals::until_signalled;

use notify::Notify;
use ready::Waiting;
use signals::Signals;

/// How often idle server connections are looked at.
const REAP_INTERVAL: Duration = Duration::from_secs(5);

/// How long what is known of the database may be out of date, unless the proxy sees it change.
const LEARN_INTERVAL: Duration = Duration::from_secs(10);

/// Serves clients until SIGTERM or SIGINT.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
}

/// Why the proxy does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not usable.
    #[error("{0}")]
    Config(#[from] configuration::Error),
    /// A TLS file is not usable.
    #[error("TLS")]
    Tls(#[from] tls::Error),
    /// The database could not be asked for sessions that have to end.
    #[error("the database is not ready for the proxy")]
    Directory(#[from] tenant::Error),
    /// The pools cannot be made.
    #[error("pools")]
    Pools(#[from] crate::pool::OpenError),
    /// Something is wrong that does not pass by itself.
    #[error("refusing to serve:\n{}", .0.join("\n"))]
    Unready(Vec<String>),
    /// The keys of an issuer are not usable.
    #[error("issuers")]
    Issuers(#[from] auth::Error),
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: Address,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The log cannot be written as configured.
    #[error("logging")]
    Log(#[from] crate::observe::log::Error),
    /// The system has no room for the threads that serve.
    #[error("cannot start the threads that serve clients")]
    Workers(#[source] std::io::Error),
    /// Signals cannot be heard.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// A proxy that serves in the background.
pub struct Running {
    /// What it listens on.
    pub addresses: Vec<Address>,
    trigger: Trigger,
    shutdown_timeout: Duration,
    tasks: JoinSet<()>,
    observer: Observer,
    shared: Arc<Shared>,
    /// Where the database is asked who has to end, however busy those are that serve.
    _aside: Aside,
}

/// Runs the verb.
///
/// # Errors
///
/// Whatever keeps the proxy from serving.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let config = args.source.load()?;
    let _log = crate::observe::log::init(&config.log)?;
    let (observer, notify) = (Observer::new(), Notify::from_environment());
    let tell = |told: io::Result<()>| {
        if let Err(error) = told {
            observer.observe(Event::NotifyFailed { reason: error.to_string() });
        }
    };
    if rustix::process::geteuid().is_root() {
        observer.observe(Event::RunsAsRoot);
    }
    readiness::files(&args.source).iter().for_each(|check| ready::tell(check, &observer));
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        started = start(config, observer.clone()) => started?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };
    tell(notify.ready());
    running.until_ended(&mut signals).await;
    tell(notify.stopping(running.shutdown_timeout));
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Waits until everything is there, and starts to serve: what is away for now is waited for, and no
/// address is bound before.
///
/// # Errors
///
/// Something is wrong that does not pass by itself.
pub async fn start(config: Config, observer: Observer) -> Result<Running, Error> {
    tls::install_provider();
    let verifier = Verifier::new(&config.issuers);
    let mut waiting = Waiting::new(observer.clone(), Notify::from_environment());
    let aside = Aside::start().map_err(Error::Workers)?;
    let ready::Ready { directory, mut watch, standing } =
        ready::wait(&config, &verifier, aside.handle(), &mut waiting).await?;
    let shared = Arc::new(build(config, verifier?, directory, observer.clone())?);
    watch.begin(standing, &shared);
    ends::begin(&shared).await?;
    let listeners = bind(&shared.config)?;
    let listeners = listeners.into_iter().map(|listener| (listener, false));
    let oauth = shared.config.oauth.as_ref().map(|oauth| bind_tcp(&shared.config, oauth.port));
    let oauth = oauth.transpose()?.unwrap_or_default().into_iter().map(|listener| (listener, true));
    let (trigger, shutdown) = shutdown::channel();
    let room = Room::new(shared.config.limits.max_client_conn);
    let workers = Arc::new(Workers::start(shared.config.worker_threads).map_err(Error::Workers)?);
    let mut tasks = JoinSet::new();
    let mut addresses = Vec::new();
    for (listener, is_oauth) in listeners.chain(oauth) {
        let address = listener
            .address()
            .map_err(|source| Error::Listen { address: Address::Unix(PathBuf::new()), source })?;
        observer.observe(Event::Listening { address: address.clone() });
        addresses.push(address.clone());
        tasks.spawn(accept(
            (listener, is_oauth),
            address,
            room.clone(),
            Arc::clone(&workers),
            Arc::clone(&shared),
            shutdown.clone(),
        ));
    }
    learn(&shared, true).await;
    tasks.spawn_on(ends::go_on(Arc::clone(&shared), shutdown.clone()), aside.handle());
    tasks.spawn(watch.go_on(Arc::clone(&shared), shutdown.clone()));
    tasks.spawn(learn_on(Arc::clone(&shared), shutdown.clone()));
    tasks.spawn(reap(Arc::clone(&shared), shutdown));
    let shutdown_timeout = shared.config.limits.shutdown_timeout;
    observer.observe(Event::Ready);
    Ok(Running { addresses, trigger, shutdown_timeout, tasks, observer, shared, _aside: aside })
}

impl Running {
    /// The first TCP address, for those who asked for any free port.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_addresses().next()
    }

    /// The TCP addresses; those of OAUTHBEARER come last.
    pub fn tcp_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().filter_map(|address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        })
    }

    /// Takes no new clients, lets sessions come to an end, and cuts off those that do not.
    pub async fn stop(mut self) {
        let started = Instant::now();
        self.observer.observe(Event::DrainStarted);
        self.trigger.drain(self.shutdown_timeout);
        while self.tasks.join_next().await.is_some() {}
        self.observer.observe(Event::DrainFinished { duration: started.elapsed() });
    }
}

fn build(
    config: Config,
    verifier: Verifier,
    directory: Directory,
    observer: Observer,
) -> Result<Shared, Error> {
    let acceptor = tls::acceptor(&config.client_tls)?;
    let pools = Pools::new(&config, &observer)?;
    Ok(Shared {
        acceptor,
        verifier,
        directory: Arc::new(directory),
        pools,
        stays: Stays::default(),
        reserved: Arc::new(Semaphore::new(config.limits.reserved_client_conn)),
        shares: Shares::new(&config.limits),
        cancels: Cancels::default(),
        statements: Statements::default(),
        observer,
        sessions: AtomicU64::new(0),
        guard: config.statement_filter.clone().map(Guard::new),
        superadmin_guard: Guard::new(Policy::of_superadmins()),
        config,
    })
}

/// The addresses of clients that are asked for a password.
fn bind(config: &Config) -> Result<Vec<Listener>, Error> {
    let mut listeners = bind_tcp(config, config.listen.port)?;
    if let Some(folder) = &config.listen.unix_socket_dir {
        let address = Address::Unix(folder.clone());
        let port = match listeners.first().map(Listener::address) {
            Some(Ok(Address::Tcp(address))) => address.port(),
            Some(Ok(Address::Unix(_)) | Err(_)) | None => config.listen.port,
        };
        let listener =
            Listener::unix(folder, port).map_err(|source| Error::Listen { address, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// A port on every address.
fn bind_tcp(config: &Config, mut port: u16) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for &ip in &config.listen.addresses {
        let address = SocketAddr::new(ip, port);
        let failed = |source| Error::Listen { address: Address::Tcp(address), source };
        let listener = match Listener::tcp(address, &config.keepalive) {
            // `*` means every address that there is, on a host without IPv6, too.
            Err(error) if ip.is_ipv6() && ip.is_unspecified() && lacks_ipv6(&error) => continue,
            bound => bound.map_err(failed)?,
        };
        if let Ok(Address::Tcp(bound)) = listener.address() {
            // If any port would do, the others take the one that was picked.
            port = bound.port();
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

fn lacks_ipv6(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

async fn accept(
    (listener, is_oauth): (Listener, bool),
    address: Address,
    room: Room,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    let observer = shared.observer.clone();
    let mut draining = shutdown.clone();
    let serve = move |socket, admission| {
        let arrival = Box::new(Arrival { admission, is_oauth });
        proxy::serve_client(socket, arrival, Arc::clone(&shared), shutdown.clone())
    };
    let trouble = |trouble| {
        let address = address.clone();
        observer.observe(match trouble {
            Trouble::Accept(error) => Event::AcceptFailed { address, reason: error.to_string() },
            Trouble::NoRoom => Event::ClientsDropped { address },
        });
    };
    listener::run(
        listener,
        room,
        workers,
        serve,
        trouble,
        async move { draining.draining().await },
    )
    .await;
}

/// Asks what is known of each pool's role and database, and assumes the worst if nobody answers.
///
/// While a server connection answers, VACUUM keeps what changed after the question. So only pools
/// that somebody uses are asked about, once the proxy has started.
async fn learn(shared: &Shared, is_start: bool) {
    for pool in shared.pools.all() {
        if !pool.needs_facts() || !pool.take_use() && !is_start {
            continue;
        }
        let as_of = shared.pools.changes().count();
        let vouched = &shared.config.harmless_functions;
        let found = shared.directory.surroundings(pool.target().user(), vouched).await;
        let (knowledge, resets_because) = match found {
            Ok(found) => {
                let because = found.blame.clone();
                (Knowledge::from(found), because)
            }
            Err(error) => (Knowledge::default(), Some(error.to_string())),
        };
        if pool.learn(knowledge, as_of) {
            let pool = pool.key().access;
            shared.observer.observe(Event::PoolLearnt { pool, resets_because });
        }
    }
}

async fn learn_on(shared: Arc<Shared>, mut shutdown: Shutdown) {
    loop {
        let next = tokio::time::timeout(LEARN_INTERVAL, shared.pools.changes().next());
        tokio::select! {
            () = shutdown.draining() => return,
            _ = next => learn(&shared, false).await,
        }
    }
}

async fn reap(shared: Arc<Shared>, mut shutdown: Shutdown) {
    let mut interval = tokio::time::interval(REAP_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.draining() => return,
            _ = interval.tick() => {
                shared.pools.reap().await;
                shared.observer.tell_losses();
            }
        }
    }
}

impl Error {
    /// The error and its causes, a line each.
    pub fn report(&self) -> String {
        super::report(self)
    }
}
