//! One connection of ours to Postgres, and what is known of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postgres_protocol::message::frontend;

use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::{self, backend};
use crate::protocol::{self, Frame, FrameStream};
use crate::types::{CancelKey, ProcessMark, ServerPid, SessionSettings};

use super::prepared::{Prepared, ReadAs};
use crate::statement::Lexis;

/// A connection that has logged in.
#[derive(Debug)]
pub struct ServerConnection {
    /// The socket and its buffers.
    pub stream: FrameStream,
    /// The server's own key, by which its statements can be cancelled. Never shown to a client.
    key: Arc<CancelKey>,
    /// What stands for the server process in what is signed for it, once it has been asked.
    pub mark: ProcessMark,
    /// Settings that the server reports, as it last reported them.
    statuses: Arc<Statuses>,
    /// How the server reads texts, by these settings.
    lexis: Lexis,
    /// What was set on top of what the connection was started with. Transaction pooling only.
    pub overrides: Arc<SessionSettings>,
    /// Named statements of clients that it holds. Transaction pooling only.
    pub prepared: Prepared,
    /// How often plans had been forgotten when its oldest statement was prepared. Transaction
    /// pooling only.
    pub plans: u64,
    /// Whether it holds the statements by which contexts are bound. Transaction pooling only.
    pub held_binds: HeldBinds,
    /// Whose unnamed statement it holds: a number that nobody else has. Transaction pooling only.
    pub unnamed: u64,
    /// Notices that came during login, whole frames; every client of this connection gets them.
    login_notices: Bytes,
    /// How many clients have had it after the first.
    pub uses: u32,
    /// When the login was over.
    connected_at: Instant,
    /// The thread whose runtime looks after the socket.
    home: ThreadId,
}

/// Whether a connection holds the statements by which contexts are bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeldBinds {
    /// Without claims.
    pub plain: bool,
    /// With claims.
    pub with_claims: bool,
}

impl HeldBinds {
    /// The one without or with claims.
    pub const fn get_mut(&mut self, has_claims: bool) -> &mut bool {
        if has_claims { &mut self.with_claims } else { &mut self.plain }
    }
}

/// Settings that a server reports, by name.
pub type Statuses = BTreeMap<String, String>;

/// The largest frame that the answer to one of our own statements may have.
const FRAME_LIMIT: usize = 1 << 20;

/// Our own statements have no more rows than this.
pub const MOST_ROWS: usize = 64;

/// Bytes of a buffer that a connection keeps while nobody uses it.
const IDLE_BUFFER: usize = 16 * 1024;

/// How long a server may take to answer one of our own statements, all of which are short.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// So long may a server take to accept a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The outcome of a statement that the proxy itself sent.
#[derive(Debug, Eq, PartialEq)]
pub enum Reply {
    /// All went well.
    Complete {
        /// The tags of the commands that completed.
        tags: Vec<String>,
        /// The rows, as the bodies of their `DataRow` messages.
        rows: Vec<Bytes>,
    },
    /// Postgres refused: SQLSTATE and message.
    Refused(String, String),
}

impl ServerConnection {
    pub(super) fn new(
        stream: FrameStream,
        key: CancelKey,
        statuses: Vec<(String, String)>,
        login_notices: Bytes,
    ) -> Self {
        let statuses: Statuses = statuses.into_iter().collect();
        Self {
            stream,
            key: Arc::new(key),
            mark: ProcessMark::default(),
            lexis: lexis(&statuses),
            statuses: Arc::new(statuses),
            overrides: Arc::default(),
            prepared: Prepared::default(),
            plans: 0,
            held_binds: HeldBinds::default(),
            unnamed: 0,
            login_notices,
            uses: 0,
            connected_at: Instant::now(),
            home: std::thread::current().id(),
        }
    }

    /// The process id of the backend and its cancel key.
    pub const fn key(&self) -> &Arc<CancelKey> {
        &self.key
    }

    /// The process id of the backend, for logs.
    pub fn pid(&self) -> ServerPid {
        ServerPid(self.key.pid)
    }

    /// Whether the thread that calls is the one whose runtime looks after the socket. Another one
    /// can use it too, at the price of a wake for each message.
    pub fn is_at_home(&self) -> bool {
        self.home == std::thread::current().id()
    }

    /// How long ago the login was over.
    pub fn age(&self) -> Duration {
        self.connected_at.elapsed()
    }

    /// Notes a setting that the server reported.
    fn note_status(&mut self, body: &[u8]) {
        if let Some((name, value)) = message::parse_parameter_status(body)
            && self.statuses.get(name).is_none_or(|known| known != value)
        {
            Arc::make_mut(&mut self.statuses).insert(name.to_owned(), value.to_owned());
            self.lexis = lexis(&self.statuses);
        }
    }

    /// Notes the setting in the frame that is next in the stream, and leaves it there.
    pub fn note_next_status(&mut self, frame_len: usize) {
        if let Some(body) = self.stream.incoming.get(HEADER_LEN..frame_len) {
            let body = Bytes::copy_from_slice(body);
            self.note_status(&body);
        }
    }

    /// Settings that the server reports, as it last reported them.
    pub const fn statuses(&self) -> &Arc<Statuses> {
        &self.statuses
    }

    /// How the server reads texts.
    pub const fn lexis(&self) -> Lexis {
        self.lexis
    }

    /// By which settings the server reads the bytes of texts.
    pub fn reads_as(&self) -> ReadAs {
        let encoding = self.statuses.get("client_encoding").cloned().unwrap_or_default();
        ReadAs { encoding, standard_strings: self.lexis.standard_strings }
    }

    /// Gives up buffers that have grown for one large message.
    pub fn shrink(&mut self) {
        let largest = self.stream.incoming.capacity().max(self.stream.outgoing.capacity());
        if largest > IDLE_BUFFER {
            self.stream.shrink();
        }
    }

    /// Notices that came during login, whole frames.
    pub const fn login_notices(&self) -> &Bytes {
        &self.login_notices
    }

    /// Takes equal statuses that others hold in place of its own, so that they compare at once.
    pub fn share_statuses(&mut self, shared: Arc<Statuses>) {
        debug_assert_eq!(self.statuses, shared);
        self.statuses = shared;
    }

    /// Forgets what a reset has undone. Manual: "DISCARD ALL".
    pub fn forget_session(&mut self) {
        self.overrides = Arc::default();
        self.prepared.clear();
        self.held_binds = HeldBinds::default();
        self.unnamed = 0;
    }

    /// Whether the connection, idle until now, is alive and has said nothing that matters.
    ///
    /// A server may tell an idle client of changed settings; anything else that it says unasked
    /// is a farewell.
    pub fn is_quiet(&mut self) -> bool {
        use futures_util::FutureExt as _;
        loop {
            match std::future::poll_fn(|cx| self.stream.poll_fill(cx)).now_or_never() {
                None => break,
                Some(Ok(0) | Err(_)) => return false,
                Some(Ok(_)) => {}
            }
        }
        while let Ok(Some(frame)) = Frame::split_from(&mut self.stream.incoming, FRAME_LIMIT) {
            match frame.tag {
                backend::PARAMETER_STATUS => self.note_status(&frame.body),
                backend::NOTICE_RESPONSE => {}
                _ => return false,
            }
        }
        self.stream.incoming.is_empty()
    }

    /// Sends what is in the stream's buffer and reads until the server is ready again.
    ///
    /// Only for the proxy's own statements, on a connection from which nothing else is due.
    ///
    /// # Errors
    ///
    /// Fails when the connection does, or when the answer takes too long: a server that hangs keeps
    /// no place in its pool. A refusal by Postgres is a [`Reply`].
    pub async fn round_trip(&mut self) -> Result<Reply, protocol::Error> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.ask()).await;
        answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn ask(&mut self) -> Result<Reply, protocol::Error> {
        self.stream.flush().await?;
        let (mut tags, mut rows) = (Vec::new(), Vec::new());
        let mut refusal = None;
        loop {
            let Frame { tag, body } = self.stream.read_frame(FRAME_LIMIT).await?;
            match tag {
                backend::COMMAND_COMPLETE => {
                    let text = body.strip_suffix(b"\0").unwrap_or(&body);
                    tags.push(String::from_utf8_lossy(text).into_owned());
                }
                backend::DATA_ROW if rows.len() < MOST_ROWS => rows.push(body),
                backend::PARAMETER_STATUS => self.note_status(&body),
                backend::ERROR_RESPONSE => {
                    let field =
                        |code| message::error_field(&body, code).unwrap_or_default().to_owned();
                    refusal.get_or_insert((field(b'C'), field(b'M')));
                }
                backend::READY_FOR_QUERY if *body == *b"I" => {
                    return Ok(match refusal {
                        None => Reply::Complete { tags, rows },
                        Some((sqlstate, message)) => Reply::Refused(sqlstate, message),
                    });
                }
                backend::READY_FOR_QUERY => {
                    return Err(protocol::Violation::Unexpected('Z').into());
                }
                // Rows and acknowledgements of our own statement carry nothing that we need.
                b'1'
                | b'2'
                | b'3'
                | b'D'
                | b'T'
                | b'n'
                | b'I'
                | b't'
                | backend::NOTICE_RESPONSE
                | backend::NOTIFICATION_RESPONSE => {}
                other => return Err(protocol::Violation::Unexpected(other.into()).into()),
            }
        }
    }

    /// Says goodbye, so that Postgres does not log a lost client, and closes the connection.
    ///
    /// What is still queued for the server is dropped: nobody waits for its answer.
    pub async fn terminate(mut self) {
        if self.stream.outgoing.is_empty() {
            frontend::terminate(&mut self.stream.outgoing);
            // The connection is given up: whether the goodbye arrives makes no difference.
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.stream.close()).await;
        }
    }
}

/// How texts are read with these settings.
fn lexis(statuses: &Statuses) -> Lexis {
    /// In characters of these, a byte may look like a quote or a backslash. Manual: "Character Set
    /// Support".
    const UNSAFE: [&str; 7] = ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"];
    let value = |name: &str| statuses.get(name).map_or("", String::as_str);
    let encoding = value("client_encoding");
    Lexis {
        standard_strings: value("standard_conforming_strings") == "on",
        safe_encoding: !encoding.is_empty() && !UNSAFE.contains(&encoding),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::protocol::Socket;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_far, _) = listener.accept().await.unwrap();
        let key = CancelKey { pid: 1, secret: vec![0; 4] };
        let stream = FrameStream::new(Socket::Tcp(near));
        let mut server = ServerConnection::new(stream, key, Vec::new(), Bytes::new());
        frontend::query("select 1", &mut server.stream.outgoing).unwrap();
        let hour = Duration::from_secs(3600);
        let answer = tokio::time::timeout(hour, server.round_trip()).await;
        assert!(answer.expect("it is waited for").is_err());
    }
}
