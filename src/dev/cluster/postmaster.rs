//! The server's main process: started, watched over, stopped, and found again after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::account::Account;

/// A postmaster that we started. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
    watchdog: Watchdog,
    /// Set once the process was waited for: its id may be somebody else's by then.
    status: Option<ExitStatus>,
}

impl Postmaster {
    /// Runs `command`, with its output in `log`.
    ///
    /// Whatever way this process ends, the postmaster is stopped and the folders `removed` go.
    pub(super) fn start(
        mut command: Command,
        account: &Account,
        log: File,
        removed: &[PathBuf],
    ) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for us: sessions end before the server does.
        command.process_group(0);
        account.apply(&mut command);
        let mut child = command.spawn()?;
        match Watchdog::start(child.id(), account, removed) {
            Ok(watchdog) => Ok(Self { child, watchdog, status: None }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Ends every session and stops the server, the gentle way first.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        let pid = Pid::from_child(&self.child);
        for (signal, patience) in ESCALATION {
            if self.ended()?.is_some() {
                break;
            }
            kill_process(pid, signal)?;
            let deadline = Instant::now() + patience;
            while self.ended()?.is_none() && Instant::now() < deadline {
                thread::sleep(POLL);
            }
        }
        self.watchdog.dismiss();
        Ok(())
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::debug!(%error, "could not stop the postmaster");
        }
    }
}

/// A shell that waits for the end of our process, because Postgres does not.
///
/// It sees the end by its standard input, so a SIGKILL to us does not get past it.
#[derive(Debug)]
struct Watchdog {
    child: Child,
}

impl Watchdog {
    fn start(postmaster: u32, account: &Account, removed: &[PathBuf]) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHDOG, "cloison-watchdog"]).arg(postmaster.to_string());
        command.args(removed).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        account.apply(&mut command);
        Ok(Self { child: command.spawn()? })
    }

    /// Tells the shell that there is nothing left to do.
    fn dismiss(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            // A shell that is gone needs no telling.
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.child.wait();
    }
}

/// Stops a postmaster that an earlier run left behind, and clears what would stop a new one.
///
/// The caller holds the folder's lock, so no other Cloison can be using it.
pub(super) fn clear_leftover(data: &Path) -> io::Result<()> {
    let pid_file = data.join("postmaster.pid");
    let Some(pid) = recorded_pid(&pid_file) else { return Ok(()) };
    if test_kill_process(pid).is_err_and(|error| error == rustix::io::Errno::SRCH) {
        // Postgres checks for survivors of a crash itself, with what is in the file.
        return Ok(());
    }
    if !serves(pid, data) {
        // After a reboot, or in a new container, the id belongs to another program.
        return fs::remove_file(pid_file);
    }
    for (signal, patience) in ESCALATION {
        let deadline = Instant::now() + patience;
        if kill_process(pid, signal).is_err() {
            break;
        }
        // A zombie still has an id, but no command line.
        while serves(pid, data) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }
    Ok(())
}

fn recorded_pid(pid_file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// Whether the process is a Postgres that runs on the folder `data`.
fn serves(pid: Pid, data: &Path) -> bool {
    let pid = pid.as_raw_nonzero().to_string();
    let line = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => line,
        Err(_) => match Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid]).output() {
            Ok(output) => output.stdout,
            Err(_) => return false,
        },
    };
    let line = String::from_utf8_lossy(&line);
    line.contains("postgres") && line.contains(data.to_string_lossy().as_ref())
}

/// Fast shutdown, immediate shutdown, and the last resort, each with the time that it gets.
const ESCALATION: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(30)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(10)),
];

/// How often the end of a process is looked for.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// Reads until we write a line (all is well) or our end of the pipe closes (we are gone).
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
postmaster=$1
shift
if read -r _; then exit 0; fi
kill -INT "$postmaster"
# Bounded, because a process that nobody waits for stays listed for ever.
for _ in $(seq 300); do
    kill -0 "$postmaster" || break
    sleep 0.1
done
if [ $# -gt 0 ]; then rm -rf -- "$@"; fi
"#;
