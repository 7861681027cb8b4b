//! One `cloison dev` for the whole run, and more proxies before the same Postgres.
//!
//! | proxy | pool mode | server connections | statements that need a session |
//! |---|---|---|---|
//! | wide | session | 24 | work |
//! | narrow | session | 1 | work |
//! | moving | transaction | 3, shared with the background's clients | refused |
//! | pinned | transaction | 24, shared with the background's clients | work |
//! | lone | transaction | 1 | work |
//! | more-… | transaction, before a database of a test's own | 4 | work |

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloison::dev::key::SigningKey;
use serde_json::{Value, json};

use crate::background::Background;

/// The tenant with `cabinet-dupont-geneve`'s rows.
pub(crate) const A: &str = "d0000000-0000-4000-8000-000000000001";
/// The tenant with `ecole-ibn-khaldoun-alger`'s rows.
pub(crate) const B: &str = "e0000000-0000-4000-8000-000000000001";

/// A tenant of the background's alone.
pub(crate) const C: &str = "c0000000-0000-4000-8000-000000000001";

/// What the scripts need and hardening takes: everything else works hardened.
const ALLOWED: &str = "advisory_locks,languages,pg_locks,pg_notify,pg_terminate_backend,temporary";

/// When the proxy gives a server connection to somebody else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Session,
    Transaction,
}

/// Where everything is.
pub(crate) struct Stand {
    /// As the scripts get them.
    session: Vec<(&'static str, String)>,
    transaction: Vec<(&'static str, String)>,
    pub(crate) background: Background,
    /// Signs tokens that every proxy here believes.
    key: SigningKey,
    folder: PathBuf,
    /// The proxies, and what stops them when this process is gone: the standard input of the last
    /// is a pipe that we hold.
    _children: [Child; 6],
}

impl Stand {
    /// The environment of a script.
    pub(crate) fn environment(&self, mode: Mode) -> impl Iterator<Item = (&'static str, &str)> {
        let urls = match mode {
            Mode::Session => &self.session,
            Mode::Transaction => &self.transaction,
        };
        urls.iter().map(|(name, url)| (*name, url.as_str()))
    }

    /// A proxy more, before a database of its own on the same Postgres; ended when the child is
    /// dropped, or this process.
    pub(crate) fn proxy_for(&self, database: &str) -> (Served, String) {
        let postgres =
            self.url(Mode::Session, "DIRECT_URL").replace("/app", &format!("/{database}"));
        let kind = format!("more-{database}");
        let (child, listen) = serve(&self.folder, &kind, &postgres, 4, "pin");
        (Served(child), listen)
    }

    /// A tenant's token.
    pub(crate) fn token(&self, tenant: &str) -> String {
        token(&self.key, tenant, 3600)
    }

    /// A URL to Postgres itself as one of the logins of `cloison dev`.
    pub(crate) fn direct(&self, user: &str, database: &str) -> String {
        let logins = std::fs::read(self.folder.join("logins.json")).unwrap();
        let logins: Value = serde_json::from_slice(&logins).unwrap();
        let password = logins[user].as_str().unwrap();
        let (_, host) = self.url(Mode::Session, "DIRECT_URL").rsplit_once('@').unwrap();
        let host = host.strip_suffix("/app").unwrap();
        format!("postgres://{user}:{password}@{host}/{database}")
    }

    /// A URL by the name that scripts know it by.
    pub(crate) fn url(&self, mode: Mode, name: &str) -> &str {
        self.environment(mode).find(|(known, _)| *known == name).expect("a name of ours").1
    }
}

/// A proxy that ends with the test that wanted it.
pub(crate) struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts everything the first time.
pub(crate) fn stand() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(start)
}

fn start() -> Stand {
    // A path that Postgres' own user can reach too, when it is not ours.
    let folder = PathBuf::from(format!("/tmp/cloison-drivers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let watch = watch(&folder);
    let (wide_proxy, wide) = dev(&folder, "wide", &["--pool-size", "24", "--allow", ALLOWED]);
    let postgres = wide["postgres_url"].as_str().unwrap();
    let arguments = ["--pool-size", "1", "--database-url", postgres];
    let (narrow_proxy, narrow) = dev(&folder, "narrow", &arguments);

    let (moving_proxy, moving) = serve(&folder, "moving", postgres, 3, "refuse");
    let (pinned_proxy, pinned) = serve(&folder, "pinned", postgres, 24, "pin");
    let (lone_proxy, lone) = serve(&folder, "lone", postgres, 1, "pin");

    let key = SigningKey::load(wide["signing_key"].as_str().unwrap().as_ref()).unwrap();
    let other_key = SigningKey::generate().unwrap();
    let listen = |proxy: &Value| proxy["listen"].as_str().unwrap().to_owned();
    let (wide_listen, narrow_listen) = (listen(&wide), listen(&narrow));
    let url = |listen: &str, token: String| format!("postgres://cloison_app:{token}@{listen}/app");
    let urls = |mode: &str, usual: &str, keeping: &str, narrow: &str| {
        let text = |name: &str| wide[name].as_str().unwrap().to_owned();
        vec![
            ("POOL_MODE", mode.to_owned()),
            ("TENANT_A_URL", url(usual, token(&key, A, 3600))),
            ("TENANT_B_URL", url(usual, token(&key, B, 3600))),
            ("SESSION_A_URL", url(keeping, token(&key, A, 3600))),
            ("SESSION_B_URL", url(keeping, token(&key, B, 3600))),
            ("NARROW_A_URL", url(narrow, token(&key, A, 3600))),
            ("NARROW_B_URL", url(narrow, token(&key, B, 3600))),
            ("SUPERADMIN_URL", text("superadmin_url")),
            ("OWNER_URL", text("owner_url")),
            ("DIRECT_URL", text("postgres_url")),
            ("EXPIRED_URL", url(usual, token(&key, A, -3600))),
            ("FORGED_URL", url(usual, token(&other_key, A, 3600))),
        ]
    };
    let background = [&moving, &moving, &pinned]
        .into_iter()
        .flat_map(|listen| [B, C].map(|id| (id, url(listen, token(&key, id, 3600)))))
        .collect();
    Stand {
        session: urls("session", &wide_listen, &wide_listen, &narrow_listen),
        transaction: urls("transaction", &moving, &pinned, &lone),
        background: Background::start(postgres.to_owned(), background),
        key,
        folder,
        _children: [lone_proxy, pinned_proxy, moving_proxy, narrow_proxy, wide_proxy, watch],
    }
}

/// A tenant's token that ends so many seconds from now.
fn token(key: &SigningKey, tenant: &str, ends: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let claims = json!({
        "iss": cloison::dev::ISSUER,
        "aud": cloison::dev::AUDIENCE,
        "iat": now - 7200,
        "exp": now + ends,
        "tenant_id": tenant,
    });
    key.mint(claims.as_object().unwrap()).unwrap()
}

/// Starts `cloison dev` and waits for the line that says where it is.
fn dev(folder: &Path, kind: &str, arguments: &[&str]) -> (Child, Value) {
    let log = folder.join(format!("{kind}.log"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args([
            "dev",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--statement-filter",
            "off",
            "--data-dir",
        ])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    note_pid(folder, kind, &child);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Ok(report) = serde_json::from_str(&line) else {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("cloison dev did not start: {log}")
    };
    (child, report)
}

/// Starts `cloison serve` with transaction pooling for tenants, and waits until it can be reached.
fn serve(
    folder: &Path,
    kind: &str,
    postgres: &str,
    size: usize,
    session_statements: &str,
) -> (Child, String) {
    let logins = std::fs::read(folder.join("logins.json")).unwrap();
    let logins: Value = serde_json::from_slice(&logins).unwrap();
    let login = |user: &str| json!({ "user": user, "password": logins[user] });
    let issuer = |access: &str, audience: &str| {
        json!({
            "access": access,
            "issuer": cloison::dev::ISSUER,
            "audience": audience,
            "algorithms": ["ES256"],
            "jwks_file": folder.join("jwks.json"),
            "tenant_lookup": ["id"],
        })
    };
    let mut tenants = login("cloison_app");
    tenants["pool_mode"] = json!("transaction");
    // Nobody else takes it in so short a time.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, host) = postgres.rsplit_once('@').unwrap();
    let (host, database) = host.rsplit_once('/').unwrap();
    let (host, port) = host.rsplit_once(':').unwrap();
    let config = json!({
        "listen_addr": [free.ip()],
        "listen_port": free.port(),
        "server_tls_sslmode": "disable",
        "default_pool_size": size,
        "session_statements": session_statements,
        // Every text is judged; what the scripts need is given back, so that it is judged later.
        "allowed_statements": [
            "ddl", "do", "explain", "listen", "lock", "maintenance", "temporary tables",
        ],
        "allowed_settings": ["app.*"],
        "server": { "host": host, "port": port.parse::<u16>().unwrap(), "database": database },
        "control": login("cloison_proxy"),
        "pools": {
            "tenant": tenants,
            "superadmin": login("cloison_admin"),
            "owner": login("app_owner"),
        },
        "issuers": {
            "dev": issuer("tenant", cloison::dev::AUDIENCE),
            "dev_superadmin": issuer("superadmin", cloison::dev::SUPERADMIN_AUDIENCE),
            "dev_owner": issuer("owner", cloison::dev::OWNER_AUDIENCE),
        },
    });
    let file = folder.join(format!("{kind}.toml"));
    std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
    let log = folder.join(format!("{kind}.log"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    note_pid(folder, kind, &child);
    while TcpStream::connect(free).is_err() {
        if child.try_wait().unwrap().is_some() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("cloison serve did not start: {log}")
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    (child, free.to_string())
}

/// The watcher stops `wide` last.
fn note_pid(folder: &Path, kind: &str, child: &Child) {
    std::fs::write(folder.join(format!("{kind}.pid")), child.id().to_string()).unwrap();
}

/// Waits for the end of this process, however it comes, and leaves nothing behind.
fn watch(folder: &Path) -> Child {
    let script = r#"
        trap '' INT TERM HUP
        cat > /dev/null
        for file in "$0"/more-*.pid "$0"/lone.pid "$0"/pinned.pid "$0"/moving.pid "$0"/narrow.pid "$0"/wide.pid; do
            pid=$(cat "$file" 2> /dev/null) || continue
            kill -TERM "$pid" 2> /dev/null
            for _ in $(seq 300); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
            kill -KILL "$pid" 2> /dev/null
        done
        postmaster=$(head -n 1 "$0/postgres/postmaster.pid" 2> /dev/null) && kill -INT "$postmaster"
        rm -rf "$0"
    "#;
    Command::new("sh").args(["-c", script]).arg(folder).stdin(Stdio::piped()).spawn().unwrap()
}
