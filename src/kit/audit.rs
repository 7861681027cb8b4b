//! AUDIT LOG: whether its chain is whole, found out without the database's own arithmetic.
//!
//! `sql/migrations/0009_audit.sql` says what is hashed. Rows are read in the order of their places,
//! a batch at a time, in one snapshot.

mod archive;
mod pending;

use std::fmt;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use aws_lc_rs::hmac;
use serde_json::json;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::told;
pub use archive::{ArchiveError, Archived, Before, archive, check_files};

/// Rows that are asked for at a time.
const BATCH: i64 = 1000;

/// What the hash is about, so that no other use of SHA-256 looks like it.
const DOMAIN: &[u8] = b"cloison:audit:1:";
/// What the MAC of a checkpoint is about.
const CHECKPOINT_DOMAIN: &[u8] = b"cloison:audit:checkpoint:1:";

/// How a field that is null is hashed, in place of its length.
const NULL: [u8; 4] = [0xff; 4];

/// A SHA-256 hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Rows of the chain that were read, in files and in the database.
    pub rows: u64,
    /// Rows that are committed and have no place yet.
    pub pending: u64,
    /// The place and hash behind which the chain begins: those of the newest checkpoint.
    pub start: (i64, Hash),
    /// The place and hash of the last one that is whole.
    pub head: (i64, Hash),
    /// What is wrong, first of all.
    pub fault: Option<Fault>,
}

/// What is wrong with the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What somebody has done.
    pub kind: Kind,
    /// The place of the row by which it shows, and its id.
    pub row: Option<(i64, i64)>,
}

/// What somebody has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A row is not what was written.
    Altered,
    /// A row stands where another was written.
    Inserted,
    /// Rows ahead of this one are gone.
    Removed,
    /// Rows stand in another order.
    Reordered,
    /// Rows at the end are gone, or the end was moved.
    Truncated,
    /// The chain does not hold the head that was known before.
    HeadUnknown,
    /// A row was written past the chain.
    Unchained,
    /// Rows that had no place yet are gone.
    Vanished,
    /// The kit's key has not signed where the chain begins.
    Checkpoint,
    /// The files given are not those that the chain goes on from.
    Archive,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log could not be read; its owner may.
    #[error("could not read the audit log{}: connect as the kit's owner, with this version of the kit", told(.0))]
    Read(#[from] tokio_postgres::Error),
}

impl Hash {
    const ZERO: Self = Self([0; SHA256_OUTPUT_LEN]);

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// SHA-256 of a row in its place.
    fn of_row(prev: Self, place: i64, id: i64, fields: &[u8]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        for part in [DOMAIN, &prev.0, &place.to_be_bytes(), &id.to_be_bytes(), fields] {
            context.update(part);
        }
        Self::of_digest(context.finish().as_ref())
    }

    fn of_digest(digest: &[u8]) -> Self {
        Self(digest.try_into().unwrap_or(Self::ZERO.0))
    }

    fn of_column(row: &Row, column: usize) -> Result<Self, Error> {
        let bytes: &[u8] = row.try_get(column)?;
        // A length that is impossible is a hash that is wrong.
        Ok(Self(bytes.try_into().unwrap_or([0xee; SHA256_OUTPUT_LEN])))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Altered => "altered: the row is not what was written",
            Self::Inserted => "inserted: the row was not written here",
            Self::Removed => "removed: rows ahead of this one are gone",
            Self::Reordered => "reordered: the row was written in another place",
            Self::Truncated => "truncated: the chain does not end where the last row was written",
            Self::HeadUnknown => "truncated or rewritten: the head given is no row of the chain",
            Self::Unchained => "unchained: the row was written past the chain",
            Self::Vanished => "vanished: rows are gone that were written and had no place yet",
            Self::Checkpoint => "checkpoint: the kit's key did not sign where the chain begins",
            Self::Archive => "archive: the files given do not end where the chain begins",
        })
    }
}

/// A row as it stands.
struct Entry {
    place: i64,
    id: i64,
    prev: Hash,
    hash: Hash,
    /// What the hash has to be, of the row as it stands.
    computed: Hash,
}

impl Entry {
    fn of(row: &Row) -> Result<Self, Error> {
        let (place, id) = (row.try_get(0)?, row.try_get(1)?);
        let prev = Hash::of_column(row, 2)?;
        let computed = Hash::of_row(prev, place, id, &fields(row)?);
        Ok(Self { place, id, prev, hash: Hash::of_column(row, 3)?, computed })
    }
}

/// What a row says, as it is hashed: when, and each field behind its length.
fn fields(row: &Row) -> Result<Vec<u8>, Error> {
    let mut bytes = row.try_get::<_, &[u8]>(4)?.to_vec();
    for column in 5..=9 {
        put_field(row.try_get::<_, Option<&[u8]>>(column)?, &mut bytes);
    }
    Ok(bytes)
}

fn put_field(field: Option<&[u8]>, bytes: &mut Vec<u8>) {
    match field {
        None => bytes.extend_from_slice(&NULL),
        Some(field) => {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field);
        }
    }
}

/// Walks the chain from its beginning, or from the newest checkpoint; `behind` is where the files
/// end that hold the rows ahead of that, if any were given. `progress` is told how many rows were
/// read.
///
/// # Errors
///
/// Whoever is not the owner sees too little of the log to say anything.
pub async fn verify(
    client: &mut Client,
    known: Option<Hash>,
    behind: Option<&Report>,
    mut progress: impl FnMut(u64),
) -> Result<Report, Error> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    walk(&snapshot, known, behind, &mut progress).await
}

async fn walk(
    snapshot: &Transaction<'_>,
    known: Option<Hash>,
    behind: Option<&Report>,
    progress: &mut impl FnMut(u64),
) -> Result<Report, Error> {
    // Only the owner may read it; everybody else would see a part of the log and take it for all.
    let end = snapshot.query_one(HEAD, &[]).await?;
    let end = (end.try_get(0)?, Hash::of_column(&end, 1)?);
    let key = snapshot.query_one(KEY, &[]).await?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.try_get(0)?);
    let mut report = Report::starting_at((0, Hash::ZERO));
    let fault = |kind, row| Some(Fault { kind, row });
    if let Some(row) = snapshot.query_opt(CHECKPOINT, &[]).await? {
        report = Report::starting_at((row.try_get(0)?, Hash::of_column(&row, 1)?));
        let signed = [CHECKPOINT_DOMAIN, row.try_get(2)?].concat();
        if hmac::verify(&key, &signed, row.try_get(3)?).is_err() {
            report.fault = fault(Kind::Checkpoint, None);
            return Ok(report);
        }
    }
    let mut is_known = known.is_none() || (report.start.0 > 0 && known == Some(report.start.1));
    if let Some(behind) = behind {
        if behind.head != report.start {
            report.fault = fault(Kind::Archive, None);
            return Ok(report);
        }
        report.rows = behind.rows;
    }
    let mut before = Hash::ZERO;
    loop {
        let rows = snapshot.query(ROWS, &[&report.head.0, &BATCH]).await?;
        for row in &rows {
            let entry = Entry::of(row)?;
            report.rows += 1;
            if let Some(fault) = judge(snapshot, &entry, report.head, before).await? {
                report.fault = Some(fault);
                return Ok(report);
            }
            before = report.head.1;
            report.head = (entry.place, entry.hash);
            is_known |= known == Some(entry.hash);
        }
        if rows.is_empty() {
            break;
        }
        progress(report.rows);
    }
    let unchained = pending::judge(snapshot, &key, &mut report.pending).await?;
    report.fault = match unchained {
        Some(fault) => Some(fault),
        None if end != report.head => fault(Kind::Truncated, None),
        None if !is_known => fault(Kind::HeadUnknown, None),
        None if pending::are_missing(snapshot).await? => fault(Kind::Vanished, None),
        None => None,
    };
    Ok(report)
}

/// What is wrong with the row behind `last`, which stands behind the one with the hash `before`.
async fn judge(
    snapshot: &Transaction<'_>,
    entry: &Entry,
    last: (i64, Hash),
    before: Hash,
) -> Result<Option<Fault>, Error> {
    let is_whole = entry.computed == entry.hash;
    let is_next = entry.place == last.0 + 1;
    let kind = if is_whole && is_next && entry.prev == last.1 {
        return Ok(None);
    } else if entry.prev == last.1 && !is_whole {
        // At its end a place can be changed as well.
        Kind::Altered
    } else if is_whole && !is_next {
        Kind::Removed
    } else if is_whole {
        // Its content was written so, behind another row than the one that is there now.
        let row = Some((last.0, snapshot.query_one(ID, &[&last.0]).await?.try_get(0)?));
        return Ok(Some(Fault { kind: Kind::Altered, row }));
    } else if last.0 > 0 && entry.prev == before {
        let row = Some((last.0, snapshot.query_one(ID, &[&last.0]).await?.try_get(0)?));
        return Ok(Some(Fault { kind: Kind::Inserted, row }));
    } else {
        let is_elsewhere = |hash: Hash| async move {
            let found = snapshot.query_one(FOLLOWER, &[&&hash.0[..]]).await?;
            Ok::<bool, Error>(found.try_get(0)?)
        };
        match (is_elsewhere(last.1).await?, is_elsewhere(entry.hash).await?) {
            (true, true) => Kind::Reordered,
            (true, false) => Kind::Inserted,
            (false, _) => Kind::Altered,
        }
    };
    Ok(Some(Fault { kind, row: Some((entry.place, entry.id)) }))
}

impl Report {
    const fn starting_at(start: (i64, Hash)) -> Self {
        Self { rows: 0, pending: 0, start, head: start, fault: None }
    }

    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let fault = self.fault.as_ref().map(|fault| {
            json!({
                "kind": format!("{:?}", fault.kind),
                "what": fault.kind.to_string(),
                "position": fault.row.map(|row| row.0),
                "id": fault.row.map(|row| row.1),
            })
        });
        json!({
            "rows": self.rows,
            "pending": self.pending,
            "start": {"position": self.start.0, "hash": self.start.1.to_string()},
            "unbroken": fault.is_none(),
            "head": {"position": self.head.0, "hash": self.head.1.to_string()},
            "fault": fault,
        })
    }
}

const HEAD: &str = "select position, hash from cloison.audit_head";

const ROWS: &str = "
    select l.position, l.id, l.prev, l.hash, pg_catalog.timestamptz_send(l.at),
        pg_catalog.convert_to(l.actor, 'UTF8'), pg_catalog.convert_to(l.action, 'UTF8'),
        pg_catalog.uuid_send(l.tenant_id), pg_catalog.convert_to(l.session, 'UTF8'),
        pg_catalog.convert_to(l.detail::pg_catalog.text, 'UTF8')
    from cloison.audit_log l
    where l.position > $1 and l.prev is not null and l.hash is not null
    order by l.position
    limit $2";

const KEY: &str = "select key from cloison.signing_key";

const CHECKPOINT: &str = "
    select c.position, c.hash,
        pg_catalog.int8send(c.position) || pg_catalog.int8send(c.first_position)
            || pg_catalog.int8send(c.rows) || c.hash || c.file_hash,
        c.mac
    from cloison.audit_checkpoints c
    order by c.position desc
    limit 1";

const ID: &str = "select l.id from cloison.audit_log l where l.position = $1";

const FOLLOWER: &str = "select exists (select from cloison.audit_log l where l.prev = $1)";
