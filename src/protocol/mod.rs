//! Bytes and messages of the frontend/backend protocol; knows nothing of tenants or pools.
//!
//! Terms are those of the Postgres manual, chapter "Frontend/Backend Protocol".

mod client_error;
pub mod frame;
mod gate;
pub mod message;
mod socket;
pub mod startup_packet;
mod stream;

pub use client_error::{ClientError, Routine, Severity};
pub use frame::{Frame, Header};
pub use gate::Gate;
#[cfg(test)]
pub use gate::pass_in_parts;
pub use message::TransactionStatus;
pub use socket::{Detached, Socket};
pub use stream::FrameStream;

/// Why the bytes of a peer could not be read as messages, or could not be moved at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer closed its end where a message was due.
    #[error("the connection was closed")]
    Closed,
    /// The operating system reported a failure.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The bytes break the rules of the protocol.
    #[error("protocol violation: {0}")]
    Violation(Violation),
}

/// A rule of the protocol that a peer broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// A length field smaller than itself, or larger than anything legal here.
    #[error("message of type {tag:?} has the impossible length {length}")]
    Length {
        /// The message's type byte.
        tag: char,
        /// The length as sent, itself included.
        length: u32,
    },
    /// A type byte that has no place at this point.
    #[error("message of type {0:?} is not expected here")]
    Unexpected(char),
    /// A body that does not have the form that its type demands.
    #[error("malformed message of type {0:?}")]
    Malformed(char),
    /// The first packet of a connection is not one that the protocol knows.
    #[error("malformed startup packet: {0}")]
    Startup(&'static str),
    /// Bytes arrived before the TLS handshake that they would have been part of.
    #[error("unencrypted data arrived after the request for TLS")]
    BytesBeforeTls,
}

impl Error {
    /// Whether the peer simply went away, which is nobody's fault.
    pub fn is_disconnect(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}
