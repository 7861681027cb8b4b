//! What `cloison serve` tells the service manager that started it.

use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::postgres::Database;
use crate::support::proxy::SECRET;

#[test]
fn the_service_manager_hears_of_ready_and_of_the_drain() {
    let database = Database::new();
    let folder = std::env::temp_dir().join(format!("cloison-notify-{}", database.name));
    std::fs::create_dir(&folder).unwrap();
    let manager = UnixDatagram::bind(folder.join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write_config(&folder.join("cloison.toml"), &folder, &database);

    let mut serve = serve(&folder);
    assert!(heard(&manager).contains(&"READY=1".to_owned()));
    // Clients are let in by then.
    UnixStream::connect(folder.join(".s.PGSQL.6432")).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&serve),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let stopping = heard(&manager);
    assert!(stopping.contains(&"STOPPING=1".to_owned()), "{stopping:?}");
    // shutdown_timeout and ten seconds.
    assert!(stopping.contains(&"EXTEND_TIMEOUT_USEC=17000000".to_owned()), "{stopping:?}");
    assert!(serve.wait().unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}

fn serve(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["serve", "--config"])
        .arg(folder.join("cloison.toml"))
        .env("NOTIFY_SOCKET", folder.join("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The assignments of the next message.
fn heard(manager: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 1024];
    // What the start waits for may be told, too.
    loop {
        let length = manager.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.iter().any(|line| !line.starts_with("STATUS=")) {
            return lines;
        }
    }
}

fn write_config(file: &Path, folder: &Path, database: &Database) {
    use std::io::Write;

    let (port, name, folder) = (database.port(), &database.name, folder.display());
    let text = format!(
        r#"
        listen_addr = ""
        unix_socket_dir = "{folder}"
        shutdown_timeout = 7
        [server]
        host = "127.0.0.1"
        port = {port}
        database = "{name}"
        [control]
        user = "it_proxy"
        password = "proxy-secret"
        [pools.tenant]
        user = "it_app"
        password = "app-secret"
        [issuers.tenant]
        issuer = "test"
        audience = "tenant"
        algorithms = ["HS256"]
        secret = "{SECRET}"
        "#
    );
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
