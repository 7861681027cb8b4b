//! A relay in front of Postgres that remembers what was sent to it.

use std::sync::{Arc, Mutex};

use cloison::config::ServerAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

use super::postgres::Database;
use super::proxy::{Builder, Proxy};

/// What has gone to Postgres since it was last asked for.
#[derive(Clone, Default)]
pub(crate) struct Tap {
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// A proxy whose every connection to Postgres is listened to.
    pub(crate) async fn run_on(builder: Builder, database: Database) -> (Proxy, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tap, server) = (Self::default(), database.port());
        let heard = tap.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (mut from_near, to_near) = near.into_split();
                let (mut from_far, mut to_far) = far.into_split();
                tokio::spawn(async move {
                    let mut to_near = to_near;
                    tokio::io::copy(&mut from_far, &mut to_near).await
                });
                let heard = heard.clone();
                tokio::spawn(async move { heard.listen(&mut from_near, &mut to_far).await });
            }
        });
        let address = ServerAddress::Tcp("127.0.0.1".into(), port);
        let builder = builder.edit(move |config| config.server.address = address);
        (builder.run_on(database).await, tap)
    }

    async fn listen(&self, from: &mut OwnedReadHalf, to: &mut (impl AsyncWriteExt + Unpin)) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.heard.lock().unwrap().extend_from_slice(&buffer[..count]);
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }

    /// How often `text` has gone by since the last call of this.
    pub(crate) fn count(&self, text: &str) -> usize {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        heard.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }
}
