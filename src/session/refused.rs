//! Tells the log of statements that were refused: who sent them and of what kind they were, never
//! their text.

use crate::observe::{Event, Observer};
use crate::protocol::ClientError;
use crate::tenant::Identity;
use crate::types::SessionId;

/// Tells the observer that a statement of `identity` was answered with `error`.
pub(super) fn tell(
    observer: &Observer,
    session: SessionId,
    identity: &Identity,
    error: &ClientError,
) {
    if !observer.hears_refused_statements() {
        return;
    }
    let claims = identity.claims();
    observer.observe(Event::StatementRefused {
        session,
        code: error.code,
        kind: error.kind,
        access: claims.access(),
        tenant: identity.tenant(),
        subject: claims.subject().map(str::to_owned),
    });
}
