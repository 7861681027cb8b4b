//! What a backend message means to the relay (pure).

use super::filter;
use crate::protocol::TransactionStatus;
use crate::protocol::message::{self, backend};

/// A backend message, as far as the relay looks into it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// A command completed; whether it has undone every setting, changed tables, or ended a
    /// transaction.
    Complete { undoes_settings: bool, changes_tables: bool, ends_block: bool },
    /// The server asks for COPY data.
    CopyIn,
    /// An error.
    Error { kind: ErrorKind, is_fatal: bool },
    /// Everything else that belongs to a request.
    Other,
    /// One extended-query message has been answered, other than by the completion of a command.
    Reply,
    /// An answer is over. No status: the byte is none of the protocol's.
    Ready(Option<TransactionStatus>),
    /// The server tells a setting, asked or not.
    Status,
    /// A notification, which nobody asked for.
    Unasked,
}

/// What an error says about the context.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ErrorKind {
    /// A cancel request or a timeout (`query_canceled`).
    Cancelled,
    /// The transaction has failed already (`in_failed_sql_transaction`).
    InFailedTransaction,
    /// Something is not allowed (`insufficient_privilege`): so says a missing context, too.
    NotAllowed,
    Other,
}

impl Answer {
    /// Whether the body of such a message has to be there before it is judged.
    pub(super) const fn needs_body(tag: u8) -> bool {
        matches!(
            tag,
            backend::COMMAND_COMPLETE
                | backend::ERROR_RESPONSE
                | backend::NOTICE_RESPONSE
                | backend::PARAMETER_STATUS
                | backend::READY_FOR_QUERY
        )
    }

    pub(super) fn read(tag: u8, body: &[u8]) -> Self {
        match tag {
            backend::COMMAND_COMPLETE => Self::Complete {
                undoes_settings: filter::undoes_settings(body),
                changes_tables: filter::changes_tables(body),
                ends_block: matches!(body, b"COMMIT\0" | b"ROLLBACK\0"),
            },
            backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE => Self::CopyIn,
            backend::ERROR_RESPONSE => Self::Error {
                kind: match message::error_field(body, b'C') {
                    Some("57014") => ErrorKind::Cancelled,
                    Some("25P02") => ErrorKind::InFailedTransaction,
                    Some("42501") => ErrorKind::NotAllowed,
                    _ => ErrorKind::Other,
                },
                is_fatal: matches!(message::error_field(body, b'V'), Some("FATAL" | "PANIC")),
            },
            // ParseComplete, BindComplete, CloseComplete, RowDescription, NoData,
            // EmptyQueryResponse, PortalSuspended.
            b'1' | b'2' | b'3' | b'T' | b'n' | b'I' | b's' => Self::Reply,
            backend::NOTIFICATION_RESPONSE => Self::Unasked,
            backend::PARAMETER_STATUS => Self::Status,
            backend::READY_FOR_QUERY => Self::Ready(match *body {
                [status] => TransactionStatus::try_from(status).ok(),
                _ => None,
            }),
            _ => Self::Other,
        }
    }

    /// Whether the message belongs to the client even while the proxy speaks with the server.
    pub(super) const fn is_for_the_client(self) -> bool {
        matches!(self, Self::Status | Self::Unasked | Self::Error { is_fatal: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_from_tag_and_body() {
        let complete = |undoes_settings| Answer::Complete {
            undoes_settings,
            changes_tables: false,
            ends_block: false,
        };
        assert_eq!(Answer::read(b'C', b"RESET\0"), complete(true));
        assert_eq!(Answer::read(b'C', b"DISCARD ALL\0"), complete(true));
        assert_eq!(Answer::read(b'C', b"DISCARD TEMP\0"), complete(false));
        assert_eq!(Answer::read(b'C', b"SET\0"), complete(false));
        assert_eq!(Answer::read(b'Z', b"T"), Answer::Ready(Some(TransactionStatus::Transaction)));
        assert_eq!(Answer::read(b'Z', b"?"), Answer::Ready(None));
        assert_eq!(Answer::read(b'Z', b""), Answer::Ready(None));
        assert_eq!(Answer::read(b'D', b""), Answer::Other);
        let error = Answer::read(b'E', b"SFATAL\0VFATAL\0C57P01\0\0");
        assert_eq!(error, Answer::Error { kind: ErrorKind::Other, is_fatal: true });
        let error = Answer::read(b'E', b"SERROR\0VERROR\0C42501\0\0");
        assert_eq!(error, Answer::Error { kind: ErrorKind::NotAllowed, is_fatal: false });
        let error = Answer::read(b'E', b"SERREUR\0VERROR\0C57014\0\0");
        assert_eq!(error, Answer::Error { kind: ErrorKind::Cancelled, is_fatal: false });
    }
}
