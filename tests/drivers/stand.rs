//! One `cloison dev` for the whole run, and a second proxy before the same Postgres that has one
//! server connection in each pool.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use cloison::dev::key::SigningKey;
use serde_json::{Value, json};

/// The tenant with `cabinet-dupont-geneve`'s rows.
pub(crate) const A: &str = "d0000000-0000-4000-8000-000000000001";
/// The tenant with `ecole-ibn-khaldoun-alger`'s rows.
pub(crate) const B: &str = "e0000000-0000-4000-8000-000000000001";

/// Where everything is.
pub(crate) struct Stand {
    /// As the scripts get them.
    urls: Vec<(&'static str, String)>,
    /// The two proxies, and what stops them when this process is gone: the standard input of the
    /// last is a pipe that we hold.
    _children: [Child; 3],
}

impl Stand {
    /// The environment of a script.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.urls.iter().map(|(name, url)| (*name, url.as_str()))
    }

    /// A URL by the name that scripts know it by.
    pub(crate) fn url(&self, name: &str) -> &str {
        self.environment().find(|(known, _)| *known == name).expect("a name of ours").1
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
    let (wide_proxy, wide) = dev(&folder, &["--pool-size", "24"]);
    let postgres = wide["postgres_url"].as_str().unwrap();
    let (narrow_proxy, narrow) = dev(&folder, &["--pool-size", "1", "--database-url", postgres]);

    let key = SigningKey::load(wide["signing_key"].as_str().unwrap().as_ref()).unwrap();
    let other_key = SigningKey::generate().unwrap();
    let tenant = |proxy: &Value, id: &str| {
        let tenants = proxy["tenants"].as_array().unwrap();
        let tenant = tenants.iter().find(|tenant| tenant["id"] == id).unwrap();
        tenant["url"].as_str().unwrap().to_owned()
    };
    let text = |name: &str| wide[name].as_str().unwrap().to_owned();
    let with_token = |token: String| {
        let listen = wide["listen"].as_str().unwrap();
        format!("postgres://cloison_app:{token}@{listen}/app")
    };
    Stand {
        urls: vec![
            ("TENANT_A_URL", tenant(&wide, A)),
            ("TENANT_B_URL", tenant(&wide, B)),
            ("NARROW_A_URL", tenant(&narrow, A)),
            ("NARROW_B_URL", tenant(&narrow, B)),
            ("SUPERADMIN_URL", text("superadmin_url")),
            ("OWNER_URL", text("owner_url")),
            ("DIRECT_URL", text("postgres_url")),
            ("EXPIRED_URL", with_token(token(&key, -3600))),
            ("FORGED_URL", with_token(token(&other_key, 3600))),
        ],
        _children: [narrow_proxy, wide_proxy, watch],
    }
}

/// A token of tenant A's that ends so many seconds from now.
fn token(key: &SigningKey, ends: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let claims = json!({
        "iss": cloison::dev::ISSUER,
        "aud": cloison::dev::AUDIENCE,
        "iat": now - 7200,
        "exp": now + ends,
        "tenant_id": A,
    });
    key.mint(claims.as_object().unwrap()).unwrap()
}

/// Starts `cloison dev` and waits for the line that says where it is.
fn dev(folder: &Path, arguments: &[&str]) -> (Child, Value) {
    let kind = if arguments.len() > 2 { "narrow" } else { "wide" };
    let log = folder.join(format!("{kind}.log"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    // The watcher stops the last one first.
    std::fs::write(folder.join(format!("{kind}.pid")), child.id().to_string()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Ok(report) = serde_json::from_str(&line) else {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("cloison dev did not start: {log}")
    };
    (child, report)
}

/// Waits for the end of this process, however it comes, and leaves nothing behind.
fn watch(folder: &Path) -> Child {
    let script = r#"
        trap '' INT TERM HUP
        cat > /dev/null
        for kind in narrow wide; do
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
