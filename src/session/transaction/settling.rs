//! Whether plans that are made on a server connection are made under settings that it is known to
//! have: only then may they stay there for others.

use super::due::{Due, Execute, Parse, Whose};
use super::relay::Lent;
use crate::protocol::frame::split_cstr;
use crate::session::relay::End;
use crate::statement::{self, Kind};

/// The settings that Postgres reports and a client may change, in the majors that we know.
const REPORTED: [&str; 8] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "intervalstyle",
    "search_path",
    "standard_conforming_strings",
    "timezone",
];

/// What has become of the settings that the connection was lent with.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Plans may have been made under others, by functions, too.
    is_unsettled: bool,
    /// What made it so has not been executed yet; behind it Postgres forgets what others have
    /// planned.
    forgets_soon: bool,
    /// The mechanism is switched off: see `TransactionPooling::keeps_plans`.
    is_off: bool,
}

impl Settling {
    pub(super) fn new(is_off: bool) -> Self {
        Self { is_off, ..Self::default() }
    }

    /// The session is as it was when the connection was lent.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.is_off);
    }

    /// Settings change, or may change.
    pub(super) fn unsettle(&mut self) {
        if !self.is_unsettled && !self.is_off {
            (self.is_unsettled, self.forgets_soon) = (true, true);
        }
    }

    /// It is not known whether something has changed them: nothing else is executed for it.
    pub(super) fn doubt(&mut self) {
        self.is_unsettled = !self.is_off;
    }

    pub(super) const fn is_unsettled(&self) -> bool {
        self.is_unsettled
    }
}

impl Lent {
    /// The server reports a setting: whatever has changed it, a function too, the client counts on
    /// it from now on.
    pub(super) fn note_reported(&mut self, look: usize) {
        let name = split_cstr(self.body(look))
            .map_or_else(Vec::new, |(name, _)| name.to_ascii_lowercase());
        let known = REPORTED.into_iter().find(|known| known.as_bytes() == name);
        if let Some(known) = known {
            if statement::bears_on_plans(known) {
                self.settling.doubt();
            }
            self.touched.insert(known.to_owned());
        }
    }

    /// Whether something may be left that outlives the transaction.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty || self.settling.is_unsettled || self.holds_texts() || !self.touched.is_empty()
    }

    /// Nobody else's statements run by plans that were made here; if Postgres does not say so, the
    /// connection is reset.
    pub(super) async fn settle_plans(&mut self) {
        if self.settling.is_unsettled && !self.dirty && !self.holds_texts() {
            self.settling.is_unsettled = self.bound.forget_plans().await.is_err();
        }
    }

    /// What follows in the transaction runs by no plan that was made under other settings than its
    /// own: functions keep such plans for whoever calls them next.
    pub(super) fn forget_plans_behind(&mut self, kind: &Kind) -> Result<(), End> {
        let is_alone = matches!(kind, Kind::CopyFromStdin | Kind::DiscardAll | Kind::Identity);
        if is_alone || !std::mem::take(&mut self.settling.forgets_soon) {
            return Ok(());
        }
        self.dues.push(Due::Parse(Parse::Ours));
        self.dues.push(Due::Bind(Whose::Ours));
        let (whose, kind) = (Whose::Ours, Kind::Other);
        self.dues.push(Due::Execute(Execute { whose, kind, instead: None }));
        let queued = self.bound.queue_forgetting();
        queued.map_err(|_| End::Bug("what makes Postgres forget plans could not be written"))
    }
}
