//! CHAOS: many clients of both tenants at work, while clients, server connections and Postgres
//! itself are ended at any moment; each row that comes back is held against who asked for it.

mod breaker;
mod client;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use super::catalogue::{self, Table, Tenant};
use super::session::Session;
use super::{Error, Road, Roads};

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long.
    pub duration: Duration,
    /// How many clients at any time.
    pub clients: usize,
    /// Whether they write, too.
    pub writes: Writes,
    /// What restarts Postgres, for `sh -c`: once, in the middle.
    pub restart: Option<String>,
}

/// Whether rows are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// They are, in transactions that are rolled back.
    RolledBack,
    /// Rows are read only.
    None,
}

/// What has happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Transactions whose answers came back whole.
    pub transactions: u64,
    /// Rows that were held against who asked for them.
    pub rows: u64,
    /// Clients that died without a word.
    pub clients_killed: u64,
    /// Server connections that were ended.
    pub servers_killed: u64,
    /// Cancel requests.
    pub cancels: u64,
    /// Restarts of Postgres.
    pub restarts: u64,
    /// Sessions that were opened after one was lost.
    pub reconnects: u64,
    /// Errors that clients were told, most of which are what chaos is for.
    pub errors: u64,
    /// Rows that were somebody else's. Must be 0.
    pub crossed: u64,
    /// The longest time in which no transaction of any client succeeded, in milliseconds.
    pub longest_silence_ms: u64,
    /// From the end of the restart to the next transaction that succeeded, in milliseconds.
    pub recovered_after_ms: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The numbers.
    pub tally: Tally,
    /// Where rows crossed: the first few.
    pub crossings: Vec<String>,
    /// What could not be broken, and why.
    pub unbroken: Vec<String>,
}

impl Outcome {
    /// Whether rows were looked at to the end, and none was somebody else's.
    pub fn is_clean(&self) -> bool {
        self.tally.crossed == 0 && self.is_proof()
    }

    /// Whether it says anything: there was something to see, and it went on after the last blow.
    pub fn is_proof(&self) -> bool {
        let is_back = self.tally.restarts == 0 || self.tally.recovered_after_ms.is_some();
        self.tally.rows > 0 && is_back
    }
}

/// What all tasks share.
struct Arena {
    roads: [Road; 2],
    tenants: [Tenant; 2],
    tables: Vec<Table>,
    plan: Plan,
    until: Instant,
    counts: Counts,
    crossings: Mutex<Vec<String>>,
    unbroken: Mutex<Vec<String>>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Counts {
    transactions: AtomicU64,
    rows: AtomicU64,
    clients_killed: AtomicU64,
    servers_killed: AtomicU64,
    cancels: AtomicU64,
    restarts: AtomicU64,
    reconnects: AtomicU64,
    errors: AtomicU64,
    crossed: AtomicU64,
}

/// When transactions succeeded.
struct Progress {
    last: Instant,
    longest: Duration,
    /// One is to come, or has come.
    is_restart_due: bool,
    restarted: Option<Instant>,
    recovered: Option<Duration>,
}

impl Arena {
    /// Work goes on past the time until it is known that a restart was survived.
    fn is_over(&self) -> bool {
        let now = Instant::now();
        let is_waiting = {
            let progress = lock(&self.progress);
            progress.is_restart_due && progress.recovered.is_none()
        };
        now >= self.until && !(is_waiting && now < self.until + RECOVERY)
    }

    /// A transaction was answered, whole.
    fn succeeded(&self) {
        add(&self.counts.transactions, 1);
        let mut progress = lock(&self.progress);
        let now = Instant::now();
        progress.longest = progress.longest.max(now - progress.last);
        progress.last = now;
        if let (Some(restarted), None) = (progress.restarted, progress.recovered) {
            progress.recovered = Some(now - restarted);
        }
    }

    fn crossed(&self, rows: u64, how: String) {
        add(&self.counts.crossed, rows);
        let mut crossings = lock(&self.crossings);
        if crossings.len() < MANY_CROSSINGS {
            crossings.push(how);
        }
    }

    /// There will be no restart to survive.
    fn could_not_restart(&self, why: String) {
        lock(&self.progress).is_restart_due = false;
        self.could_not(why);
    }

    fn could_not(&self, why: String) {
        let mut unbroken = lock(&self.unbroken);
        if !unbroken.contains(&why) {
            unbroken.push(why);
        }
    }

    fn tally(&self) -> Tally {
        let Counts { transactions, rows, clients_killed, servers_killed, .. } = &self.counts;
        let Counts { cancels, restarts, reconnects, errors, crossed, .. } = &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let progress = lock(&self.progress);
        Tally {
            transactions: read(transactions),
            rows: read(rows),
            clients_killed: read(clients_killed),
            servers_killed: read(servers_killed),
            cancels: read(cancels),
            restarts: read(restarts),
            reconnects: read(reconnects),
            errors: read(errors),
            crossed: read(crossed),
            longest_silence_ms: millis(progress.longest),
            recovered_after_ms: progress.recovered.map(millis),
        }
    }
}

/// Runs it. `progress` is told how it stands, about once a second.
///
/// It ends early once `stopped` is done; what was seen until then is told.
///
/// # Errors
///
/// It could not begin: no connection, no table of tenants, no two tenants.
pub async fn run(
    roads: &Roads,
    plan: Plan,
    stopped: impl Future<Output = ()>,
    progress: &mut dyn FnMut(&str),
) -> Result<Outcome, Error> {
    let arena = Arc::new(arena(roads, plan).await?);
    let breaker = roads.operator.clone().unwrap_or_else(|| roads.superadmin.clone());
    let mut tasks = JoinSet::new();
    for number in 0..arena.plan.clients {
        tasks.spawn(client::run(Arc::clone(&arena), number));
    }
    tasks.spawn(breaker::servers(Arc::clone(&arena), breaker));
    if let Some(command) = arena.plan.restart.clone() {
        tasks.spawn(breaker::restart(Arc::clone(&arena), command));
    }
    tokio::pin!(stopped);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            joined = tasks.join_next() => if joined.is_none() { break },
            _ = second.tick() => progress(&told(&arena.tally())),
            () = &mut stopped => {
                tasks.shutdown().await;
                break;
            }
        }
    }
    let mut crossings = lock(&arena.crossings).clone();
    crossings.sort();
    crossings.dedup();
    let unbroken = lock(&arena.unbroken).clone();
    Ok(Outcome { tally: arena.tally(), crossings, unbroken })
}

async fn arena(roads: &Roads, plan: Plan) -> Result<Arena, Error> {
    let tenants = super::tenants(roads).await?;
    let road = roads.operator.as_ref().unwrap_or(&roads.superadmin);
    let operator = Session::open(road).await?;
    let tables = catalogue::tables(&operator).await;
    operator.close().await;
    let named = |table: &Table| tenants.iter().all(|tenant| table.value(tenant).is_some());
    let tables: Vec<Table> =
        tables?.into_iter().filter(|table| table.is_tenants() && named(table)).collect();
    if tables.is_empty() {
        return Err(Error::NoTables);
    }
    let now = Instant::now();
    Ok(Arena {
        roads: roads.tenants.clone(),
        tenants,
        tables,
        until: now + plan.duration,
        counts: Counts::default(),
        crossings: Mutex::new(Vec::new()),
        unbroken: Mutex::new(Vec::new()),
        progress: Mutex::new(Progress {
            last: now,
            longest: Duration::ZERO,
            is_restart_due: plan.restart.is_some(),
            restarted: None,
            recovered: None,
        }),
        plan,
    })
}

fn told(tally: &Tally) -> String {
    format!(
        "{} transactions, {} rows, {} clients and {} server connections ended, {} cancels, \
         {} reconnects, {} rows crossed",
        tally.transactions,
        tally.rows,
        tally.clients_killed,
        tally.servers_killed,
        tally.cancels,
        tally.reconnects,
        tally.crossed,
    )
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a restart may take to be survived, past the time.
const RECOVERY: Duration = Duration::from_secs(60);

/// More need not be told.
const MANY_CROSSINGS: usize = 20;
