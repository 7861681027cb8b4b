//! A load in which every transaction is of another tenant.
//!
//! A client of the proxy is of one tenant for its whole life, and pgbench logs all its clients in
//! alike. This keeps many clients open, each with a tenant's own password, and gives each
//! transaction to a random one of those that are idle.
//!
//! It says `ready` when every client is logged in and has had one transaction, waits for a line on
//! its standard input, runs, prints what it counted as JSON, and leaves when the input ends: so the
//! one who asks can look at the endpoint's processes before, between and after.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use cloison::protocol::{Frame, message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

type BoxError = Box<dyn Error>;

/// Runs transactions of many tenants.
#[derive(Debug, Parser)]
struct Args {
    /// Where to connect
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    database: String,
    #[arg(long)]
    user: String,
    /// The tenants, one a line: id, blank, password
    #[arg(long)]
    tenants: PathBuf,
    /// What a transaction sends, in pgbench's language: `\set` with random() and simple statements,
    /// one a line; `:tenant` is the tenant's id
    #[arg(long)]
    script: PathBuf,
    /// Clients to keep open; they take the tenants in turn
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Transactions at a time
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// How long to run
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Name a random tenant in each transaction, whoever is logged in
    #[arg(long)]
    any_tenant: bool,
    /// Log in anew for each transaction, and stop after so many
    #[arg(long)]
    logins: Option<u64>,
}

fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = Rc::new(Load::new(args)?);
    runtime.block_on(load.open())?;
    println!("ready");
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        return Ok(());
    }
    println!("{}", runtime.block_on(Rc::clone(&load).run())?);
    while io::stdin().read_line(&mut line)? != 0 {}
    Ok(())
}

/// Everything that the workers share.
struct Load {
    args: Args,
    tenants: Vec<Tenant>,
    script: Script,
    idle: RefCell<Vec<Client>>,
    random: Random,
    /// Microseconds that each transaction took.
    latencies: RefCell<Vec<u64>>,
}

struct Tenant {
    id: String,
    password: String,
}

impl Load {
    fn new(args: Args) -> Result<Self, BoxError> {
        let tenants = fs::read_to_string(&args.tenants)?;
        let tenants = tenants.lines().map(|line| {
            let (id, password) = line.split_once(' ').ok_or("a tenant without a password")?;
            Ok(Tenant { id: id.to_owned(), password: password.to_owned() })
        });
        let tenants = tenants.collect::<Result<Vec<_>, BoxError>>()?;
        let script = Script::parse(&fs::read_to_string(&args.script)?)?;
        let random = Random(Cell::new(0x9e37_79b9_7f4a_7c15));
        Ok(Self {
            args,
            tenants,
            script,
            random,
            idle: RefCell::default(),
            latencies: RefCell::default(),
        })
    }

    /// Logs every client in, and has each do one transaction.
    async fn open(&self) -> Result<(), BoxError> {
        if self.args.logins.is_some() {
            return Ok(());
        }
        for index in 0..self.args.connections {
            let mut client = self.login(index % self.tenants.len()).await?;
            self.transaction(&mut client).await?;
            self.idle.borrow_mut().push(client);
        }
        Ok(())
    }

    async fn run(self: Rc<Self>) -> Result<String, BoxError> {
        let begun = Instant::now();
        let local = LocalSet::new();
        let workers: Vec<_> = (0..self.args.in_flight)
            .map(|_| local.spawn_local(Rc::clone(&self).work(begun)))
            .collect();
        local.await;
        for worker in workers {
            worker.await??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let mut latencies = self.latencies.borrow_mut();
        latencies.sort_unstable();
        let count = latencies.len();
        let quantile = |share: usize| latencies.get(count * share / 100).copied().unwrap_or(0);
        Ok(serde_json::json!({
            "transactions": count,
            "seconds": seconds,
            "tps": count as f64 / seconds,
            "median_us": quantile(50),
            "p99_us": quantile(99),
        })
        .to_string())
    }

    /// One transaction after the other until the time is over.
    async fn work(self: Rc<Self>, begun: Instant) -> Result<(), BoxError> {
        let end = begun + Duration::from_secs_f64(self.args.seconds);
        loop {
            let started = Instant::now();
            match self.args.logins {
                Some(wanted) if self.latencies.borrow().len() as u64 >= wanted => return Ok(()),
                Some(_) => {
                    let tenant = self.random.below(self.tenants.len() as u64) as usize;
                    let mut client = self.login(tenant).await?;
                    self.transaction(&mut client).await?;
                    client.leave().await?;
                }
                None if started >= end => return Ok(()),
                None => {
                    let mut client = self.take()?;
                    self.transaction(&mut client).await?;
                    self.idle.borrow_mut().push(client);
                }
            }
            self.latencies.borrow_mut().push(started.elapsed().as_micros() as u64);
        }
    }

    fn take(&self) -> Result<Client, BoxError> {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return Err("fewer connections than transactions at a time".into());
        }
        let chosen = self.random.below(idle.len() as u64) as usize;
        Ok(idle.swap_remove(chosen))
    }

    async fn login(&self, tenant: usize) -> Result<Client, BoxError> {
        let Args { address, database, user, .. } = &self.args;
        let mut client = Client::connect(*address, tenant).await?;
        client.login(user, database, &self.tenants[tenant].password).await?;
        Ok(client)
    }

    /// Sends the script, a statement a round trip, and checks that the rows are the tenant's own.
    async fn transaction(&self, client: &mut Client) -> Result<(), BoxError> {
        let tenant = match self.args.any_tenant {
            true => self.random.below(self.tenants.len() as u64) as usize,
            false => client.tenant,
        };
        let tenant = &self.tenants[tenant].id;
        let mut values = vec![("tenant", tenant.clone())];
        for (name, from, to) in &self.script.variables {
            values.push((name, (from + self.random.below(to - from + 1)).to_string()));
        }
        for statement in &self.script.statements {
            let sql = values.iter().fold(statement.clone(), |sql, (name, value)| {
                sql.replace(&format!(":{name}"), value)
            });
            let row = client.ask(&sql).await?;
            let wanted = sql.starts_with("SELECT");
            if wanted != row.is_some() || row.is_some_and(|row| !contains(&row, tenant)) {
                return Err(format!("not one row of {tenant}: {sql}").into());
            }
        }
        Ok(())
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The part of pgbench's language that the scripts here use.
struct Script {
    variables: Vec<(String, u64, u64)>,
    statements: Vec<String>,
}

impl Script {
    fn parse(text: &str) -> Result<Self, BoxError> {
        let mut script = Self { variables: Vec::new(), statements: Vec::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("--")) {
            match line.strip_prefix("\\set ") {
                Some(set) => script
                    .variables
                    .push(variable(set).ok_or_else(|| format!("not `name random(a, b)`: {set}"))?),
                None => script.statements.push(line.trim_end_matches(';').to_owned()),
            }
        }
        Ok(script)
    }
}

fn variable(set: &str) -> Option<(String, u64, u64)> {
    let (name, value) = set.split_once(' ')?;
    let (from, to) = value.strip_prefix("random(")?.strip_suffix(')')?.split_once(", ")?;
    Some((name.to_owned(), from.parse().ok()?, to.parse().ok()?))
}

/// A connection that has been opened for a tenant.
struct Client {
    socket: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    tenant: usize,
}

impl Client {
    async fn connect(address: SocketAddr, tenant: usize) -> Result<Self, BoxError> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, incoming: BytesMut::new(), outgoing: BytesMut::new(), tenant })
    }

    async fn login(&mut self, user: &str, database: &str, password: &str) -> Result<(), BoxError> {
        let parameters = [("user", user), ("database", database)];
        frontend::startup_message(parameters, &mut self.outgoing)?;
        self.send().await?;
        loop {
            let frame = self.receive().await?;
            match (frame.tag, frame.body.first_chunk().copied().map(u32::from_be_bytes)) {
                (b'R', Some(CLEARTEXT_PASSWORD)) => {
                    frontend::password_message(password.as_bytes(), &mut self.outgoing)?;
                    self.send().await?;
                }
                (b'R', Some(AUTHENTICATION_OK)) | (b'S' | b'K' | b'N', _) => {}
                (b'Z', _) => return Ok(()),
                (tag, _) => return Err(unexpected(tag).into()),
            }
        }
    }

    /// Sends a statement and waits for the end of its answer, which has one row or none.
    async fn ask(&mut self, sql: &str) -> Result<Option<Bytes>, BoxError> {
        frontend::query(sql, &mut self.outgoing)?;
        self.send().await?;
        let mut row = None;
        loop {
            let frame = self.receive().await?;
            match frame.tag {
                b'D' => row = Some(frame.body),
                b'T' | b'C' | b'S' | b'N' => {}
                b'Z' => return Ok(row),
                tag => return Err(unexpected(tag).into()),
            }
        }
    }

    async fn leave(&mut self) -> io::Result<()> {
        frontend::terminate(&mut self.outgoing);
        self.send().await
    }

    async fn send(&mut self) -> io::Result<()> {
        self.socket.write_all_buf(&mut self.outgoing).await
    }

    /// The next message; an error of the server is one of ours.
    async fn receive(&mut self) -> Result<Frame, BoxError> {
        loop {
            match Frame::split_from(&mut self.incoming, LONGEST_ANSWER)? {
                Some(frame) if frame.tag == b'E' => {
                    return Err(message::error_field(&frame.body, b'M').unwrap_or("error").into());
                }
                Some(frame) => return Ok(frame),
                None if self.socket.read_buf(&mut self.incoming).await? == 0 => {
                    return Err("the connection was closed".into());
                }
                None => {}
            }
        }
    }
}

fn unexpected(tag: u8) -> String {
    format!("an unexpected message of type {:?}", char::from(tag))
}

/// Marsaglia's xorshift: the same choices in every run.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, limit: u64) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state % limit
    }
}

const AUTHENTICATION_OK: u32 = 0;
const CLEARTEXT_PASSWORD: u32 = 3;
const LONGEST_ANSWER: usize = 1 << 20;
