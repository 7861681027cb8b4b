//! RUN: does the steps of a kept plan, or of its way back.
//!
//! Before each step it asks whether that is done, and afterwards whether it is now. So it can be
//! killed anywhere: a transaction that was open is undone by Postgres, an index that was half built
//! is invalid and is built again, a batch that was not committed is filled in next time.

pub(super) mod batches;
mod start;

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

pub use start::{propose, start};

use super::Error;
use super::plan::{Act, Stage, Step};
use super::record::{self, Adoption, State};

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for a lock before everybody behind us may go on. Shorter than Postgres'
    /// `deadlock_timeout`, it is we who give way where we and a writer wait for each other.
    pub lock_timeout: Duration,
    /// How often to try again.
    pub lock_tries: u32,
    /// Where to stop, if not at the end.
    pub stop_after: Option<Stop>,
    /// On the way back: leave out old keys that the rows no longer fit.
    pub force: bool,
}

/// Where to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// Behind the last step of a stage.
    Stage(Stage),
    /// Behind so many steps of the plan.
    Steps(usize),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every step is done; so many of them by this run.
    Done(usize),
    /// It stopped where it was told to; so many steps are left.
    Stopped(usize),
}

/// Who is told how it goes.
pub trait Progress {
    /// A step begins.
    fn begin(&mut self, number: usize, of: usize, step: &Step);
    /// It is filling in rows: so many pages of all of them, so many rows since the step began.
    fn rows(&mut self, pages: u64, of: u64, rows: u64, since: Duration);
    /// It waits for a lock, for the so many'th time.
    fn waits(&mut self, tries: u32);
    /// It is done, or was so before.
    fn end(&mut self, is_new: bool, took: Duration);
}

/// Makes the session fit for running steps, and sees that nobody else does.
///
/// # Errors
///
/// Somebody else does, or there is no kit.
pub async fn open(client: &Client) -> Result<(), Error> {
    record::check_kit(client).await?;
    client
        .batch_execute(SESSION)
        .await
        .map_err(|e| Error::statement("preparing the session", e))?;
    let sql = format!("select pg_catalog.pg_try_advisory_lock({LOCK})");
    // The server may not have noticed yet that one which was killed is gone.
    for _ in 0..30 {
        let row = client.query_one(&sql, &[]).await;
        if row.map_err(|e| Error::statement("looking for another adopt", e))?.get(0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::Busy("another `cloison adopt` is running on this database".to_owned()))
}

/// Does the steps.
///
/// # Errors
///
/// The first step that cannot be done. What was done before stays.
pub async fn apply(
    client: &Client,
    adoption: &mut Adoption,
    options: &Options,
    progress: &mut impl Progress,
) -> Result<Outcome, Error> {
    let steps = adoption.plan().up.clone();
    let mut runner = Runner::new(client, options, progress);
    let outcome = runner.all(&steps, Direction::Up, None).await;
    if outcome.is_err() && !runner.has_changed && adoption.state() == State::Applying {
        // So that it can be tried with another mapping. Why it stopped is what is to be told.
        let _ = adoption.set(client, State::Undone).await;
    }
    let outcome = outcome?;
    if let (Outcome::Done(_), State::Applying) = (outcome, adoption.state()) {
        adoption.set(client, State::Applied).await?;
    }
    Ok(outcome)
}

/// Takes them back.
///
/// # Errors
///
/// As [`apply`]; while rows do not fit an old key, nothing is changed.
pub async fn down(
    client: &Client,
    adoption: &mut Adoption,
    options: &Options,
    progress: &mut impl Progress,
) -> Result<Outcome, Error> {
    let steps = adoption.plan().down.clone();
    let mut runner = Runner::new(client, options, progress);
    let outcome = runner.all(&steps, Direction::Down, Some(adoption)).await?;
    if let Outcome::Done(_) = outcome {
        adoption.set(client, State::Undone).await?;
    }
    Ok(outcome)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Up,
    Down,
}

struct Runner<'a, P> {
    client: &'a Client,
    options: &'a Options,
    progress: &'a mut P,
    done: usize,
    /// Whether anything of the plan is done, by this run or an earlier one.
    has_changed: bool,
    /// Old keys that are not made again.
    left_out: Vec<String>,
}

impl<'a, P: Progress> Runner<'a, P> {
    const fn new(client: &'a Client, options: &'a Options, progress: &'a mut P) -> Self {
        Self { client, options, progress, done: 0, has_changed: false, left_out: Vec::new() }
    }

    async fn all(
        &mut self,
        steps: &[Step],
        direction: Direction,
        mut undone: Option<&mut Adoption>,
    ) -> Result<Outcome, Error> {
        for (index, step) in steps.iter().enumerate() {
            if self.stops(index, step, direction) {
                return Ok(Outcome::Stopped(steps.len() - index));
            }
            if step.old_key.as_ref().is_some_and(|key| self.left_out.contains(key)) {
                continue;
            }
            // Looking changes nothing, so that what looks wrong leaves all as it is.
            let looks = matches!(step.act, Act::Check { .. });
            if let Some(adoption) = undone.as_deref_mut()
                && !looks
                && adoption.state() != State::Undoing
            {
                adoption.set(self.client, State::Undoing).await?;
            }
            self.progress.begin(index + 1, steps.len(), step);
            let began = Instant::now();
            let outcome = self.one(step).await;
            self.has_changed |= !looks && !is_rolled_back(step, &outcome);
            let is_new = outcome?;
            self.done += usize::from(is_new && !looks);
            self.progress.end(is_new, began.elapsed());
        }
        Ok(Outcome::Done(self.done))
    }

    fn stops(&self, index: usize, step: &Step, direction: Direction) -> bool {
        match (self.options.stop_after, direction) {
            (None, _) => false,
            (Some(Stop::Steps(steps)), _) => index >= steps,
            (Some(Stop::Stage(stage)), Direction::Up) => step.stage > stage,
            (Some(Stop::Stage(stage)), Direction::Down) => step.stage < stage,
        }
    }

    /// Does a step, unless it is done.
    async fn one(&mut self, step: &Step) -> Result<bool, Error> {
        if self.is_done(step).await? {
            return Ok(false);
        }
        match &step.act {
            Act::Together(sql) => self.together(step, sql).await?,
            Act::Repeatable(sql) => return self.together(step, sql).await.map(|()| true),
            Act::Alone(sql) => self.alone(step, sql).await?,
            Act::Index { name, sql, mark } => {
                self.drop_leftover(step, name).await?;
                // One that was left without its mark is there.
                if mark.is_none() || !self.exists(step, name).await? {
                    self.alone(step, sql).await?;
                }
                if let Some(mark) = mark {
                    self.alone(step, mark).await?;
                }
            }
            Act::Batches { .. } => self.batches(step).await?,
            Act::Check { .. } => return self.look(step).await.map(|()| true),
        }
        if step.done.is_some() && !self.is_done(step).await? {
            return Err(Error::NotDone(label(step)));
        }
        Ok(true)
    }

    async fn is_done(&self, step: &Step) -> Result<bool, Error> {
        let Some(done) = &step.done else { return Ok(false) };
        let row = self.client.query_one(&format!("select {done}"), &[]).await;
        let row = row.map_err(|e| Error::statement(format!("asking after: {}", label(step)), e))?;
        Ok(row.get(0))
    }

    /// In one transaction, tried again while it gets no lock.
    async fn together(&mut self, step: &Step, sql: &[String]) -> Result<(), Error> {
        self.tried(step, &sql.join(";\n")).await
    }

    async fn tried(&mut self, step: &Step, sql: &str) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let timeout = patience(self.options.lock_timeout, tries).as_millis();
            let text =
                format!("begin; set local lock_timeout = {timeout}; {GIVE_WAY}; {sql}; commit");
            let Err(error) = self.client.batch_execute(&text).await else { return Ok(()) };
            // Where the connection is lost this fails, too, and there is nothing left to undo.
            let _ = self.client.batch_execute("rollback").await;
            tries += 1;
            let is_busy = error.code().is_some_and(|code| {
                [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
            });
            if !is_busy {
                return Err(Error::statement(label(step), error));
            }
            if tries >= self.options.lock_tries {
                let holders = self.holders(&step.table).await;
                let (what, table) = (label(step), step.table.clone());
                return Err(Error::Locked { what, table, tries, holders });
            }
            self.progress.waits(tries);
            // Twice as long each time, so that whoever waits behind us comes through.
            let pause = Duration::from_millis(100 << tries.min(6));
            tokio::time::sleep(pause).await;
        }
    }

    async fn holders(&self, table: &str) -> String {
        let row = self.client.query_one(HOLDERS, &[&table]).await;
        let holders = row.ok().and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten());
        holders.map_or("and who has it is gone".to_owned(), |holders| {
            format!("it is held by {holders}")
        })
    }

    /// Waits as long as it takes: nobody waits behind it.
    async fn alone(&self, step: &Step, sql: &str) -> Result<(), Error> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(|e| Error::statement(label(step), e))
    }

    async fn exists(&self, step: &Step, relation: &str) -> Result<bool, Error> {
        let sql = "select to_regclass($1) is not null";
        let row = self.client.query_one(sql, &[&relation]).await;
        Ok(row.map_err(|e| Error::statement(label(step), e))?.get(0))
    }

    /// An index that was being built when somebody stopped it.
    async fn drop_leftover(&self, step: &Step, name: &str) -> Result<(), Error> {
        let sql = "select exists (select from pg_index x where x.indexrelid = to_regclass($1) \
                   and not x.indisvalid)";
        let row = self.client.query_one(sql, &[&name]).await;
        if row.map_err(|e| Error::statement(label(step), e))?.get(0) {
            self.alone(step, &format!("drop index concurrently if exists {name}")).await?;
        }
        Ok(())
    }

    async fn look(&mut self, step: &Step) -> Result<(), Error> {
        let Act::Check { sql, search_path, problem } = &step.act else { return Ok(()) };
        let begin = format!("begin read only; set local search_path = {search_path}");
        let began = self.client.batch_execute(&begin).await;
        began.map_err(|e| Error::statement(label(step), e))?;
        let rows = self.client.query(sql, &[]).await;
        let ended = self.client.batch_execute("rollback").await;
        let rows = rows.map_err(|e| Error::statement(label(step), e))?;
        ended.map_err(|e| Error::statement(label(step), e))?;
        if rows.is_empty() {
            return Ok(());
        }
        match &step.old_key {
            Some(key) if self.options.force => {
                self.left_out.push(key.clone());
                Ok(())
            }
            _ => Err(Error::Blocked {
                what: label(step),
                problem: problem.clone(),
                rows: rows.iter().map(|row| row.get(0)).collect(),
            }),
        }
    }
}

/// Whether a step was one transaction, which left nothing.
const fn is_rolled_back(step: &Step, outcome: &Result<bool, Error>) -> bool {
    matches!(step.act, Act::Together(_) | Act::Repeatable(_))
        && matches!(outcome, Err(Error::Statement { .. } | Error::Locked { .. }))
}

/// How long to wait for a lock. An autovacuum gives way to who has waited for `deadlock_timeout`, a
/// second; so every fifth time it is a little more than that.
fn patience(timeout: Duration, tries: u32) -> Duration {
    if tries % 5 == 4 { timeout.max(Duration::from_millis(1_200)) } else { timeout }
}

fn label(step: &Step) -> String {
    format!("{}: {}", step.table, step.what)
}

/// For `pg_try_advisory_lock`.
const LOCK: i64 = 5_494_051_832_711_412;

/// Whoever may, looks for deadlocks and for an autovacuum sooner than a writer would: a superuser.
const GIVE_WAY: &str = "select set_config('deadlock_timeout', '100ms', true) \
    from pg_roles where rolname = current_user and rolsuper";

/// An event trigger on new tables would take the steps for so many faults: `cloison.protecting`.
const SESSION: &str = "
    set search_path = pg_catalog, pg_temp;
    set application_name = 'cloison adopt';
    set lock_timeout = 0;
    set statement_timeout = 0;
    set idle_in_transaction_session_timeout = 0;
    set standard_conforming_strings = on;
    set row_security = on;
    set client_min_messages = warning;
    set cloison.protecting = 'on'";

const HOLDERS: &str = "
    select string_agg(distinct format('process %s (%s, %s%s)', a.pid,
        coalesce(nullif(a.application_name, ''), 'no name'), coalesce(a.state, 'not shown'),
        ', in a transaction since ' || date_trunc('second', now() - a.xact_start)::text), ', ')
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.relation = to_regclass($1) and l.granted and l.pid <> pg_backend_pid()";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fifth_try_outwaits_an_autovacuum() {
        let millis = Duration::from_millis;
        let waits: Vec<_> = (0..6).map(|tries| patience(millis(500), tries)).collect();
        assert_eq!(waits, [500, 500, 500, 500, 1_200, 500].map(millis));
        assert_eq!(patience(millis(3_000), 4), millis(3_000));
    }
}
