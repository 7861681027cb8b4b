//! More than fits into memory, and longer than what a session has been given holds.

use super::*;

/// The most that may come on top of what the process had before.
const MEMORY: usize = 40 << 20;
const BULK: usize = 200 << 20;

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_passes_in_constant_memory() {
    let proxy = proxy().await;
    let mut a = Wire::tenant(&proxy, A).await;
    a.query("copy item(\"Kind\") from stdin").send().await;
    a.until('G').await;
    let (before, mut peak) = (resident(), 0);
    let line = [&vec![b'x'; (1 << 16) - 1][..], b"\n"].concat();
    for _ in 0..BULK >> 16 {
        a.copy_data(&line).send().await;
        peak = peak.max(resident());
    }
    a.copy_done().send().await;
    assert_eq!(said(&a.answer().await), format!("COPY {}", BULK >> 16));
    assert!(peak.saturating_sub(before) < MEMORY, "{} MiB", (peak - before) >> 20);
    proxy.stop().await;
}

/// A client that sends no faster than the server takes: nothing is kept that is not on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_take_holds_the_client_up() {
    let proxy = proxy().await;
    let superuser = proxy.database.superuser().await;
    let mut a = Wire::tenant(&proxy, A).await;
    a.query("copy item(\"Kind\") from stdin").send().await;
    a.until('G').await;
    // A server process that is stopped reads nothing.
    let backend = "select pid from pg_stat_activity where usename = 'it_app' and datname = \
                   current_database() and query like 'copy pg_temp%'";
    let pid: i32 = superuser.query_one(backend, &[]).await.unwrap().get(0);
    let signal = |name: &'static str| {
        let status = std::process::Command::new("kill").args([name, &pid.to_string()]).status();
        assert!(status.unwrap().success());
    };
    signal("-STOP");
    let before = resident();
    let line = [&vec![b'x'; (1 << 16) - 1][..], b"\n"].concat();
    let mut sent = 0;
    loop {
        a.copy_data(&line);
        let send = tokio::time::timeout(Duration::from_secs(1), a.send()).await;
        if send.is_err() {
            break;
        }
        sent += line.len();
        assert!(sent < BULK, "nothing holds the client up");
    }
    assert!(resident().saturating_sub(before) < MEMORY);
    signal("-CONT");
    a.send().await;
    a.copy_done().send().await;
    assert_eq!(tags(&a.answer().await), "CZ");
    proxy.stop().await;
}
