//! STARTUP: from an accepted socket to a session's parameters or a cancel request.
//!
//! Manual: "Message Flow", sections "Start-up", "SSL Session Encryption", "GSSAPI Session
//! Encryption" and "Canceling Requests in Progress".

use bytes::BufMut;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::parameters::StartupParams;
use crate::protocol::startup_packet::StartupPacket;
use crate::protocol::{self, ClientError, FrameStream, Socket, message};
use crate::tls;
use crate::types::CancelKey;

/// First byte of a TLS record that carries a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Startup {
    /// A client that wants a session.
    Session(FrameStream, StartupParams),
    /// Somebody who wants a statement of another connection cancelled. Nothing is answered, and
    /// the socket is closed once the request was carried out.
    Cancel(FrameStream, CancelKey),
}

/// Why a connection ended before it was a session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client broke the protocol, or went away.
    #[error("startup failed")]
    Protocol(#[from] protocol::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// TLS without an `SSLRequest` must name the protocol (ALPN `postgresql`).
    #[error("the client started TLS directly without the ALPN protocol postgresql")]
    NoAlpn,
    /// The client is told why.
    #[error("refused: {}", .1.message)]
    Refused(Box<FrameStream>, ClientError),
}

/// Reads packets until one opens a session or asks for a cancellation.
///
/// # Errors
///
/// Whatever the client may be told comes as [`Error::Refused`], with the stream to tell it on.
pub async fn negotiate(socket: Socket, acceptor: Option<&TlsAcceptor>) -> Result<Startup, Error> {
    let mut stream = match (socket, acceptor) {
        (Socket::Tcp(tcp), Some(acceptor)) if opens_with_tls(&tcp).await? => {
            let stream = accept_tls(acceptor, Socket::Tcp(tcp)).await?;
            if !speaks_postgresql(&stream) {
                return Err(Error::NoAlpn);
            }
            stream
        }
        (socket, _) => FrameStream::new(socket),
    };
    // One of each at most: a client that goes on asking would keep us busy for ever.
    let (mut may_ask_tls, mut may_ask_gss) = (!stream.socket().is_tls(), true);
    loop {
        match read_packet(&mut stream).await? {
            StartupPacket::SslRequest if may_ask_tls => {
                may_ask_tls = false;
                match (acceptor, stream.socket()) {
                    (Some(acceptor), Socket::Tcp(_)) => {
                        answer(&mut stream, b'S').await?;
                        stream = accept_tls(acceptor, stream.into_socket()?).await?;
                        may_ask_gss = false;
                    }
                    (_, Socket::Tcp(_) | Socket::Tls(_) | Socket::Unix(_)) => {
                        answer(&mut stream, b'N').await?;
                    }
                }
            }
            StartupPacket::GssEncRequest if may_ask_gss => {
                may_ask_gss = false;
                answer(&mut stream, b'N').await?;
            }
            StartupPacket::SslRequest | StartupPacket::GssEncRequest => {
                return Err(protocol::Violation::Startup("encryption was asked for twice").into());
            }
            StartupPacket::CancelRequest { pid, secret } => {
                return Ok(Startup::Cancel(stream, CancelKey { pid, secret: secret.to_vec() }));
            }
            StartupPacket::StartupMessage { version, parameters } => {
                return begin_session(stream, version, parameters).await;
            }
        }
    }
}

/// Settles the protocol version and reads the parameters.
async fn begin_session(
    mut stream: FrameStream,
    version: u32,
    parameters: Vec<(String, String)>,
) -> Result<Startup, Error> {
    match StartupParams::parse(version, parameters) {
        Ok((params, negotiation)) => {
            if let Some(unknown_options) = negotiation {
                let version = params.version;
                message::negotiate_protocol_version(version, unknown_options, &mut stream.outgoing);
                stream.flush().await?;
            }
            Ok(Startup::Session(stream, params))
        }
        Err(error) => Err(Error::Refused(Box::new(stream), error)),
    }
}

async fn read_packet(stream: &mut FrameStream) -> Result<StartupPacket, protocol::Error> {
    loop {
        if let Some(packet) = StartupPacket::split_from(&mut stream.incoming)? {
            return Ok(packet);
        }
        stream.read_at_least(stream.incoming.len() + 1).await?;
        // No packet begins so: it would be longer than any.
        if stream.incoming.first() == Some(&TLS_HANDSHAKE) {
            return Err(protocol::Violation::Startup("TLS where there is none").into());
        }
    }
}

async fn answer(stream: &mut FrameStream, byte: u8) -> Result<(), protocol::Error> {
    // What a client sent ahead of an answer could be read as if it had come encrypted
    // (CVE-2021-23214), so there must be nothing.
    if !stream.incoming.is_empty() {
        return Err(protocol::Violation::BytesBeforeTls.into());
    }
    stream.outgoing.put_u8(byte);
    stream.flush().await
}

async fn opens_with_tls(tcp: &tokio::net::TcpStream) -> Result<bool, Error> {
    let mut first = [0];
    match tcp.peek(&mut first).await.map_err(protocol::Error::Io)? {
        0 => Err(protocol::Error::Closed.into()),
        _ => Ok(first == [TLS_HANDSHAKE]),
    }
}

async fn accept_tls(acceptor: &TlsAcceptor, socket: Socket) -> Result<FrameStream, Error> {
    let Socket::Tcp(tcp) = socket else {
        return Err(protocol::Violation::Startup("TLS inside TLS").into());
    };
    let tls = acceptor.accept(tcp).await.map_err(Error::Handshake)?;
    Ok(FrameStream::new(Socket::Tls(Box::new(TlsStream::Server(tls)))))
}

fn speaks_postgresql(stream: &FrameStream) -> bool {
    match stream.socket() {
        Socket::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(tls::ALPN),
        Socket::Tcp(_) | Socket::Unix(_) => false,
    }
}

impl From<protocol::Violation> for Error {
    fn from(violation: protocol::Violation) -> Self {
        Self::Protocol(violation.into())
    }
}
