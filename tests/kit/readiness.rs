//! `cloison check --connect`: what only the first client would find, on a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{Database, Server, batch, on_every_major};

on_every_major!(what_the_first_client_would_find_is_said);

/// A folder with a configuration for a database; it goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cloison-check-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn configuration(database: &Database<'_>) -> String {
    let (name, socket) = (&database.name, database.socket());
    format!(
        "[server]\nhost = \"{}\"\ndatabase = \"{name}\"\n\
         [control]\nuser = \"{name}_control\"\n[pools.tenant]\nuser = \"{name}_tenant\"\n\
         [issuers.app]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = [\"HS256\"]\n\
         secret_file = \"SECRET\"\n",
        socket.parent().unwrap().display()
    )
}

fn check(file: &Path, more: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["check", "--connect", "--config"])
        .arg(file)
        .args(more)
        .output()
        .unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    let code = done.status.code().unwrap();
    assert!(code < 2, "{}", String::from_utf8_lossy(&done.stderr));
    (code, told)
}

async fn what_the_first_client_would_find_is_said(server: &Server) {
    let (database, folder) = (server.database().await, Folder::new());
    let empty = server.empty_database().await.name;
    let superuser = database.superuser().await;
    let name = &database.name;
    let secret = folder.write("jwt.secret", 0o600, &"s".repeat(40));
    let good = configuration(&database).replace("SECRET", &secret.display().to_string());
    batch(
        &superuser,
        &format!(
            "select cloison.harden();
             create role {name}_super login superuser in role cloison_tenant;
             create role {name}_nobody login"
        ),
    )
    .await;

    let (code, told) = check(&folder.write("good.toml", 0o644, &good), &[]);
    assert_eq!(code, 0, "{told}");
    for line in [
        "ok    listen        127.0.0.1:6432, no TLS",
        "ok    issuer app    the secret in the configuration: 1 key",
        &format!("ok    kit           version {}", cloison::kit::migrate::KIT_VERSION),
        &format!("ok    control role  {name}_control"),
        &format!("ok    pool tenant   logs in as {name}_tenant"),
        &format!("ok    role tenant   {name}_tenant"),
        "ok    lint          nothing critical",
        &format!("ok    postgres      Postgres {}", server.major),
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }

    let table = "[pools.tenant]\n";
    let top = |line: &str| format!("{line}\n{good}");
    let away = format!("[server]\nport = 1\nhost = \"127.0.0.1\"\ndatabase = \"{name}\"");
    let (server_section, _) = good.split_once("\n[control]").unwrap();
    for (text, code, words) in [
        // Postgres, the proxy's own login, the kit.
        (
            good.replace(server_section, &away),
            1,
            &[
                "FAIL  postgres ",
                "127.0.0.1:1",
                "Connection refused",
                "start Postgres",
                "–     pool tenant",
            ][..],
        ),
        (
            good.replace(&format!("database = \"{name}\""), "database = \"nosuch\""),
            1,
            &["FAIL  postgres ", "\"nosuch\" does not exist", "database in [server]"],
        ),
        (
            good.replace(&format!("database = \"{name}\""), &format!("database = \"{empty}\"")),
            1,
            &["FAIL  kit ", &format!("no kit in the database {empty}"), "cloison install"],
        ),
        (
            good.replace(&format!("{name}_control"), &format!("{name}_nobody")),
            1,
            &[
                "FAIL  kit ",
                "permission denied",
                &format!("grant cloison_control to \"{name}_nobody\""),
            ],
        ),
        // A pool's login and role.
        (
            good.replace(&format!("{name}_tenant"), "nosuch"),
            1,
            &[
                "FAIL  pool tenant ",
                "role \"nosuch\" does not exist",
                "CLOISON_POOLS_TENANT_PASSWORD",
            ],
        ),
        (
            good.replace(&format!("{name}_tenant"), &format!("{name}_super")),
            1,
            &["FAIL  role tenant ", "superuser"],
        ),
        // Where clients connect.
        (
            top("listen_addr = \"*\""),
            1,
            &["FAIL  listen ", "(C007)", "client_tls_sslmode = \"require\""],
        ),
        (
            top("listen_addr = \"*\"\nallow_cleartext_token = true"),
            0,
            &["warn  listen ", "clear text"],
        ),
        // Keys that cannot be had.
        (
            good.replace("\"HS256\"", "\"RS256\"").replace(
                &format!("secret_file = \"{}\"", secret.display()),
                "jwks_url = \"http://127.0.0.1:1/jwks.json?key=geheim\"",
            ),
            1,
            &["FAIL  issuer app ", "http://127.0.0.1:1/jwks.json\n", "Connection refused"],
        ),
        // A secret in a file that everybody reads.
        (
            good.replace(table, &format!("{table}password = \"geheim\"\n")),
            1,
            &["FAIL  file ", "0644, passwords or secrets in it", "chmod 600 "],
        ),
    ] {
        let (ended, told) = check(&folder.write("case.toml", 0o644, &text), &[]);
        for word in words {
            assert!(told.contains(word), "{word}\n{told}");
        }
        assert_eq!(ended, code, "{told}");
        assert!(!told.contains("geheim"), "{told}");
    }

    let environment = folder.write("cloison.env", 0o640, "CLOISON_CONTROL_PASSWORD=x\n");
    let file = folder.write("good.toml", 0o644, &good);
    let (code, told) = check(&file, &["--env-file", environment.to_str().unwrap()]);
    assert!(code == 0 && told.contains("warn  file "), "{told}");
    assert!(told.contains("its group may open it"), "{told}");

    batch(
        &superuser,
        "create table public.note (tenant_id uuid not null, id bigint, primary key (tenant_id, id));
         select cloison.protect('public.note');
         create view public.notes as select * from public.note;
         grant select on public.notes to cloison_tenant",
    )
    .await;
    let (code, told) = check(&file, &[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("FAIL  lint "), "{told}");
    assert!(told.contains("cause: view_not_invoker: public.notes"), "{told}");
    assert!(told.contains("or live with it: cloison lint --accept 'view_not_invoker"), "{told}");
    batch(&superuser, &format!("drop role {name}_super, {name}_nobody")).await;
}

/// A certificate that is good for so many days, and a key: its own, or another one.
fn certificate(folder: &Folder, days: i64, has_own_key: bool) -> (PathBuf, PathBuf) {
    let at = |days: i64| {
        let span = Duration::from_secs(86_400 * days.unsigned_abs());
        let now = SystemTime::now() + Duration::from_secs(3_600);
        if days < 0 { now - span } else { now + span }
    };
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = at(-400).into();
    params.not_after = at(days).into();
    let certificate = params.self_signed(&key).unwrap();
    let key = if has_own_key { key } else { other };
    (
        folder.write("server.crt", 0o644, &certificate.pem()),
        folder.write("server.key", 0o600, &key.serialize_pem()),
    )
}

#[test]
fn certificates_are_told_by_their_days_and_keys_that_do_not_belong_by_both_files() {
    let folder = Folder::new();
    let (certificate_file, key_file) = certificate(&folder, 90, true);
    let text = format!(
        "client_tls_sslmode = \"require\"\nclient_tls_cert_file = \"{}\"\n\
         client_tls_key_file = \"{}\"\n\
         [server]\nhost = \"127.0.0.1\"\nport = 1\ndatabase = \"x\"\n\
         [control]\nuser = \"c\"\n[pools.tenant]\nuser = \"t\"\n\
         [issuers.app]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = [\"HS256\"]\nsecret = \"{}\"\n",
        certificate_file.display(),
        key_file.display(),
        "s".repeat(40)
    );
    let file = folder.write("cloison.toml", 0o600, &text);
    for (days, has_own_key, words) in [
        (90, true, &["ok    certificate ", "90 days left"][..]),
        (12, true, &["warn  certificate ", "12 days left", "renew it"]),
        (-3, true, &["FAIL  certificate ", "expired "]),
        (
            90,
            false,
            &[
                "FAIL  certificate ",
                "the private key ",
                "/server.key does not belong to the certificate ",
                "/server.crt",
            ],
        ),
    ] {
        certificate(&folder, days, has_own_key);
        let (code, told) = check(&file, &[]);
        assert_eq!(code, 1, "Postgres is away\n{told}");
        for word in words {
            assert!(told.contains(word), "{word}\n{told}");
        }
    }
}
