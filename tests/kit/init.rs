//! `cloison init`: from a database and an empty folder to a proxy that serves, and what it leaves
//! alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Database, Server, batch, on_a_server_of_its_own, on_every_major, texts};

on_every_major!(a_role_without_rights_is_told_what_it_lacks);

on_a_server_of_its_own!(
    what_is_there_is_left_alone,
    everybodys_right_to_create_is_taken_or_told,
    groups_of_another_owner_are_given_by_a_superuser,
);

/// A folder that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cloison-init-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn password(&self, variable: &str) -> String {
        let text = self.read("cloison.env");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{variable}=")));
        line.unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the program in a folder, without a terminal.
fn cloison(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn init(database: &Database<'_>, folder: &Folder, options: &[&str]) -> Result<String, String> {
    let url = database.url("owner");
    let words = [&["init", "--database-url", &url], options].concat();
    let done = cloison(&folder.0, &words);
    match done.status.success() {
        true => Ok(String::from_utf8(done.stdout).unwrap()),
        false => Err(String::from_utf8(done.stderr).unwrap()),
    }
}

fn shell(folder: &Path, command: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_cloison")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("PATH", path).current_dir(folder);
    shell
}

/// A process that ends with the value.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The whole way, on a server that asks the proxy's roles for their passwords and logs every
/// statement: the printed commands work as they are, and no password is in the log.
#[test]
fn the_printed_commands_lead_to_a_tenants_rows() {
    for major in [14, 18] {
        let server = Server::start_with(major, "log_statement = 'all'");
        crate::support::run(async {
            let database = server.empty_database().await;
            lead_to_rows(&database).await;
        });
    }
}

async fn lead_to_rows(database: &Database<'_>) {
    let data = database.socket().with_file_name("data");
    let hba = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    let name = &database.name;
    let asked = format!("local all {name}_tenant,{name}_proxy scram-sha-256\n");
    fs::write(data.join("pg_hba.conf"), format!("{asked}{hba}")).unwrap();
    batch(&database.superuser().await, "select pg_reload_conf()").await;

    let folder = Folder::new();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = init(database, &folder, &["--tenant", "acme", "--listen", &listen.to_string()]);
    let told = told.unwrap();
    let expected = ["cloison.env", "cloison.toml", "jwt.secret"].map(str::to_owned);
    assert_eq!(folder.files(), expected.into());
    for file in folder.files() {
        let mode = fs::metadata(folder.0.join(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let owner = database.owner().await;
    batch(&owner, "create table public.orders (id int primary key)").await;
    batch(&owner, "insert into public.orders select generate_series(1, 3)").await;
    batch(&owner, "select cloison.protect('public.orders')").await;
    batch(
        &owner,
        "update public.orders set tenant_id = (select id from cloison.tenants where slug = 'acme')
         where id < 3",
    )
    .await;

    let next = told.split_once("\nNext\n").unwrap().1;
    let commands: Vec<&str> = next.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let [check, serve, client] = commands[..] else { panic!("{told}") };
    let checked = shell(&folder.0, check).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let serving = shell(&folder.0, &format!("exec {serve}")).stderr(Stdio::null()).spawn().unwrap();
    let serving = Serving(serving);
    let until = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(listen).is_err() {
        assert!(Instant::now() < until, "{serve}: nobody listens");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut psql = shell(&folder.0, client)
        .env("PSQLRC", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(b"select 'rows', count(*) from orders;\n").unwrap();
    let seen = String::from_utf8(psql.wait_with_output().unwrap().stdout).unwrap();
    assert!(seen.contains(" rows     |     2"), "{client}: {seen}");
    drop(serving);

    let log = fs::read_to_string(database.socket().with_file_name("log")).unwrap();
    assert!(log.contains("SCRAM-SHA-256$4096:"));
    for variable in ["CLOISON_CONTROL_PASSWORD", "CLOISON_POOLS_TENANT_PASSWORD"] {
        let password = folder.password(variable);
        assert!(password.len() > 40 && !log.contains(&password) && !told.contains(&password));
    }
}

async fn what_is_there_is_left_alone(server: &Server) {
    let database = server.empty_database().await;
    let (name, folder) = (&database.name, Folder::new());
    let superuser = database.superuser().await;
    let verifier = format!("select rolpassword from pg_authid where rolname = '{name}_tenant'");

    // A role of that name that is somebody else's.
    batch(&superuser, &format!("create role {name}_tenant login password 'theirs'")).await;
    let theirs = texts(&superuser, &verifier).await;
    for options in [&[][..], &["--force"], &["--rotate"], &["--force", "--rotate"]] {
        let refused = init(&database, &folder, options).unwrap_err();
        assert!(refused.contains(&format!("the role {name}_tenant is there")), "{refused}");
    }
    assert_eq!(texts(&superuser, &verifier).await, theirs);
    assert!(folder.files().is_empty());
    batch(&superuser, &format!("drop role {name}_tenant")).await;

    init(&database, &folder, &["--yes"]).unwrap();
    let files = folder.files();
    let (configuration, environment) = (folder.read("cloison.toml"), folder.read("cloison.env"));
    let ours = texts(&superuser, &verifier).await;

    // Files, each by its name.
    let refused = init(&database, &folder, &["--yes"]).unwrap_err();
    for file in &files {
        assert!(refused.contains(&format!("./{file}")), "{refused}");
    }
    // Roles that were made here, for whoever asks for them again.
    let elsewhere = Folder::new();
    let refused = init(&database, &elsewhere, &["--yes"]).unwrap_err();
    assert!(refused.contains(&format!("has made the role {name}_proxy before")), "{refused}");
    assert!(elsewhere.files().is_empty());
    assert_eq!(texts(&superuser, &verifier).await, ours);
    assert_eq!(folder.read("cloison.env"), environment);

    // New passwords: the configuration is as it was, with what its owner wrote into it.
    let edited = format!("# mine\n{configuration}");
    fs::write(folder.0.join("cloison.toml"), &edited).unwrap();
    fs::write(folder.0.join("cloison.env"), format!("MINE=1\n{environment}")).unwrap();
    init(&database, &folder, &["--rotate"]).unwrap();
    assert_eq!((folder.read("cloison.toml"), folder.files()), (edited, files));
    assert!(folder.read("cloison.env").starts_with("MINE=1\n"));
    assert_ne!(texts(&superuser, &verifier).await, ours);
    assert!(!environment.contains(&folder.password("CLOISON_POOLS_TENANT_PASSWORD")));

    // The mark is for one database: another with the same names does not get these roles.
    let other = server.empty_database().await;
    let prefix = ["--role-prefix", name.as_str(), "--rotate"];
    let refused = init(&other, &elsewhere, &prefix).unwrap_err();
    assert!(refused.contains("cloison init did not make it for this database"), "{refused}");
}

async fn a_role_without_rights_is_told_what_it_lacks(server: &Server) {
    let (database, folder) = (server.empty_database().await, Folder::new());
    let (name, superuser) = (&database.name, database.superuser().await);
    batch(&superuser, &format!("alter role {name}_owner nocreaterole")).await;
    let refused = init(&database, &folder, &[]).unwrap_err();
    assert!(refused.contains(&format!("role {name}_owner has no CREATEROLE")), "{refused}");
    batch(&superuser, &format!("alter database {name} owner to postgres")).await;
    let refused = init(&database, &folder, &[]).unwrap_err();
    let words = format!("role {name}_owner does not own the database {name}");
    assert!(refused.contains(&words) && refused.contains("has no CREATEROLE"), "{refused}");
    assert!(folder.files().is_empty());
}

async fn everybodys_right_to_create_is_taken_or_told(server: &Server) {
    let database = server.empty_database().await;
    let superuser = database.superuser().await;
    let open = "alter schema public owner to postgres; grant create on schema public to public";
    batch(&superuser, open).await;
    // Hardening would take it, too.
    let told = init(&database, &Folder::new(), &["--no-harden"]).unwrap();
    assert!(told.contains("every role may create in the schema public"), "{told}");
    batch(&superuser, &format!("alter schema public owner to {}_owner", database.name)).await;
    let told = init(&database, &Folder::new(), &["--no-harden", "--rotate"]).unwrap();
    assert!(told.contains("revoke create on schema public from public: done"), "{told}");
    let told = init(&database, &Folder::new(), &["--no-harden", "--rotate"]).unwrap();
    assert!(!told.contains("schema public"), "{told}");
}

/// Where that fails, neither roles nor files are left; the cure that is named is one.
async fn groups_of_another_owner_are_given_by_a_superuser(server: &Server) {
    init(&server.empty_database().await, &Folder::new(), &[]).unwrap();
    let (other, folder) = (server.empty_database().await, Folder::new());
    let first = init(&other, &folder, &["--tenant", "acme"]);
    if server.major < 16 {
        first.unwrap();
        return;
    }
    let refused = first.unwrap_err();
    assert!(refused.contains("no role was made and no file written"), "{refused}");
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    let superuser = other.superuser().await;
    let roles =
        format!("select count(*)::text from pg_roles where rolname = '{}_proxy'", other.name);
    assert_eq!(texts(&superuser, &roles).await, ["0"]);
    let tenants = "select count(*)::text from cloison.tenants where slug = 'acme'";
    assert_eq!(texts(&superuser, tenants).await, ["0"]);

    let cure = refused.split_once("As a superuser: ").unwrap().1.lines().next().unwrap();
    batch(&superuser, cure).await;
    init(&other, &folder, &["--tenant", "acme"]).unwrap();
    assert_eq!(texts(&superuser, tenants).await, ["1"]);
}
