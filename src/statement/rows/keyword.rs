//! Words that mean something where rows are read or written.

/// A word that means something to what is read here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keyword {
    As,
    Delete,
    For,
    /// `INSERT`, `MERGE`.
    Insert,
    Into,
    Key,
    /// In no statement that reads or writes rows.
    Never,
    No,
    None,
    Recursive,
    /// `SELECT`, `TABLE`.
    Select,
    Update,
    Values,
    With,
}

impl Keyword {
    pub(super) fn of(word: &[u8]) -> Self {
        let Some(first) = word.first() else { return Self::None };
        let (name, key): (&[u8], Self) = match (word.len(), first | 0x20) {
            (2, b'a') => (b"as", Self::As),
            (2, b'n') => (b"no", Self::No),
            (3, b'f') => (b"for", Self::For),
            (3, b'k') => (b"key", Self::Key),
            (4, b'i') => (b"into", Self::Into),
            (4, b'w') => (b"with", Self::With),
            (5, b'm') => (b"merge", Self::Insert),
            (5, b't') => (b"table", Self::Select),
            (6, b'c') => (b"create", Self::Never),
            (6, b'd') => (b"delete", Self::Delete),
            (6, b'i') => (b"insert", Self::Insert),
            (6, b'l') => (b"listen", Self::Never),
            (6, b's') => (b"select", Self::Select),
            (6, b'u') => (b"update", Self::Update),
            (6, b'v') => (b"values", Self::Values),
            (7, b'e') => (b"execute", Self::Never),
            (7, b'p') => (b"prepare", Self::Never),
            (9, b'r') => (b"recursive", Self::Recursive),
            _ => return Self::None,
        };
        if word.eq_ignore_ascii_case(name) { key } else { Self::None }
    }
}
