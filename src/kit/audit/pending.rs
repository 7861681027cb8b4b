//! Rows that are committed and have no place in the chain yet.

use aws_lc_rs::hmac;
use tokio_postgres::Transaction;

use super::{BATCH, Error, Fault, Kind, fields};

/// What the seal of such a row is about.
const SEAL_DOMAIN: &[u8] = b"cloison:audit:row:1:";

/// Counts the rows without a place, and says of the first that is not what was written.
pub(super) async fn judge(
    snapshot: &Transaction<'_>,
    key: &hmac::Key,
    pending: &mut u64,
) -> Result<Option<Fault>, Error> {
    if let Some(row) = snapshot.query_opt(UNCHAINED, &[]).await? {
        return Ok(Some(Fault { kind: Kind::Unchained, row: Some((0, row.try_get(0)?)) }));
    }
    let mut last = i64::MIN;
    loop {
        let rows = snapshot.query(PENDING, &[&last, &BATCH]).await?;
        for row in &rows {
            last = row.try_get(1)?;
            let signed = [SEAL_DOMAIN, &last.to_be_bytes(), &fields(row)?].concat();
            if hmac::verify(key, &signed, row.try_get(3)?).is_err() {
                return Ok(Some(Fault { kind: Kind::Altered, row: Some((0, last)) }));
            }
            *pending += 1;
        }
        if rows.is_empty() {
            return Ok(None);
        }
    }
}

/// Whether fewer rows are there than were written. All rows that there are have been found whole.
pub(super) async fn are_missing(snapshot: &Transaction<'_>) -> Result<bool, Error> {
    let missing: i64 = snapshot.query_one(MISSING, &[]).await?.try_get(0)?;
    Ok(missing != 0)
}

const PENDING: &str = "
    select null, l.id, null, l.seal, pg_catalog.timestamptz_send(l.at),
        pg_catalog.convert_to(l.actor, 'UTF8'), pg_catalog.convert_to(l.action, 'UTF8'),
        pg_catalog.uuid_send(l.tenant_id), pg_catalog.convert_to(l.session, 'UTF8'),
        pg_catalog.convert_to(l.detail::pg_catalog.text, 'UTF8')
    from cloison.audit_log l
    where l.hash is null and l.seal is not null and l.id > $1
    order by l.id
    limit $2";

const MISSING: &str = "
    select h.base
        + (select coalesce(pg_catalog.sum(w.rows), 0)::pg_catalog.int8 from cloison.audit_written w)
        - h.position
        - (select pg_catalog.count(*) from cloison.audit_log l
           where l.hash is null and l.seal is not null)
    from cloison.audit_head h";

const UNCHAINED: &str = "
    select l.id from cloison.audit_log l
    where (l.position is null or l.prev is null or l.hash is null or l.position < 1)
      and not (l.position is null and l.prev is null and l.hash is null and l.seal is not null)
    order by l.id limit 1";
