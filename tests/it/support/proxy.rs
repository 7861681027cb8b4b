//! A proxy in this process, on a free port, and tokens that it accepts.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloison::cli::serve::{self, Running};
use cloison::config::{self, Config, PoolMode};
use cloison::observe::{Event, Observer};
use cloison::types::Access;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::{Client, NoTls};

use super::postgres::Database;

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

/// The mode in which tenants are served: all tests run once in each.
pub(crate) fn pool_mode() -> String {
    std::env::var("TEST_POOL_MODE").unwrap_or_else(|_| "session".to_owned())
}

/// Whether a tenant has its server connection for a transaction only.
pub(crate) fn by_transaction() -> bool {
    pool_mode() == "transaction"
}

/// A running proxy with its database.
pub(crate) struct Proxy {
    pub(crate) database: Database,
    pub(crate) address: SocketAddr,
    pub(crate) events: UnboundedReceiver<Event>,
    running: Running,
}

type Edit = Box<dyn FnOnce(&mut Config) + Send>;

/// What a test's proxy is like; everything else is as in `config/example.toml`.
pub(crate) struct Builder {
    extra: String,
    shared: bool,
    server: String,
    edit: Vec<Edit>,
    allow: &'static [&'static str],
}

pub(crate) fn new() -> Builder {
    let (extra, server) = (String::new(), String::new());
    Builder { extra, shared: false, server, edit: Vec::new(), allow: &[] }
}

/// The parts of `cloison.hardening_rules()`.
pub(crate) const HARDENED: &[&str] = &[
    "activity",
    "advisory_locks",
    "counters",
    "hidden_sql",
    "languages",
    "large_objects",
    "notifications",
    "planner_statistics",
    "random_seed",
    "replication",
    "row_counts",
    "row_versions",
    "settings",
    "signals",
    "sizes",
    "snapshots",
    "temporary",
    "transactions",
    "wal",
];

impl Builder {
    /// Adds top-level lines to the configuration.
    pub(crate) fn set(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Forces reuse: there is one server connection for everybody. A tenant may have all of them,
    /// unless the test says otherwise.
    pub(crate) fn pool_size(mut self, size: usize) -> Self {
        self.shared = true;
        self.set(&format!("default_pool_size = {size}"))
    }

    /// Serves tenants by transaction pooling, whatever mode is under test.
    pub(crate) fn by_transaction(self) -> Self {
        self.edit(|config| {
            config.pools.get_mut(&Access::Tenant).unwrap().mode = PoolMode::Transaction;
        })
    }

    /// Serves tenants by session pooling, whatever mode is under test.
    pub(crate) fn by_session(self) -> Self {
        self.edit(|config| {
            config.pools.get_mut(&Access::Tenant).unwrap().mode = PoolMode::Session;
        })
    }

    /// Lets transaction pooling keep a connection with a client whose statements need one of its
    /// own; without it they are refused, and there is nothing to be left behind.
    pub(crate) fn pinning(self) -> Self {
        self.set("session_statements = \"pin\"")
    }

    /// Lets tenants send whatever SQL they can think of: nothing about rows, and nothing about what
    /// is left for the next client, may rest on the statement filter.
    pub(crate) fn unfiltered(self) -> Self {
        self.set("statement_filter = \"off\"")
    }

    /// Gives tenants back what hardening took, by the names of `cloison install --allow`: what is
    /// tested has to hold without it too.
    pub(crate) fn allowing(mut self, names: &'static [&'static str]) -> Self {
        self.allow = names;
        self
    }

    /// Serves tenants whatever lint finds.
    pub(crate) fn unwatched(self) -> Self {
        self.set("lint = \"warn\"")
    }

    /// Leaves nothing between tenants but the policies, the context and the pool.
    pub(crate) fn bare(self) -> Self {
        self.unwatched().unfiltered().allowing(HARDENED)
    }

    /// Changes what no line can express.
    pub(crate) fn edit(mut self, edit: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.edit.push(Box::new(edit));
        self
    }

    pub(crate) fn config(self, database: &Database) -> Config {
        let Self { mut extra, shared, server, edit, allow: _ } = self;
        if shared && !extra.contains("max_tenant_connections") {
            extra.push_str("max_tenant_connections = 0\n");
        }
        let mode = pool_mode();
        let (name, port) = (&database.name, database.port());
        let text = format!(
            r#"
            listen_addr = "127.0.0.1"
            listen_port = 0
            {extra}
            [server]
            host = "127.0.0.1"
            port = {port}
            database = "{name}"
            {server}
            [control]
            user = "it_proxy"
            password = "proxy-secret"
            [pools.tenant]
            user = "it_app"
            password = "app-secret"
            pool_mode = "{mode}"
            [pools.superadmin]
            user = "it_admin"
            password = "admin-secret"
            [pools.owner]
            user = "it_owner"
            password = "owner-secret"
            [issuers.tenant]
            issuer = "test"
            audience = "tenant"
            algorithms = ["HS256"]
            secret = "{SECRET}"
            tenant_lookup = ["id", "slug"]
            tenants_claim = "tenants"
            leeway = 0
            [issuers.superadmin]
            access = "superadmin"
            issuer = "test"
            audience = "superadmin"
            algorithms = ["HS256"]
            secret = "{SECRET}"
            [issuers.owner]
            access = "owner"
            issuer = "test"
            audience = "owner"
            algorithms = ["HS256"]
            secret = "{SECRET}"
            "#
        );
        // A free port is asked for by 0, which a configuration file does not allow.
        let text = text.replace("listen_port = 0", "listen_port = 1");
        let mut config = config::parse(&text, std::iter::empty()).unwrap();
        config.listen.port = 0;
        for edit in edit {
            edit(&mut config);
        }
        config
    }

    pub(crate) async fn run(self) -> Proxy {
        self.run_on(Database::new()).await
    }

    pub(crate) async fn run_on(self, database: Database) -> Proxy {
        self.try_run_on(database).await.unwrap()
    }

    /// The proxy, or its report of why it does not serve.
    pub(crate) async fn try_run_on(self, database: Database) -> Result<Proxy, String> {
        if !self.allow.is_empty() {
            database.allow(self.allow).await;
        }
        let config = self.config(&database);
        let (observer, events) = Observer::with_channel();
        let running = serve::start(config, observer).await.map_err(|error| error.report())?;
        let address = running.tcp_address().unwrap();
        Ok(Proxy { database, address, events, running })
    }
}

impl Proxy {
    /// Every TCP address, that of OAUTHBEARER last.
    pub(crate) fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.running.tcp_addresses().collect()
    }

    /// A client with any user name, password and further parameters.
    pub(crate) async fn connect(
        &self,
        user: &str,
        token: &str,
        parameters: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let (host, port, name) = (self.address.ip(), self.address.port(), &self.database.name);
        let text = format!("host={host} port={port} dbname={name} {parameters}");
        let mut config: tokio_postgres::Config = text.parse().unwrap();
        config.user(user).password(token);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A client of a tenant.
    pub(crate) async fn tenant(&self, tenant: &str) -> Client {
        self.connect("app", &tenant_token(tenant), "").await.unwrap()
    }

    pub(crate) async fn superadmin(&self) -> Client {
        self.connect("cloison_superadmin", &token("superadmin", json!({})), "").await.unwrap()
    }

    pub(crate) async fn owner(&self) -> Client {
        self.connect("cloison_owner", &token("owner", json!({})), "").await.unwrap()
    }

    /// Waits until the proxy tells what `wanted` accepts.
    pub(crate) async fn observed<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the proxy is gone");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("nothing of that kind")
    }

    /// Waits until a session is over and its server connection is back or closed.
    pub(crate) async fn session_ended(&mut self) -> &'static str {
        self.observed(|event| match event {
            Event::SessionEnded { reason, .. } => Some(*reason),
            _ => None,
        })
        .await
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token for `audience` with further claims, good for an hour unless they say otherwise.
pub(crate) fn token(audience: &str, claims: Value) -> String {
    let mut all = json!({"iss": "test", "aud": audience, "sub": "tester", "reason": "a test", "exp": now() + 3600});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &all, &key).unwrap()
}

pub(crate) fn tenant_token(tenant: &str) -> String {
    token("tenant", json!({"tenant_id": tenant}))
}

/// A token that allows some tenants, and acts for none until one is chosen.
pub(crate) fn service_token(tenants: Value) -> String {
    token("tenant", json!({"tenants": tenants}))
}

/// Waits until the proxy's control role has answered everything that it was asked.
///
/// Its connection answers in turn, so a tenant's lookup that was begun before is over after one
/// more login has been refused for its tenant.
pub(crate) async fn settled(proxy: &Proxy) {
    let unknown = token("tenant", json!({"tenant_id": "nobody"}));
    assert!(proxy.connect("app", &unknown, "").await.is_err());
}
