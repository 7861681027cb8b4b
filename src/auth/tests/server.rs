//! An HTTP server on loopback that answers as it is told to, right or wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every request with what is written for its path, and counts.
pub(super) struct Server {
    pub(super) base: String,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    requests: Arc<AtomicUsize>,
}

/// Where the key set is, unless a test says otherwise.
pub(super) const JWKS: &str = "/jwks";

impl Server {
    /// One that has a key set alone.
    pub(super) async fn start(answer: String) -> Self {
        let server = Self::empty().await;
        server.answers(answer);
        server
    }

    pub(super) async fn empty() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (answers, requests) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(serve(listener, Arc::clone(&answers), Arc::clone(&requests)));
        Self { base, answers, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("{}{JWKS}", self.base)
    }

    pub(super) fn answers(&self, answer: String) {
        self.answers_at(JWKS, answer);
    }

    pub(super) fn answers_at(&self, path: &str, answer: String) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    requests: Arc<AtomicUsize>,
) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (answers, requests) = (Arc::clone(&answers), Arc::clone(&requests));
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let length = socket.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            requests.fetch_add(1, Ordering::SeqCst);
            let answer = answers.lock().unwrap().get(path).cloned();
            let answer = answer.unwrap_or_else(|| status("404 Not Found"));
            let _ = socket.write_all(answer.as_bytes()).await;
            // An unfinished answer: the connection stays open and silent.
            if answer.contains("Content-Length: 999\r\n") {
                std::future::pending::<()>().await;
            }
        });
    }
}

pub(super) fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

pub(super) fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
