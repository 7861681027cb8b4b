//! Extended-query messages: names are the client's own, and mapped to ours.
//!
//! Manual: "Message Flow", section "Extended Query". A statement that the server connection does
//! not hold is prepared there first, in the same pipeline.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::copying;
use super::deallocate;
use super::due::{Describe, Due, Execute, Parse, Whose};
use super::from_client::Parts;
use super::memory::OVERHEAD;
use super::names::{Unnamed, name_refused};
use super::preparing::{Name, prepare, prepared};
use super::relay::{Copy, Lent};
use super::told::Known;
use super::values;
use crate::backend::{ReadAs, Shape, put_named};
use crate::pool::LocalBindQueued;
use crate::protocol::ClientError;
use crate::protocol::frame::split_cstr;
use crate::protocol::message::frontend;
use crate::session::asked;
use crate::session::relay::{End, malformed};
use crate::statement::{self, Kind, Reading};

/// Text and types of a statement that Postgres refuses, in place of one that we refuse: so the
/// transaction fails as it should.
const UNPARSABLE: &[u8] = b"refused\0\0\0";

/// So much memory of the last unnamed statement may be kept for the next one.
const SPARE: usize = 64 * 1024;

const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
const FLUSH: &[u8] = b"H\0\0\0\x04";

/// `Parse`: name, text, parameter types.
pub(super) fn parse(lent: &mut Lent, parts: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let (name, definition) = split(body)?;
    let (text, types) = split(definition)?;
    if let Some(refusal) = parts.too_long(text) {
        if name.is_empty() {
            parts.names.unnamed = None;
        }
        refuse(lent, refusal);
        return Ok(());
    }
    let found = match parts.in_band.mention(text) {
        Ok(found) => found,
        Err(refusal) => {
            refuse(lent, Box::new(refusal));
            return Ok(());
        }
    };
    let instead = found.as_deref().map(|found| asked::definition(found, types));
    let definition = instead.as_deref().unwrap_or(definition);
    let is_identity = found.is_some();
    if !is_identity && let Some(refusal) = parts.judge(lent, text) {
        if name.is_empty() {
            parts.names.unnamed = None;
        }
        refuse(lent, refusal);
        return Ok(());
    }
    let reading = lent.read(text);
    let reading = if is_identity {
        Reading { kind: Kind::Identity, is_clean: true }
    } else if reading.rest >= text.len() {
        reading.reading
    } else {
        // Postgres will refuse it.
        Reading { kind: Kind::Other, is_clean: false }
    };
    let mut reading = reading;
    let is_dropping = deallocate::take(&mut reading, parts);
    let dropping = is_dropping.then(|| [deallocate::INSTEAD, b"\0", types].concat());
    let definition = dropping.as_deref().unwrap_or(definition);
    let refusal = refusal(&reading.kind, parts).or_else(|| match parts.names.check(name) {
        _ if name.is_empty() => None,
        Ok(()) => None,
        Err(error) => Some(Box::new(name_refused(error, name))),
    });
    let is_kept = !name.is_empty() || parts.in_band.myself.is_tenants;
    let refusal = refusal.or_else(|| match is_kept {
        true => parts.keep(lent, name.len() + definition.len() + OVERHEAD),
        false => None,
    });
    let wish = found.map(|found| found.wish);
    let refusal = refusal.or_else(|| parts.in_band.asking.parsed(name, wish).err().map(Box::new));
    if let Some(refusal) = refusal {
        refuse(lent, refusal);
        return Ok(());
    }
    if name.is_empty() {
        parse_unnamed(lent, parts, definition, reading);
        return Ok(());
    }
    let is_plain = text.is_ascii() && !text.contains(&b'\\');
    let read_as = (!is_plain).then(|| lent.bound.server().reads_as());
    // What others have prepared is the same only if it means the same here.
    let is_shared = !lent.settling.is_unsettled()
        && read_as.as_ref().is_none_or(ReadAs::is_common)
        && !matches!(reading.kind, Kind::Deallocate(_))
        && !statement::may_mean_a_moment(text);
    let surroundings = &lent.knowledge.surroundings;
    let statement = parts.statements.intern(definition, reading, surroundings, read_as, is_shared);
    let Some(statement) = statement else {
        return Err(End::Bug("no random bytes for the name of a statement"));
    };
    parts.names.insert(name, Arc::clone(&statement));
    if lent.bound.server_mut().prepared.is_held(&statement) {
        owe(lent, parts, PARSE_COMPLETE);
    } else {
        prepare(lent, parts, &statement, Some(name.into()));
    }
    Ok(())
}

/// Lets the client's pipeline fail with an error of ours.
pub(super) fn refuse(lent: &mut Lent, refusal: Box<ClientError>) {
    lent.dues.push(Due::Parse(Parse::Refused(refusal)));
    lent.bound.server_mut().unnamed = 0;
    put_named(frontend::PARSE, None, "", UNPARSABLE, out(lent));
}

fn parse_unnamed(lent: &mut Lent, parts: &mut Parts<'_>, definition: &[u8], reading: Reading) {
    let surroundings = Arc::clone(&lent.knowledge.surroundings);
    let number = parts.statements.number();
    // The memory of the last one does for this one.
    let mut kept = parts.names.unnamed.take().map(|unnamed| unnamed.definition).unwrap_or_default();
    kept.clear();
    kept.shrink_to(definition.len().max(SPARE));
    kept.extend_from_slice(definition);
    let is_kept = true;
    let known = Known::new(number, Shape::default());
    parts.names.unnamed =
        Some(Unnamed { number, definition: kept, is_kept, reading, surroundings, known });
    lent.bound.server_mut().unnamed = number;
    lent.dues.push(Due::Parse(Parse::Clients));
    put_named(frontend::PARSE, None, "", definition, out(lent));
}

/// `Bind`: portal, statement, and values that are not looked at. `head` may be its beginning only.
/// Says how much of it was taken; the rest follows as it is.
pub(super) fn bind(
    lent: &mut Lent,
    parts: &mut Parts<'_>,
    head: &[u8],
    body_len: usize,
) -> Result<usize, End> {
    let (portal, rest) = split(head)?;
    let (name, rest) = split(rest)?;
    let taken = head.len() - rest.len();
    let is_identity = parts.in_band.asking.wish(name).is_some();
    let known = parts.names.known(name).cloned();
    if known.as_ref().is_none_or(|known| known.told().columns.is_none()) {
        lent.again.counts_on_nothing();
    }
    let (kind, is_clean, ours) = match prepared(lent, parts, name) {
        Some((Reading { kind: Kind::Identity, .. }, ..)) if !is_identity => {
            return Err(End::Bug("values of a statement about the identity were not read"));
        }
        Some((reading, is_clean, ours)) => (values::assigned(reading.kind, head), is_clean, ours),
        None => (Kind::Other, false, Name::Clients(name)),
    };
    // Planning may call functions, so binding counts as doing it.
    account_for(lent, &kind, is_clean)?;
    copying::note_bound(lent, parts.names, portal, name, &kind);
    lent.portals.insert(portal, kind, known);
    lent.dues.push(Due::Bind(Whose::Clients));
    let name = ours.as_bytes();
    let length = 4 + portal.len() + 1 + name.len() + 1 + (body_len - taken);
    let out = out(lent);
    out.put_u8(frontend::BIND);
    out.put_u32(u32::try_from(length).map_err(|_| End::Told(malformed()))?);
    out.put_slice(portal);
    out.put_u8(0);
    out.put_slice(name);
    out.put_u8(0);
    Ok(taken)
}

/// `Describe`: a statement or a portal.
pub(super) fn describe(lent: &mut Lent, parts: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let (&what, rest) = body.split_first().ok_or_else(|| End::Told(malformed()))?;
    let (name, _) = split(rest)?;
    let (of, name) = match what {
        b'S' => {
            let of = parts.names.known(name).cloned();
            match prepared(lent, parts, name) {
                Some((_, _, ours)) => (of, ours),
                None => (None, Name::Clients(name)),
            }
        }
        _ => (lent.portals.known(name), Name::Clients(name)),
    };
    lent.dues.push(Due::Describe(Describe { whose: Whose::Clients, of }));
    put_kind(frontend::DESCRIBE, what, name.as_bytes(), out(lent));
    Ok(())
}

/// `Execute`: a portal, and how many rows.
pub(super) fn execute(lent: &mut Lent, _: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let (portal, _) = split(body)?;
    let kind = lent.portals.get(portal);
    lent.block.execute(&kind);
    let (is_copy, holds) = (kind == Kind::CopyFromStdin, kind.clone());
    let discards = discards(&kind);
    let instead = deallocate::completion(&kind);
    if is_copy && copying::take_portal(lent, portal, body) {
        return Ok(());
    }
    lent.dues.push(Due::Execute(Execute { whose: Whose::Clients, kind, instead }));
    let out = out(lent);
    out.put_u8(frontend::EXECUTE);
    out.put_u32(u32::try_from(body.len() + 4).map_err(|_| End::Told(malformed()))?);
    out.put_slice(body);
    if is_copy || discards {
        // What becomes of it decides what may follow, so the server has to say so first.
        out.put_slice(FLUSH);
    }
    lent.copy = if is_copy { Copy::Asked } else { lent.copy };
    lent.discarding |= discards;
    lent.forget_plans_behind(&holds)?;
    lent.hold_behind(&holds);
    Ok(())
}

/// `Close`: a statement, of which only the name is given up, or a portal.
pub(super) fn close(lent: &mut Lent, parts: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let (&what, rest) = body.split_first().ok_or_else(|| End::Told(malformed()))?;
    let (name, _) = split(rest)?;
    if what == b'S' {
        if name.is_empty() {
            parts.names.unnamed = None;
        } else {
            parts.names.remove(name);
        }
        parts.in_band.asking.forget(name);
        owe(lent, parts, CLOSE_COMPLETE);
    } else {
        lent.portals.remove(name);
        lent.dues.push(Due::Close(Whose::Clients));
        put_kind(frontend::CLOSE, what, name, out(lent));
    }
    Ok(())
}

/// Notes what such a statement leaves, and binds the tenant ahead of it if it has to be.
pub(super) fn account_for(lent: &mut Lent, kind: &Kind, is_clean: bool) -> Result<(), End> {
    lent.dirty |= !is_clean;
    if !is_clean || kind.bears_on_plans() {
        lent.settling.unsettle();
    }
    match kind {
        Kind::ResetAll | Kind::DiscardAll => {
            let overrides = Arc::clone(&lent.bound.server().overrides);
            // Texts that follow are read as if these had not changed.
            lent.dirty |= overrides.value("standard_conforming_strings").is_some()
                || overrides.value("client_encoding").is_some();
            lent.touched.extend(overrides.iter().map(|(name, _)| name.to_owned()));
        }
        Kind::Session(_) => lent.pinned = true,
        // Counts when it has worked: the client may not be allowed to change it.
        Kind::Set(_)
        | Kind::Empty
        | Kind::Begin
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::RollbackTo
        | Kind::Savepoint
        | Kind::SetLocal { .. }
        | Kind::Show
        | Kind::Identity
        | Kind::Cursor
        | Kind::Rows
        | Kind::CopyFromStdin
        | Kind::SetConfig(_)
        | Kind::Deallocate(_)
        | Kind::Alone
        | Kind::Other => {}
    }
    if !lent.block.lacks_bind(kind) {
        return Ok(());
    }
    let queued = lent.bound.queue_local_bind();
    match queued.map_err(|_| End::Bug("the bind could not be written"))? {
        LocalBindQueued::Nothing => {}
        LocalBindQueued::ParseAndBind { has_claims } => {
            lent.prepares = true;
            lent.dues.push(Due::Parse(Parse::LocalBind { has_claims }));
            bind_is_due(lent);
        }
        LocalBindQueued::Bind => bind_is_due(lent),
    }
    lent.block.bind();
    Ok(())
}

fn bind_is_due(lent: &mut Lent) {
    lent.dues.push(Due::Bind(Whose::Ours));
    let (whose, kind) = (Whose::Ours, Kind::Rows);
    lent.dues.push(Due::Execute(Execute { whose, kind, instead: None }));
}

/// Whether statements of the client's may be gone behind it, so that nothing else goes out until
/// the server has answered.
pub(super) const fn discards(kind: &Kind) -> bool {
    matches!(kind, Kind::DiscardAll | Kind::Deallocate(_))
}

/// The error for what cannot work when the server connection changes, unless it may be kept.
pub(super) fn refusal(kind: &Kind, parts: &Parts<'_>) -> Option<Box<ClientError>> {
    let Kind::Session(feature) = kind else { return None };
    if parts.pins {
        return None;
    }
    let message = format!("{} does not work with transaction pooling", feature.as_str());
    let hint = "Its server connection is another client's after the transaction. The operator can \
                set pool_mode = \"session\" or session_statements = \"pin\".";
    let refusal = ClientError::error("0A000", "C402", message).hint(hint);
    Some(Box::new(refusal.of_kind(feature.as_str())))
}

/// The client gets `frame` from us, when its turn comes.
fn owe(lent: &mut Lent, parts: &mut Parts<'_>, frame: &'static [u8]) {
    if lent.dues.skipping() {
    } else if lent.dues.is_empty() {
        parts.out.extend_from_slice(frame);
    } else {
        lent.dues.push(Due::Owed(frame));
    }
}

pub(super) fn put_kind(tag: u8, kind: u8, name: &[u8], out: &mut BytesMut) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(4 + 1 + name.len() + 1).unwrap_or(u32::MAX));
    out.put_u8(kind);
    out.put_slice(name);
    out.put_u8(0);
}

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), End> {
    split_cstr(bytes).ok_or_else(|| End::Told(malformed()))
}

pub(super) fn out(lent: &mut Lent) -> &mut BytesMut {
    &mut lent.bound.server_mut().stream.outgoing
}
