//! What a client was told of a prepared statement: the types of its parameters, and its columns.
//!
//! A client writes values and reads rows by what it was told. A statement that is prepared anew may
//! have other types or columns, because its tables have changed. It runs only if it still is what
//! the client was told; otherwise the client gets the error that Postgres itself gives for that, and
//! prepares its statement again. What is not known is asked for ahead of the client's `Bind`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::due::{Describe, Due, Parse, Whose};
use super::from_client::Parts;
use super::from_server::Fate;
use super::named::{self, out, put_kind};
use super::preparing::prepare;
use super::relay::{Lent, Relay};
use crate::backend::{Shape, put_named};
use crate::protocol::frame::{HEADER_LEN, split_cstr};
use crate::protocol::message::frontend;
use crate::protocol::{ClientError, Header, Routine};
use crate::session::relay::HIGH_WATER;
use crate::session::values;

/// A client's statement, and what the client was told of it last.
#[derive(Debug)]
pub(super) struct Known {
    /// The statement's number, or that of an unnamed one.
    pub(super) number: u64,
    told: Mutex<Shape>,
}

impl Known {
    /// The client was told `told` before.
    pub(super) fn new(number: u64, told: Shape) -> Arc<Self> {
        Arc::new(Self { number, told: Mutex::new(told) })
    }

    /// What the client was told.
    pub(super) fn told(&self) -> MutexGuard<'_, Shape> {
        // Each field is set by one assignment, which cannot panic half-way.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a client's statement may be bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    Ready,
    /// It is not what the client was told.
    Changed,
    /// The server has been asked.
    Waits,
}

/// What becomes of a `Bind`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Bind,
    /// More of what the client sends has to be there first.
    NotAllThere,
    Refused,
    Waits,
}

/// Longest description that is looked at; Postgres has none that is longer.
const LONGEST: usize = 256 * 1024;

/// Where the type's OID, length and modifier stand in what follows on a column's name.
const TYPE: std::ops::Range<usize> = 6..16;
/// The length of that.
const BEHIND_NAME: usize = 18;

/// A number for names and types of the columns that the body of a `RowDescription` tells of.
fn columns_of(tag: u8, body: &[u8]) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = KEY.build_hasher();
    hasher.write_u8(tag);
    let mut rest = body.get(2..).unwrap_or_default();
    while let Some((name, behind)) = split_cstr(rest)
        && let Some((column, next)) = behind.split_at_checked(BEHIND_NAME)
    {
        hasher.write(name);
        hasher.write_u8(0);
        hasher.write(column.get(TYPE).unwrap_or_default());
        rest = next;
    }
    hasher.finish()
}

/// The error of Postgres' own for a statement whose tables have changed; drivers know it by the
/// routine.
fn changed() -> ClientError {
    ClientError::error("0A000", "C413", "cached plan must not change result type")
        .routine(Routine::RevalidateCachedQuery)
        .hint("Its tables have changed. Prepare the statement again.")
}

/// Whether the statement of a name is here what the client was told.
fn readiness(lent: &mut Lent, parts: &mut Parts<'_>, name: &[u8]) -> Readiness {
    let Some(known) = parts.names.known(name).cloned() else { return Readiness::Ready };
    let told = known.told().clone();
    if told.is_empty() {
        return Readiness::Ready;
    }
    if name.is_empty() {
        return unnamed_readiness(lent, parts, &known, &told);
    }
    let Some(statement) = parts.names.get(name).cloned() else { return Readiness::Ready };
    let Some(here) = lent.bound.server().prepared.shape(&statement) else {
        if statement.reads_alike(&lent.bound.server().reads_as()) {
            prepare(lent, parts, &statement, None);
            return ask(lent, statement.name().as_bytes(), &known);
        }
        return Readiness::Ready;
    };
    if here.has_other_parameters(&told) {
        let is_settled = !lent.settling.is_unsettled();
        let Some(parameters) = &told.parameters else { return Readiness::Changed };
        let typed = parts.statements.typed(&statement, parameters, is_settled);
        let Some(typed) = typed.filter(|typed| typed.number() != statement.number()) else {
            return Readiness::Changed;
        };
        // From now on it is the statement with the types that the client was told.
        let told = known.told().clone();
        parts.names.replace(name, typed, told);
        return readiness(lent, parts, name);
    }
    if here.has_other_columns(&told) {
        Readiness::Changed
    } else if here.knows(&told) {
        Readiness::Ready
    } else {
        ask(lent, statement.name().as_bytes(), &known)
    }
}

fn unnamed_readiness(
    lent: &mut Lent,
    parts: &mut Parts<'_>,
    known: &Arc<Known>,
    told: &Shape,
) -> Readiness {
    let Some(unnamed) = &parts.names.unnamed else { return Readiness::Ready };
    if lent.bound.server().unnamed == unnamed.number {
        // The client has prepared it here, or it was prepared again, and asked for.
        let here = lent.unnamed.as_ref().filter(|(number, _)| *number == unnamed.number);
        let is_changed = here.is_some_and(|(_, here)| {
            here.has_other_parameters(told) || here.has_other_columns(told)
        });
        return if is_changed { Readiness::Changed } else { Readiness::Ready };
    }
    if !unnamed.is_kept {
        return Readiness::Ready;
    }
    let text = split_cstr(&unnamed.definition).map_or(&b""[..], |(text, _)| text);
    let definition = match &told.parameters {
        Some(parameters) => [text, b"\0", parameters].concat(),
        None => unnamed.definition.clone(),
    };
    let server = lent.bound.server_mut();
    server.unnamed = unnamed.number;
    lent.unnamed = None;
    put_named(frontend::PARSE, None, "", &definition, &mut server.stream.outgoing);
    lent.dues.push(Due::Parse(Parse::Ours));
    ask(lent, b"", known)
}

/// Asks the server what its statement looks like, and lets what comes next wait for that.
fn ask(lent: &mut Lent, name: &[u8], known: &Arc<Known>) -> Readiness {
    let (whose, of) = (Whose::Ours, Some(Arc::clone(known)));
    lent.dues.push(Due::Describe(Describe { whose, of }));
    put_kind(frontend::DESCRIBE, b'S', name, out(lent));
    lent.wait_for_answers();
    Readiness::Waits
}

impl Relay<'_> {
    /// Whether the `Bind` with this header, which begins so, may go out.
    pub(super) fn check_told(&mut self, header: Header) -> Outcome {
        let head = self.client.incoming.get(HEADER_LEN..).unwrap_or_default();
        let names = split_cstr(head).and_then(|(portal, rest)| Some((portal, split_cstr(rest)?.0)));
        let Some((portal, name)) = names else { return Outcome::Bind };
        let Some(known) = self.names.known(name).cloned() else { return Outcome::Bind };
        if known.told().is_empty() {
            return Outcome::Bind;
        }
        let here = self
            .names
            .get(name)
            .zip(self.lent.as_deref())
            .and_then(|(statement, lent)| lent.bound.server().prepared.shape(statement));
        if here.is_some_and(|here| here.fits(&known.told())) {
            return Outcome::Bind;
        }
        let Some(asks) = self.asks_for_rows(header, portal) else { return Outcome::NotAllThere };
        let name = name.to_vec();
        let Some((lent, mut parts, _)) = self.parts() else { return Outcome::Bind };
        match readiness(lent, &mut parts, &name) {
            Readiness::Ready => Outcome::Bind,
            Readiness::Waits => Outcome::Waits,
            Readiness::Changed => {
                if asks {
                    // It has heard of the change, and is told next time what the rows look like.
                    known.told().columns = None;
                }
                named::refuse(lent, Box::new(changed()));
                Outcome::Refused
            }
        }
    }

    /// Whether the client asks behind its `Bind` what the rows of that portal look like, and takes
    /// however many columns there are. `None`: what stands behind it is not there yet.
    fn asks_for_rows(&self, header: Header, portal: &[u8]) -> Option<bool> {
        let behind = self.client.incoming.get(header.frame_len()..).unwrap_or_default();
        let Ok(Some(next)) = Header::parse(behind) else {
            let is_long = header.frame_len() > HIGH_WATER;
            return is_long.then_some(false);
        };
        let bind = self.client.incoming.get(HEADER_LEN..header.frame_len()).unwrap_or_default();
        if next.tag != frontend::DESCRIBE || values::formats_of_results(bind) > Some(1) {
            return Some(false);
        }
        let body = behind.get(HEADER_LEN..next.frame_len())?;
        let name = body.strip_prefix(b"P").and_then(split_cstr);
        Some(name.is_some_and(|(name, _)| name == portal))
    }
}

impl Lent {
    /// How much of an answer that describes a statement has to be there; `None` for every other one.
    pub(super) fn described(&self, header: Header) -> Option<usize> {
        let is_description = matches!(header.tag, b't' | b'T' | b'n');
        let front = if is_description { self.dues.front() } else { None };
        match front {
            Some(Due::Describe(Describe { of: Some(_), .. })) => Some(header.body_len.min(LONGEST)),
            _ => None,
        }
    }

    /// The types of a statement's parameters come.
    pub(super) fn note_parameters(&mut self, look: usize) {
        let Some(Due::Describe(Describe { whose, of: Some(known) })) = self.dues.front() else {
            return;
        };
        let (is_clients, known) = (*whose == Whose::Clients, Arc::clone(known));
        let body = self.body(look);
        let same = known.told().parameters.clone().filter(|told| **told == *body);
        let parameters = same.unwrap_or_else(|| Arc::from(body));
        if is_clients {
            known.told().parameters = Some(Arc::clone(&parameters));
        }
        self.note_shape(known.number, |shape| shape.parameters = Some(parameters));
    }

    /// The columns of a statement or a portal come, or none.
    pub(super) fn note_columns(
        &mut self,
        header: Header,
        look: usize,
        describe: &Describe,
    ) -> Fate {
        if let Some(known) = &describe.of {
            let columns = columns_of(header.tag, self.body(look));
            if describe.whose == Whose::Clients {
                known.told().columns = Some(columns);
            }
            self.note_shape(known.number, |shape| shape.columns = Some(columns));
        }
        match describe {
            Describe { whose: Whose::Clients, .. } => Fate::Forward,
            // That of a simple query.
            Describe { of: None, .. } if header.tag == b'T' => Fate::Forward,
            Describe { .. } => Fate::Drop,
        }
    }

    fn note_shape(&mut self, number: u64, note: impl FnOnce(&mut Shape)) {
        let server = self.bound.server_mut();
        if let Some(shape) = server.prepared.shape_mut(number) {
            note(shape);
        } else if server.unnamed == number {
            let before = self.unnamed.take().filter(|(of, _)| *of == number);
            let mut shape = before.map(|(_, shape)| shape).unwrap_or_default();
            note(&mut shape);
            self.unnamed = Some((number, shape));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a `RowDescription` of one column.
    fn column(name: &str, table: u32, oid: u32, format: u16) -> Vec<u8> {
        let mut body = vec![0, 1];
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&[0, 1]);
        body.extend_from_slice(&oid.to_be_bytes());
        body.extend_from_slice(&[0, 8, 0xff, 0xff, 0xff, 0xff]);
        body.extend_from_slice(&format.to_be_bytes());
        body
    }

    #[test]
    fn columns_are_their_names_and_types() {
        let one = columns_of(b'T', &column("v", 1, 701, 0));
        assert_eq!(
            one,
            columns_of(b'T', &column("v", 2, 701, 1)),
            "table and format are no matter"
        );
        assert_ne!(one, columns_of(b'T', &column("v", 1, 20, 0)));
        assert_ne!(one, columns_of(b'T', &column("w", 1, 701, 0)));
        assert_ne!(columns_of(b'T', &[0, 0]), columns_of(b'n', b""));
        assert_ne!(one, columns_of(b'n', b""));
    }
}
