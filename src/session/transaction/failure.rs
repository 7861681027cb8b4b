//! What an error of the server's means.

use super::due::{Describe, Due, Execute, Parse, Whose};
use super::from_server::Fate;
use super::relay::Lent;
use crate::protocol::ClientError;
use crate::protocol::message;

const SYNC: &[u8] = b"S\0\0\0\x04";

impl Lent {
    /// Something has failed: usually what is due next.
    pub(super) fn fail(&mut self, look: usize) -> Fate {
        let body = self.body(look);
        let is_fatal = matches!(message::error_field(body, b'V'), Some("FATAL" | "PANIC"));
        let code = message::error_field(body, b'C').unwrap_or_default();
        let is_stale =
            code == "0A000" && message::error_field(body, b'R') == Some("RevalidateCachedQuery");
        let is_missing = code == "26000";
        let refuses_bind = (is_missing || code == "42501") && self.own_bind_is_due();
        // So raises the policies' check where there is no context, or one that a key made which
        // is not in force any more.
        let is_unbound =
            code == "42501" && message::error_field(body, b'R') == Some("exec_stmt_raise");
        let nobody = if is_unbound { self.nobody() } else { None };
        self.bind_refused |= is_unbound && nobody.is_none();
        self.failed = true;
        self.fatal_seen |= is_fatal;
        self.stale_plan |= is_stale;
        self.dirty |= is_stale;
        if is_stale {
            self.bound.server_mut().prepared.tables_changed();
        }
        if is_fatal {
            return Fate::Forward;
        }
        let is_clients = matches!(
            self.dues.front(),
            Some(Due::Bind(Whose::Clients) | Due::Describe(Describe { whose: Whose::Clients, .. }))
        );
        let is_open = self.again.is_open();
        if is_stale && is_clients && self.again.failed() {
            // Nothing else goes out on this connection.
            self.yields = true;
            if is_open {
                // The client waits without a Sync of its own.
                self.block.sync();
                self.dues.push(Due::Sync(Whose::Ours));
                self.bound.server_mut().stream.outgoing.extend_from_slice(SYNC);
            }
            return Fate::Drop;
        }
        if is_stale {
            self.has_heard_of_change();
        }
        if refuses_bind {
            self.bind_refused = true;
            // Refused as it ran, the statement is there; if it could not be prepared, that was what
            // is due, and is noted with all that is skipped.
            let has_claims = self.bound.has_claims();
            *self.bound.server_mut().held_binds.get_mut(has_claims) &= !is_missing;
            return Fate::Refuse(Box::new(bind_refused()));
        }
        if let Some(nobody) = nobody {
            return Fate::Refuse(nobody);
        }
        match self.dues.pop_refused() {
            Some(refusal) => Fate::Refuse(refusal),
            None => Fate::Forward,
        }
    }

    /// The client gets Postgres' own error for a statement whose tables have changed. If it asks
    /// behind its `Bind` what the rows look like, it need not hear the same from us.
    fn has_heard_of_change(&self) {
        if let (
            Some(Due::Bind(Whose::Clients)),
            Some(Due::Describe(Describe { whose: Whose::Clients, of: Some(known) })),
        ) = (self.dues.front(), self.dues.second())
        {
            known.told().columns = None;
        }
    }

    fn own_bind_is_due(&self) -> bool {
        matches!(
            (self.dues.front(), self.dues.second()),
            (Some(Due::Parse(Parse::LocalBind { .. })), _)
                | (Some(Due::Execute(Execute { whose: Whose::Ours, .. })), _)
                | (
                    Some(Due::Bind(Whose::Ours)),
                    Some(Due::Execute(Execute { whose: Whose::Ours, .. }))
                )
        )
    }
}

fn bind_refused() -> ClientError {
    ClientError::error("28000", "C203", "the tenant context was not accepted by the database")
        .hint("The tenant may have been suspended.")
}
