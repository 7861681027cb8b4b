//! Filling in rows a few pages at a time: each batch is a transaction of its own, so that locks on
//! rows are short, and what was done stays.

use std::time::{Duration, Instant};

use super::{Progress, Runner, label};
use crate::kit::adopt::plan::{Act, Step};
use crate::kit::adopt::{Error, literal};

/// How long a batch should take: as long as a writer can wait for one row.
const BATCH: Duration = Duration::from_millis(200);
const FEWEST_PAGES: u64 = 8;
const MOST_PAGES: u64 = 4096;

/// How often the table is gone through. A trigger fills in what comes meanwhile, so that the second
/// time should find nothing.
const PASSES: u32 = 5;

impl<P: Progress> Runner<'_, P> {
    /// Fills in the rows of a step.
    pub(super) async fn batches(&mut self, step: &Step) -> Result<(), Error> {
        let Act::Batches { leaves, .. } = &step.act else { return Ok(()) };
        let began = Instant::now();
        let mut rows = 0;
        for _ in 0..PASSES {
            let mut sizes = Vec::new();
            for leaf in leaves {
                sizes.push(self.pages(step, leaf).await?);
            }
            let (total, mut before) = (sizes.iter().sum::<u64>(), 0);
            for (leaf, pages) in leaves.iter().zip(sizes) {
                let mut size = FEWEST_PAGES * 8;
                let mut from = 0;
                while from < pages {
                    let started = Instant::now();
                    self.batch(step, leaf, from, from + size).await?;
                    from += size;
                    rows += self.written(step).await?;
                    size = next(size, started.elapsed());
                    let now = (before + from.min(pages), total);
                    self.progress.rows(now.0, now.1, rows, began.elapsed());
                }
                before += pages;
            }
            if self.is_done(step).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn batch(&mut self, step: &Step, leaf: &str, from: u64, to: u64) -> Result<(), Error> {
        let Act::Batches { update, rest, search_path, without_triggers, off, .. } = &step.act
        else {
            return Ok(());
        };
        let (disable, enable) = switches(leaf, off);
        let replica =
            if *without_triggers { "set local session_replication_role = replica;" } else { "" };
        // The count goes through a setting: the transaction is one message.
        let text = format!(
            "set local search_path = {search_path}; {replica} {disable} \
             with done as (update only {leaf} as this {update} \
             where this.ctid >= '({from},0)'::tid and this.ctid < '({to},0)'::tid and {rest} \
             returning 1) \
             select set_config('cloison.adopted', count(*)::text, false) from done; {enable}"
        );
        self.tried(step, &text).await
    }

    /// How many rows the last batch wrote.
    async fn written(&self, step: &Step) -> Result<u64, Error> {
        let sql =
            "select coalesce(nullif(current_setting('cloison.adopted', true), ''), '0')::int8";
        let row = self.client.query_one(sql, &[]).await;
        let rows: i64 = row.map_err(|e| Error::statement(label(step), e))?.get(0);
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    async fn pages(&self, step: &Step, leaf: &str) -> Result<u64, Error> {
        let sql = format!(
            "select pg_relation_size({}::regclass) / current_setting('block_size')::int8",
            literal(leaf)
        );
        let row = self.client.query_one(&sql, &[]).await;
        let pages: i64 = row.map_err(|e| Error::statement(label(step), e))?.get(0);
        Ok(u64::try_from(pages).unwrap_or(0))
    }
}

/// SQL that switches triggers off and, in the same transaction, on again.
pub(in crate::kit::adopt) fn switches(leaf: &str, off: &[(String, String)]) -> (String, String) {
    let disable = off.iter().map(|(name, _)| format!("alter table {leaf} disable trigger {name};"));
    let enable = off.iter().map(|(name, how)| format!("alter table {leaf} {how} trigger {name};"));
    (disable.collect(), enable.collect())
}

/// As many pages as fit the time, twice or half as many as before at most.
fn next(size: u64, took: Duration) -> u64 {
    let size = if took * 2 < BATCH {
        size * 2
    } else if took > BATCH * 2 {
        size / 2
    } else {
        size
    };
    size.clamp(FEWEST_PAGES, MOST_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_find_their_size() {
        let millis = Duration::from_millis;
        assert_eq!(next(64, millis(50)), 128);
        assert_eq!(next(64, millis(200)), 64);
        assert_eq!(next(64, millis(900)), 32);
        assert_eq!(next(FEWEST_PAGES, millis(900)), FEWEST_PAGES);
        assert_eq!(next(MOST_PAGES, millis(1)), MOST_PAGES);
    }
}
