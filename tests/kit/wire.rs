//! A client of Postgres itself that sends message by message what a pooling proxy would send.

use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::support::Database;

/// The statement that binds a transaction, prepared once a connection.
const BIND: &str = "_bind";

pub(crate) struct Wire {
    socket: UnixStream,
    out: BytesMut,
    /// What stands for the server process.
    pub(crate) mark: String,
}

impl Wire {
    /// A session as the login of this access, with the bind prepared.
    pub(crate) async fn login(database: &Database<'_>, access: &str) -> Self {
        let socket = UnixStream::connect(database.socket()).await.unwrap();
        let mut wire = Self { socket, out: BytesMut::new(), mark: String::new() };
        let (user, database) = (database.login(access), database.name.as_str());
        let parameters = [("user", user.as_str()), ("database", database)];
        frontend::startup_message(parameters, &mut wire.out).unwrap();
        assert_eq!(wire.ask().await, "I");
        if access == "tenant" {
            let told = wire.query("select cloison.this_process()").ask().await;
            told[1..33].clone_into(&mut wire.mark);
            let types = [2950, 25];
            let sql = "select cloison.set_tenant($1, $2, true)";
            frontend::parse(BIND, sql, types, &mut wire.out).unwrap();
            assert_eq!(wire.sync().ask().await, "I");
        }
        wire
    }

    /// Bind and Execute of `set_tenant`, without a Sync.
    pub(crate) fn tenant(&mut self, tenant: Uuid, proof: &str) -> &mut Self {
        let parameters = [tenant.as_bytes().as_slice(), proof.as_bytes()];
        let put = |bytes: &[u8], out: &mut BytesMut| {
            out.put_slice(bytes);
            Ok(IsNull::No)
        };
        assert!(frontend::bind("", BIND, [1], parameters, put, [1], &mut self.out).is_ok());
        frontend::execute("", 0, &mut self.out).unwrap();
        self
    }

    /// Parse, Bind, Describe and Execute, without a Sync.
    pub(crate) fn run(&mut self, sql: &str) -> &mut Self {
        frontend::parse("", sql, [], &mut self.out).unwrap();
        let put = |_: &str, _: &mut BytesMut| Ok(IsNull::Yes);
        assert!(frontend::bind("", "", [], [""; 0], put, [], &mut self.out).is_ok());
        frontend::describe(b'P', "", &mut self.out).unwrap();
        frontend::execute("", 0, &mut self.out).unwrap();
        self
    }

    pub(crate) fn query(&mut self, sql: &str) -> &mut Self {
        frontend::query(sql, &mut self.out).unwrap();
        self
    }

    pub(crate) fn sync(&mut self) -> &mut Self {
        frontend::sync(&mut self.out);
        self
    }

    /// Sends everything in one write, and tells what came up to `ReadyForQuery`: rows in brackets,
    /// tags, codes of errors behind `!` and of warnings behind `~`, and the status.
    pub(crate) async fn ask(&mut self) -> String {
        self.socket.write_all_buf(&mut self.out).await.unwrap();
        let mut told = Vec::new();
        loop {
            let tag = self.socket.read_u8().await.unwrap();
            let length = usize::try_from(self.socket.read_u32().await.unwrap()).unwrap();
            let mut body = vec![0; length - 4];
            self.socket.read_exact(&mut body).await.unwrap();
            match tag {
                b'D' => told.push(row(&body)),
                b'C' => told.push(text(&body)),
                b'E' => told.push(format!("!{}", code(&body))),
                b'N' => told.push(format!("~{}", code(&body))),
                b'Z' => {
                    told.push(text(&body));
                    return told.join(" ");
                }
                _ => {}
            }
        }
    }
}

fn row(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        columns.push(text(&after[..length]));
        rest = &after[length..];
    }
    format!("[{}]", columns.join(", "))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().trim_end_matches('\0').to_owned()
}

/// The SQLSTATE of an error or a warning.
fn code(body: &[u8]) -> &str {
    cloison::protocol::message::error_field(body, b'C').unwrap_or_default()
}
