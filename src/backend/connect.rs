//! From an address to a server connection that has logged in.
//!
//! Manual: "Message Flow", section "Start-up", and "SASL Authentication".

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, TlsStream};

use super::connection::ServerConnection;
use crate::config::{Keepalive, Login, Server, ServerAddress, ServerTlsMode};
use crate::protocol::message::{self, backend};
use crate::protocol::{self, Frame, FrameStream, Socket};
use crate::tls;
use crate::types::{CancelKey, Secret, SessionSettings};

/// The largest message that a server sends during login: an error with a long text.
const LOGIN_FRAME_LIMIT: usize = 1 << 20;

/// The type byte of every authentication message.
const AUTHENTICATION: u8 = b'R';
/// The type byte that hands out the cancel key.
const BACKEND_KEY_DATA: u8 = b'K';
/// The type byte by which a server asks for an older protocol. We ask for 3.0, so none comes.
const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';

/// Where and as whom to log in.
#[derive(Clone)]
pub struct Target {
    address: ServerAddress,
    tls_mode: ServerTlsMode,
    connector: Option<TlsConnector>,
    database: String,
    user: String,
    password: Option<Secret<String>>,
    timeout: Duration,
    keepalive: Keepalive,
}

/// Why there is no server connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the address.
    #[error("cannot reach Postgres at {address}")]
    Dial {
        /// The address as configured.
        address: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The server asks for a password and none is configured.
    #[error("the server asks role {0:?} for a password, and none is configured")]
    NoPassword(String),
    /// The server's messages make no sense.
    #[error("the login at Postgres failed")]
    Protocol(#[from] protocol::Error),
    /// Postgres refused, and said why: the body of its `ErrorResponse`.
    #[error("Postgres refused the login: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// The server's SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
        /// The whole body, to pass on where it is the client's doing.
        body: bytes::Bytes,
    },
    /// The exchange of SCRAM-SHA-256 went wrong, perhaps because the server is not who it says.
    #[error("the SCRAM exchange failed")]
    Scram(#[source] std::io::Error),
    /// It took longer than `server_connect_timeout`.
    #[error("Postgres did not answer within {0:?}")]
    Timeout(Duration),
    /// The TLS handshake failed.
    #[error("the TLS handshake with Postgres failed")]
    Tls(#[source] std::io::Error),
    /// TLS is demanded and the server has none.
    #[error("Postgres does not offer TLS, and server_tls_sslmode demands it")]
    TlsRefused,
    /// A way of authentication that we do not speak.
    #[error("Postgres asks for authentication method {0}, which is not supported")]
    UnsupportedMethod(u32),
}

impl Error {
    /// Whether Postgres is away for now: it may be there in a moment without anybody having changed
    /// the configuration.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::Timeout(_) => true,
            Self::Protocol(protocol::Error::Io(_)) => true,
            Self::Refused { sqlstate, .. } => is_passing(sqlstate),
            // The peer hung up, as it does while it shuts down; anything else is about trust.
            Self::Tls(error) => is_hang_up(error.kind()),
            Self::NoPassword(_)
            | Self::Protocol(_)
            | Self::Scram(_)
            | Self::TlsRefused
            | Self::UnsupportedMethod(_) => false,
        }
    }
}

/// SQLSTATEs of a server that starts, stops, or has no room at this moment.
fn is_passing(sqlstate: &str) -> bool {
    sqlstate.starts_with("08") || matches!(sqlstate, "57P01" | "57P02" | "57P03" | "53300")
}

fn is_hang_up(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The same for what the driver says.
pub fn is_away(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        return is_passing(code.code());
    }
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_closed() || io.is_some_and(|error| is_hang_up(error.kind()))
}

impl Target {
    /// Prepares logins of `login` at `server`.
    ///
    /// # Errors
    ///
    /// Fails when a certificate or a key cannot be used.
    pub fn new(
        server: &Server,
        login: &Login,
        timeout: Duration,
        keepalive: Keepalive,
    ) -> Result<Self, tls::Error> {
        let connector = tls::connector(
            server.tls_mode,
            server.tls_ca_file.as_deref(),
            login.identity.as_ref(),
        )?;
        Ok(Self {
            address: server.address.clone(),
            tls_mode: server.tls_mode,
            connector,
            database: server.database.clone(),
            user: login.user.clone(),
            password: login.password.clone(),
            timeout,
            keepalive,
        })
    }

    /// The same login in another database.
    pub fn in_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The role that logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database that is logged in to.
    pub fn database(&self) -> &str {
        &self.database
    }

    pub(super) const fn password(&self) -> Option<&Secret<String>> {
        self.password.as_ref()
    }

    /// Opens a socket, with TLS as configured, and sends nothing else on it.
    ///
    /// # Errors
    ///
    /// Says whether the address, TLS or time was the trouble.
    pub async fn dial(&self) -> Result<Socket, Error> {
        self.within_timeout(self.dial_unlimited()).await
    }

    /// Opens a server connection whose `RESET` values are `settings`.
    ///
    /// # Errors
    ///
    /// What Postgres said is kept whole.
    pub async fn connect(&self, settings: &SessionSettings) -> Result<ServerConnection, Error> {
        self.within_timeout(async {
            let stream = FrameStream::new(self.dial_unlimited().await?);
            self.log_in(stream, settings).await
        })
        .await
    }

    /// Runs `step` for at most `server_connect_timeout`.
    pub(super) async fn within_timeout<T, E: From<Error>>(
        &self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.timeout.is_zero() {
            return step.await;
        }
        let late = |_| Err(Error::Timeout(self.timeout).into());
        tokio::time::timeout(self.timeout, step).await.unwrap_or_else(late)
    }

    async fn dial_unlimited(&self) -> Result<Socket, Error> {
        let (host, port) = match &self.address {
            ServerAddress::Tcp(host, port) => (host, *port),
            ServerAddress::Unix(folder, port) => {
                let path: PathBuf = folder.join(format!(".s.PGSQL.{port}"));
                let stream = UnixStream::connect(&path).await;
                let address = path.display().to_string();
                let stream = stream.map_err(|source| Error::Dial { address, source })?;
                return Ok(Socket::Unix(stream));
            }
        };
        let failed = |source| Error::Dial { address: format!("{host}:{port}"), source };
        let mut tcp = TcpStream::connect((host.as_str(), port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        self.keepalive.apply(&tcp).map_err(failed)?;
        let Some(connector) = &self.connector else {
            return Ok(Socket::Tcp(tcp));
        };
        if !offers_tls(&mut tcp).await.map_err(failed)? {
            return match self.tls_mode {
                ServerTlsMode::Disable | ServerTlsMode::Prefer => Ok(Socket::Tcp(tcp)),
                ServerTlsMode::Require | ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull => {
                    Err(Error::TlsRefused)
                }
            };
        }
        let name = ServerName::try_from(host.clone())
            .map_err(|error| Error::Tls(std::io::Error::other(error)))?;
        let tls = connector.connect(name, tcp).await.map_err(Error::Tls)?;
        Ok(Socket::Tls(Box::new(TlsStream::Client(tls))))
    }

    async fn log_in(
        &self,
        mut stream: FrameStream,
        settings: &SessionSettings,
    ) -> Result<ServerConnection, Error> {
        let ours = [("user", self.user.as_str()), ("database", self.database.as_str())];
        frontend::startup_message(ours.into_iter().chain(settings.iter()), &mut stream.outgoing)
            .map_err(protocol::Error::Io)?;
        self.authenticate(&mut stream).await?;
        self.await_ready(stream).await
    }

    /// Answers what the server asks until it says `AuthenticationOk`.
    async fn authenticate(&self, stream: &mut FrameStream) -> Result<(), Error> {
        loop {
            stream.flush().await?;
            let (method, data) = read_authentication(stream).await?;
            match method {
                0 => return Ok(()),
                3 => {
                    let password = self.demand_password()?.as_bytes();
                    put(stream, |out| frontend::password_message(password, out))?;
                }
                5 => {
                    let salt = data.first_chunk::<4>().ok_or(MALFORMED_AUTHENTICATION)?;
                    let password = self.demand_password()?.as_bytes();
                    let hash = md5_hash(self.user.as_bytes(), password, *salt);
                    put(stream, |out| frontend::password_message(hash.as_bytes(), out))?;
                }
                10 if offers_scram(&data) => self.scram(stream).await?,
                other => return Err(Error::UnsupportedMethod(other)),
            }
        }
    }

    /// RFC 5802 and 7677, without channel binding.
    async fn scram(&self, stream: &mut FrameStream) -> Result<(), Error> {
        let password = self.demand_password()?.as_bytes();
        let binding = sasl::ChannelBinding::unsupported();
        let mut scram = sasl::ScramSha256::new(password, binding);
        put(stream, |out| {
            frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), out)
        })?;
        stream.flush().await?;
        scram.update(&expect_authentication(stream, 11).await?).map_err(Error::Scram)?;
        put(stream, |out| frontend::sasl_response(scram.message(), out))?;
        stream.flush().await?;
        scram.finish(&expect_authentication(stream, 12).await?).map_err(Error::Scram)
    }

    fn demand_password(&self) -> Result<&String, Error> {
        let password = self.password.as_ref();
        password.map(Secret::expose).ok_or_else(|| Error::NoPassword(self.user.clone()))
    }

    /// Collects what the server tells of itself until it is ready.
    async fn await_ready(&self, mut stream: FrameStream) -> Result<ServerConnection, Error> {
        let mut key = None;
        let mut statuses = Vec::new();
        let mut notices = BytesMut::new();
        loop {
            let frame = stream.read_frame(LOGIN_FRAME_LIMIT).await?;
            match frame.tag {
                BACKEND_KEY_DATA => {
                    let malformed = protocol::Violation::Malformed('K');
                    let (pid, secret) = frame
                        .body
                        .split_first_chunk::<4>()
                        .ok_or(protocol::Error::from(malformed))?;
                    let pid = i32::from_be_bytes(*pid);
                    key = Some(CancelKey { pid, secret: secret.to_vec() });
                }
                backend::PARAMETER_STATUS => {
                    statuses.extend(
                        message::parse_parameter_status(&frame.body)
                            .map(|(name, value)| (name.to_owned(), value.to_owned())),
                    );
                }
                backend::NOTICE_RESPONSE => frame.encode(&mut notices),
                backend::ERROR_RESPONSE => return Err(refused(frame)),
                backend::READY_FOR_QUERY => {
                    let key =
                        key.ok_or(protocol::Error::from(protocol::Violation::Malformed('K')))?;
                    return Ok(ServerConnection::new(stream, key, statuses, notices.freeze()));
                }
                NEGOTIATE_PROTOCOL_VERSION => {}
                other => {
                    let violation = protocol::Violation::Unexpected(other.into());
                    return Err(protocol::Error::from(violation).into());
                }
            }
        }
    }
}

const MALFORMED_AUTHENTICATION: Error =
    Error::Protocol(protocol::Error::Violation(protocol::Violation::Malformed('R')));

/// Asks whether the server has TLS. Reads one byte and no more, so that nothing which came ahead
/// of the handshake can be taken for a part of it.
async fn offers_tls(tcp: &mut TcpStream) -> std::io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An ErrorResponse this early comes in clear text from anybody: not to be believed.
        _ => Err(std::io::Error::other("the answer to SSLRequest is neither S nor N")),
    }
}

async fn read_authentication(stream: &mut FrameStream) -> Result<(u32, bytes::Bytes), Error> {
    let frame = stream.read_frame(LOGIN_FRAME_LIMIT).await?;
    match frame.tag {
        AUTHENTICATION => {
            let (method, _) =
                frame.body.split_first_chunk::<4>().ok_or(MALFORMED_AUTHENTICATION)?;
            Ok((u32::from_be_bytes(*method), frame.body.slice(4..)))
        }
        backend::ERROR_RESPONSE => Err(refused(frame)),
        NEGOTIATE_PROTOCOL_VERSION => Box::pin(read_authentication(stream)).await,
        other => Err(protocol::Error::from(protocol::Violation::Unexpected(other.into())).into()),
    }
}

async fn expect_authentication(
    stream: &mut FrameStream,
    expected: u32,
) -> Result<bytes::Bytes, Error> {
    let (method, data) = read_authentication(stream).await?;
    if method == expected { Ok(data) } else { Err(MALFORMED_AUTHENTICATION) }
}

fn offers_scram(mechanisms: &[u8]) -> bool {
    mechanisms.split(|&byte| byte == 0).any(|name| name == sasl::SCRAM_SHA_256.as_bytes())
}

fn put(
    stream: &mut FrameStream,
    write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
) -> Result<(), Error> {
    Ok(write(&mut stream.outgoing).map_err(protocol::Error::Io)?)
}

fn refused(frame: Frame) -> Error {
    let field = |code| message::error_field(&frame.body, code).unwrap_or("unknown").to_owned();
    Error::Refused { sqlstate: field(b'C'), message: field(b'M'), body: frame.body.clone() }
}
