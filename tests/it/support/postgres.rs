//! One cluster for the whole run, one database for each test.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloison::dev::cluster::Cluster;
use tokio_postgres::Client;

/// Tenant A.
pub(crate) const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
/// Tenant B.
pub(crate) const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(20);

const TEMPLATE: &str = "it_template";

struct Server {
    cluster: Cluster,
    /// Stops the cluster when this process is gone: its standard input is a pipe that we hold.
    _watch: Child,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database with the kit, hardened, two tenants and a few protected tables, for one test alone.
pub(crate) struct Database {
    pub(crate) name: String,
}

impl Database {
    pub(crate) fn new() -> Self {
        let server = server();
        let name = format!("it_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        block_on(async {
            let admin = server.cluster.connect_superuser("postgres").await.unwrap();
            let sql = format!("create database {name} template {TEMPLATE}");
            admin.batch_execute(&sql).await.unwrap();
        });
        Self { name }
    }

    /// The template itself, in a cluster of the test's own.
    pub(crate) fn elsewhere() -> Self {
        Self { name: TEMPLATE.to_owned() }
    }

    /// Gives tenants back what goes by these names.
    pub(crate) async fn allow(&self, names: &[&str]) {
        let superuser = self.superuser().await;
        superuser.query("select cloison.harden($1)", &[&names]).await.unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        server().cluster.port()
    }

    /// The way of the superuser, past the proxy.
    pub(crate) fn superuser_url(&self) -> String {
        let cluster = &server().cluster;
        let (user, password) = (cluster.superuser(), cluster.superuser_password());
        format!("postgres://{user}:{password}@{}:{}/{}", cluster.host(), self.port(), self.name)
    }

    /// The superuser, past the proxy.
    pub(crate) async fn superuser(&self) -> Client {
        server().cluster.connect_superuser(&self.name).await.unwrap()
    }
}

/// Waits until a count is not zero.
pub(crate) async fn until_any(client: &Client, count: &str) {
    let some = async { while count_of(client, count).await == 0 {} };
    tokio::time::timeout(PATIENCE, some).await.expect("it never came")
}

/// Waits until a count is zero.
pub(crate) async fn until_none(client: &Client, count: &str) {
    let none = async { while count_of(client, count).await > 0 {} };
    tokio::time::timeout(PATIENCE, none).await.expect("it never went")
}

async fn count_of(client: &Client, count: &str) -> i64 {
    client.query_one(count, &[]).await.unwrap().get(0)
}

fn server() -> &'static Server {
    SERVER.get_or_init(|| block_on(start()))
}

/// Runs to the end on a runtime of its own, from a test that may be inside another.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Runtime::new().unwrap().block_on(future);
        scope.spawn(run).join().unwrap()
    })
}

async fn start() -> Server {
    let cluster = Cluster::builder()
        .setting("fsync", "off")
        .setting("max_connections", "300")
        .setting("shared_buffers", "64MB")
        .start()
        .await
        .unwrap();
    let watch = watch(&cluster);
    prepare(&cluster, &[]).await;
    Server { cluster, _watch: watch }
}

/// What the run's cluster has logged.
pub(crate) fn server_log() -> String {
    let folder = server().cluster.data_dir();
    std::fs::read_to_string(folder.join("postgres.log")).unwrap()
}

/// The data folder of the run's cluster.
pub(crate) fn data_dir() -> PathBuf {
    server().cluster.data_dir().join("data")
}

/// Makes the roles and the template in a fresh cluster, and runs `more` as its superuser.
pub(crate) async fn prepare(cluster: &Cluster, more: &[&str]) {
    let admin = cluster.connect_superuser("postgres").await.unwrap();
    for sql in [
        &format!("create database {TEMPLATE}")[..],
        "create role it_app login password 'app-secret'",
        "create role it_admin login password 'admin-secret'",
        "create role it_proxy login password 'proxy-secret'",
        "create role it_owner login password 'owner-secret' createrole",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let template = cluster.connect_superuser(TEMPLATE).await.unwrap();
    for sql in [
        include_str!("../../../sql/migrations/0001_schema.sql"),
        include_str!("../../../sql/migrations/0002_functions.sql"),
        include_str!("../../../sql/migrations/0003_row_level_security.sql"),
        include_str!("../../../sql/migrations/0004_surroundings.sql"),
        include_str!("../../../sql/migrations/0005_lint.sql"),
        include_str!("../../../sql/migrations/0006_harden.sql"),
        include_str!("../../../sql/migrations/0007_advisory_locks.sql"),
        include_str!("../../../sql/migrations/0008_revocations.sql"),
        include_str!("../../../sql/migrations/0009_audit.sql"),
        include_str!("../../../sql/migrations/0010_claims.sql"),
        include_str!("../../../sql/migrations/0011_api_keys.sql"),
        include_str!("../../../sql/migrations/0012_adopt.sql"),
        include_str!("../../../sql/migrations/0013_guard.sql"),
        include_str!("../../../sql/migrations/0014_copy.sql"),
        include_str!("schema.sql"),
        "select cloison.harden()",
    ] {
        template.batch_execute(sql).await.unwrap();
    }
    for sql in more {
        admin.batch_execute(sql).await.unwrap();
    }
}

fn watch(cluster: &Cluster) -> Child {
    let script = "cat > /dev/null; kill -INT \"$0\"; while kill -0 \"$0\" 2> /dev/null; do sleep 0.1; done; rm -rf \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", script, &cluster.postmaster_pid().to_string()])
        .arg(cluster.data_dir())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"watching\n").unwrap();
    child
}
