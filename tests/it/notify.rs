//! What `cloison serve` tells the service manager that started it, and what signals do to it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::postgres::Database;
use crate::support::proxy::SECRET;

#[test]
fn the_service_manager_hears_of_ready_and_of_the_drain() {
    let database = Database::new();
    let folder = folder("notify");
    let manager = UnixDatagram::bind(folder.join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write_config(&folder.join("cloison.toml"), &folder, &database);

    let mut serve = serve(&folder);
    assert!(heard(&manager).contains(&"READY=1".to_owned()));
    // Clients are let in by then.
    UnixStream::connect(folder.join(".s.PGSQL.6432")).unwrap();
    kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
    let stopping = heard(&manager);
    assert!(stopping.contains(&"STOPPING=1".to_owned()), "{stopping:?}");
    // shutdown_timeout and ten seconds.
    assert!(stopping.contains(&"EXTEND_TIMEOUT_USEC=17000000".to_owned()), "{stopping:?}");
    assert!(serve.wait().unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}

/// A pooler that dies of a signal takes the statements of all its clients along.
#[test]
fn no_signal_but_term_int_and_quit_ends_the_proxy() {
    let database = Database::new();
    let folder = folder("signals");
    let keys = folder.join("keys.json");
    write_config(&folder.join("cloison.toml"), &folder, &database);
    let mut serve = command(&folder).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
    let mut logged = |wanted: &str| loop {
        // It ends with the process.
        let line = log.next().expect("the proxy is gone").unwrap();
        if line.contains(wanted) {
            return line;
        }
    };
    logged("ready");
    let send = |serve: &Child, signal| kill_process(Pid::from_child(serve), signal).unwrap();
    send(&serve, Signal::USR1);
    assert!(logged("signal ignored").contains("USR1"));
    send(&serve, Signal::USR2);
    assert!(logged("signal ignored").contains("USR2"));
    send(&serve, Signal::HUP);
    let line = logged("key file read again");
    assert!(line.contains("rule=\"file\"") && line.contains("keys=1"), "{line}");
    std::fs::write(&keys, "broken").unwrap();
    send(&serve, Signal::HUP);
    assert!(logged("the keys of before stay in force").contains("rule=\"file\""));
    UnixStream::connect(folder.join(".s.PGSQL.6432")).unwrap();
    send(&serve, Signal::QUIT);
    logged("drain finished");
    assert!(serve.wait().unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}

/// A full pipe holds nobody up, and what did not fit is counted.
#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    use std::io::{Read, Write};

    let database = Database::new();
    let folder = folder("deaf");
    write_config(&folder.join("cloison.toml"), &folder, &database);
    // A pipe that is full after some lines.
    let (read, write) = UnixStream::pair().unwrap();
    socket2::SockRef::from(&write).set_send_buffer_size(1).unwrap();
    let stderr = Stdio::from(std::os::fd::OwnedFd::from(write));
    let mut serve = command(&folder).stderr(stderr).spawn().unwrap();
    let mut log = BufReader::new(read);
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the proxy is gone");
    }
    for number in 0..3_000 {
        let mut client = UnixStream::connect(folder.join(".s.PGSQL.6432")).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(&crate::support::wire::SSL_REQUEST).unwrap();
        let answered = client.read_exact(&mut [0]);
        if answered.is_err() {
            serve.kill().unwrap();
        }
        assert!(answered.is_ok(), "client {number} is not served: {answered:?}");
    }
    // Nor does it keep the program from its end.
    kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
    assert!(serve.wait().unwrap().success());
    drop(log);
    std::fs::remove_dir_all(folder).unwrap();
}

/// The public key of RFC 8037, appendix A.2.
const KEYS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// An empty folder. One of a run that failed, with the same process id, is replaced.
fn folder(purpose: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cloison-{purpose}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    folder
}

fn serve(folder: &Path) -> Child {
    command(folder)
        .env("NOTIFY_SOCKET", folder.join("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn command(folder: &Path) -> Command {
    std::fs::write(folder.join("keys.json"), KEYS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.args(["serve", "--config"]).arg(folder.join("cloison.toml"));
    command
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
        [issuers.file]
        issuer = "file"
        audience = "tenant"
        algorithms = ["EdDSA"]
        jwks_file = "{folder}/keys.json"
        "#
    );
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
