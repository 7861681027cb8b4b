//! The few messages that the proxy itself writes or looks into.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::ReadyForQuery;
pub use pgwire::messages::response::TransactionStatus;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};

use super::frame::split_cstr;

/// Type bytes of frontend messages. Manual: "Message Formats", those marked (F).
pub mod frontend {
    #![allow(missing_docs, reason = "the names are the manual's")]
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// Type bytes of backend messages. Manual: "Message Formats", those marked (B).
pub mod backend {
    #![allow(missing_docs, reason = "the names are the manual's")]
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const DATA_ROW: u8 = b'D';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const READY_FOR_QUERY: u8 = b'Z';
}

/// Protocol 3.2, as a version number on the wire.
pub const PROTOCOL_3_2: u32 = 196_610;
/// Protocol 3.0, as a version number on the wire.
pub const PROTOCOL_3_0: u32 = 196_608;

/// Appends one of pgwire's messages.
fn put(message: &impl Message, buffer: &mut BytesMut) {
    let start = buffer.len();
    if message.encode(buffer).is_err() {
        // Only a message beyond pgwire's limit can fail; half of one must not go out.
        buffer.truncate(start);
    }
}

/// Asks for the token: `AuthenticationCleartextPassword`.
pub fn authentication_cleartext_password(buffer: &mut BytesMut) {
    put(&Authentication::CleartextPassword, buffer);
}

/// Asks for the token by one of these mechanisms: `AuthenticationSASL`.
pub fn authentication_sasl(mechanisms: &[&str], buffer: &mut BytesMut) {
    let mechanisms = mechanisms.iter().map(|&name| name.to_owned()).collect();
    put(&Authentication::SASL(mechanisms), buffer);
}

/// Goes on with a SASL exchange: `AuthenticationSASLContinue`.
pub fn authentication_sasl_continue(data: &str, buffer: &mut BytesMut) {
    put(&Authentication::SASLContinue(bytes::Bytes::copy_from_slice(data.as_bytes())), buffer);
}

/// Says that the client is in.
pub fn authentication_ok(buffer: &mut BytesMut) {
    put(&Authentication::Ok, buffer);
}

/// Tells the value of a setting that the server reports.
pub fn parameter_status(name: &str, value: &str, buffer: &mut BytesMut) {
    put(&ParameterStatus::new(name.to_owned(), value.to_owned()), buffer);
}

/// Hands out the key for cancel requests.
pub fn backend_key_data(pid: i32, secret: &[u8], buffer: &mut BytesMut) {
    let secret = SecretKey::Bytes(bytes::Bytes::copy_from_slice(secret));
    put(&BackendKeyData::new(pid, secret), buffer);
}

/// Tells the newest protocol version that we speak and the options that we do not know.
pub fn negotiate_protocol_version(version: u32, unknown: Vec<String>, buffer: &mut BytesMut) {
    put(&NegotiateProtocolVersion::new(version.cast_signed(), unknown), buffer);
}

/// Ends an answer.
pub fn ready_for_query(status: TransactionStatus, buffer: &mut BytesMut) {
    put(&ReadyForQuery::new(status), buffer);
}

/// A `CancelRequest` for a server connection whose key may have any length.
pub fn cancel_request(pid: i32, secret: &[u8], buffer: &mut BytesMut) {
    let length = u32::try_from(secret.len()).unwrap_or(u32::MAX).saturating_add(12);
    buffer.put_u32(length);
    buffer.put_u32(super::startup_packet::CANCEL_REQUEST_CODE);
    buffer.put_i32(pid);
    buffer.put_slice(secret);
}

/// The value of one field of an `ErrorResponse`'s or `NoticeResponse`'s body.
pub fn error_field(body: &[u8], field: u8) -> Option<&str> {
    let mut rest = body;
    loop {
        let (&code, after) = rest.split_first()?;
        if code == 0 {
            return None;
        }
        let (value, next) = split_cstr(after)?;
        if code == field {
            return std::str::from_utf8(value).ok();
        }
        rest = next;
    }
}

/// The name and the value in a `ParameterStatus`'s body.
pub fn parse_parameter_status(body: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = split_cstr(body)?;
    let (value, _) = split_cstr(rest)?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_linear() {
        crate::scan::tests::is_linear("error field", |text| {
            error_field(text, b'\x01');
            parse_parameter_status(text);
        });
    }

    #[test]
    fn error_fields_are_found_by_code() {
        let body = b"SERROR\0C42501\0Mno\0\0";
        assert_eq!(error_field(body, b'C'), Some("42501"));
        assert_eq!(error_field(body, b'H'), None);
        assert_eq!(error_field(b"C42501", b'C'), None);
        assert_eq!(error_field(b"", b'C'), None);
    }

    #[test]
    fn cancel_keys_may_have_any_length() {
        let mut buffer = BytesMut::new();
        cancel_request(7, &[9; 32], &mut buffer);
        assert_eq!(buffer.len(), 44);
        assert_eq!(&buffer[..4], 44u32.to_be_bytes());
    }
}
