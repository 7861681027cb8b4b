//! Named statements of a server connection: what it holds, and what has to make room.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::message::frontend;
use crate::statement::{Reading, Surroundings};

/// A statement that clients have prepared: one for all who prepared the same.
pub struct Statement {
    /// What tells it from every other one while the process lives.
    number: u64,
    /// Its name on server connections. Random, so that no client can execute another's.
    name: Arc<str>,
    /// The body of its `Parse` message behind the name: text, zero byte, parameter types.
    definition: Bytes,
    /// What its text says.
    reading: Reading,
    /// What the database added to that when it was read.
    surroundings: Arc<Surroundings>,
    /// How its bytes were read; `None` if every server reads them alike.
    read_as: Option<ReadAs>,
}

/// Settings by which a server makes characters and strings of a text's bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadAs {
    /// `client_encoding`.
    pub encoding: String,
    /// `standard_conforming_strings` is on.
    pub standard_strings: bool,
}

impl ReadAs {
    /// Whether they are those of nearly all clients.
    pub fn is_common(&self) -> bool {
        self.encoding == "UTF8" && self.standard_strings
    }
}

impl Statement {
    /// Names what a `Parse` message defines.
    pub fn new(
        number: u64,
        name: String,
        definition: Bytes,
        reading: Reading,
        surroundings: Arc<Surroundings>,
        read_as: Option<ReadAs>,
    ) -> Self {
        Self { number, name: name.into(), definition, reading, surroundings, read_as }
    }

    /// Whether a server with these settings reads it as it was read.
    pub fn reads_alike(&self, server: &ReadAs) -> bool {
        self.read_as.as_ref().is_none_or(|read_as| read_as == server)
    }

    /// What tells it from every other one.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its name on server connections.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The body of its `Parse` message behind the name.
    pub const fn definition(&self) -> &Bytes {
        &self.definition
    }

    /// What its text says.
    pub const fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Whether it leaves nothing on a connection, as far as is known in `surroundings`.
    pub fn is_clean(&self, surroundings: &Arc<Surroundings>) -> bool {
        self.reading.is_clean && self.is_read_in(surroundings)
    }

    /// Whether it was read in `surroundings`.
    pub fn is_read_in(&self, surroundings: &Arc<Surroundings>) -> bool {
        Arc::ptr_eq(&self.surroundings, surroundings)
    }

    /// Its text and the types of its parameters, with what was read in it, as another statement's.
    pub fn with_parameters(
        &self,
        parameters: &[u8],
    ) -> (Vec<u8>, Reading, Arc<Surroundings>, Option<ReadAs>) {
        let text = self.definition.split(|byte| *byte == 0).next().unwrap_or_default();
        let definition = [text, b"\0", parameters].concat();
        let surroundings = Arc::clone(&self.surroundings);
        (definition, self.reading.clone(), surroundings, self.read_as.clone())
    }

    /// Appends the `Parse` message that prepares it.
    pub fn parse(&self, buffer: &mut BytesMut) {
        put_named(frontend::PARSE, None, &self.name, &self.definition, buffer);
    }
}

impl Evicted {
    /// What tells it from every other one.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Appends the `Close` message that drops it.
    pub fn close(&self, buffer: &mut BytesMut) {
        put_named(frontend::CLOSE, Some(b'S'), &self.name, &[], buffer);
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its text is the client's, and has no place in a log.
        f.debug_struct("Statement").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Appends a message whose body is a kind, if there is one, a name, and `rest`.
pub fn put_named(tag: u8, kind: Option<u8>, name: &str, rest: &[u8], buffer: &mut BytesMut) {
    let length = 4 + usize::from(kind.is_some()) + name.len() + 1 + rest.len();
    buffer.put_u8(tag);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    buffer.extend_from_slice(kind.as_slice());
    buffer.extend_from_slice(name.as_bytes());
    buffer.put_u8(0);
    buffer.extend_from_slice(rest);
}

/// A statement that a server connection has to drop.
#[derive(Debug)]
pub struct Evicted {
    number: u64,
    name: Arc<str>,
}

/// What a server has said of a statement.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shape {
    /// The types of its parameters: the body of a `ParameterDescription`, and the end of a `Parse`.
    pub parameters: Option<Arc<[u8]>>,
    /// Stands for the names and types of its columns.
    pub columns: Option<u64>,
}

impl Shape {
    /// Whether nothing was said.
    pub const fn is_empty(&self) -> bool {
        self.parameters.is_none() && self.columns.is_none()
    }

    /// Whether all that `told` says is known here.
    pub fn knows(&self, told: &Self) -> bool {
        (told.parameters.is_none() || self.parameters.is_some())
            && (told.columns.is_none() || self.columns.is_some())
    }

    /// Whether all that `told` says is so here.
    pub fn fits(&self, told: &Self) -> bool {
        (told.parameters.is_none() || told.parameters == self.parameters)
            && (told.columns.is_none() || told.columns == self.columns)
    }

    /// Whether the parameters are known, and others than `told` says.
    pub fn has_other_parameters(&self, told: &Self) -> bool {
        let both = self.parameters.as_ref().zip(told.parameters.as_ref());
        both.is_some_and(|(here, told)| here != told)
    }

    /// Whether the columns are known, and others than `told` says.
    pub fn has_other_columns(&self, told: &Self) -> bool {
        self.columns.zip(told.columns).is_some_and(|(here, told)| here != told)
    }
}

/// The named statements that one server connection holds, the least recently used to go first.
#[derive(Debug, Default)]
pub struct Prepared {
    held: HashMap<u64, Held>,
    /// Counts uses.
    clock: u64,
    /// What was prepared before this may not fit its tables any more.
    fresh_since: u64,
}

#[derive(Debug)]
struct Held {
    /// Of a statement only that: its text goes with the last client that has it.
    name: Arc<str>,
    /// What the server has said of it.
    shape: Shape,
    prepared_at: u64,
    last_use: u64,
}

impl Prepared {
    /// Whether the connection holds it as it should be; if so, that was a use of it.
    pub fn is_held(&mut self, statement: &Statement) -> bool {
        self.clock += 1;
        match self.held.get_mut(&statement.number) {
            Some(held) if held.prepared_at >= self.fresh_since => {
                held.last_use = self.clock;
                true
            }
            Some(_) | None => false,
        }
    }

    /// What the server has said of a statement; `None` if the connection does not hold it as it
    /// should be.
    pub fn shape(&self, statement: &Statement) -> Option<&Shape> {
        let held = self.held.get(&statement.number)?;
        (held.prepared_at >= self.fresh_since).then_some(&held.shape)
    }

    /// The same of the statement of a number, to be added to.
    pub fn shape_mut(&mut self, number: u64) -> Option<&mut Shape> {
        self.held.get_mut(&number).map(|held| &mut held.shape)
    }

    /// Notes that the tables have changed: each statement has to be prepared anew.
    pub const fn tables_changed(&mut self) {
        self.fresh_since = self.clock + 1;
    }

    /// Notes that it is being prepared, and says which one has to be closed ahead of it: itself as
    /// it was, or one that makes room.
    pub fn insert(&mut self, statement: &Statement, limit: usize) -> Option<Evicted> {
        self.clock += 1;
        let number = statement.number;
        let before = self.held.remove(&number);
        let evicted = if let Some(before) = before {
            Some((number, before))
        } else if self.held.len() >= limit.max(1) {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.last_use);
            oldest.map(|(&number, _)| number).and_then(|number| self.held.remove_entry(&number))
        } else {
            None
        };
        let (prepared_at, last_use) = (self.clock, self.clock);
        let name = Arc::clone(&statement.name);
        let shape = Shape::default();
        self.held.insert(number, Held { name, shape, prepared_at, last_use });
        evicted.map(|(number, held)| Evicted { number, name: held.name })
    }

    /// Notes that it is not there after all.
    pub fn remove(&mut self, statement: &Statement) {
        self.held.remove(&statement.number);
    }

    /// Notes that nothing is there.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Kind;

    fn statement(number: u64) -> Arc<Statement> {
        let reading = Reading { kind: Kind::Rows, is_clean: true };
        let definition = Bytes::from_static(b"select 1\0\0\0");
        let (name, here) = (format!("n{number}"), Arc::default());
        Arc::new(Statement::new(number, name, definition, reading, here, None))
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut prepared = Prepared::default();
        assert!(prepared.insert(&statement(1), 2).is_none());
        assert!(prepared.insert(&statement(2), 2).is_none());
        assert!(prepared.is_held(&statement(1)));
        let evicted = prepared.insert(&statement(3), 2).map(|statement| statement.number());
        assert_eq!(evicted, Some(2));
        assert!(prepared.is_held(&statement(1)) && prepared.is_held(&statement(3)));
        assert!(!prepared.is_held(&statement(2)));
        prepared.clear();
        assert!(prepared.is_empty());
    }

    #[test]
    fn what_does_not_fit_its_tables_is_closed_and_prepared_again() {
        let mut prepared = Prepared::default();
        assert!(prepared.insert(&statement(1), 2).is_none());
        assert!(prepared.insert(&statement(2), 2).is_none());
        prepared.tables_changed();
        assert!(!prepared.is_held(&statement(1)) && !prepared.is_held(&statement(2)));
        let closed = prepared.insert(&statement(1), 2).map(|statement| statement.number());
        assert_eq!(closed, Some(1));
        assert!(prepared.is_held(&statement(1)) && !prepared.is_held(&statement(2)));
    }

    #[test]
    fn messages_count_their_own_length() {
        let mut buffer = BytesMut::new();
        statement(7).parse(&mut buffer);
        assert_eq!(&buffer[..], b"P\0\0\0\x12n7\0select 1\0\0\0");
        buffer.clear();
        Evicted { number: 7, name: "n7".into() }.close(&mut buffer);
        assert_eq!(&buffer[..], b"C\0\0\0\x08Sn7\0");
    }

    #[test]
    fn what_was_read_in_other_surroundings_is_in_doubt() {
        let here = Arc::new(Surroundings::default());
        let reading = Reading { kind: Kind::Rows, is_clean: true };
        let read = Statement::new(1, "n".into(), Bytes::new(), reading, Arc::clone(&here), None);
        assert!(read.is_clean(&here));
        assert!(!read.is_clean(&Arc::new(Surroundings::default())));
    }
}
