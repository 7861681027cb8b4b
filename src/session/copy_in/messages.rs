//! What a COPY by way of another table writes, and what the client gets in place of what comes.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::frame::split_cstr;
use crate::protocol::message::{backend, frontend};

pub(in crate::session) const FLUSH: &[u8] = b"H\0\0\0\x04";

/// The table that takes the data (0014), and the name of the statement and the portal that we use.
const TABLE: &[u8] = b"~cloison_copy";

/// How it is written in a statement.
const QUALIFIED: &[u8] = b"pg_temp.\"~cloison_copy\"";

/// Portals come first: they hold their statement.
pub(super) fn close(out: &mut BytesMut) {
    for kind in *b"PS" {
        put(frontend::CLOSE, &[&[kind], TABLE, b"\0"], out);
    }
}

/// `Parse`, `Bind` and `Execute` of a statement, with values as text.
pub(super) fn run(text: &[u8], values: &[Option<&[u8]>], out: &mut BytesMut) {
    put(frontend::PARSE, &[TABLE, b"\0", text, b"\0\0\0"], out);
    let mut bound = Vec::new();
    bound.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
    for value in values {
        match value {
            Some(value) => {
                bound.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                bound.put_slice(value);
            }
            None => bound.put_i32(-1),
        }
    }
    put(frontend::BIND, &[TABLE, b"\0", TABLE, b"\0\0\0", &bound, b"\0\0"], out);
    put(frontend::EXECUTE, &[TABLE, b"\0\0\0\0\0"], out);
}

/// The same of a client's statement, with a description of its rows.
pub(super) fn run_unnamed(text: &[u8], out: &mut BytesMut) {
    put(frontend::PARSE, &[b"\0", text, b"\0\0\0"], out);
    put(frontend::BIND, &[&[0; 8]], out);
    put(frontend::DESCRIBE, &[b"P\0"], out);
    put(frontend::EXECUTE, &[&[0; 5]], out);
}

fn put(tag: u8, parts: &[&[u8]], out: &mut BytesMut) {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(1 + length);
    out.put_u8(tag);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    for part in parts {
        out.put_slice(part);
    }
}

/// A message with this body.
pub(super) fn frame(tag: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put(tag, &[body], &mut out);
    out.freeze()
}

/// What completes a COPY of so many rows.
pub(super) fn copied(rows: &[u8]) -> Bytes {
    frame(backend::COMMAND_COMPLETE, &[b"COPY ", rows, b"\0"].concat())
}

/// A COPY with the other table in place of its own.
pub(super) fn staged(text: &[u8], target: Range<usize>) -> Vec<u8> {
    let before = text.get(..target.start).unwrap_or_default();
    let behind = text.get(target.end..).unwrap_or_default();
    [before, QUALIFIED, b" ", behind].concat()
}

/// The table's name as Postgres prints it: the last of its parts, without quotes.
pub(super) fn shown(relation: &[u8]) -> Vec<u8> {
    if relation.last() != Some(&b'"') {
        let start = relation.iter().rposition(|byte| *byte == b'.').map_or(0, |at| at + 1);
        return relation.get(start..).unwrap_or_default().to_ascii_lowercase();
    }
    // A dot in quotes is none between names.
    let (mut start, mut is_quoted) = (0, false);
    for (at, byte) in relation.iter().enumerate() {
        is_quoted ^= *byte == b'"';
        if *byte == b'.' && !is_quoted {
            start = at + 1;
        }
    }
    let quoted = relation.get(start + 1..relation.len() - 1).unwrap_or_default();
    let mut name = Vec::with_capacity(quoted.len());
    for byte in quoted {
        if !(*byte == b'"' && name.last() == Some(&b'"')) {
            name.push(*byte);
        }
    }
    name
}

/// An array of texts as Postgres reads it.
pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let mut text = vec![b'{'];
    for (at, item) in items.iter().enumerate() {
        text.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
        for byte in item {
            if matches!(byte, b'"' | b'\\') {
                text.push(b'\\');
            }
            text.push(*byte);
        }
        text.push(b'"');
    }
    text.push(b'}');
    text
}

/// The only value of a `DataRow`, empty if it is null.
pub(super) fn only_value(body: &[u8]) -> Option<&[u8]> {
    let (head, value) = body.split_first_chunk::<6>()?;
    let [0, 1, length @ ..] = head else { return None };
    if i32::from_be_bytes(*length) < 0 { Some(&[]) } else { Some(value) }
}

/// An error or a notice without these fields, and with the client's table where ours is named.
pub(super) fn told(tag: u8, body: &[u8], without: &[u8], shown: &[u8]) -> Bytes {
    let mut fields = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&code, after)) = rest.split_first().filter(|(code, _)| **code != 0) {
        let Some((value, next)) = split_cstr(after) else { break };
        rest = next;
        // The schema of a temporary table tells nothing.
        let is_ours = code == b's' && value.starts_with(b"pg_temp");
        if !without.contains(&code) && !is_ours {
            fields.push(code);
            replace(value, TABLE, shown, &mut fields);
            fields.push(0);
        }
    }
    fields.push(0);
    frame(tag, &fields)
}

fn replace(text: &[u8], from: &[u8], to: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|part| part == from) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(to);
        rest = rest.get(at + from.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
