//! Prepared statements of the protocol in SQL: `DEALLOCATE`, by which older drivers drop them, and
//! `EXECUTE`.
//!
//! The server knows them by other names than the client does, and does not know that a client has
//! them while it holds none: so `DEALLOCATE` of one is done here, and Postgres gets a statement in
//! its place that does nothing, and fails where the transaction has failed.

use super::from_client::Parts;
use super::preparing;
use super::relay::{Lent, Relay};
use crate::statement::{Deallocated, Kind, Reading, executed};

/// What Postgres gets in place of a `DEALLOCATE`. Nobody listens to that channel.
pub(super) const INSTEAD: &[u8] = b"unlisten _cloison";

/// How the client is answered.
const DEALLOCATED: &[u8] = b"C\0\0\0\x0fDEALLOCATE\0";

/// Takes `DEALLOCATE` of a statement that the client has by the protocol for what it is. True:
/// Postgres gets [`INSTEAD`]. Every other one is left to Postgres.
pub(super) fn take(reading: &mut Reading, parts: &Parts<'_>) -> bool {
    let Kind::Deallocate(Deallocated::One(name)) = &reading.kind else { return false };
    let is_clients = parts.names.get(name).is_some();
    *reading = if is_clients {
        Reading { kind: reading.kind.clone(), is_clean: true }
    } else {
        Reading { kind: Kind::Other, is_clean: false }
    };
    is_clients
}

/// What completes such a statement for the client, if not what the server says.
pub(super) const fn completion(kind: &Kind) -> Option<&'static [u8]> {
    if let Kind::Deallocate(Deallocated::One(_)) = kind { Some(DEALLOCATED) } else { None }
}

/// The text and reading of an `EXECUTE` of a statement that the client has by the protocol, as the
/// server knows it. `None`: it is something else, and goes out as it is.
pub(super) fn execute(
    lent: &mut Lent,
    parts: &mut Parts<'_>,
    reading: &Reading,
    text: &[u8],
) -> Option<(Vec<u8>, Reading)> {
    if reading.kind != Kind::Other {
        return None;
    }
    let (name, range, has_constants) = executed(text)?;
    let kind = &parts.names.get(&name)?.reading().kind;
    if !matches!(kind, Kind::Rows | Kind::SetConfig(_)) {
        return None;
    }
    let (reading, is_clean, ours) = preparing::prepared(lent, parts, &name)?;
    let mut new = text.get(..range.start)?.to_vec();
    new.push(b'"');
    new.extend_from_slice(ours.as_bytes());
    new.extend_from_slice(b"\" ");
    new.extend_from_slice(text.get(range.end..)?);
    // Values of parameters stand in the text, and it does not say which settings they name.
    let is_clean = is_clean && has_constants;
    Some((new, Reading { kind: reading.kind, is_clean }))
}

impl Lent {
    /// Such a statement has completed: notes what it has dropped.
    pub(super) fn note_dropped(&mut self, kind: &Kind) {
        if let Kind::Deallocate(dropped) = kind {
            self.names_dropped = Some(dropped.clone());
        }
    }
}

impl Relay<'_> {
    /// Takes from the client the names of statements that were dropped.
    pub(super) fn drop_names(&mut self, dropped: Deallocated) {
        match dropped {
            Deallocated::All => {
                self.names.clear();
                self.in_band.asking.clear();
            }
            Deallocated::One(name) => {
                self.names.remove(&name);
                self.in_band.asking.forget(&name);
            }
        }
    }
}
