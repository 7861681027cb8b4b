//! The statements that clients have prepared: a name means something to its client alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::memory::OVERHEAD;
use super::told::Known;
use crate::backend::{ReadAs, Shape, Statement};
use crate::pool;
use crate::protocol::ClientError;
use crate::recent::Recent;
use crate::statement::{Kind, Reading, Surroundings};

/// Named statements that one client may have. Postgres has no limit but its memory, which is not
/// ours.
const MOST_NAMES: usize = 10_000;

/// So many definitions are remembered before those that nobody holds any more are looked for.
const SWEEP_AT_LEAST: usize = 1024;

/// Statements that are kept though no client has them, so that those who come and go with the same
/// text find it prepared, and the longest that is: 16 MiB for all of them.
const MOST_KEPT: usize = 1024;
const LONGEST_KEPT: usize = 16 * 1024;

/// One statement for all clients that have prepared the same text with the same types.
pub struct Statements {
    shared: Mutex<Shared>,
    /// Those that were asked for last.
    kept: Recent<u64, Arc<Statement>>,
    hasher: RandomState,
    /// The last number given out, to statements and to unnamed ones.
    last: AtomicU64,
}

#[derive(Default)]
struct Shared {
    /// By the hash of the definition, so that a text goes when its statement does.
    by_definition: HashMap<u64, Weak<Statement>>,
    sweep_at: usize,
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            shared: Mutex::default(),
            kept: Recent::new(MOST_KEPT),
            hasher: RandomState::new(),
            last: AtomicU64::default(),
        }
    }
}

impl Statements {
    /// A number that nobody else has.
    pub(super) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The statement of a definition, one of its own if it `is_shared` by nobody; `None` if it needs
    /// a name and the system has no randomness.
    ///
    /// Shared is what means the same to all: its bytes are read alike, and it is analysed and planned
    /// under the settings that its server connection is known to have.
    pub(super) fn intern(
        &self,
        definition: &[u8],
        reading: Reading,
        surroundings: &Arc<Surroundings>,
        read_as: Option<ReadAs>,
        is_shared: bool,
    ) -> Option<Arc<Statement>> {
        if !is_shared {
            let definition = Bytes::copy_from_slice(definition);
            return self.named(definition, reading, surroundings, read_as);
        }
        let hash = self.hasher.hash_one(definition);
        let is_short = definition.len() <= LONGEST_KEPT;
        if is_short {
            // So that it is not forgotten soon.
            self.kept.get(&hash);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.by_definition.get(&hash).and_then(Weak::upgrade);
        let known = known.filter(|known| known.definition() == definition);
        // What stands in place of a statement about the identity is not what a client has written,
        // though it be the same text.
        let is_identity = |reading: &Reading| reading.kind == Kind::Identity;
        let fits = |known: &Arc<Statement>| {
            // What was read in other surroundings is read anew.
            known.is_read_in(surroundings) && is_identity(known.reading()) == is_identity(&reading)
        };
        if let Some(known) = known.filter(fits) {
            return Some(known);
        }
        let definition = Bytes::copy_from_slice(definition);
        let statement = self.named(definition, reading, surroundings, read_as)?;
        shared.by_definition.insert(hash, Arc::downgrade(&statement));
        shared.sweep();
        drop(shared);
        if is_short {
            self.kept.insert(hash, Arc::clone(&statement));
        }
        Some(statement)
    }

    /// The statement of the same text with other types of parameters. It means the same to all only
    /// where the connection `is_settled`.
    pub(super) fn typed(
        &self,
        statement: &Statement,
        parameters: &[u8],
        is_settled: bool,
    ) -> Option<Arc<Statement>> {
        let (definition, reading, surroundings, read_as) = statement.with_parameters(parameters);
        let is_shared = is_settled && read_as.as_ref().is_none_or(ReadAs::is_common);
        if definition == *statement.definition() {
            return None;
        }
        self.intern(&definition, reading, &surroundings, read_as, is_shared)
    }

    fn named(
        &self,
        definition: Bytes,
        reading: Reading,
        surroundings: &Arc<Surroundings>,
        read_as: Option<ReadAs>,
    ) -> Option<Arc<Statement>> {
        let name = format!("_cloison_{}", pool::random_name().ok()?);
        let (number, surroundings) = (self.number(), Arc::clone(surroundings));
        let new = Statement::new(number, name, definition, reading, surroundings, read_as);
        Some(Arc::new(new))
    }
}

impl Shared {
    fn sweep(&mut self) {
        if self.by_definition.len() > self.sweep_at.max(SWEEP_AT_LEAST) {
            self.by_definition.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at = self.by_definition.len() * 2;
        }
    }
}

/// A statement, and what the client was told of it.
type Named = (Arc<Statement>, Arc<Known>);

/// The statements of one client.
#[derive(Debug, Default)]
pub(super) struct Names {
    named: HashMap<Box<[u8]>, Named>,
    /// What the named ones take.
    bytes: usize,
    pub(super) unnamed: Option<Unnamed>,
}

/// A client's unnamed statement. It is kept here, because the next server connection does not
/// have it.
#[derive(Debug)]
pub(super) struct Unnamed {
    /// What tells it from every other one.
    pub(super) number: u64,
    /// The body of its `Parse` message behind the name.
    pub(super) definition: Vec<u8>,
    /// The definition is there. If it was too long, only the server that was told has it.
    pub(super) is_kept: bool,
    pub(super) reading: Reading,
    pub(super) surroundings: Arc<Surroundings>,
    /// What the client was told of it.
    pub(super) known: Arc<Known>,
}

/// What a named statement takes.
fn size(name: &[u8], statement: &Statement) -> usize {
    name.len() + statement.definition().len() + OVERHEAD
}

/// Of a name so many bytes are repeated in an error: Postgres itself keeps no more.
const LONGEST_SHOWN: usize = 63;

/// Why a client cannot have a statement of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NameError {
    Taken,
    TooMany,
}

/// The error for a name that a client cannot give.
pub(super) fn name_refused(error: NameError, name: &[u8]) -> ClientError {
    match error {
        NameError::Taken => {
            let name = String::from_utf8_lossy(name.get(..LONGEST_SHOWN).unwrap_or(name));
            let message = format!("prepared statement \"{name}\" already exists");
            ClientError::error("42P05", "C403", message)
        }
        NameError::TooMany => {
            let message = "too many prepared statements in this session";
            ClientError::error("53400", "C404", message).hint("Close those that are not needed.")
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.named.get(name).map(|(statement, _)| statement)
    }

    /// What the client was told of its statement of a name; the unnamed one's is empty.
    pub(super) fn known(&self, name: &[u8]) -> Option<&Arc<Known>> {
        match name {
            b"" => self.unnamed.as_ref().map(|unnamed| &unnamed.known),
            _ => self.named.get(name).map(|(_, known)| known),
        }
    }

    /// What the client's statement of a name does; the unnamed one's is empty.
    pub(super) fn kind(&self, name: &[u8]) -> Option<&Kind> {
        match name {
            b"" => self.unnamed.as_ref().map(|unnamed| &unnamed.reading.kind),
            _ => self.get(name).map(|statement| &statement.reading().kind),
        }
    }

    /// Whether the client may give a statement this name.
    pub(super) fn check(&self, name: &[u8]) -> Result<(), NameError> {
        if self.named.contains_key(name) {
            Err(NameError::Taken)
        } else if self.named.len() >= MOST_NAMES {
            Err(NameError::TooMany)
        } else {
            Ok(())
        }
    }

    /// Bytes that are kept for the client; a text that others have, too, counts for each.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.unnamed.as_ref().map_or(0, |unnamed| unnamed.definition.capacity())
    }

    pub(super) fn insert(&mut self, name: &[u8], statement: Arc<Statement>) {
        self.replace(name, statement, Shape::default());
    }

    /// Lets a name mean a statement of which the client was told so much.
    pub(super) fn replace(&mut self, name: &[u8], statement: Arc<Statement>, told: Shape) {
        self.remove(name);
        self.bytes += size(name, &statement);
        let known = Known::new(statement.number(), told);
        self.named.insert(name.into(), (statement, known));
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let (statement, _) = self.named.remove(name)?;
        self.bytes -= size(name, &statement);
        Some(statement)
    }

    pub(super) fn clear(&mut self) {
        self.named = HashMap::new();
        self.bytes = 0;
        self.unnamed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(statements: &Statements, text: &[u8], there: &Arc<Surroundings>) -> Arc<Statement> {
        let reading = Reading { kind: Kind::Rows, is_clean: true };
        statements.intern(text, reading, there, None, true).unwrap()
    }

    #[test]
    fn a_text_goes_with_its_last_client() {
        let (statements, here) = (Statements::default(), Arc::default());
        let mut prepared = crate::backend::Prepared::default();
        let long = |n: usize| format!("select {n}{}\0\0\0", " ".repeat(1 << 20)).into_bytes();
        let mut clients = [Names::default(), Names::default()];
        let mut texts = Vec::new();
        for (n, text) in (0..10).map(|n| (n, long(n))) {
            for client in &mut clients {
                let statement = intern(&statements, &text, &here);
                prepared.insert(&statement, 200);
                texts.push(Arc::downgrade(&statement));
                client.insert(format!("s{n}").as_bytes(), statement);
            }
        }
        assert!(clients.iter().all(|client| client.bytes() > 10 << 20));
        let [mut first, second] = clients;
        drop(second);
        assert!(texts.iter().all(|text| text.strong_count() == 1), "the server holds names only");
        first.remove(b"s0");
        assert_eq!(texts[0].strong_count(), 0);
        first.clear();
        assert_eq!(first.bytes(), 0);
        assert!(texts.iter().all(|text| text.strong_count() == 0));
    }

    #[test]
    fn short_texts_that_nobody_has_are_kept_within_bounds() {
        let (statements, here) = (Statements::default(), Arc::default());
        let text = |n: usize| format!("select {n}\0\0\0").into_bytes();
        let kept: Vec<_> = (0..10 * MOST_KEPT)
            .map(|n| Arc::downgrade(&intern(&statements, &text(n), &here)))
            .collect();
        let alive = kept.iter().filter(|statement| statement.strong_count() > 0).count();
        assert!((MOST_KEPT / 2..=MOST_KEPT).contains(&alive), "{alive}");
        let again = intern(&statements, &text(10 * MOST_KEPT - 1), &here);
        assert!(kept.last().unwrap().upgrade().is_some_and(|last| Arc::ptr_eq(&last, &again)));
    }

    #[test]
    fn the_same_text_is_one_statement() {
        let (statements, here) = (Statements::default(), Arc::default());
        let a = intern(&statements, b"select 1\0\0\0", &here);
        assert!(Arc::ptr_eq(&a, &intern(&statements, b"select 1\0\0\0", &here)));
        let b = intern(&statements, b"select 2\0\0\0", &here);
        assert!(a.number() != b.number() && a.name() != b.name());
        // Not what stands in place of a statement about the identity.
        let reading = Reading { kind: Kind::Identity, is_clean: true };
        let ours = statements.intern(b"select 1\0\0\0", reading, &here, None, true).unwrap();
        assert!(!Arc::ptr_eq(&a, &ours));
        assert!(!Arc::ptr_eq(&ours, &intern(&statements, b"select 1\0\0\0", &here)));
        // Nor one that is nobody else's.
        let reading = Reading { kind: Kind::Rows, is_clean: true };
        let own = statements.intern(b"select 1\0\0\0", reading, &here, None, false).unwrap();
        assert!(own.number() != a.number() && own.name() != a.name());
        // Read anew when what is known of the database has changed.
        let elsewhere = Arc::new(Surroundings::default());
        assert!(!Arc::ptr_eq(&a, &intern(&statements, b"select 1\0\0\0", &elsewhere)));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let (statements, here) = (Statements::default(), Arc::default());
        for number in 0..SWEEP_AT_LEAST * 3 {
            drop(intern(&statements, format!("select {number}").as_bytes(), &here));
        }
        assert!(statements.shared.lock().unwrap().by_definition.len() <= SWEEP_AT_LEAST + 1);
    }

    #[test]
    fn a_name_is_given_once() {
        let (statements, here) = (Statements::default(), Arc::default());
        let mut names = Names::default();
        assert_eq!(names.check(b"a"), Ok(()));
        names.insert(b"a", intern(&statements, b"select 1\0\0\0", &here));
        assert_eq!(names.check(b"a"), Err(NameError::Taken));
        assert!(names.remove(b"a").is_some() && names.remove(b"a").is_none());
        assert_eq!(names.check(b"a"), Ok(()));
    }
}
