//! A client that sends what it is told, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy::{Proxy, tenant_token};

/// The version field of protocol 3.0.
pub(crate) const V3_0: u32 = 0x0003_0000;

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A raw connection.
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) socket: S,
    pub(crate) out: BytesMut,
}

/// A message from the proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) tag: char,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an `ErrorResponse`.
    pub(crate) fn field(&self, code: char) -> &str {
        cloison::protocol::message::error_field(&self.body, code as u8).unwrap_or_default()
    }

    /// Name and value of a `ParameterStatus`.
    fn status(&self) -> (String, String) {
        let mut parts = self.body.split(|&byte| byte == 0);
        let mut text = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
        (text(), text())
    }

    /// The columns of a `DataRow`, as text.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            columns.push(String::from_utf8(after[..length].to_vec()).unwrap());
            rest = &after[length..];
        }
        columns
    }
}

/// The type bytes, for comparisons at a glance.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| message.tag).collect()
}

/// The only error in an answer.
#[track_caller]
pub(crate) fn error(messages: &[Message]) -> &Message {
    let found = messages.iter().find(|message| message.tag == 'E');
    found.unwrap_or_else(|| panic!("no error in {}", tags(messages)))
}

/// The first column of every row in an answer.
pub(crate) fn rows(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|message| message.tag == 'D');
    rows.map(|row| row.columns().remove(0)).collect()
}

/// The reported settings in an answer.
pub(crate) fn statuses(messages: &[Message]) -> Vec<(String, String)> {
    messages.iter().filter(|message| message.tag == 'S').map(Message::status).collect()
}

/// The body of `BackendKeyData`: process id and secret.
pub(crate) fn cancel_key(messages: &[Message]) -> Vec<u8> {
    messages.iter().find(|message| message.tag == 'K').unwrap().body.clone()
}

/// A `CancelRequest` with the key of a session.
pub(crate) fn cancel_request(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(8 + key.len() as u32);
    out.put_u32(80_877_102);
    out.put_slice(key);
    out
}

pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
pub(crate) const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// A session, and everything that was said up to its first `ReadyForQuery`.
    pub(crate) async fn login(
        proxy: &Proxy,
        user: &str,
        token: &str,
        parameters: &[(&str, &str)],
    ) -> (Self, Vec<Message>) {
        let mut wire = Self::connect(proxy.address).await;
        let ours = [("user", user), ("database", &proxy.database.name)];
        wire.startup(V3_0, &[&ours, parameters].concat());
        wire.password(token);
        wire.send().await;
        let answer = wire.answer().await;
        (wire, answer)
    }

    /// A session of a tenant, which must succeed.
    pub(crate) async fn tenant(proxy: &Proxy, tenant: &str) -> Self {
        let (wire, answer) = Self::login(proxy, "app", &tenant_token(tenant), &[]).await;
        assert_eq!(answer.last().unwrap().tag, 'Z', "{}", tags(&answer));
        wire
    }

    /// What a refused client is told.
    pub(crate) async fn refused(
        proxy: &Proxy,
        user: &str,
        token: &str,
        parameters: &[(&str, &str)],
    ) -> Message {
        let (mut wire, answer) = Self::login(proxy, user, token, parameters).await;
        let last = answer.last().expect("closed without a word").clone();
        assert_eq!((last.tag, last.field('V'), last.field('S')), ('E', "FATAL", "FATAL"));
        assert!(wire.receive().await.is_none());
        last
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(socket: S) -> Self {
        Self { socket, out: BytesMut::new() }
    }

    /// Sends a startup message of the given version.
    pub(crate) fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) -> &mut Self {
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
        self
    }

    pub(crate) fn password(&mut self, token: &str) -> &mut Self {
        self.message('p', &[token.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn query(&mut self, sql: &str) -> &mut Self {
        frontend::query(sql, &mut self.out).unwrap();
        self
    }

    pub(crate) fn parse(&mut self, name: &str, sql: &str) -> &mut Self {
        frontend::parse(name, sql, [], &mut self.out).unwrap();
        self
    }

    /// Binds text parameters.
    pub(crate) fn bind(&mut self, portal: &str, name: &str, parameters: &[&str]) -> &mut Self {
        let put = |text: &&str, out: &mut BytesMut| {
            out.put_slice(text.as_bytes());
            Ok(IsNull::No)
        };
        let out = &mut self.out;
        assert!(frontend::bind(portal, name, [], parameters, put, [], out).is_ok());
        self
    }

    pub(crate) fn execute(&mut self, portal: &str, rows: i32) -> &mut Self {
        frontend::execute(portal, rows, &mut self.out).unwrap();
        self
    }

    /// Parse, Bind and Execute, all unnamed.
    pub(crate) fn run(&mut self, sql: &str) -> &mut Self {
        self.parse("", sql).bind("", "", &[]).execute("", 0)
    }

    pub(crate) fn sync(&mut self) -> &mut Self {
        self.message('S', b"")
    }

    pub(crate) fn flush(&mut self) -> &mut Self {
        self.message('H', b"")
    }

    pub(crate) fn copy_data(&mut self, data: &[u8]) -> &mut Self {
        self.message('d', data)
    }

    pub(crate) fn copy_done(&mut self) -> &mut Self {
        self.message('c', b"")
    }

    pub(crate) fn message(&mut self, tag: char, body: &[u8]) -> &mut Self {
        self.out.put_u8(tag as u8);
        self.out.put_u32(body.len() as u32 + 4);
        self.out.put_slice(body);
        self
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.put_slice(bytes);
        self
    }

    pub(crate) async fn send(&mut self) {
        self.socket.write_all_buf(&mut self.out).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// One byte; `None` when the connection is closed.
    pub(crate) async fn receive_byte(&mut self) -> Option<u8> {
        let byte = tokio::time::timeout(PATIENCE, self.socket.read_u8()).await;
        byte.expect("no answer").ok()
    }

    /// The next message; `None` when the connection is closed.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        let read = async {
            let tag = self.socket.read_u8().await.ok()?;
            let length = self.socket.read_u32().await.ok()?;
            let mut body = vec![0; length as usize - 4];
            self.socket.read_exact(&mut body).await.ok()?;
            Some(Message { tag: tag.into(), body })
        };
        tokio::time::timeout(PATIENCE, read).await.expect("no answer")
    }

    /// Everything up to and with the next message of type `tag`, or up to the end.
    pub(crate) async fn until(&mut self, tag: char) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.receive().await {
            let last = message.tag == tag;
            messages.push(message);
            if last {
                break;
            }
        }
        messages
    }

    /// Everything up to and with the next `ReadyForQuery`, or up to the end.
    pub(crate) async fn answer(&mut self) -> Vec<Message> {
        self.until('Z').await
    }

    /// Sends and waits for one answer.
    pub(crate) async fn ask(&mut self, sql: &str) -> Vec<Message> {
        self.query(sql).send().await;
        self.answer().await
    }

    /// The only value of the only row.
    pub(crate) async fn value(&mut self, sql: &str) -> String {
        let answer = self.ask(sql).await;
        let fault = answer.iter().find(|m| m.tag == 'E').map(|m| m.field('M').to_owned());
        let mut rows = rows(&answer);
        assert_eq!(rows.len(), 1, "{sql}: {fault:?}");
        rows.remove(0)
    }
}
