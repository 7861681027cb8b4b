//! Two databases for the whole run, each with proxies before it.
//!
//! `default` is as everybody has it who changes nothing: hardened, filtered, watched. Everyday use
//! has to work there. In `freed` tenants are given back, by name, what a script tests for its own
//! sake: statements and functions that the filter refuses and hardening takes ([`ALLOWED`],
//! [`STATEMENTS`]).
//!
//! | scripts know it as | database | session pooling | transaction pooling |
//! |---|---|---|---|
//! | TENANT | default | a connection each | 3 connections, shared with the background's clients |
//! | FREED | freed | a connection each | the same; what needs a session is refused |
//! | SESSION | freed | a connection each | 24 connections, shared; what needs a session keeps one |
//! | NARROW | freed | one connection | one connection |
//!
//! Migration tools have a database each beside `default`'s, with a proxy like the default one.

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

/// What hardening takes and `freed` gives back.
const ALLOWED: &str = "advisory_locks,languages,pg_locks,pg_notify,pg_terminate_backend,temporary";
/// What the filter refuses and `freed` gives back.
const STATEMENTS: [&str; 7] =
    ["ddl", "do", "explain", "listen", "lock", "maintenance", "temporary tables"];

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
    _children: [Child; 8],
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

    /// A URL by the name that scripts know it by.
    pub(crate) fn url(&self, mode: Mode, name: &str) -> &str {
        self.environment(mode).find(|(known, _)| *known == name).expect("a name of ours").1
    }

    /// A token with these claims, by the default key of `cloison dev`, whose set is in
    /// `jwks_file()`.
    pub(crate) fn mint(&self, claims: &Value) -> String {
        let file = self.folder.join("default").join(cloison::dev::SIGNING_KEY);
        SigningKey::load(&file).unwrap().mint(claims.as_object().unwrap()).unwrap()
    }

    pub(crate) fn jwks_file(&self) -> PathBuf {
        self.folder.join("default").join("jwks.json")
    }

    /// One more proxy before the default database, with session pooling and other rules for tokens:
    /// the host and port that it listens on.
    pub(crate) fn proxy(&self, kind: &str, issuers: &Value, more: &Value) -> (Server, String) {
        let postgres = self.url(Mode::Session, "DIRECT_URL");
        let mut config = config(&self.folder, ("default", postgres), 8, "refuse");
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

    /// One more proxy, before another database on the default one's Postgres.
    pub(crate) fn proxy_of(&self, database: &str) -> (Server, String) {
        let postgres = self.direct("postgres", database);
        let config = config(&self.folder, ("default", &postgres), 4, "refuse");
        let (child, listen) = serve(&self.folder, &format!("of_{database}"), config);
        (Server(child), listen)
    }

    /// A URL past the proxies, as `postgres` or one of the logins of `cloison dev`.
    pub(crate) fn direct(&self, user: &str, database: &str) -> String {
        let (url, _) = self.url(Mode::Session, "DIRECT_URL").rsplit_once('/').unwrap();
        if user == "postgres" {
            return format!("{url}/{database}");
        }
        let logins = std::fs::read(self.folder.join("default").join("logins.json")).unwrap();
        let logins: Value = serde_json::from_slice(&logins).unwrap();
        let password = logins[user].as_str().unwrap();
        let (_, host) = url.rsplit_once('@').unwrap();
        format!("postgres://{user}:{password}@{host}/{database}")
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
    let sized = |size| ["--pool-size", size];
    let (default_dev, default) = dev(&folder, "default", &folder.join("default"), &sized("24"));
    let free = ["--allow", ALLOWED, "--statement-filter", "off"];
    let (freed_dev, freed) =
        dev(&folder, "freed", &folder.join("freed"), &[&sized("24")[..], &free].concat());
    let postgres = |dev: &Value| dev["postgres_url"].as_str().unwrap().to_owned();
    let at_freed = ["--database-url", &postgres(&freed)];
    let more = [&sized("1")[..], &at_freed, &free[2..]].concat();
    let (narrow_dev, narrow) = dev(&folder, "narrow", &folder.join("freed"), &more);

    let serve = |kind: &str, database: &str, size, session_statements| {
        let postgres = postgres(if database == "freed" { &freed } else { &default });
        serve(&folder, kind, config(&folder, (database, &postgres), size, session_statements))
    };
    let (moving_proxy, moving) = serve("moving", "default", 3, "refuse");
    let (freed_proxy, freed_moving) = serve("freed_moving", "freed", 3, "refuse");
    let (pinned_proxy, pinned) = serve("pinned", "freed", 24, "pin");
    let (lone_proxy, lone) = serve("lone", "freed", 1, "pin");

    let load =
        |dev: &Value| SigningKey::load(dev["signing_key"].as_str().unwrap().as_ref()).unwrap();
    let (key, freed_key) = (load(&default), load(&freed));
    let other_key = SigningKey::generate().unwrap();
    let listen = |proxy: &Value| proxy["listen"].as_str().unwrap().to_owned();
    let url = |listen: &str, token: String| format!("postgres://cloison_app:{token}@{listen}/app");
    let urls = |mode: &str, usual: &str, [free, keeping, narrow]: [&str; 3]| {
        let text = |name: &str| default[name].as_str().unwrap().to_owned();
        vec![
            ("POOL_MODE", mode.to_owned()),
            ("TENANT_A_URL", url(usual, token(&key, A, 3600))),
            ("TENANT_B_URL", url(usual, token(&key, B, 3600))),
            ("FREED_A_URL", url(free, token(&freed_key, A, 3600))),
            ("FREED_B_URL", url(free, token(&freed_key, B, 3600))),
            ("SESSION_A_URL", url(keeping, token(&freed_key, A, 3600))),
            ("SESSION_B_URL", url(keeping, token(&freed_key, B, 3600))),
            ("NARROW_A_URL", url(narrow, token(&freed_key, A, 3600))),
            ("NARROW_B_URL", url(narrow, token(&freed_key, B, 3600))),
            ("SUPERADMIN_URL", text("superadmin_url")),
            ("OWNER_URL", text("owner_url")),
            ("DIRECT_URL", text("postgres_url")),
            ("EXPIRED_URL", url(usual, token(&key, A, -3600))),
            ("FORGED_URL", url(usual, token(&other_key, A, 3600))),
        ]
    };
    let background =
        [(&moving, &key), (&moving, &key), (&freed_moving, &freed_key), (&pinned, &freed_key)]
            .into_iter()
            .flat_map(|(listen, key)| [B, C].map(|id| (id, url(listen, token(key, id, 3600)))))
            .collect();
    let (default_listen, freed_listen, narrow) =
        (listen(&default), listen(&freed), listen(&narrow));
    let session = [&freed_listen, &freed_listen, &narrow].map(String::as_str);
    let transaction = [&freed_moving, &pinned, &lone].map(String::as_str);
    Stand {
        session: urls("session", &default_listen, session),
        transaction: urls("transaction", &moving, transaction),
        folder,
        background: Background::start([postgres(&default), postgres(&freed)], background),
        _children: [
            lone_proxy,
            pinned_proxy,
            freed_proxy,
            moving_proxy,
            narrow_dev,
            freed_dev,
            default_dev,
            watch,
        ],
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
fn dev(folder: &Path, kind: &str, data: &Path, arguments: &[&str]) -> (Child, Value) {
    let log = folder.join(format!("{kind}.log"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
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
fn config(
    folder: &Path,
    (database, postgres): (&str, &str),
    size: usize,
    session_statements: &str,
) -> Value {
    let data = folder.join(database);
    let logins = std::fs::read(data.join("logins.json")).unwrap();
    let logins: Value = serde_json::from_slice(&logins).unwrap();
    let login = |user: &str| json!({ "user": user, "password": logins[user] });
    let issuer = |access: &str, audience: &str| {
        json!({
            "access": access,
            "issuer": cloison::dev::ISSUER,
            "audience": audience,
            "algorithms": ["ES256"],
            "jwks_file": data.join("jwks.json"),
            "tenant_lookup": ["id"],
        })
    };
    let mut tenants = login("cloison_app");
    tenants["pool_mode"] = json!("transaction");
    let (_, host) = postgres.rsplit_once('@').unwrap();
    let (host, name) = host.rsplit_once('/').unwrap();
    let (host, port) = host.rsplit_once(':').unwrap();
    let mut config = json!({
        "server_tls_sslmode": "disable",
        "default_pool_size": size,
        "session_statements": session_statements,
        "server": { "host": host, "port": port.parse::<u16>().unwrap(), "database": name },
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
    if database == "freed" {
        // Every text is judged all the same.
        config["allowed_statements"] = json!(STATEMENTS);
        config["allowed_settings"] = json!(["app.*"]);
    }
    config
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

/// The watcher stops those with a Postgres of their own last.
fn note_pid(folder: &Path, kind: &str, child: &Child) {
    std::fs::write(folder.join(format!("{kind}.pid")), child.id().to_string()).unwrap();
}

/// Waits for the end of this process, however it comes, and leaves nothing behind.
fn watch(folder: &Path) -> Child {
    let script = r#"
        trap '' INT TERM HUP
        cat > /dev/null
        cd "$0"
        for file in of_*.pid oauth.pid provider.pid lone.pid pinned.pid freed_moving.pid moving.pid \
            narrow.pid freed.pid default.pid; do
            pid=$(cat "$file" 2> /dev/null) || continue
            kill -TERM "$pid" 2> /dev/null
            for _ in $(seq 300); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
            kill -KILL "$pid" 2> /dev/null
        done
        for data in default freed; do
            postmaster=$(head -n 1 "$0/$data/postgres/postmaster.pid" 2> /dev/null) && kill -INT "$postmaster"
        done
        rm -rf "$0"
    "#;
    Command::new("sh").args(["-c", script]).arg(folder).stdin(Stdio::piped()).spawn().unwrap()
}
