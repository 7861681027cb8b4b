//! Runs a driver's script: it prints a line a check, and ends with `passed N` or by failing.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::stand::{Mode, stand};

/// So long may a script take.
const PATIENCE: Duration = Duration::from_secs(240);

#[track_caller]
pub(crate) fn shell(mode: Mode, script: &str) {
    run(mode, Command::new("bash"), script);
}

#[track_caller]
pub(crate) fn python(mode: Mode, script: &str) {
    python_with(mode, script, std::iter::empty());
}

/// With more in its environment.
#[track_caller]
pub(crate) fn python_with<'a>(
    mode: Mode,
    script: &str,
    environment: impl Iterator<Item = (&'a str, String)>,
) {
    let python = folder().join(".venv/bin/python3");
    installed(&python);
    let mut command = Command::new(python);
    command.envs(environment);
    run(mode, command, script);
}

#[track_caller]
pub(crate) fn node(mode: Mode, script: &str) {
    node_with(mode, script, std::iter::empty());
}

/// With more in its environment.
#[track_caller]
pub(crate) fn node_with<'a>(
    mode: Mode,
    script: &str,
    environment: impl Iterator<Item = (&'a str, String)>,
) {
    installed(&folder().join("node_modules/pg"));
    let mut command = Command::new("node");
    command.envs(environment);
    run(mode, command, script);
}

#[track_caller]
pub(crate) fn java(mode: Mode, script: &str) {
    let driver = Path::new("/usr/share/java/postgresql.jar");
    installed(driver);
    let mut command = Command::new("java");
    // It runs once: better soon than fast.
    command.args(["-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]).arg(driver);
    run(mode, command, script);
}

/// Debian's own; without a network.
#[track_caller]
pub(crate) fn go(mode: Mode, script: &str) {
    let sources = Path::new("/usr/share/gocode");
    installed(&sources.join("src/github.com/lib/pq"));
    installed(&sources.join("src/github.com/jackc/pgx/v4"));
    let program = compiled(script, |program| {
        let mut compiler = Command::new("go");
        compiler.args(["build", "-o"]).arg(program).args(["stand.go"]);
        compiler.arg(Path::new(script).file_name().unwrap());
        compiler.current_dir(folder().join("go")).envs([
            ("GO111MODULE", "off"),
            ("GOFLAGS", ""),
            ("CGO_ENABLED", "0"),
        ]);
        compiler.env("GOPATH", sources).env("GOCACHE", programs().join("go-cache"));
        compiler
    });
    run(mode, Command::new(program), script);
}

#[track_caller]
pub(crate) fn c(mode: Mode, script: &str) {
    let program = compiled(script, |program| {
        let headers = output(Command::new("pg_config").arg("--includedir"));
        let libraries = output(Command::new("pg_config").arg("--libdir"));
        let mut compiler = Command::new("cc");
        compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-D_GNU_SOURCE", "-I"]);
        compiler.arg(headers.trim()).arg("-o").arg(program).arg(folder().join(script));
        compiler.arg("-L").arg(libraries.trim()).arg("-lpq");
        compiler
    });
    run(mode, Command::new(program), script);
}

#[track_caller]
pub(crate) fn php(mode: Mode, script: &str) {
    run(mode, Command::new("php"), script);
}

#[track_caller]
pub(crate) fn ruby(mode: Mode, script: &str) {
    run(mode, Command::new("ruby"), script);
}

#[track_caller]
pub(crate) fn perl(mode: Mode, script: &str) {
    run(mode, Command::new("perl"), script);
}

/// Where programs go that have to be compiled.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("drivers")
}

/// Compiles a program the first time, for both pool modes.
#[track_caller]
fn compiled(script: &str, compiler: impl FnOnce(&Path) -> Command) -> PathBuf {
    static DONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let program = programs().join(Path::new(script).file_stem().unwrap());
    let mut done = DONE.lock().unwrap();
    if !done.contains(script) {
        std::fs::create_dir_all(programs()).unwrap();
        output(&mut compiler(&program));
        done.insert(script.to_owned());
    }
    program
}

#[track_caller]
fn run(mode: Mode, mut command: Command, script: &str) {
    let before = stand().background.transactions();
    // What the person at the terminal has set for a server of their own must not lead us there.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    let mut child = command
        .arg(folder().join(script))
        .envs(stand().environment(mode))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let output = collect(child.stdout.take().unwrap());
    let errors = collect(child.stderr.take().unwrap());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (output, errors) = (output.join().unwrap(), errors.join().unwrap());
    println!("{output}");
    eprintln!("{errors}");
    match status {
        None => panic!("{script} did not end within {PATIENCE:?}"),
        Some(status) => assert!(status.success(), "{script}: {status}"),
    }
    let last = output.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("passed "), "{script} did not come to its end");
    stand().background.assert_well(before);
}

/// Runs a program to its good end, and returns what it said.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> String {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    let done = command.output().unwrap();
    let [said, errors] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        done.status.success(),
        "{}: {}\n{said}\n{errors}",
        command.get_program().display(),
        done.status
    );
    said.into_owned()
}

fn collect(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[track_caller]
pub(crate) fn installed(path: &Path) {
    let missing = path.display();
    assert!(path.exists(), "{missing} is missing: run tests/setup-drivers.sh, which installs it");
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers")
}
