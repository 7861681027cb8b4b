//! Giving a connection back: a list of doubts, and what resets a connection that raises none.

use std::time::Duration;

use postgres_protocol::message::frontend;

use crate::backend::{Reply, ServerConnection};
use crate::protocol::TransactionStatus;

/// Undoes everything that a session can leave on a connection. Manual: "DISCARD".
///
/// What it does not undo: the seed of `random()`, which we set to one that nobody knows, and what
/// a role has set for itself.
const RESET: &str = "DISCARD ALL";

/// A reset is a local affair of the server's; one that takes longer is no reset.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// It may serve another client as it is.
    Reuse,
    /// It may serve another client once Postgres has confirmed a reset.
    Reset,
    /// It is closed.
    Discard(Reason),
}

/// Why a connection is closed rather than used again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It was idle or alive for long enough.
    Age,
    /// Its session ended because it may not be here any more.
    Ended,
    /// It is in a transaction that nobody will end.
    InTransaction,
    /// It was lost.
    Lost,
    /// It is in another database than the one that is served.
    OtherDatabase,
    /// Another client's settings need its place.
    OtherSettings,
    /// Something that was asked has not been answered.
    PendingReplies,
    /// Postgres did not confirm the reset.
    ResetFailed,
    /// It was opened beyond the pool's size.
    Surplus,
    /// Answers came that nobody had asked for.
    Unaccountable,
    /// Messages were sent that no Sync has ended.
    UnfinishedPipeline,
    /// Bytes are on their way to or from it.
    UnreadBytes,
}

impl Reason {
    /// The label in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Ended => "ended",
            Self::InTransaction => "in_transaction",
            Self::Lost => "lost",
            Self::OtherDatabase => "other_database",
            Self::OtherSettings => "other_settings",
            Self::PendingReplies => "pending_replies",
            Self::ResetFailed => "reset_failed",
            Self::Surplus => "surplus",
            Self::Unaccountable => "unaccountable",
            Self::UnfinishedPipeline => "unfinished_pipeline",
            Self::UnreadBytes => "unread_bytes",
        }
    }
}

/// What was seen on the wire of the connection until now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Residue {
    /// The connection is known to be gone.
    pub lost: bool,
    /// The count of answers went wrong at some time.
    pub unaccountable: bool,
    /// Answers that are due.
    pub pending: usize,
    /// Extended-query messages were sent without a Sync.
    pub unsynced: bool,
    /// Bytes that were read or queued and belong to nobody now.
    pub unread: usize,
    /// What the last `ReadyForQuery` said.
    pub status: TransactionStatus,
    /// Its client's token was revoked, or its tenant is not served any more: what was signed for
    /// them is not to meet anybody.
    pub ended: bool,
    /// The connection has reached `server_lifetime`.
    pub too_old: bool,
    /// Something that outlives a transaction may have been left, as far as we can tell.
    pub dirty: bool,
}

impl Disposition {
    /// Decides from what was seen on the wire. Anything doubtful is discarded.
    pub const fn of(residue: &Residue) -> Self {
        use TransactionStatus::{Error, Idle, Transaction};
        match residue {
            Residue { lost: true, .. } => Self::Discard(Reason::Lost),
            Residue { unaccountable: true, .. } => Self::Discard(Reason::Unaccountable),
            Residue { pending: 1.., .. } => Self::Discard(Reason::PendingReplies),
            Residue { unsynced: true, .. } => Self::Discard(Reason::UnfinishedPipeline),
            Residue { unread: 1.., .. } => Self::Discard(Reason::UnreadBytes),
            Residue { status: Error | Transaction, .. } => Self::Discard(Reason::InTransaction),
            Residue { ended: true, .. } => Self::Discard(Reason::Ended),
            Residue { too_old: true, .. } => Self::Discard(Reason::Age),
            Residue { status: Idle, dirty: true, .. } => Self::Reset,
            Residue { status: Idle, dirty: false, .. } => Self::Reuse,
        }
    }
}

/// Resets the session; true only if Postgres has confirmed it.
///
/// The confirmation is an answer that nobody can have asked for before: a random text. Answers
/// come in the order of the requests, so whatever a client may have left behind, with our count of
/// it wrong, would stand where the text has to be.
pub(super) async fn reset(server: &mut ServerConnection) -> bool {
    let (Some(nonce), Some(seed)) = (nonce(), seed()) else {
        return false;
    };
    // DISCARD ALL keeps the seed. Not by setseed(), which hardening takes from tenants: `set seed`
    // stays with them.
    let echo = format!("select pg_catalog.set_config('seed', '{seed}', false), '{nonce}'");
    let out = &mut server.stream.outgoing;
    let queued = frontend::query(RESET, out).and_then(|()| frontend::query(&echo, out));
    if queued.is_err() {
        return false;
    }
    let confirmed = async {
        let reset = server.round_trip().await;
        let echo = server.round_trip().await;
        is_reset(reset.ok()) && is_echo(echo.ok(), &nonce)
    };
    let confirmed = tokio::time::timeout(RESET_TIMEOUT, confirmed).await;
    let is_clean = confirmed == Ok(true) && server.stream.incoming.is_empty();
    if is_clean {
        server.forget_session();
    }
    is_clean
}

fn is_reset(reply: Option<Reply>) -> bool {
    matches!(reply, Some(Reply::Complete { tags, rows }) if tags == [RESET] && rows.is_empty())
}

fn is_echo(reply: Option<Reply>, nonce: &str) -> bool {
    // A DataRow: the number of columns, then of each the value's length and the value. Of a seed
    // Postgres says only this.
    let length = u32::try_from(nonce.len()).unwrap_or(u32::MAX).to_be_bytes();
    let row = [b"\0\x02\0\0\0\x0bunavailable", &length[..], nonce.as_bytes()].concat();
    matches!(reply, Some(Reply::Complete { tags, rows }) if tags == ["SELECT 1"] && rows == [row])
}

/// A random number from -1 to 1 as SQL writes it; `None` if the system has none.
fn seed() -> Option<String> {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    let sign = if bytes.first().is_some_and(|byte| byte & 1 == 1) { "-" } else { "" };
    Some(format!("{sign}0.{:010}", u32::from_be_bytes(bytes)))
}

/// 128 random bits in hex; `None` if the system has none.
fn nonce() -> Option<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Residue = Residue {
        lost: false,
        unaccountable: false,
        pending: 0,
        unsynced: false,
        unread: 0,
        status: TransactionStatus::Idle,
        ended: false,
        too_old: false,
        dirty: false,
    };

    #[track_caller]
    fn check(residue: Residue, expected: Disposition) {
        assert_eq!(Disposition::of(&residue), expected);
    }

    #[test]
    fn only_our_own_text_confirms_a_reset() {
        let reply = |tag: &str, row: &[u8]| {
            let rows = vec![bytes::Bytes::copy_from_slice(row)];
            Some(Reply::Complete { tags: vec![tag.to_owned()], rows })
        };
        let row = |nonce: &str| format!("\0\x02\0\0\0\x0bunavailable\0\0\0\x02{nonce}");
        assert!(is_echo(reply("SELECT 1", row("ab").as_bytes()), "ab"));
        assert!(!is_echo(reply("SELECT 1", row("ac").as_bytes()), "ab"));
        assert!(!is_echo(reply("SELECT 2", row("ab").as_bytes()), "ab"));
        assert!(!is_echo(reply("SELECT 1", b"\0\x01\0\0\0\x02ab"), "ab"));
        let reset = Some(Reply::Complete { tags: vec![RESET.into()], rows: vec![] });
        assert!(!is_echo(reset, "ab"));
        assert!(!is_echo(None, "ab"));
        assert!(!is_reset(reply("SELECT 1", b"")));
        assert!(!is_reset(Some(Reply::Refused("57014".into(), String::new()))));
        assert_ne!(nonce(), nonce());
        assert_ne!(seed(), seed());
    }

    #[test]
    fn only_a_connection_without_doubts_is_reused() {
        use Disposition::{Discard, Reset, Reuse};
        check(CLEAN, Reuse);
        check(Residue { dirty: true, ..CLEAN }, Reset);
        check(Residue { dirty: true, lost: true, ..CLEAN }, Discard(Reason::Lost));
        check(Residue { lost: true, ..CLEAN }, Discard(Reason::Lost));
        check(Residue { unaccountable: true, ..CLEAN }, Discard(Reason::Unaccountable));
        check(Residue { pending: 1, ..CLEAN }, Discard(Reason::PendingReplies));
        check(Residue { unsynced: true, ..CLEAN }, Discard(Reason::UnfinishedPipeline));
        check(Residue { unread: 1, ..CLEAN }, Discard(Reason::UnreadBytes));
        check(Residue { ended: true, dirty: true, ..CLEAN }, Discard(Reason::Ended));
        check(Residue { too_old: true, ..CLEAN }, Discard(Reason::Age));
        for status in [TransactionStatus::Transaction, TransactionStatus::Error] {
            check(Residue { status, ..CLEAN }, Discard(Reason::InTransaction));
        }
    }
}
