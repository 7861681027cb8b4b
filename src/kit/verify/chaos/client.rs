//! A client that works, and dies at any moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Arena, Writes, add};
use crate::kit::verify::catalogue::{Table, Tenant};
use crate::kit::verify::wire::{Answer, Lost, Wire};

/// Who a client is: every row that it asks for says so again.
struct Identity<'a> {
    tenant: &'a Tenant,
    nonce: String,
}

/// What comes of a round of work.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Round {
    /// The session goes on.
    Done,
    /// It is over.
    Gone,
}

/// What a client does in one round.
#[derive(Clone, Copy)]
enum Work {
    Query,
    Transaction,
    Copy,
    Pipeline,
    Write,
    /// Many rows, of which it may never see the end.
    Long,
}

/// Opens sessions and works in them until the time is over.
pub(super) async fn run(arena: Arc<Arena>, number: usize) {
    let mut dice = Dice::new();
    let side = number % 2;
    let (Some(road), Some(tenant)) = (arena.roads.get(side), arena.tenants.get(side)) else {
        return;
    };
    let mut is_first = true;
    while !arena.is_over() {
        let Ok(mut wire) = Wire::open(road).await else {
            add(&arena.counts.errors, 1);
            sleep(PAUSE).await;
            continue;
        };
        if !is_first {
            add(&arena.counts.reconnects, 1);
        }
        is_first = false;
        loop {
            if arena.is_over() || dice.one_in(50) {
                wire.close().await;
                break;
            }
            let identity = Identity { tenant, nonce: format!("{:016x}", dice.next()) };
            match round(&arena, &mut wire, &identity, &mut dice).await {
                Ok(Round::Done) => {}
                Ok(Round::Gone) => {
                    add(&arena.counts.clients_killed, 1);
                    wire.die();
                    break;
                }
                Err(_) => {
                    add(&arena.counts.errors, 1);
                    wire.die();
                    break;
                }
            }
        }
    }
}

async fn round(
    arena: &Arena,
    wire: &mut Wire,
    identity: &Identity<'_>,
    dice: &mut Dice,
) -> Result<Round, Lost> {
    let Some(table) = arena.tables.get(dice.below(arena.tables.len())) else {
        return Ok(Round::Gone);
    };
    let works = match arena.plan.writes {
        Writes::RolledBack => WORKS,
        Writes::None => READS,
    };
    let work = works.get(dice.below(works.len())).copied().unwrap_or(Work::Query);
    let answers = say(wire, work, table, identity).send(work).await?;
    if dice.one_in(12) {
        // In the middle of whatever comes: nothing, some of it, or all of it.
        let some = dice.below(20);
        let heard = async {
            let mut answer = Answer::default();
            for _ in 0..some {
                let (tag, body) = wire.receive().await?;
                answer.take(tag, &body);
            }
            Ok::<_, Lost>(answer)
        };
        if let Ok(Ok(answer)) = timeout(PAUSE, heard).await {
            judge(arena, table, identity, &answer);
        }
        return Ok(Round::Gone);
    }
    if dice.one_in(20) {
        add(&arena.counts.cancels, 1);
        let (road, key) = (wire.road().clone(), wire.key());
        // Whether it comes in time is the point of it.
        tokio::spawn(async move { Wire::cancel(&road, &key).await });
    }
    let mut is_whole = true;
    let mut status = b'I';
    for _ in 0..answers {
        let answer = wire.answer().await?;
        judge(arena, table, identity, &answer);
        is_whole &= answer.errors.is_empty();
        status = answer.status;
        if answer.is_closed {
            return Err(Lost("closed".to_owned()));
        }
    }
    if is_whole {
        arena.succeeded();
    } else {
        add(&arena.counts.errors, 1);
    }
    if status != b'I' {
        wire.ask("rollback").await?;
    }
    Ok(Round::Done)
}

/// What was said, and is yet to be sent.
struct Said<'a>(&'a mut Wire);

impl Said<'_> {
    /// Sends it; answers how many answers there will be.
    async fn send(self, work: Work) -> Result<usize, Lost> {
        self.0.send().await?;
        Ok(match work {
            Work::Transaction => 4,
            Work::Pipeline => 2,
            Work::Query | Work::Copy | Work::Write | Work::Long => 1,
        })
    }
}

fn say<'a>(wire: &'a mut Wire, work: Work, table: &Table, identity: &Identity<'_>) -> Said<'a> {
    let Table { name, column, column_type, .. } = table;
    let nonce = &identity.nonce;
    let select = format!("select {column}::pg_catalog.text, '{nonce}' from {name} limit 100");
    match work {
        Work::Query => wire.query(&select),
        Work::Transaction => wire.query("begin").query(&select).query(&select).query("commit"),
        Work::Copy => wire.query(&format!("copy ({select}) to stdout")),
        Work::Pipeline => wire
            .parse("", &select)
            .execute("", &[])
            .execute("", &[])
            .sync()
            .parse("", &select)
            .execute("", &[])
            .sync(),
        Work::Write => {
            let own = table.value(identity.tenant).unwrap_or_default();
            let own = postgres_protocol::escape::escape_literal(own);
            wire.query(&format!(
                "begin; update {name} set {column} = {own}::{column_type} \
                 returning {column}::pg_catalog.text, '{nonce}'; rollback"
            ))
        }
        Work::Long => wire.query(&format!(
            "select {column}::pg_catalog.text, '{nonce}' \
             from {name}, pg_catalog.generate_series(1, 5000) limit 5000"
        )),
    };
    Said(wire)
}

/// Each row is the tenant's own, and was asked for by this client just now.
fn judge(arena: &Arena, table: &Table, identity: &Identity<'_>, answer: &Answer) {
    let own = table.value(identity.tenant).unwrap_or_default();
    let is_own = |value: &str, nonce: &str| value == own && nonce == identity.nonce;
    let (mut rows, mut foreign) = (0, 0);
    let mut see = |is_own: bool| {
        rows += 1;
        foreign += u64::from(!is_own);
    };
    for row in &answer.rows {
        let values =
            (row.first().and_then(Option::as_deref), row.get(1).and_then(Option::as_deref));
        see(matches!(values, (Some(value), Some(nonce)) if is_own(value, nonce)));
    }
    for line in answer.copied.split_inclusive(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let values = line.trim_end_matches('\n').split_once('\t');
        see(values.is_some_and(|(value, nonce)| is_own(value, nonce)));
    }
    add(&arena.counts.rows, rows);
    if foreign > 0 {
        let side = identity.tenant.side;
        let how = format!("{}: tenant {side} was given rows that are not its own", table.name);
        arena.crossed(foreign, how);
    }
}

/// Numbers that nobody has to guess: SplitMix64.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self(high ^ low)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const READS: &[Work] = &[Work::Query, Work::Transaction, Work::Copy, Work::Pipeline, Work::Long];

const WORKS: &[Work] =
    &[Work::Query, Work::Transaction, Work::Copy, Work::Pipeline, Work::Long, Work::Write];

/// Before another try, and how long a dying client listens.
const PAUSE: Duration = Duration::from_millis(50);
