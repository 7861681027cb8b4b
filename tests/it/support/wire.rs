//! A client that sends what it is told, byte by byte.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A raw connection.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    pub(crate) out: BytesMut,
}

/// A message from the proxy.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) tag: char,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an `ErrorResponse`.
    pub(crate) fn field(&self, code: char) -> &str {
        cloison::protocol::message::error_field(&self.body, code as u8).unwrap_or_default()
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        Self { socket, out: BytesMut::new() }
    }

    /// Sends a startup message of the given version.
    pub(crate) fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) {
        let mut body = BytesMut::new();
        body.put_u32(version);
        for (name, value) in parameters {
            body.put_slice(name.as_bytes());
            body.put_u8(0);
            body.put_slice(value.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
        self.out.put_u32(body.len() as u32 + 4);
        self.out.put_slice(&body);
    }

    pub(crate) fn password(&mut self, token: &str) {
        frontend::password_message(token.as_bytes(), &mut self.out).unwrap();
    }

    pub(crate) fn query(&mut self, sql: &str) {
        frontend::query(sql, &mut self.out).unwrap();
    }

    pub(crate) async fn send(&mut self) {
        self.socket.write_all_buf(&mut self.out).await.unwrap();
    }

    /// The next message; `None` when the connection is closed.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        let tag = self.socket.read_u8().await.ok()?;
        let length = self.socket.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        self.socket.read_exact(&mut body).await.ok()?;
        Some(Message { tag: tag.into(), body })
    }

    /// Everything up to and with the next `ReadyForQuery`, or up to the end.
    pub(crate) async fn answer(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.receive().await {
            let last = message.tag == 'Z';
            messages.push(message);
            if last {
                break;
            }
        }
        messages
    }

    /// The type bytes of an answer, for comparisons at a glance.
    pub(crate) async fn tags(&mut self) -> String {
        self.answer().await.iter().map(|message| message.tag).collect()
    }
}
