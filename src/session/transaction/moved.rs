//! What a round of the relay has come to.

use crate::session::relay::End;

/// What the relay needs done before it can go on.
#[derive(Debug)]
pub(super) enum Step {
    /// The client has sent something that only a server can answer.
    NeedsServer,
    /// It has to be found out who the client wants to be.
    Identify,
    /// What is running has lasted too long.
    Cancel,
    /// The server may hold answers back.
    Flush,
    /// Nothing is open: the server connection can go back.
    Rest,
    /// The session is over.
    End(End),
}

/// What a round has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Moved {
    Nothing,
    Something,
    NeedsServer,
    Identify,
    Rest,
}

impl Moved {
    pub(super) const fn or(self, other: Self) -> Self {
        match self {
            Self::Nothing => other,
            Self::Something | Self::NeedsServer | Self::Identify | Self::Rest => self,
        }
    }
}

impl From<bool> for Moved {
    fn from(moved: bool) -> Self {
        if moved { Self::Something } else { Self::Nothing }
    }
}
