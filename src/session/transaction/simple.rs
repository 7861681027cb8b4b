//! `Query`: its statements are sent as extended-query messages, so that the tenant can be bound
//! ahead of them in the same pipeline.
//!
//! Each is one `Parse`, and of a `Parse` Postgres takes no more than one statement: where we take
//! two for one, it answers 42601 and runs neither. Without a Sync between them they are one
//! transaction unless they say otherwise, as in a `Query`.

use bytes::{BufMut, Bytes, BytesMut};

use super::deallocate;
use super::due::{Describe, Due, Execute, Parse, Whose};
use super::from_client::{Parts, Script};
use super::identity::{self, InBand};
use super::relay::{Copy, Lent, Relay};
use super::{copying, named};
use crate::protocol::ClientError;
use crate::protocol::message::frontend;
use crate::session::identity::moved;
use crate::session::relay::{End, HIGH_WATER, malformed};
use crate::statement::{Kind, Reading};

/// `Bind` of the unnamed statement to the unnamed portal, `Describe` and `Execute` of that portal:
/// no parameters, results as text.
const RUN: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0";
/// What follows on the text in a `Parse` that runs at once: no parameter types, [`RUN`], and a Sync.
pub(super) const BEHIND_TEXT: &[u8] =
    b"\0\0B\0\0\0\x0c\0\0\0\0\0\0\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
const FLUSH: &[u8] = b"H\0\0\0\x04";
const SYNC: &[u8] = b"S\0\0\0\x04";

/// Sends a `Query`, or begins to.
pub(super) fn query(lent: &mut Lent, parts: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let text = body.strip_suffix(b"\0").ok_or_else(|| End::Told(malformed()))?;
    if text.contains(&0) {
        // Postgres takes no more than what stands ahead of it for the text, and refuses the rest.
        return Err(End::Told(malformed()));
    }
    end_skipping(lent);
    // "A simple Query message also destroys the unnamed statement".
    parts.names.unnamed = None;
    if let Some(refusal) = parts.too_long(text) {
        refuse(lent, frontend::QUERY, refusal);
        return Ok(());
    }
    if InBand::may_mention(text) {
        // Each of its statements is judged when its turn comes.
        lent.script = Some(Script { text: Bytes::copy_from_slice(text), next: 0, judges: true });
        return Ok(());
    }
    if let Some(refusal) = parts.judge(lent, text) {
        // As after a syntax error: none of its statements has run.
        named::refuse(lent, refusal);
        sync(lent, Whose::Clients);
        return Ok(());
    }
    let first = lent.read(text);
    let is_one = first.rest >= text.len();
    if is_one && first.reading.kind != Kind::CopyFromStdin {
        piece(lent, parts, text, first.reading)?;
        sync(lent, Whose::Clients);
        lent.yields = !lent.block.is_open() && !lent.is_kept() && lent.bound.is_scarce();
    } else {
        lent.script = Some(Script { text: Bytes::copy_from_slice(text), next: 0, judges: false });
    }
    Ok(())
}

/// Sends more of a `Query` with several statements; false if there is nothing to send now.
pub(super) fn continue_script(relay: &mut Relay<'_>) -> Result<bool, End> {
    let Some(lent) = &mut relay.lent else { return Ok(false) };
    lent.holds &= !lent.dues.is_empty();
    let waits = lent.copy != Copy::None || lent.discarding || lent.holds;
    if waits || lent.script.is_none() || !lent.has_room() {
        return Ok(false);
    }
    let Some(mut script) = lent.script.take() else { return Ok(false) };
    if lent.dues.skipping() || script.next >= script.text.len() {
        sync(lent, Whose::Clients);
        return Ok(true);
    }
    let mut parts = Parts {
        names: &mut relay.names,
        statements: relay.statements,
        out: &mut relay.client.outgoing,
        pins: relay.pins,
        max_prepared: relay.max_prepared,
        guard: relay.guard,
        in_band: &mut relay.in_band,
        memory: &mut relay.memory,
    };
    let judges = script.judges;
    while script.next < script.text.len() {
        let text = script.text.get(script.next..).unwrap_or_default();
        let next = lent.read(text);
        let is_first = script.next == 0;
        let is_copy = next.reading.kind == Kind::CopyFromStdin;
        let is_empty = next.reading.kind == Kind::Empty;
        script.next += next.rest.max(1);
        // Of a text with several statements, Postgres leaves out the empty ones.
        if !is_empty || is_first && next.rest >= text.len() {
            let one = text.get(next.statement).unwrap_or_default();
            if lent.has_left() {
                named::refuse(lent, Box::new(moved()));
            } else if !judges {
                piece(lent, &mut parts, one, next.reading)?;
            } else if !judged_piece(lent, &mut parts, one, next.reading)? {
                script.next -= next.rest.max(1);
                lent.script = Some(script);
                return Ok(false);
            }
        }
        if is_copy || lent.discarding {
            // What becomes of it decides what may follow, so the server has to say so first.
            lent.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
        }
        if is_copy {
            lent.copy = Copy::Asked;
        }
        if is_copy
            || lent.discarding
            || lent.holds
            || !lent.has_room()
            || lent.bound.server().stream.outgoing.len() >= HIGH_WATER
        {
            break;
        }
    }
    lent.script = Some(script);
    Ok(true)
}

/// Sends one statement, and what has to go ahead of it.
fn piece(lent: &mut Lent, parts: &mut Parts<'_>, text: &[u8], reading: Reading) -> Result<(), End> {
    let refusal = named::refusal(&reading.kind, parts);
    if let Some(refusal) = refusal.or_else(|| setting_refused(lent, parts, &reading.kind, text)) {
        named::refuse(lent, refusal);
        return Ok(());
    }
    let (mut reading, mut text) = (reading, text);
    if deallocate::take(&mut reading, parts) {
        text = deallocate::INSTEAD;
    }
    let executed = deallocate::execute(lent, parts, &reading, text);
    if let Some((ours, read)) = &executed {
        (text, reading) = (ours, read.clone());
    }
    named::account_for(lent, &reading.kind, reading.is_clean)?;
    let kind = reading.kind.clone();
    if !copying::take_text(lent, text, &kind) {
        put_piece(lent, text, reading);
    }
    lent.forget_plans_behind(&kind)?;
    lent.hold_behind(&kind);
    Ok(())
}

/// The error for a `SET` whose value would be too much to keep.
fn setting_refused(
    lent: &Lent,
    parts: &mut Parts<'_>,
    kind: &Kind,
    text: &[u8],
) -> Option<Box<ClientError>> {
    if matches!(kind, Kind::Set(_)) { parts.keep(lent, text.len()) } else { None }
}

/// Sends one statement of a text that may be about the identity. False: something has to be
/// answered, or found out, first.
fn judged_piece(
    lent: &mut Lent,
    parts: &mut Parts<'_>,
    text: &[u8],
    reading: Reading,
) -> Result<bool, End> {
    match parts.in_band.mention(text) {
        Ok(Some(found)) => return Ok(identity::piece(lent, parts, &found)),
        Err(refusal) => named::refuse(lent, Box::new(refusal)),
        Ok(None) => match parts.judge(lent, text) {
            Some(refusal) => named::refuse(lent, refusal),
            None => piece(lent, parts, text, reading)?,
        },
    }
    Ok(true)
}

/// The messages of one statement.
pub(super) fn put_piece(lent: &mut Lent, text: &[u8], reading: Reading) {
    lent.block.execute(&reading.kind);
    lent.discarding |= named::discards(&reading.kind) && !lent.dues.skipping();
    let instead = deallocate::completion(&reading.kind);
    lent.dues.push(Due::Parse(Parse::Ours));
    lent.dues.push(Due::Bind(Whose::Ours));
    lent.dues.push(Due::Describe(Describe::QUERY));
    lent.dues.push(Due::Execute(Execute { whose: Whose::Clients, kind: reading.kind, instead }));
    lent.bound.server_mut().unnamed = 0;
    put_parse(text, out(lent));
    out(lent).extend_from_slice(RUN);
}

/// Lets a pipeline fail in which something follows on a change of the tenant that the server
/// connection cannot follow.
pub(super) fn refuse_moved(lent: &mut Lent, tag: u8) {
    refuse(lent, tag, Box::new(moved()));
}

/// Lets the client's pipeline fail with an error of ours, in place of a message with this tag.
pub(super) fn refuse(lent: &mut Lent, tag: u8, refusal: Box<ClientError>) {
    if tag == frontend::QUERY {
        end_skipping(lent);
    }
    named::refuse(lent, refusal);
    if tag == frontend::QUERY {
        sync(lent, Whose::Clients);
    }
}

/// Ahead of a `Query`: Postgres would skip it and say nothing until the next Sync. We are kinder.
pub(super) fn end_skipping(lent: &mut Lent) {
    if lent.dues.skipping() {
        sync(lent, Whose::Ours);
    }
}

fn sync(lent: &mut Lent, whose: Whose) {
    lent.hold_behind_sync();
    lent.block.sync();
    lent.dues.push(Due::Sync(whose));
    out(lent).extend_from_slice(SYNC);
}

fn out(lent: &mut Lent) -> &mut BytesMut {
    &mut lent.bound.server_mut().stream.outgoing
}

/// `Parse` of the unnamed statement, without parameter types.
fn put_parse(text: &[u8], out: &mut BytesMut) {
    let length = 4 + 1 + text.len() + 1 + 2;
    out.reserve(length + RUN.len() + SYNC.len() + 1);
    out.put_u8(frontend::PARSE);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_u8(0);
    out.put_slice(text);
    out.put_slice(&[0, 0, 0]);
}
