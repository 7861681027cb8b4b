//! Old rows of the audit log in a file, which proves itself; in the log a checkpoint takes their place.
//!
//! A line of JSON for each row, with all that is hashed; ahead of them one that says what they stand
//! behind, and one behind them that says where they end.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, SHA256};
use serde_json::{Value, json};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};
use uuid::Uuid;

use super::{BATCH, Fault, Hash, Kind, ROWS, Report, put_field, walk};
use crate::kit::told;

/// The first word of a file.
const FORMAT: &str = "cloison audit archive 1";

/// Rows that were written before this go: a time as Postgres reads it.
pub type Before = String;

/// What went to a file.
#[derive(Debug)]
pub struct Archived {
    /// Place of the first row and of the last.
    pub places: (i64, i64),
    /// The last one's hash, behind which the chain goes on.
    pub hash: Hash,
    /// SHA-256 of the file.
    pub file_hash: Hash,
}

/// Why nothing was archived, or nothing can be said of a file.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The log could not be read or changed; its owner may.
    #[error("the audit log could not be archived{}: connect as the kit's owner, with this version of the kit", told(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The log could not be read.
    #[error(transparent)]
    Audit(#[from] super::Error),
    /// The file could not be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no such file.
    #[error("{}, line {line}: not a line of an audit archive", path.display())]
    Format {
        /// Which one.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// Writes the rows that are older than `before` to a new file, and takes them out of the log. `Ok(Err)`:
/// the chain is broken, and nothing was done. `None`: there are none.
///
/// # Errors
///
/// The log is as it was; a file that was begun is gone.
pub async fn archive(
    client: &mut Client,
    before: &Before,
    to: &Path,
) -> Result<Result<Option<Archived>, Fault>, ArchiveError> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let report = walk(&snapshot, None, None, &mut |_| {}).await?;
    if let Some(fault) = report.fault {
        return Ok(Err(fault));
    }
    let row = snapshot.query_typed_one(UP_TO, &[(before, Type::TEXT)]).await?;
    let upto = row.try_get::<_, Option<i64>>(0)?.unwrap_or(report.head.0);
    if upto <= report.start.0 {
        return Ok(Ok(None));
    }
    let failed = |source| ArchiveError::File { path: to.to_owned(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let file = BufWriter::new(file.map_err(failed)?);
    let mut out = Lines { file, hash: digest::Context::new(&SHA256) };
    let written = write_rows(&snapshot, report.start, upto, &mut out, to).await;
    drop(snapshot);
    let archived = match written {
        Ok(hash) => take_out(client, (report.start.0 + 1, upto), hash, out, to).await,
        Err(error) => Err(error),
    };
    if archived.is_err() {
        // The rows are in the log still, and another run writes them again.
        let _ = std::fs::remove_file(to);
    }
    archived.map(|archived| Ok(Some(archived)))
}

/// Takes the rows out of the log once their file is safe.
async fn take_out(
    client: &Client,
    places: (i64, i64),
    hash: Hash,
    out: Lines,
    to: &Path,
) -> Result<Archived, ArchiveError> {
    let failed = |source| ArchiveError::File { path: to.to_owned(), source };
    let Lines { file, hash: file_hash } = out;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    let file_hash = Hash::of_digest(file_hash.finish().as_ref());
    let (upto_hash, file_bytes) = (&hash.0[..], &file_hash.0[..]);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&places.1, Type::INT8), (&upto_hash, Type::BYTEA), (&file_bytes, Type::BYTEA)];
    client.query_typed_one(TAKE_OUT, &parameters).await?;
    Ok(Archived { places, hash, file_hash })
}

struct Lines {
    file: BufWriter<File>,
    hash: digest::Context,
}

impl Lines {
    fn put(&mut self, value: &Value) -> io::Result<()> {
        let line = format!("{value}\n");
        self.hash.update(line.as_bytes());
        self.file.write_all(line.as_bytes())
    }
}

/// Writes the rows behind `start`, which are known to be whole, and gives back the last one's hash.
async fn write_rows(
    snapshot: &Transaction<'_>,
    start: (i64, Hash),
    upto: i64,
    out: &mut Lines,
    to: &Path,
) -> Result<Hash, ArchiveError> {
    let failed = |source| ArchiveError::File { path: to.to_owned(), source };
    let head = json!({"format": FORMAT, "first": start.0 + 1, "prev": start.1.to_string()});
    out.put(&head).map_err(failed)?;
    let mut last = start;
    while last.0 < upto {
        let rows = snapshot.query(ROWS, &[&last.0, &BATCH]).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let place = row.try_get(0)?;
            if place > upto {
                break;
            }
            last = (place, Hash::of_column(row, 3)?);
            out.put(&line(row)?).map_err(failed)?;
        }
    }
    let foot = json!({"rows": last.0 - start.0, "last": last.0, "hash": last.1.to_string()});
    out.put(&foot).map_err(failed)?;
    Ok(last.1)
}

/// A row as a line: what is hashed, and its time for people.
fn line(row: &Row) -> Result<Value, ArchiveError> {
    let text = |column: usize| -> Result<Value, tokio_postgres::Error> {
        let bytes: Option<&[u8]> = row.try_get(column)?;
        Ok(bytes.map(String::from_utf8_lossy).into())
    };
    let at: &[u8] = row.try_get(4)?;
    let at = at.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    let tenant: Option<&[u8]> = row.try_get(7)?;
    let tenant = tenant.and_then(|bytes| Uuid::from_slice(bytes).ok());
    Ok(json!({
        "position": row.try_get::<_, i64>(0)?,
        "id": row.try_get::<_, i64>(1)?,
        // Microseconds since the year 2000, as Postgres counts.
        "at_us": at,
        "at": time(at),
        "actor": text(5)?,
        "action": text(6)?,
        "tenant_id": tenant.map(|tenant| tenant.to_string()),
        "session": text(8)?,
        "detail": text(9)?,
        "hash": Hash::of_column(row, 3)?.to_string(),
    }))
}

/// RFC 3339, in whole seconds.
fn time(micros: i64) -> String {
    const YEAR_2000: i64 = 946_684_800;
    let seconds = YEAR_2000 + micros.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's algorithm, from days to a date of the Gregorian calendar.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day = shifted.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Walks the chain through files, each of which goes on where the one before it ended. Needs no
/// database.
///
/// # Errors
///
/// A file cannot be read, or is none.
pub fn check_files(paths: &[PathBuf]) -> Result<Report, ArchiveError> {
    let mut report: Option<Report> = None;
    for path in paths {
        let file = File::open(path);
        let failed = |source| ArchiveError::File { path: path.clone(), source };
        let mut lines = BufReader::new(file.map_err(failed)?).lines().enumerate();
        let mut next = || -> Result<Option<(usize, Value)>, ArchiveError> {
            let Some((index, line)) = lines.next() else { return Ok(None) };
            let malformed = ArchiveError::Format { path: path.clone(), line: index + 1 };
            let value = serde_json::from_str(&line.map_err(failed)?).map_err(|_| malformed)?;
            Ok(Some((index + 1, value)))
        };
        let malformed = |line| ArchiveError::Format { path: path.clone(), line };
        let head = next()?.map(|(_, value)| value).unwrap_or_default();
        let start = start_of(&head).ok_or_else(|| malformed(1))?;
        let report = report.get_or_insert_with(|| Report::starting_at(start));
        if report.head != start {
            report.fault = Some(Fault { kind: Kind::Archive, row: None });
            return Ok(std::mem::replace(report, Report::starting_at(start)));
        }
        let mut is_ended = false;
        while let Some((number, value)) = next()? {
            if is_ended {
                return Err(malformed(number));
            }
            if value.get("rows").is_some() {
                let end = (value["last"].as_i64(), value["hash"].as_str().and_then(Hash::parse));
                is_ended = true;
                let is_whole = report.fault.is_none();
                if is_whole && end != (Some(report.head.0), Some(report.head.1)) {
                    report.fault = Some(Fault { kind: Kind::Truncated, row: None });
                }
                continue;
            }
            let (entry, hash) = Entry::of(&value).ok_or_else(|| malformed(number))?;
            if report.fault.is_none() {
                judge(report, &entry, hash);
            }
        }
        if !is_ended && report.fault.is_none() {
            report.fault = Some(Fault { kind: Kind::Truncated, row: None });
        }
        if report.fault.is_some() {
            break;
        }
    }
    Ok(report.unwrap_or_else(|| Report::starting_at((0, Hash::ZERO))))
}

fn start_of(head: &Value) -> Option<(i64, Hash)> {
    (head["format"] == FORMAT).then_some(())?;
    Some((head["first"].as_i64()?.checked_sub(1)?, Hash::parse(head["prev"].as_str()?)?))
}

/// A row of a file.
struct Entry {
    place: i64,
    id: i64,
    fields: Vec<u8>,
}

impl Entry {
    /// With the hash that it says it has.
    fn of(line: &Value) -> Option<(Self, Hash)> {
        let mut fields = line["at_us"].as_i64()?.to_be_bytes().to_vec();
        for name in ["actor", "action"] {
            put_field(Some(line[name].as_str()?.as_bytes()), &mut fields);
        }
        let tenant = &line["tenant_id"];
        let tenant = match tenant.is_null() {
            true => None,
            false => Some(Uuid::parse_str(tenant.as_str()?).ok()?),
        };
        put_field(tenant.as_ref().map(|tenant| &tenant.as_bytes()[..]), &mut fields);
        put_field(line["session"].as_str().map(str::as_bytes), &mut fields);
        put_field(Some(line["detail"].as_str()?.as_bytes()), &mut fields);
        let (place, id) = (line["position"].as_i64()?, line["id"].as_i64()?);
        Some((Self { place, id, fields }, Hash::parse(line["hash"].as_str()?)?))
    }
}

/// Goes on to a row, or says what is wrong with it.
fn judge(report: &mut Report, entry: &Entry, hash: Hash) {
    let computed = Hash::of_row(report.head.1, entry.place, entry.id, &entry.fields);
    let kind = if entry.place != report.head.0 + 1 {
        Kind::Removed
    } else if computed != hash {
        Kind::Altered
    } else {
        report.rows += 1;
        report.head = (entry.place, hash);
        return;
    };
    report.fault = Some(Fault { kind, row: Some((entry.place, entry.id)) });
}

/// All rows up to there are older.
const UP_TO: &str = "
    select pg_catalog.min(l.position) - 1 from cloison.audit_log l
    where l.position is not null and l.at >= $1::pg_catalog.text::pg_catalog.timestamptz";

const TAKE_OUT: &str = "select cloison.audit_archive($1, $2, $3)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        // python3: (datetime.fromisoformat('…') - datetime(2000, 1, 1)).total_seconds() * 1000000
        assert_eq!(time(0), "2000-01-01T00:00:00Z");
        assert_eq!(time(-1), "1999-12-31T23:59:59Z");
        assert_eq!(time(762_307_199_999_999), "2024-02-26T23:59:59Z");
        assert_eq!(time(762_523_200_000_000), "2024-02-29T12:00:00Z");
        assert_eq!(time(762_566_400_000_000), "2024-03-01T00:00:00Z");
    }
}
