//! What a frontend message is to us: carried, refused, or a reason to look after the context.
//!
//! A courtesy that answers early and well. Isolation of rows never rests on it.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use crate::guard::{Guard, Refusal};
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::{self, frontend};
use crate::protocol::{ClientError, Header};
use crate::scan;
use crate::tenant::Scope;

/// What becomes of a frontend message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// It goes to Postgres.
    Carry,
    /// It carries SQL text; when that may undo the context, what follows waits.
    CarryText,
    /// The client says goodbye.
    Leave,
    /// It is answered with an error by us, and the session goes on.
    Refuse,
    /// It is no message of an established session, and ends it.
    Violation,
}

impl Rule {
    /// Judges by the message's type alone.
    pub(super) const fn of(tag: u8, scope: Scope) -> Self {
        match (tag, scope) {
            (frontend::QUERY | frontend::PARSE, Scope::Tenant(_) | Scope::Nobody) => {
                Self::CarryText
            }
            (
                frontend::QUERY
                | frontend::PARSE
                | frontend::BIND
                | frontend::CLOSE
                | frontend::COPY_DATA
                | frontend::COPY_DONE
                | frontend::COPY_FAIL
                | frontend::DESCRIBE
                | frontend::EXECUTE
                | frontend::FLUSH
                | frontend::SYNC,
                _,
            )
            | (frontend::FUNCTION_CALL, Scope::Owner) => Self::Carry,
            (frontend::FUNCTION_CALL, Scope::Tenant(_) | Scope::Nobody | Scope::Superadmin) => {
                Self::Refuse
            }
            (frontend::TERMINATE, _) => Self::Leave,
            _ => Self::Violation,
        }
    }
}

/// The answer to a `FunctionCall` by anybody but the owner.
pub(super) fn function_call_refused() -> ClientError {
    ClientError::error("0A000", "C401", "the function call sub-protocol is not available here")
        .hint("Call the function in a SELECT.")
        .of_kind("function call")
}

/// The answer to a message that has no place in a session.
pub(super) fn violation(tag: u8) -> ClientError {
    let message = format!("invalid frontend message type {tag}");
    ClientError::fatal("08P01", "C005", message)
}

/// The answer to a text that tenants may not send.
pub(super) fn statement_refused(refusal: Refusal) -> ClientError {
    match refusal {
        Refusal::Statement { name, group } => {
            let message = format!("{name} is not available to tenants");
            let hint = match group {
                Some(group) => Cow::Owned(format!(
                    "The operator of the proxy can allow it: allowed_statements = [\"{}\"].",
                    group.as_str()
                )),
                None if name.starts_with("COPY") => "The data goes through the session: COPY … TO \
                    STDOUT, COPY … FROM STDIN, or \\copy in psql."
                    .into(),
                None => "The proxy allows what reads and writes rows.".into(),
            };
            ClientError::error("42501", "C405", message).hint(hint).of_kind(name)
        }
        Refusal::OfSuperadmins(name) => {
            let message = format!("{name} is not available to super-admins");
            let hint = "They share one role, which stays as it is, and keep nobody waiting by a \
                        lock of their own. Connect as the owner.";
            ClientError::error("42501", "C405", message).hint(hint).of_kind(name)
        }
        Refusal::Explain => {
            let message = "EXPLAIN is not available to tenants: plans are chosen by estimates \
                           from all tenants' rows";
            let hint = "The operator of the proxy can allow it: \
                        allowed_statements = [\"explain\"].";
            ClientError::error("42501", "C405", message).hint(hint).of_kind("EXPLAIN")
        }
        Refusal::Setting(name) => {
            let message = format!("the setting \"{name}\" is not for tenants to change");
            let hint = "The operator of the proxy can allow it by allowed_settings, unless it is \
                        about who the session acts for.";
            ClientError::error("42501", "C406", message).hint(hint).of_kind("SET")
        }
        Refusal::Unparsable { message, position } => {
            ClientError::error("42601", "C407", message).at(position)
        }
        Refusal::Unreadable => {
            let message = "the statement cannot be read with certainty";
            let hint = "Backslashes need standard_conforming_strings = on, other characters than \
                        ASCII a client_encoding such as UTF8. Behind what may change settings, they \
                        need a Sync first.";
            ClientError::error("42501", "C408", message).hint(hint)
        }
        Refusal::Costly => {
            let message = "the statement takes far longer to read than others of its length";
            let hint = "Thousands of operator characters in a row, names of more than 64 parts, \
                        and thousands of GLOBAL TEMPORARY are too many.";
            ClientError::error("54001", "C408", message).hint(hint)
        }
        Refusal::TooLong { length, longest } => {
            let message = format!("a statement of {length} bytes is longer than {longest}");
            let hint = "Send values as parameters or by COPY, or raise max_statement_length.";
            ClientError::error("54000", "C013", message).hint(hint)
        }
    }
}

/// Whether notices that may tell of plans are kept from such a session.
pub(super) fn hides_plans(scope: Scope, guard: Option<&Guard>) -> bool {
    scope.is_tenants() && !guard.is_some_and(Guard::shows_plans)
}

/// What such a session gets of the notices of a login, whole frames.
pub(super) fn login_notices(notices: Bytes, scope: Scope, guard: Option<&Guard>) -> Bytes {
    if notices.is_empty() || !hides_plans(scope, guard) {
        return notices;
    }
    let (mut shown, mut rest) = (BytesMut::new(), &notices[..]);
    while let Ok(Some(header)) = Header::parse(rest) {
        let Some((frame, behind)) = rest.split_at_checked(header.frame_len()) else { break };
        if !tells_of_plans(frame.get(HEADER_LEN..).unwrap_or_default()) {
            shown.extend_from_slice(frame);
        }
        rest = behind;
    }
    shown.freeze()
}

/// Whether a notice may tell of a plan or of estimates, which are made from all tenants' rows.
///
/// Whoever is connected can turn plans (`debug_print_plan`), sorts and statistics on, by
/// `set_config()` inside of a function too. Postgres writes them at LOG, DEBUG and INFO; an
/// application says what it has to say at NOTICE and WARNING.
pub(super) fn tells_of_plans(notice: &[u8]) -> bool {
    !matches!(message::error_field(notice, b'V'), Some("NOTICE" | "WARNING"))
}

/// Words without which no statement undoes the context in plain text: `RESET ALL`,
/// `DISCARD ALL`, and everything that names `cloison.context`.
const WORDS: [&[u8]; 3] = [b"reset", b"discard", b"cloison"];

/// Whether SQL text may undo the context, judged generously.
///
/// A wrong yes costs a round trip. A wrong no (a function, a prepared statement) costs the client
/// an error, never a row: without a context Postgres shows nothing.
pub(super) fn may_undo_context(text: &[u8]) -> bool {
    WORDS.iter().any(|word| scan::contains_word(text, word))
}

/// Whether a command that completed has undone every setting: its `CommandComplete` tag.
pub(super) fn undoes_settings(tag: &[u8]) -> bool {
    tag == b"RESET\0" || tag == b"DISCARD ALL\0"
}

/// Whether a command that completed has undone everything that a session can leave: its
/// `CommandComplete` tag, without the zero byte.
pub(super) fn discards_all(tag: &[u8]) -> bool {
    tag == b"DISCARD ALL"
}

/// Whether a command that completed may have changed tables under the plans of others: its
/// `CommandComplete` tag.
pub(super) fn changes_tables(tag: &[u8]) -> bool {
    [&b"CREATE"[..], b"ALTER", b"DROP"].iter().any(|verb| tag.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Scope = Scope::Tenant(crate::types::TenantId::new(uuid::Uuid::nil()));

    #[test]
    fn only_messages_of_a_session_are_carried() {
        for tag in 0..=u8::MAX {
            let expected = match tag {
                b'Q' | b'P' => Rule::CarryText,
                b'B' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'd' | b'f' => Rule::Carry,
                b'F' => Rule::Refuse,
                b'X' => Rule::Leave,
                _ => Rule::Violation,
            };
            assert_eq!(Rule::of(tag, TENANT), expected, "{:?}", char::from(tag));
            assert_eq!(Rule::of(tag, Scope::Nobody), expected, "{:?}", char::from(tag));
        }
        assert_eq!(Rule::of(b'F', Scope::Owner), Rule::Carry);
        assert_eq!(Rule::of(b'F', Scope::Superadmin), Rule::Refuse);
        assert_eq!(Rule::of(b'Q', Scope::Owner), Rule::Carry);
    }

    #[test]
    fn the_work_is_linear() {
        scan::tests::is_linear("may undo the context", |text| {
            may_undo_context(text);
        });
    }

    #[test]
    fn what_undoes_the_context_is_recognised() {
        for text in [
            "RESET ALL",
            "select 1; rEsEt all",
            "DISCARD ALL",
            "/* */ discard all",
            "set cloison.context = ''",
            "select set_config('cloison.context', '', false)",
        ] {
            assert!(may_undo_context(text.as_bytes()), "{text}");
        }
        for text in ["", "select 1", "res", "update projects set name = 'x'"] {
            assert!(!may_undo_context(text.as_bytes()), "{text}");
        }
    }
}
