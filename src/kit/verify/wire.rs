//! A client that says what no driver would: single messages in any order, and nothing but them.
//!
//! It speaks to the proxy only, so the one way to authenticate that it knows is a password.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::config::Host;

use super::Road;
use super::check::Layer;

/// Nothing could be learned: the connection broke, or nothing came in time. Holds why.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

/// An error or a notice.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    fields: BTreeMap<u8, String>,
}

/// Everything up to the next `ReadyForQuery`, or up to the end of the connection.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Columns as text.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// What completed: `SELECT 1`.
    pub(super) tags: Vec<String>,
    pub(super) errors: Vec<Told>,
    pub(super) notices: Vec<Told>,
    /// What came out of a COPY.
    pub(super) copied: Vec<u8>,
    /// Postgres waits for the data of a COPY.
    pub(super) wants_data: bool,
    /// Channel and text.
    pub(super) notifications: Vec<(String, String)>,
    /// The connection is closed.
    pub(super) is_closed: bool,
    /// Whether the session is in a transaction, by the last `ReadyForQuery`.
    pub(super) status: u8,
    key: Bytes,
}

/// A session with nothing in between.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    out: BytesMut,
    input: BytesMut,
    /// What asks the proxy to cancel this session's statement.
    key: Bytes,
    road: Road,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl Told {
    fn of(body: &[u8]) -> Self {
        let parts = body.split(|byte| *byte == 0);
        let field = |part: &[u8]| {
            let (code, text) = part.split_first()?;
            Some((*code, String::from_utf8_lossy(text).into_owned()))
        };
        Self { fields: parts.filter_map(field).collect() }
    }

    pub(super) fn field(&self, code: u8) -> &str {
        self.fields.get(&code).map_or("", String::as_str)
    }

    pub(super) fn code(&self) -> &str {
        self.field(b'C')
    }

    /// Message, detail and hint: everything that a tenant reads.
    pub(super) fn text(&self) -> String {
        [b'M', b'D', b'H', b'W'].map(|code| self.field(code)).join("\n")
    }

    /// For reports.
    pub(super) fn brief(&self) -> String {
        format!("{} [{}]", self.field(b'M'), self.code())
    }

    /// Whether a constraint of the table refused a row, which policies have let pass then: they are
    /// asked first. What a trigger raises, a partition that is missing and the checks of a type may
    /// come before them.
    pub(super) fn is_past_policies(&self) -> bool {
        self.code().starts_with("23")
            && self.field(b'd').is_empty()
            && !matches!(self.field(b'R'), "ExecFindPartition" | "exec_stmt_raise")
    }

    /// Who said it. Texts are in the server's language, so the places that they come from decide.
    pub(super) fn layer(&self) -> Layer {
        if let Some(code) = self.field(b'D').strip_prefix("cloison: C") {
            return match code.as_bytes() {
                [b'1', ..] => Layer::Door,
                [b'2', ..] => Layer::Context,
                b"402" | b"405" | b"406" | b"407" | b"408" => Layer::Filter,
                b"001" | b"002" | b"003" | b"004" | b"007" | b"008" | b"009" | b"010" | b"011"
                | b"301" => Layer::Door,
                _ => Layer::Wire,
            };
        }
        let routine = self.field(b'R');
        if self.field(b'W').contains("function cloison.") {
            Layer::Context
        } else if matches!(routine, "ExecWithCheckOptions" | "check_enable_rls")
            || (routine == "DoCopy" && self.code() == "0A000")
        {
            Layer::Policy
        } else if self.code() == "42501" {
            Layer::Grant
        } else {
            Layer::Server
        }
    }
}

impl Answer {
    pub(super) fn error(&self) -> Option<&Told> {
        self.errors.first()
    }

    /// The last row's first column: for answers that are one value.
    pub(super) fn value(&self) -> Option<&str> {
        self.rows.last()?.first()?.as_deref()
    }

    pub(super) fn number(&self) -> Option<i64> {
        self.value()?.parse().ok()
    }

    /// How many rows a completed statement of that kind reached, by its tag.
    pub(super) fn reached(&self, verb: &str) -> i64 {
        let of = self.tags.iter().filter(|tag| tag.starts_with(verb));
        of.filter_map(|tag| tag.rsplit(' ').next()?.parse::<i64>().ok()).sum()
    }

    /// Adds a message.
    pub(super) fn take(&mut self, tag: u8, body: &Bytes) {
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        match tag {
            b'C' => self.tags.push(text(body.split(|byte| *byte == 0).next().unwrap_or_default())),
            b'D' => self.rows.push(columns(body)),
            b'E' => self.errors.push(Told::of(body)),
            b'N' => self.notices.push(Told::of(body)),
            b'd' => self.copied.extend_from_slice(body),
            b'G' => self.wants_data = true,
            b'K' => self.key = body.clone(),
            b'Z' => self.status = body.first().copied().unwrap_or_default(),
            b'A' => {
                let mut parts = body.get(4..).unwrap_or_default().split(|byte| *byte == 0);
                let mut next = || text(parts.next().unwrap_or_default());
                self.notifications.push((next(), next()));
            }
            _ => {}
        }
    }
}

/// The columns of a `DataRow`.
fn columns(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut columns = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let value = length.and_then(|length| after.get(..length));
        columns.push(value.map(|value| String::from_utf8_lossy(value).into_owned()));
        rest = after.get(value.map_or(0, <[u8]>::len)..).unwrap_or_default();
    }
    columns
}

impl Wire {
    /// A session, or what was said instead of one.
    pub(super) async fn login(
        road: &Road,
        user: Option<&str>,
        token: Option<&[u8]>,
        parameters: &[(&str, &str)],
    ) -> Result<(Self, Answer), Lost> {
        let mut wire = Self::connect(road).await?;
        let config = &road.config;
        let user = user.or(config.get_user()).unwrap_or_default().to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let token = token.or(config.get_password()).unwrap_or_default().to_vec();
        let mut named = vec![("user", &user[..])];
        if !parameters.iter().any(|(name, _)| *name == "database") {
            named.push(("database", &database));
        }
        named.extend(parameters);
        frontend::startup_message(named, &mut wire.out).map_err(io_lost)?;
        wire.send().await?;
        let (tag, body) = wire.receive().await?;
        let mut answer = Answer::default();
        if tag == b'R' && body.as_ref() == [0, 0, 0, 3] {
            frontend::password_message(&token, &mut wire.out).map_err(io_lost)?;
            wire.send().await?;
            answer = wire.answer().await?;
        } else {
            answer.take(tag, &body);
            answer.is_closed = true;
        }
        wire.key = answer.key.clone();
        Ok((wire, answer))
    }

    /// A session, which nothing may keep from being opened.
    pub(super) async fn open(road: &Road) -> Result<Self, Lost> {
        let (wire, answer) = Self::login(road, None, None, &[]).await?;
        match answer.error() {
            Some(error) => Err(Lost(format!("{} was refused: {}", road.who, error.brief()))),
            None => Ok(wire),
        }
    }

    async fn connect(road: &Road) -> Result<Self, Lost> {
        let port = road.config.get_ports().first().copied().unwrap_or(5432);
        let connected = async {
            let socket: Box<dyn Socket> = match road.config.get_hosts().first() {
                Some(Host::Tcp(host)) => {
                    let socket = TcpStream::connect((host.as_str(), port)).await?;
                    socket.set_nodelay(true)?;
                    Box::new(socket)
                }
                Some(Host::Unix(folder)) => {
                    let path = folder.join(format!(".s.PGSQL.{port}"));
                    Box::new(UnixStream::connect(path).await?)
                }
                None => return Err(io::Error::other("the URL names no host")),
            };
            Ok(socket)
        };
        let socket = timeout(PATIENCE, connected).await.map_err(|_| late())?.map_err(io_lost)?;
        let (out, input) = (BytesMut::new(), BytesMut::new());
        Ok(Self { socket, out, input, key: Bytes::new(), road: road.clone() })
    }

    pub(super) fn query(&mut self, sql: &str) -> &mut Self {
        self.message(b'Q', &[sql.as_bytes(), b"\0"].concat())
    }

    pub(super) fn parse(&mut self, name: &str, sql: &str) -> &mut Self {
        let body = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat();
        self.message(b'P', &body)
    }

    /// Binds text parameters to the unnamed portal, and executes it.
    pub(super) fn execute(&mut self, name: &str, values: &[&str]) -> &mut Self {
        let put = |text: &&str, out: &mut BytesMut| {
            out.put_slice(text.as_bytes());
            Ok(IsNull::No)
        };
        // Only a text with a zero byte fails, and then there is no statement to execute.
        if frontend::bind("", name, [], values, put, [], &mut self.out).is_ok() {
            self.message(b'E', b"\0\0\0\0\0");
        }
        self
    }

    pub(super) fn sync(&mut self) -> &mut Self {
        self.message(b'S', b"")
    }

    pub(super) fn message(&mut self, tag: u8, body: &[u8]) -> &mut Self {
        self.out.put_u8(tag);
        self.out.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
        self.out.put_slice(body);
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.put_slice(bytes);
        self
    }

    pub(super) async fn send(&mut self) -> Result<(), Lost> {
        let sent = self.socket.write_all_buf(&mut self.out);
        timeout(PATIENCE, sent).await.map_err(|_| late())?.map_err(io_lost)
    }

    /// Sends a Query and waits for all of its answer.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Answer, Lost> {
        self.query(sql).send().await?;
        self.answer().await
    }

    /// Everything up to the next `ReadyForQuery`, or up to where Postgres waits for COPY's data.
    pub(super) async fn answer(&mut self) -> Result<Answer, Lost> {
        let mut answer = Answer::default();
        loop {
            match self.receive().await {
                Ok((tag, body)) => {
                    answer.take(tag, &body);
                    if matches!(tag, b'Z' | b'G') {
                        return Ok(answer);
                    }
                }
                Err(_) if !answer.errors.is_empty() => {
                    answer.is_closed = true;
                    return Ok(answer);
                }
                Err(lost) => return Err(lost),
            }
        }
    }

    /// The next message.
    pub(super) async fn receive(&mut self) -> Result<(u8, Bytes), Lost> {
        loop {
            if let Some((tag, body)) = self.cut() {
                return Ok((tag, body));
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.input));
            if read.await.map_err(|_| late())?.map_err(io_lost)? == 0 {
                return Err(Lost("the connection was closed".to_owned()));
            }
        }
    }

    fn cut(&mut self) -> Option<(u8, Bytes)> {
        let (tag, rest) = self.input.split_first()?;
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        if rest.len() < length {
            return None;
        }
        let tag = *tag;
        let mut frame = self.input.split_to(length + 1).freeze();
        Some((tag, frame.split_off(frame.len().min(5))))
    }

    /// What asks the proxy to cancel this session's statement.
    pub(super) fn key(&self) -> Bytes {
        self.key.clone()
    }

    /// Asks the proxy to cancel the statement of whoever has that key, and waits until it has.
    pub(super) async fn cancel(road: &Road, key: &[u8]) -> Result<(), Lost> {
        let mut wire = Self::connect(road).await?;
        wire.out.put_u32(u32::try_from(key.len() + 8).unwrap_or(u32::MAX));
        wire.out.put_u32(CANCEL_REQUEST);
        wire.out.put_slice(key);
        wire.send().await?;
        match wire.receive().await {
            Ok(_) => Err(Lost("a cancel request was answered".to_owned())),
            Err(_) => Ok(()),
        }
    }

    /// Says goodbye, and waits until the proxy has closed, so that the pool has the server
    /// connection back.
    pub(super) async fn close(mut self) {
        self.message(b'X', b"");
        // Whether it is heard is no matter: the end of the connection says the same.
        if self.send().await.is_ok() {
            while self.receive().await.is_ok() {}
        }
    }

    /// Gone without a word.
    pub(super) fn die(self) {}

    pub(super) fn road(&self) -> &Road {
        &self.road
    }
}

fn late() -> Lost {
    Lost(format!("no answer within {} seconds", PATIENCE.as_secs()))
}

fn io_lost(error: io::Error) -> Lost {
    Lost(error.to_string())
}

/// The code of a `CancelRequest`.
const CANCEL_REQUEST: u32 = 80_877_102;

/// Longer than anything here takes, shorter than anybody wants to wait.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(char, &str)], expected: Layer) {
        let mut body = Vec::new();
        for (code, text) in fields {
            body.push(*code as u8);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        assert_eq!(Told::of(&body).layer(), expected, "{fields:?}");
    }

    #[test]
    fn a_layer_is_told_by_where_an_error_comes_from() {
        check(&[('C', "42501"), ('R', "aclcheck_error")], Layer::Grant);
        check(&[('C', "42501"), ('R', "ExecWithCheckOptions")], Layer::Policy);
        check(&[('C', "0A000"), ('R', "DoCopy")], Layer::Policy);
        let context = "PL/pgSQL function cloison.bound_tenant() line 9 at RAISE";
        check(&[('C', "42501"), ('R', "exec_stmt_raise"), ('W', context)], Layer::Context);
        check(&[('C', "0A000"), ('D', "cloison: C401")], Layer::Wire);
        check(&[('C', "0A000"), ('D', "cloison: C402")], Layer::Filter);
        check(&[('C', "42501"), ('D', "cloison: C405")], Layer::Filter);
        check(&[('C', "28P01"), ('D', "cloison: C101")], Layer::Door);
        check(&[('C', "0A000"), ('D', "cloison: C003")], Layer::Door);
        check(&[('C', "08P01"), ('D', "cloison: C005")], Layer::Wire);
        check(&[('C', "55000")], Layer::Server);
    }

    #[test]
    fn only_a_constraint_of_the_table_shows_that_policies_let_a_row_pass() {
        for (fields, expected) in [
            (&[('C', "23502"), ('R', "ExecConstraints")][..], true),
            (&[('C', "23505"), ('R', "_bt_check_unique")], true),
            (&[('C', "23502"), ('R', "ExecEvalConstraintNotNull"), ('d', "given")], false),
            (&[('C', "23514"), ('R', "ExecFindPartition")], false),
            (&[('C', "23514"), ('R', "exec_stmt_raise")], false),
            (&[('C', "42501"), ('R', "ExecWithCheckOptions")], false),
        ] {
            let fields = fields.iter().map(|(code, text)| (*code as u8, (*text).to_owned()));
            let told = Told { fields: fields.collect() };
            assert_eq!(told.is_past_policies(), expected, "{told:?}");
        }
    }

    #[test]
    fn rows_are_cut_into_columns() {
        let body = [0, 3, 0, 0, 0, 2, b'a', b'b', 255, 255, 255, 255, 0, 0, 0, 0];
        assert_eq!(columns(&body), [Some("ab".to_owned()), None, Some(String::new())]);
        // Cut short, as nobody should send it.
        assert_eq!(columns(&[0, 1, 0, 0, 0, 9, b'a']), [None]);
    }
}
