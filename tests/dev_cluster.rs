//! The private cluster of `cloison dev`, with a real server.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloison::dev::cluster::{Builder, Cluster, Error};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A folder in `/tmp`, removed at the end: a path that every user can reach.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(format!("/tmp/cloison-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn on(folder: &Path) -> Builder {
    Cluster::builder().data_dir(folder).setting("fsync", "off")
}

async fn count(cluster: &Cluster) -> i64 {
    let client = cluster.connect_superuser("postgres").await.unwrap();
    client.query_one("select count(*) from kept", &[]).await.unwrap().get(0)
}

async fn keep_a_row(cluster: &Cluster) {
    let client = cluster.connect_superuser("postgres").await.unwrap();
    client
        .batch_execute("create table if not exists kept (); insert into kept default values")
        .await
        .unwrap();
}

fn pid(cluster: &Cluster) -> Pid {
    Pid::from_raw(i32::try_from(cluster.postmaster_pid()).unwrap()).unwrap()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_restart_keeps_rows_port_and_password() {
    let folder = Folder::new("restart");
    let first = on(&folder.0).start().await.unwrap();
    keep_a_row(&first).await;
    let (port, password) = (first.port(), first.superuser_password().to_owned());
    first.stop().await.unwrap();
    assert!(!folder.0.join("data/postmaster.pid").exists());

    let second = on(&folder.0).start().await.unwrap();
    assert_eq!(count(&second).await, 1);
    assert_eq!((second.port(), second.superuser_password()), (port, password.as_str()));
}

#[tokio::test]
async fn the_server_listens_on_loopback_and_asks_everybody_for_a_password() {
    let cluster = Cluster::builder().setting("fsync", "off").start().await.unwrap();
    let client = cluster.connect_superuser("postgres").await.unwrap();
    let row = client
        .query_one(
            "select current_setting('listen_addresses'), current_setting('server_encoding'), \
             (select string_agg(distinct auth_method, ',') from pg_hba_file_rules)",
            &[],
        )
        .await
        .unwrap();
    let (listen, encoding, methods): (String, String, String) =
        (row.get(0), row.get(1), row.get(2));
    assert_eq!((&*listen, &*encoding, &*methods), ("127.0.0.1", "UTF8", "scram-sha-256"));
    let error = cluster.connect("postgres", "postgres", "wrong").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "28P01");

    let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
    assert!(socket.exists(), "{}", socket.display());
    let password = cluster.data_dir().join("superuser.password");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(password).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let folder = cluster.data_dir().to_owned();
    cluster.stop().await.unwrap();
    assert!(!folder.exists(), "a temporary cluster goes when it stops");
}

#[tokio::test]
async fn a_running_folder_is_refused_and_the_first_goes_on() {
    let folder = Folder::new("twice");
    let first = on(&folder.0).start().await.unwrap();
    keep_a_row(&first).await;
    let error = on(&folder.0).start().await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(count(&first).await, 1);
}

#[tokio::test]
async fn a_killed_postmaster_is_followed_by_a_new_one_with_the_same_rows() {
    let folder = Folder::new("killed");
    let first = on(&folder.0).start().await.unwrap();
    keep_a_row(&first).await;
    let client = first.connect_superuser("postgres").await.unwrap();
    client.batch_execute("checkpoint").await.unwrap();
    kill_process(pid(&first), Signal::KILL).unwrap();
    drop(first);

    let second = on(&folder.0).start().await.unwrap();
    assert_eq!(count(&second).await, 1);
}

#[tokio::test]
async fn a_process_id_that_belongs_to_another_program_is_no_obstacle() {
    let folder = Folder::new("reused");
    on(&folder.0).start().await.unwrap().stop().await.unwrap();
    let data = folder.0.join("data");
    // Of the server's own user: Postgres itself sees through all others.
    let mut other =
        Command::new("sleep").arg("60").uid(fs::metadata(&data).unwrap().uid()).spawn().unwrap();
    fs::write(data.join("postmaster.pid"), format!("{}\n", other.id())).unwrap();
    let started = on(&folder.0).start().await;
    assert!(other.try_wait().unwrap().is_none(), "the other program was stopped");
    other.kill().unwrap();
    other.wait().unwrap();
    started.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_left_for_another() {
    let folder = Folder::new("port");
    let first = on(&folder.0).start().await.unwrap();
    let port = first.port();
    first.stop().await.unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();

    let second = on(&folder.0).start().await.unwrap();
    assert_ne!(second.port(), port);
}

#[tokio::test]
async fn a_failed_start_shows_the_end_of_the_log() {
    let folder = Folder::new("log");
    let error = on(&folder.0).setting("shared_buffers", "nonsense").start().await.unwrap_err();
    assert!(
        error.to_string().contains("invalid value for parameter \"shared_buffers\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_one_elsewhere() {
    let folder = Folder::new("long");
    let deep = folder.0.join("x".repeat(120));
    let cluster = on(&deep).start().await.unwrap();
    let elsewhere = cluster.socket_dir().to_owned();
    assert!(!elsewhere.starts_with(&deep) && elsewhere.exists());
    cluster.stop().await.unwrap();
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn a_folder_that_the_servers_user_cannot_enter_is_named() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = Folder::new("closed");
    fs::create_dir(&folder.0).unwrap();
    fs::set_permissions(&folder.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let error = on(&folder.0.join("pg")).start().await.unwrap_err();
    assert!(
        matches!(&error, Error::OutOfReach { folder: named, .. } if *named == folder.0),
        "{error}"
    );
    assert!(error.to_string().contains("--data-dir"), "{error}");
}

/// Run by the tests below in a process of its own, which is then killed.
#[tokio::test]
async fn hold_a_cluster_until_killed() {
    let Some(folder) = std::env::var_os("CLOISON_TEST_HOLD") else { return };
    let cluster = on(Path::new(&folder)).start().await.unwrap();
    keep_a_row(&cluster).await;
    fs::write(Path::new(&folder).join("held"), cluster.postmaster_pid().to_string()).unwrap();
    std::future::pending::<()>().await;
}

/// A process that held a cluster until it was killed, and the id of its postmaster.
fn killed_holder(folder: &Path) -> Pid {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_a_cluster_until_killed"])
        .env("CLOISON_TEST_HOLD", folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let held = || fs::read_to_string(folder.join("held")).unwrap_or_default();
    wait_for("the other process holding a cluster", || held().parse::<i32>().is_ok());
    parent.kill().unwrap();
    parent.wait().unwrap();
    Pid::from_raw(held().parse().unwrap()).unwrap()
}

fn is_gone(pid: Pid) -> bool {
    let command_line = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    // Nobody may have waited for it: then it has an id still, but no command line.
    test_kill_process(pid).is_err() || fs::read(command_line).is_ok_and(|line| line.is_empty())
}

#[tokio::test]
async fn a_killed_parent_does_not_leave_the_server_running() {
    let folder = Folder::new("orphan");
    let orphan = killed_holder(&folder.0);
    wait_for("the end of the orphan", || is_gone(orphan));
}

#[tokio::test]
async fn a_server_that_is_still_going_down_is_waited_for() {
    let folder = Folder::new("going");
    let orphan = killed_holder(&folder.0);
    let next = on(&folder.0).start().await.unwrap();
    assert!(is_gone(orphan));
    assert_eq!(count(&next).await, 1);
}
