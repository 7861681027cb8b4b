//! The packets without a type byte that open a connection.
//!
//! Manual: "Message Formats": `SSLRequest`, `GSSENCRequest`, `CancelRequest`, `StartupMessage`.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes, BytesMut};

use super::Violation;
use super::frame::split_cstr;

/// Postgres' own limit (`MAX_STARTUP_PACKET_LENGTH`).
const MAX_LENGTH: usize = 10_000;
/// A cancel key may be this long (protocol 3.2).
const MAX_SECRET: usize = 256;

/// The version field that asks for TLS.
const SSL_REQUEST_CODE: u32 = 80_877_103;
/// The version field that asks for GSSAPI encryption.
const GSSENC_REQUEST_CODE: u32 = 80_877_104;
/// The version field that asks to cancel a statement.
pub const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// What a new connection may open with.
#[derive(Debug, Eq, PartialEq)]
pub enum StartupPacket {
    /// Wishes to cancel the statement of another connection.
    CancelRequest {
        /// Process id from that connection's `BackendKeyData`.
        pid: i32,
        /// Secret key from there.
        secret: Bytes,
    },
    /// Wishes for GSSAPI encryption.
    GssEncRequest,
    /// Wishes for TLS.
    SslRequest,
    /// Wishes for a session.
    StartupMessage {
        /// Major version in the upper half, minor in the lower.
        version: u32,
        /// Names and values in the order in which they came.
        parameters: Vec<(String, String)>,
    },
}

impl StartupPacket {
    /// Takes the packet off `buffer`; `None` until all of it is there.
    ///
    /// # Errors
    ///
    /// Refuses lengths, versions and forms that Postgres refuses, and parameters given twice.
    pub fn split_from(buffer: &mut BytesMut) -> Result<Option<Self>, Violation> {
        let Some(&length) = buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(length) as usize;
        if !(8..=MAX_LENGTH).contains(&length) {
            return Err(Violation::Startup("impossible length"));
        }
        if buffer.len() < length {
            return Ok(None);
        }
        let mut packet = buffer.split_to(length).freeze();
        packet.advance(4);
        let version = packet.get_u32();
        match (version, packet.len()) {
            (SSL_REQUEST_CODE, 0) => Ok(Some(Self::SslRequest)),
            (GSSENC_REQUEST_CODE, 0) => Ok(Some(Self::GssEncRequest)),
            (CANCEL_REQUEST_CODE, 5..) if packet.len() <= 4 + MAX_SECRET => {
                let pid = packet.get_i32();
                Ok(Some(Self::CancelRequest { pid, secret: packet }))
            }
            (SSL_REQUEST_CODE | GSSENC_REQUEST_CODE | CANCEL_REQUEST_CODE, _) => {
                Err(Violation::Startup("a request of the wrong length"))
            }
            (0x0003_0000..=0x0003_ffff, _) => {
                Ok(Some(Self::StartupMessage { version, parameters: parameters(&packet)? }))
            }
            _ => Err(Violation::Startup("not a protocol version 3 packet")),
        }
    }
}

/// Reads pairs of texts up to the empty name that ends them.
fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, Violation> {
    const UNTERMINATED: Violation = Violation::Startup("a parameter is not terminated");
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Violation::Startup("a parameter is not UTF-8"))
    };
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut names = BTreeSet::new();
    let mut rest = body;
    loop {
        let (name, after) = split_cstr(rest).ok_or(UNTERMINATED)?;
        if name.is_empty() {
            if after.is_empty() {
                return Ok(parameters);
            }
            return Err(Violation::Startup("bytes after the last parameter"));
        }
        let (value, next) = split_cstr(after).ok_or(UNTERMINATED)?;
        let name = text(name)?;
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(Violation::Startup("a parameter is given twice"));
        }
        parameters.push((name, text(value)?));
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(version: u32, body: &[u8]) -> BytesMut {
        let mut packet = BytesMut::new();
        packet.extend_from_slice(&(body.len() as u32 + 8).to_be_bytes());
        packet.extend_from_slice(&version.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    #[track_caller]
    fn check(version: u32, body: &[u8], expected: Result<StartupPacket, &'static str>) {
        let got = StartupPacket::split_from(&mut packet(version, body));
        assert_eq!(got, expected.map(Some).map_err(Violation::Startup));
    }

    #[test]
    fn every_kind_is_read() {
        check(SSL_REQUEST_CODE, b"", Ok(StartupPacket::SslRequest));
        check(GSSENC_REQUEST_CODE, b"", Ok(StartupPacket::GssEncRequest));
        let secret = Bytes::from_static(&[1; 32]);
        check(
            CANCEL_REQUEST_CODE,
            &[&7i32.to_be_bytes()[..], &secret].concat(),
            Ok(StartupPacket::CancelRequest { pid: 7, secret }),
        );
        check(
            0x0003_0000,
            b"user\0me\0application_name\0\0\0",
            Ok(StartupPacket::StartupMessage {
                version: 0x0003_0000,
                parameters: vec![
                    ("user".into(), "me".into()),
                    ("application_name".into(), String::new()),
                ],
            }),
        );
    }

    #[test]
    fn odd_packets_are_refused() {
        check(0x0003_0000, b"user\0me\0user\0you\0\0", Err("a parameter is given twice"));
        check(0x0003_0000, b"user\0me\0USER\0you\0\0", Err("a parameter is given twice"));
        check(0x0003_0000, b"user\0me\0", Err("a parameter is not terminated"));
        check(0x0003_0000, b"user\0\xff\0\0", Err("a parameter is not UTF-8"));
        check(0x0003_0000, b"user\0me\0\0x", Err("bytes after the last parameter"));
        check(0x0002_0000, b"\0", Err("not a protocol version 3 packet"));
        check(SSL_REQUEST_CODE, b"x", Err("a request of the wrong length"));
        check(CANCEL_REQUEST_CODE, b"\0\0\0\x01", Err("a request of the wrong length"));
        check(CANCEL_REQUEST_CODE, &[0; 300], Err("a request of the wrong length"));
        for length in [0u32, 7, 10_001, u32::MAX] {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            assert!(StartupPacket::split_from(&mut buffer).is_err(), "{length}");
        }
    }

    #[test]
    fn the_work_is_linear() {
        crate::scan::tests::is_linear("startup packet", |text| {
            let _ = StartupPacket::split_from(&mut packet(0x0003_0000, text));
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_a_violation(bytes: Vec<u8>, version: u32) {
            let _ = StartupPacket::split_from(&mut BytesMut::from(&bytes[..]));
            for version in [version, 0x0003_0000, CANCEL_REQUEST_CODE] {
                let _ = StartupPacket::split_from(&mut packet(version, &bytes));
            }
        }
    }
}
