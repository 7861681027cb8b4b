//! Threads that serve clients: one runtime each, so that both sockets of a client, and the pool's
//! connection that it uses most, are on one thread.
//!
//! A runtime whose tasks move between threads costs a quarter more CPU a transaction, in wakes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{self, Handle};
use tokio::sync::watch;

/// The threads. Dropping it ends those that it has started, and what runs on them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    /// Dropped with this, which the threads wait for.
    _running: watch::Sender<()>,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    load: Arc<AtomicUsize>,
}

/// A place on a worker; counts until it is dropped.
#[derive(Debug)]
pub struct Place {
    /// The worker's runtime.
    pub handle: Handle,
    /// Whether it is another thread than the one that asks.
    pub is_elsewhere: bool,
    load: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count - 1` threads; the first worker is the thread that calls, which must be in a
    /// runtime.
    ///
    /// # Errors
    ///
    /// Fails when the system has no thread or no event queue left.
    pub fn start(count: usize) -> io::Result<Self> {
        let (running, waiting) = watch::channel(());
        let mut workers = vec![Worker { handle: Handle::current(), load: Arc::default() }];
        for number in 1..count {
            let handle = start_thread(format!("worker-{number}"), waiting.clone())?;
            workers.push(Worker { handle, load: Arc::default() });
        }
        Ok(Self { workers, _running: running })
    }

    /// A place on the worker that has the fewest.
    pub fn place(&self) -> Place {
        let least = |worker: &(usize, &Worker)| worker.1.load.load(Ordering::Relaxed);
        let chosen = self.workers.iter().enumerate().min_by_key(least);
        let (number, handle, load) = match chosen {
            Some((number, worker)) => (number, worker.handle.clone(), Arc::clone(&worker.load)),
            None => (0, Handle::current(), Arc::default()),
        };
        load.fetch_add(1, Ordering::Relaxed);
        Place { handle, is_elsewhere: number > 0, load }
    }
}

/// A thread that serves no clients, for what does not wait until theirs have time. Dropping it ends
/// it, and what runs on it.
#[derive(Debug)]
pub struct Aside {
    handle: Handle,
    /// Dropped with this, which the thread waits for.
    _running: watch::Sender<()>,
}

impl Aside {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// Fails when the system has no thread or no event queue left.
    pub fn start() -> io::Result<Self> {
        let (running, waiting) = watch::channel(());
        Ok(Self { handle: start_thread("aside".to_owned(), waiting)?, _running: running })
    }

    /// Its runtime.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// A runtime on a thread of its own, for as long as the sender lives.
fn start_thread(name: String, mut waiting: watch::Receiver<()>) -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(name).spawn(move || {
        // Nothing is ever sent.
        runtime.block_on(async move { while waiting.changed().await.is_ok() {} });
        runtime.shutdown_background();
    })?;
    Ok(handle)
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_go_where_the_fewest_are() {
        let workers = Workers::start(3).unwrap();
        let places: Vec<Place> = (0..6).map(|_| workers.place()).collect();
        let loads: Vec<usize> =
            workers.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).collect();
        assert_eq!(loads, [2, 2, 2]);
        let elsewhere = places.iter().filter(|place| place.is_elsewhere).count();
        assert_eq!(elsewhere, 4);
        // Each runs on a thread of its own.
        let here = std::thread::current().id();
        for place in places {
            let there = place.handle.spawn(async { std::thread::current().id() }).await.unwrap();
            assert_eq!(there != here, place.is_elsewhere);
        }
        assert_eq!(workers.place().load.load(Ordering::Relaxed), 1);
    }
}
