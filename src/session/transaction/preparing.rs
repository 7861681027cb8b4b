//! Prepares a client's statement on the server connection that is to run it.

use std::sync::Arc;

use super::due::{Due, Parse, Whose};
use super::from_client::Parts;
use super::named::{out, put_kind};
use super::relay::Lent;
use crate::backend::{Statement, put_named};
use crate::protocol::message::frontend;
use crate::statement::Reading;

/// Under which name the server knows a statement.
pub(super) enum Name<'a> {
    /// Under the client's, or not at all: then it says so.
    Clients(&'a [u8]),
    Ours(Arc<Statement>),
}

impl Name<'_> {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Clients(name) => name,
            Self::Ours(statement) => statement.name().as_bytes(),
        }
    }
}

/// Sees to it that the server holds the client's statement. `None`: the client has none.
pub(super) fn prepared<'a>(
    lent: &mut Lent,
    parts: &mut Parts<'_>,
    name: &'a [u8],
) -> Option<(Reading, bool, Name<'a>)> {
    let surroundings = Arc::clone(&lent.knowledge.surroundings);
    // It may have been read as texts are read elsewhere, and be prepared here.
    let lexis = lent.bound.server().lexis();
    let is_read_alike = lexis.standard_strings && lexis.safe_encoding;
    if name.is_empty() {
        let here = lent.bound.server().unnamed;
        let unnamed = parts.names.unnamed.as_ref();
        let Some(unnamed) = unnamed.filter(|it| it.is_kept || it.number == here) else {
            // Another client's may be there: it must not be run.
            lent.dues.push(Due::Close(Whose::Ours));
            lent.bound.server_mut().unnamed = 0;
            put_kind(frontend::CLOSE, b'S', b"", out(lent));
            return None;
        };
        let server = lent.bound.server_mut();
        if server.unnamed != unnamed.number {
            server.unnamed = unnamed.number;
            put_named(frontend::PARSE, None, "", &unnamed.definition, &mut server.stream.outgoing);
            lent.prepares = true;
            lent.dues.push(Due::Parse(Parse::Ours));
        }
        let is_known = Arc::ptr_eq(&unnamed.surroundings, &surroundings);
        let is_clean = unnamed.reading.is_clean && is_known && is_read_alike;
        return Some((unnamed.reading.clone(), is_clean, Name::Clients(name)));
    }
    let statement = Arc::clone(parts.names.get(name)?);
    if !lent.bound.server_mut().prepared.is_held(&statement) {
        if !statement.reads_alike(&lent.bound.server().reads_as()) {
            // Its bytes would be read as another text. Postgres says that there is none.
            return None;
        }
        prepare(lent, parts, &statement, None);
    }
    let reading = statement.reading().clone();
    let is_clean = statement.is_clean(&surroundings) && is_read_alike;
    Some((reading, is_clean, Name::Ours(statement)))
}

/// Prepares a named statement on the server connection, and makes room for it.
pub(super) fn prepare(
    lent: &mut Lent,
    parts: &Parts<'_>,
    statement: &Arc<Statement>,
    name: Option<Box<[u8]>>,
) {
    if !lent.dues.skipping() {
        let server = lent.bound.server_mut();
        if let Some(evicted) = server.prepared.insert(statement, parts.max_prepared) {
            // It goes out ahead of the other, and so it is answered.
            evicted.close(&mut server.stream.outgoing);
            lent.dues.push(Due::Close(Whose::Ours));
        }
    }
    lent.prepares |= name.is_none();
    lent.dues.push(Due::Parse(Parse::Named(Arc::clone(statement), name)));
    statement.parse(out(lent));
}
