//! The bare relay: what a proxy costs that does nothing but pass bytes on.
//!
//! One thread, one task for a client and its server connection, no parsing, no pool, no timers.
//! It is the floor that the proxy's own work is measured against.
//!
//! ```text
//! relay LISTEN SERVER        both ADDRESS:PORT
//! ```

use std::env;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As much as the proxy reads at once.
const READ_CHUNK: usize = 16 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(listen), Some(server)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: relay LISTEN SERVER"));
    };
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        let server = server.clone();
        tokio::spawn(async move {
            // A connection that breaks is its client's to report.
            let _ = relay(client, TcpStream::connect(server).await?).await;
            io::Result::Ok(())
        });
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(pass(from_client, to_server), pass(from_server, to_client))?;
    Ok(())
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; READ_CHUNK];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            read => to.write_all(&buffer[..read]).await?,
        }
    }
}
