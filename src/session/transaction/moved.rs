//! What a round of the relay has come to.

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
