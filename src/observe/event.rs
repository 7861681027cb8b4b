//! Everything that the program can tell.
//!
//! Events hold ids, durations and labels: never a token, a password, a parameter or a client's SQL.

use std::fmt;
use std::time::Duration;

use crate::types::{Access, Address, ServerPid, SessionId, TenantId};

/// Whose fault a failure is: decides the level of the log and the label of the metric.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// The client asked for what it may not have, or broke the protocol. Logged at info.
    Client,
    /// We are wrong. Logged at error.
    Proxy,
    /// Postgres, or the way to it. Logged at warn.
    Server,
}

impl Fault {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Server => "server",
        }
    }
}

impl Flood {
    /// The word in the log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Cancels => "cancel requests",
            Self::Connections => "connections",
            Self::Identities => "in-band identities",
            Self::Refusals => "refused clients",
            Self::Statements => "refused statements",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Events that many clients, or one, can cause at will: each kind has a limit of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flood {
    Cancels,
    Connections,
    Identities,
    Refusals,
    Statements,
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A client could not be accepted; the listener goes on.
    AcceptFailed {
        /// Where we listen.
        address: Address,
        /// The system's reason.
        reason: String,
    },
    /// An address cannot be listened on.
    BindFailed {
        /// The address.
        address: Address,
        /// The system's reason.
        reason: String,
    },
    /// A cancel request was not looked at: there were too many, or too many with wrong keys.
    CancelDropped {
        /// Where it came from.
        client_addr: Address,
    },
    /// A cancel request reached Postgres.
    CancelForwarded {
        /// The session whose statement it cancels.
        session: SessionId,
    },
    /// A cancel request with a key that belongs to no session.
    CancelUnknown,
    /// Something is not as it should be, and clients are served all the same.
    CheckFailed {
        /// What it is about: `certificate`.
        subject: String,
        /// What was looked at: a file, a role.
        value: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        cure: String,
    },
    /// No server connection became free in time.
    CheckoutTimedOut {
        /// The pool that was asked.
        pool: Access,
        /// How long the client waited.
        waited: Duration,
    },
    /// A client was accepted; it has not said anything yet.
    ClientConnected {
        /// Its session, if it gets that far.
        session: SessionId,
        /// Where it comes from.
        client_addr: Address,
    },
    /// A client was refused before it had a session.
    ClientRefused {
        /// The session that it would have been.
        session: SessionId,
        /// Whose fault it is.
        fault: Fault,
        /// The stable code that the client sees too.
        code: &'static str,
        /// The SQLSTATE that the client sees.
        sqlstate: &'static str,
        /// What the client may not know: the chain of causes, without secrets.
        detail: String,
    },
    /// Connections were closed unheard, because even those beyond the limit were too many. Told
    /// when it begins.
    ClientsDropped {
        /// Where we listen.
        address: Address,
    },
    /// The drain is over.
    DrainFinished {
        /// How long it took.
        duration: Duration,
    },
    /// No more clients are accepted; sessions may end.
    DrainStarted,
    /// Nobody can tell whether sessions have to end. Told when it begins.
    EndsUnknown {
        /// Why not.
        reason: String,
    },
    /// A client asked in band to act for somebody, and may not. Its session goes on.
    IdentityRefused {
        /// The session.
        session: SessionId,
        /// The stable code that the client sees too.
        code: &'static str,
        /// The tenant that it named: escaped, and cut to a bounded length. `None` for a token.
        asked_for: Option<String>,
        /// What is the matter.
        reason: String,
    },
    /// A signal asked for key files to be read again, and a rule's file could not be used. The keys
    /// of before stay in force.
    KeyFileKept {
        /// The rule.
        rule: String,
        /// What is wrong with the file.
        reason: String,
    },
    /// A signal asked for key files to be read again, and a rule's file was.
    KeyFileRead {
        /// The rule.
        rule: String,
        /// How many keys it holds.
        keys: usize,
    },
    /// A signal asked for key files to be read again, and no rule has one.
    NoKeyFiles,
    /// An address is listened on.
    Listening {
        /// The address, with the port that was picked.
        address: Address,
    },
    /// Lines of the log were lost, because whoever reads it was too slow.
    LinesLost {
        /// How many since the last time.
        count: usize,
    },
    /// A critical finding is not there any more, or was accepted.
    LintCured {
        /// Its key.
        key: String,
    },
    /// The database could not be looked over.
    LintFailed {
        /// Why not.
        reason: String,
    },
    /// The database has a fault by which tenants could see each other's rows.
    LintFound {
        /// By what it can be accepted: lint and object.
        key: String,
        /// What is wrong.
        detail: String,
        /// SQL that cures it.
        fix: Option<String>,
    },
    /// The service manager could not be told how far the program is.
    NotifyFailed {
        /// Why not.
        reason: String,
    },
    /// Everything that serving needs is there.
    Ready,
    /// Lines of one kind that were left out, because there were too many a second.
    RefusalsUntold {
        /// What they were about.
        what: &'static str,
        /// How many since the last line.
        count: u64,
    },
    /// The program has all rights of the machine, and needs none of them.
    RunsAsRoot,
    /// A server connection has logged in.
    ServerConnected {
        /// Its pool.
        pool: Access,
        /// Its process at Postgres.
        pid: ServerPid,
        /// From connect to the end of the login.
        duration: Duration,
    },
    /// A server connection was closed instead of reused.
    ServerDiscarded {
        /// Its pool.
        pool: Access,
        /// Its process at Postgres.
        pid: ServerPid,
        /// Why: one of a few words.
        reason: &'static str,
    },
    /// Postgres refuses the login of a pool, which it has accepted before.
    ServerLockedOut {
        /// The pool.
        pool: Access,
        /// The role.
        role: String,
        /// What Postgres said, with its SQLSTATE.
        reason: String,
        /// What a superuser has to run, with the configured password in its place.
        fix: String,
    },
    /// A new server connection has defaults of its role's that nobody is known to have given it.
    ServerUnfit {
        /// Its pool.
        pool: Access,
        /// The role.
        role: String,
        /// The names of the settings.
        settings: String,
    },
    /// Clients wait for a server connection of a pool that is full. Told after a second, and every
    /// half minute while it lasts.
    PoolFull {
        /// The pool.
        pool: Access,
        /// How many wait.
        waiting: usize,
        /// For how long somebody has been waiting.
        lasted: Duration,
    },
    /// Nobody waits any more for a pool of which [`Event::PoolFull`] was told.
    PoolRelieved {
        /// The pool.
        pool: Access,
        /// For how long somebody had been waiting.
        lasted: Duration,
    },
    /// What is known of a pool's role and database has changed.
    PoolLearnt {
        /// The pool.
        pool: Access,
        /// Why nothing that touches rows leaves a connection clean, if so: then each is reset
        /// before somebody else gets it.
        resets_because: Option<String>,
    },
    /// A session is over.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why: one of a few words.
        reason: &'static str,
        /// How long it lasted.
        duration: Duration,
    },
    /// A signal came that changes nothing.
    SignalIgnored {
        /// Its name.
        signal: &'static str,
    },
    /// Sessions end as soon as nothing is open: their tokens were revoked, their tenants are not
    /// served any more, or the database has not answered for too long.
    SessionsEnding {
        /// How many.
        count: usize,
    },
    /// Nobody is served yet, because something is away.
    Waiting {
        /// What is away.
        what: String,
        /// Why it cannot be used.
        cause: String,
        /// What to do if it does not come by itself.
        cure: String,
        /// How long it has been away.
        waited: Duration,
        /// When it is tried again.
        next: Duration,
    },
    /// The proxy refused a statement. The session goes on.
    StatementRefused {
        /// The session.
        session: SessionId,
        /// The stable code that the client sees too.
        code: &'static str,
        /// The kind of statement, where it is known: never the text.
        kind: Option<&'static str>,
        /// What the session's token allows.
        access: Access,
        /// The tenant that the session acts for, if there is one.
        tenant: Option<TenantId>,
        /// The token's `sub`.
        subject: Option<String>,
    },
    /// Everything that was waited for is there.
    WaitingOver {
        /// How long it took.
        waited: Duration,
    },
    /// A client has logged in.
    SessionStarted {
        /// Which.
        session: SessionId,
        /// What its token allows.
        access: Access,
        /// Whose rows it sees, if it acts for a tenant.
        tenant: Option<TenantId>,
        /// Where it comes from.
        client_addr: Address,
        /// The rule that accepted its token.
        issuer: String,
        /// Whose the token is: its subject, or its id; `None` if it has neither.
        holder: Option<String>,
        /// The user name that the client gave. It is not proof of anything.
        user: String,
    },
}

impl Event {
    /// Which flood it may be a part of, if anybody can cause it as often as he likes.
    pub(super) const fn flood(&self) -> Option<Flood> {
        if matches!(self, Self::CancelDropped { .. } | Self::CancelUnknown) {
            Some(Flood::Cancels)
        } else if matches!(self, Self::ClientConnected { .. }) {
            Some(Flood::Connections)
        } else if matches!(self, Self::ClientRefused { .. }) {
            Some(Flood::Refusals)
        } else if matches!(self, Self::IdentityRefused { .. }) {
            Some(Flood::Identities)
        } else if matches!(self, Self::StatementRefused { .. }) {
            Some(Flood::Statements)
        } else {
            None
        }
    }
}
