//! Private Postgres servers of every major that the kit supports, and one database a test.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use cloison::backend::{Control, Target};
use cloison::config::{self, Keepalive};
use cloison::kit::harden;
use cloison::kit::migrate;
use cloison::tenant::Directory;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// Makes, of each `async fn name(server: &Server)`, one test for each major.
macro_rules! on_every_major {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                use crate::support::{run, Server};
                #[test] fn on_14() { run(async { super::$name(&Server::shared(14)).await }); }
                #[test] fn on_15() { run(async { super::$name(&Server::shared(15)).await }); }
                #[test] fn on_16() { run(async { super::$name(&Server::shared(16)).await }); }
                #[test] fn on_17() { run(async { super::$name(&Server::shared(17)).await }); }
                #[test] fn on_18() { run(async { super::$name(&Server::shared(18)).await }); }
            }
        )*
    };
}
pub(crate) use on_every_major;

/// Tests that need a server of their own: what they change is shared by all databases.
macro_rules! on_a_server_of_its_own {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                use crate::support::{run, Server};
                #[test]
                fn on_14_to_18() {
                    for major in [14, 15, 16, 17, 18] {
                        run(super::$name(&Server::start(major)));
                    }
                }
            }
        )*
    };
}
pub(crate) use on_a_server_of_its_own;

pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Runs the server given as arguments; a line on its standard input restarts it, and the end of
/// that ends it.
const WATCHER: &str = r#"
    "$@" </dev/null & server=$!
    while read -r _; do kill -INT $server; wait $server; "$@" </dev/null & server=$!; done
    kill -INT $server; wait $server; rm -rf "$DIRECTORY"
"#;

/// A running server. It stops when this process ends, however that happens.
pub(crate) struct Server {
    pub(crate) major: u32,
    directory: PathBuf,
    /// Ends when its standard input does, and takes the server with it.
    watcher: Mutex<Child>,
}

impl Server {
    /// The one server of this major that most tests share.
    pub(crate) fn shared(major: u32) -> Arc<Self> {
        static SERVERS: OnceLock<Mutex<BTreeMap<u32, Arc<Server>>>> = OnceLock::new();
        let servers = SERVERS.get_or_init(Mutex::default);
        let mut servers = servers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Arc::clone(servers.entry(major).or_insert_with(|| Arc::new(Self::start(major))))
    }

    /// A server of its own, for tests that drop the roles which all databases share.
    pub(crate) fn start(major: u32) -> Self {
        Self::start_with(major, "")
    }

    /// The same, with more lines in its configuration.
    pub(crate) fn start_with(major: u32, more: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bin = binaries(major);
        let directory = std::env::temp_dir().join(format!(
            "cloison-kit-{}-{major}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&directory).unwrap();
        let data = directory.join("data");
        if is_root() {
            assert!(
                Command::new("chown")
                    .args(["postgres", path(&directory)])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let made = as_server_user(&bin.join("initdb"))
            .args(["-D", path(&data), "-U", "postgres", "-A", "trust", "--no-sync"])
            .args(["-E", "UTF8", "--locale", "C"])
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let mut settings =
            fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        writeln!(
            settings,
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n\
             shared_buffers = 16MB\nmax_connections = 60\n\
             max_parallel_workers_per_gather = 2\n{more}",
            path(&directory)
        )
        .unwrap();

        let server = as_server_user(&bin.join("postgres"));
        let mut watcher = Command::new("sh");
        watcher
            .arg("-c")
            .arg(WATCHER)
            .arg("sh")
            .arg(server.get_program())
            .args(server.get_args())
            .args(["-D", path(&data)])
            .env("DIRECTORY", &directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap());
        let watcher = Mutex::new(watcher.spawn().unwrap());

        let server = Self { major, directory, watcher };
        server.until_ready(|_| true);
        server
    }

    /// Ends every session, and starts the server again with what its configuration says now.
    pub(crate) fn restart(&self) {
        let before = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let before = before.lines().next().unwrap().to_owned();
        let mut watcher = self.watcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        watcher.stdin.as_mut().unwrap().write_all(b"restart\n").unwrap();
        self.until_ready(|pid| pid != before);
    }

    /// Waits until a postmaster serves, by the number of whose process `is_meant`.
    fn until_ready(&self, is_meant: impl Fn(&str) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        let is_ready = || {
            let Ok(told) = fs::read_to_string(self.directory.join("data/postmaster.pid")) else {
                return false;
            };
            told.contains("ready") && told.lines().next().is_some_and(&is_meant)
        };
        while !self.directory.join(".s.PGSQL.5432").exists() || !is_ready() {
            assert!(Instant::now() < until, "Postgres {} did not start", self.major);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A new database, owned by a role that has CREATEROLE and nothing more, with the kit in it.
    pub(crate) async fn database(&self) -> Database<'_> {
        let database = self.empty_database().await;
        let owner = database.owner().await;
        migrate::install(&owner, &[], |_| ()).await.unwrap();
        for access in ["tenant", "superadmin", "control"] {
            let login = database.login(access);
            // On 16 and newer only who made the group, or a superuser, may give it to a login.
            batch(
                &database.superuser().await,
                &format!("create role {login} login in role cloison_{access}"),
            )
            .await;
        }
        database
    }

    /// A new database without the kit.
    pub(crate) async fn empty_database(&self) -> Database<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let superuser = self.connect("postgres", "postgres").await;
        batch(&superuser, &format!("create role {name}_owner login createrole")).await;
        batch(&superuser, &format!("create database {name} owner {name}_owner")).await;
        let database = Database { server: self, name };
        // As on 15 and newer, where only the owner may create in public.
        batch(
            &database.superuser().await,
            &format!(
                "revoke create on schema public from public; \
                 grant create on schema public to {}_owner",
                database.name
            ),
        )
        .await;
        database
    }

    async fn connect(&self, database: &str, user: &str) -> Client {
        let (client, connection) = Config::new()
            .host_path(&self.directory)
            .dbname(database)
            .user(user)
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let watcher = self.watcher.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(watcher.stdin.take());
        let _ = watcher.wait();
    }
}

/// A database of one test.
pub(crate) struct Database<'a> {
    pub(crate) server: &'a Server,
    pub(crate) name: String,
}

impl Database<'_> {
    /// Hardens it as a superuser, and lets tenants keep what goes by these names.
    pub(crate) async fn harden(&self, allow: &[&str]) -> harden::Report {
        let allow: Vec<String> = allow.iter().map(|name| (*name).to_owned()).collect();
        harden::harden(&self.superuser().await, &allow).await.unwrap()
    }

    pub(crate) fn login(&self, access: &str) -> String {
        format!("{}_{access}", self.name)
    }

    /// How a program connects as the login of this access.
    pub(crate) fn url(&self, access: &str) -> String {
        let host = path(&self.server.directory);
        format!("host={host} dbname={} user={}", self.name, self.login(access))
    }

    pub(crate) async fn superuser(&self) -> Client {
        self.server.connect(&self.name, "postgres").await
    }

    /// A session as the role that owns the database, the kit and the tables.
    pub(crate) async fn owner(&self) -> Client {
        self.server.connect(&self.name, &self.login("owner")).await
    }

    /// A session as the login of this access, without a context.
    pub(crate) async fn session(&self, access: &str) -> Client {
        self.server.connect(&self.name, &self.login(access)).await
    }

    /// Where the server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.server.directory.join(".s.PGSQL.5432")
    }

    /// What a login of this access is told when it may not connect to a database.
    pub(crate) async fn refused_in(&self, database: &str, access: &str) -> Option<SqlState> {
        let mut config = Config::new();
        config.host_path(&self.server.directory).dbname(database).user(self.login(access));
        let error = config.connect(NoTls).await.err()?;
        error.code().cloned()
    }

    /// A session bound to a tenant, as the proxy binds it.
    pub(crate) async fn tenant(&self, tenant: Uuid) -> Client {
        let session = self.session("tenant").await;
        let proof = self.proof(tenant, &mark(&session).await).await;
        session.execute("select cloison.set_tenant($1, $2)", &[&tenant, &proof]).await.unwrap();
        session
    }

    /// What the proxy computes.
    pub(crate) async fn proof(&self, tenant: Uuid, mark: &str) -> String {
        self.proof_until(tenant, mark, soon()).await
    }

    /// What the proxy computes: the definition, written out once more.
    pub(crate) async fn proof_until(&self, tenant: Uuid, mark: &str, until: u64) -> String {
        let digits = format!("{until:010}");
        let message = [&b"cloison:tenant:1:"[..], tenant.as_bytes(), digits.as_bytes()].concat();
        digits + &self.mac(&message, mark).await
    }

    /// HMAC-SHA-256 of a message and a process mark, which is left out where processes are not bound.
    pub(crate) async fn mac(&self, message: &[u8], mark: &str) -> String {
        let control = self.session("control").await;
        let material = control.query_one("select * from cloison.signing_material()", &[]).await;
        let material = material.unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, material.get("key"));
        let mark = if material.get("bind_process_id") { mark } else { "" };
        let mac = hmac::sign(&key, &[message, mark.as_bytes()].concat());
        mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Lets a super-admin's session write, as the proxy does.
    pub(crate) async fn permit_writes(&self, session: &Client) {
        let permit = self.write_permit(&mark(session).await, soon()).await;
        let set = "select set_config('cloison.superadmin_write', $1, false)";
        session.execute(set, &[&permit]).await.unwrap();
    }

    /// What the proxy computes: the definition, written out once more.
    pub(crate) async fn write_permit(&self, mark: &str, until: u64) -> String {
        let digits = format!("{until:010}");
        let message = format!("cloison:superadmin_write:1:{digits}");
        digits + &self.mac(message.as_bytes(), mark).await
    }

    /// What the proxy computes: the definition, written out once more.
    pub(crate) async fn actor(&self, mark: &str, until: u64, json: &str) -> String {
        let body = format!("{until:010}{json}");
        let mac = self.mac(format!("cloison:actor:1:{body}").as_bytes(), mark).await;
        body + &mac
    }

    /// What the proxy asks, through the control role's connection.
    pub(crate) async fn directory(&self) -> Directory {
        let server = config::Server {
            address: config::ServerAddress::Unix(self.server.directory.clone(), 5432),
            database: self.name.clone(),
            tls_mode: config::ServerTlsMode::Disable,
            tls_ca_file: None,
        };
        let login = config::Login { user: self.login("control"), password: None, identity: None };
        let target =
            Target::new(&server, &login, Duration::from_secs(30), Keepalive::default()).unwrap();
        Directory::open(Control::new(target)).await.unwrap()
    }

    /// Runs psql, whose messages tokio-postgres would not show.
    pub(crate) fn psql(&self, access: &str, arguments: &[&str]) -> Output {
        Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", path(&self.server.directory)])
            .args(["-U", &self.login(access), "-d", &self.name])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The schema as the login of this access dumps it. For servers that are no newer than the
    /// installed `pg_dump`.
    pub(crate) fn dump_as(&self, access: &str) -> String {
        let done = Command::new("pg_dump")
            .args(["--schema-only", "-h", path(&self.server.directory)])
            .args(["-U", &self.login(access), "-d", &self.name])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// The schema as a superuser dumps it. For servers that are no newer than the installed `pg_dump`.
    pub(crate) fn dump_as_superuser(&self) -> String {
        let done = Command::new("pg_dump")
            .args(["--schema-only", "-h", path(&self.server.directory)])
            .args(["-U", "postgres", "-d", &self.name])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Everything of the schema and of the kit's rows, to compare. The same as two `pg_dump`s, and
    /// more: where the installed `pg_dump` is new enough for the server, its output is part of it.
    pub(crate) async fn dump(&self, rows: Rows) -> String {
        let superuser = self.superuser().await;
        let mut dump = String::new();
        for row in superuser.query(FINGERPRINT, &[]).await.unwrap() {
            dump.push_str(row.get(0));
            dump.push('\n');
        }
        if self.server.major <= 15 {
            let done = Command::new("pg_dump")
                .args(["-h", path(&self.server.directory), "-U", "postgres", "-d", &self.name])
                .args(match rows {
                    Rows::With => &[][..],
                    Rows::Without => &["--schema-only"],
                })
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            // Newest minors put a random word there.
            let text = String::from_utf8(done.stdout).unwrap();
            let lines = text.lines().filter(|l| !l.contains("restrict "));
            dump.extend(lines.map(|line| format!("{line}\n")));
        } else if rows == Rows::With {
            for table in ["tenants", "protected_tables", "signing_key", "settings"] {
                let query = format!("select to_jsonb(t)::text from cloison.{table} t order by 1");
                for row in superuser.query(&query, &[]).await.unwrap() {
                    dump.push_str(row.get(0));
                    dump.push('\n');
                }
            }
        }
        dump
    }
}

/// Whether a dump holds rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rows {
    With,
    Without,
}

/// The schema as text, a line an object.
const FINGERPRINT: &str = "
    with n as (select oid, nspname, nspacl from pg_namespace
               where nspname !~ '^pg_' and nspname <> 'information_schema'),
    c as (select c.*, c.oid::regclass::text as name from pg_class c join n on n.oid = c.relnamespace)
    select 'schema ' || nspname || coalesce(nspacl::text, '') as line from n
    union all select format('relation %s %s %s %s %s %s %s', name, relkind, relrowsecurity,
        relforcerowsecurity, relowner::regrole, relacl, reloptions) from c
    union all select format('column %s.%s %s %s %s %s %s %s', c.name, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attnum, a.attacl,
            pg_get_expr(d.adbin, d.adrelid))
        from c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped and a.attnum > 0
            left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    union all select format('index %s', pg_get_indexdef(i.indexrelid))
        from c join pg_index i on i.indrelid = c.oid
    union all select format('constraint %s %s %s', c.name, k.conname, pg_get_constraintdef(k.oid))
        from c join pg_constraint k on k.conrelid = c.oid
    union all select format('trigger %s', pg_get_triggerdef(t.oid))
        from c join pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal
    union all select format('policy %s %s %s %s %s %s %s', c.name, p.polname, p.polcmd,
            p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
            pg_get_expr(p.polwithcheck, p.polrelid))
        from c join pg_policy p on p.polrelid = c.oid
    union all select format('view %s %s', c.name, pg_get_viewdef(c.oid)) from c where relkind = 'v'
    union all select format('function %s %s %s', p.proowner::regrole, p.proacl,
            pg_get_functiondef(p.oid))
        from pg_proc p join n on n.oid = p.pronamespace
    union all select format('role %s %s', rolname, to_jsonb(r) - 'oid')
        from pg_roles r where rolname like 'cloison\\_%'
    order by 1";

fn binaries(major: u32) -> PathBuf {
    let named = std::env::var_os(format!("CLOISON_PG_BIN_{major}")).map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [
        PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        PathBuf::from(format!("/var/lib/cloison/postgres/{major}/bin")),
        here.join(format!("target/postgres/{major}/bin")),
    ];
    // Where `make deps` has put them.
    let prepared = std::env::var_os("TEST_POSTGRES_DIR")
        .map(|dir| Path::new(&dir).join(format!("{major}/bin")));
    named
        .into_iter()
        .chain(prepared)
        .chain(places)
        .find(|place| place.join("postgres").exists())
        .unwrap_or_else(|| {
            panic!(
                "no Postgres {major}: run tests/setup-postgres.sh, \
                 or set CLOISON_PG_BIN_{major} to a folder with initdb and postgres"
            )
        })
}

/// What stands for the session's process in all that is signed for it.
pub(crate) async fn mark(session: &Client) -> String {
    texts(session, "select cloison.this_process()").await.remove(0)
}

/// Until when what the tests sign is good. The proxy lets it be good for less than a minute.
pub(crate) fn soon() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600
}

/// A command that runs as whoever may run a server: never root.
fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", path(program)]);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) async fn pid(session: &Client) -> i32 {
    session.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[track_caller]
pub(crate) fn batch<'a>(session: &'a Client, sql: &'a str) -> impl Future<Output = ()> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        if let Err(error) = session.batch_execute(sql).await {
            panic!("{caller}: {sql}: {:?}", error.as_db_error());
        }
    }
}

/// The first column of every row, as text.
#[track_caller]
pub(crate) fn texts<'a>(
    session: &'a Client,
    sql: &'a str,
) -> impl Future<Output = Vec<String>> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        let answers = match session.simple_query(sql).await {
            Ok(answers) => answers,
            Err(error) => panic!("{caller}: {sql}: {:?}", error.as_db_error()),
        };
        answers
            .into_iter()
            .filter_map(|answer| {
                let tokio_postgres::SimpleQueryMessage::Row(row) = answer else { return None };
                Some(row.get(0).unwrap_or("null").to_owned())
            })
            .collect()
    }
}

/// Asserts that a statement is refused with 42501.
#[track_caller]
pub(crate) fn denied<'a>(
    session: &'a Client,
    sql: &'a str,
) -> impl Future<Output = String> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        match session.simple_query(sql).await {
            Ok(_) => panic!("{caller}: was not refused: {sql}"),
            Err(error) => {
                let error = error.as_db_error().unwrap();
                assert_eq!(
                    *error.code(),
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    "{caller}: {sql}: {error:?}"
                );
                error.message().to_owned()
            }
        }
    }
}

/// Adds a tenant.
pub(crate) async fn add_tenant(owner: &Client, slug: &str, external_key: Option<&str>) -> Uuid {
    owner
        .query_one(
            "insert into cloison.tenants (name, slug, external_key) values ($1, $1, $2) \
             returning id",
            &[&slug, &external_key],
        )
        .await
        .unwrap()
        .get(0)
}
