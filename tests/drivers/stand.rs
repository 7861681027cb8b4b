//! One `cloison dev` for the whole run, and more proxies before the same Postgres.
//!
//! | proxy | pool mode | server connections | statements that need a session |
//! |---|---|---|---|
//! | wide | session | 24 | work |
//! | narrow | session | 1 | work |
//! | moving | transaction | 3, shared with the background's clients | refused |
//! | pinned | transaction | 24, shared with the background's clients | work |
//! | lone | transaction | 1 | work |

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

    /// A token with these claims, by the key of `cloison dev`, whose set is in `jwks_file()`.
    pub(crate) fn mint(&self, claims: &Value) -> String {
        let key = SigningKey::load(&self.folder.join(cloison::dev::SIGNING_KEY)).unwrap();
        key.mint(claims.as_object().unwrap()).unwrap()
    }

    pub(crate) fn jwks_file(&self) -> PathBuf {
        self.folder.join("jwks.json")
    }

    /// One more proxy before the same Postgres, with session pooling and other rules for tokens:
    /// the host and port that it listens on.
    pub(crate) fn proxy(&self, kind: &str, issuers: &Value, more: &Value) -> (Server, String) {
        let mut config = config(&self.folder, self.url(Mode::Session, "DIRECT_URL"), 8, "refuse");
        config["pools"]["tenant"]["pool_mode"] = json!("session");
        let others = config["pools"].as_object_mut().unwrap();
        others.retain(|pool, _| pool == "tenant");
        config["issuers"] = issuers.clone();
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        let (child, listen) = serve(&self.folder, kind, config);
        (Server(child), listen)
    }

    /// A URL by the name that scripts know it by.
    pub(crate) fn url(&self, mode: Mode, name: &str) -> &str {
        self.environment(mode).find(|(known, _)| *known == name).expect("a name of ours").1
    }
}

/// A process that is a test's own, and ends with it.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
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

    let (moving_proxy, moving) = serve(&folder, "moving", config(&folder, postgres, 3, "refuse"));
    let (pinned_proxy, pinned) = serve(&folder, "pinned", config(&folder, postgres, 24, "pin"));
    let (lone_proxy, lone) = serve(&folder, "lone", config(&folder, postgres, 1, "pin"));

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

/// Transaction pooling for tenants, with the tokens of `cloison dev`.
fn config(folder: &Path, postgres: &str, size: usize, session_statements: &str) -> Value {
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
    let (_, host) = postgres.rsplit_once('@').unwrap();
    let (host, port) = host.strip_suffix("/app").unwrap().rsplit_once(':').unwrap();
    json!({
        "server_tls_sslmode": "disable",
        "default_pool_size": size,
        "session_statements": session_statements,
        // Every text is judged; what the scripts need is given back, so that it is judged later.
        "allowed_statements": [
            "ddl", "do", "explain", "listen", "lock", "maintenance", "temporary tables",
        ],
        "allowed_settings": ["app.*"],
        "server": { "host": host, "port": port.parse::<u16>().unwrap(), "database": "app" },
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
    })
}

/// Starts `cloison serve` and waits until it can be reached.
fn serve(folder: &Path, kind: &str, mut config: Value) -> (Child, String) {
    // Nobody else takes it in so short a time.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config["listen_addr"] = json!([free.ip()]);
    config["listen_port"] = json!(free.port());
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
        for kind in oauth provider lone pinned moving narrow wide; do
            pid=$(cat "$0/$kind.pid" 2> /dev/null) || continue
            kill -TERM "$pid" 2> /dev/null
            for _ in $(seq 300); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
            kill -KILL "$pid" 2> /dev/null
        done
        postmaster=$(head -n 1 "$0/postgres/postmaster.pid" 2> /dev/null) && kill -INT "$postmaster"
        rm -rf "$0"
    "#;
    Command::new("sh").args(["-c", script]).arg(folder).stdin(Stdio::piped()).spawn().unwrap()
}
