//! Every kind of statement, against every protected table.

use postgres_protocol::escape::escape_literal;

use super::{BEGIN, Foray, NO_PREY, attack, by_error, taken_back};
use crate::kit::verify::catalogue::{Class, Counts, Table};
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Answer, Lost, Wire};

/// How rows show in an answer.
#[derive(Clone, Copy)]
enum Shown {
    /// One by one.
    Rows,
    /// As the number in the tag of such a statement.
    Tag(&'static str),
    /// As lines of a COPY.
    Lines,
    /// As the last value.
    Number,
    /// As lines of a plan: rows that a filter removed.
    Removed,
}

/// Tries all of them. Tables that every tenant reads have nothing to hide.
pub(super) async fn all(foray: &mut Foray<'_>) {
    let mut wire = None;
    for (index, (table, counts)) in foray.tables.iter().enumerate() {
        if table.class == Class::Shared
            || (table.class != Class::Global && table.value(foray.own).is_none())
        {
            continue;
        }
        let statements = reads(foray, index, table).into_iter().chain(writes(foray, table));
        for (attack, sql, shown) in statements.collect::<Vec<_>>() {
            let answer = run(&mut wire, foray, &sql).await;
            let verdict = answer.map(|answer| judge(foray, table, *counts, &answer, shown));
            foray.put(attack, &table.name, verdict);
        }
        let verdict = copy_from(&mut wire, foray, table).await;
        foray.put(&COPY_FROM, &table.name, verdict);
        let verdict = failing_condition(&mut wire, foray, table, *counts).await;
        foray.put(&FAILING_CONDITION, &table.name, verdict);
        for (attack, verdict) in messages(&mut wire, foray, table, *counts).await {
            foray.put(attack, &table.name, verdict);
        }
    }
    if let Some(wire) = wire {
        wire.close().await;
    }
}

/// The session that the statements are tried in; a new one where the last was lost.
async fn session<'w>(wire: &'w mut Option<Wire>, foray: &Foray<'_>) -> Result<&'w mut Wire, Lost> {
    let open = match wire.take() {
        Some(open) => open,
        None => Wire::open(foray.road).await?,
    };
    Ok(wire.insert(open))
}

async fn run(wire: &mut Option<Wire>, foray: &Foray<'_>, sql: &str) -> Result<Answer, Lost> {
    let answer = taken_back(session(wire, foray).await?, sql).await;
    if answer.as_ref().map_or(true, |answer| answer.is_closed) {
        *wire = None;
    }
    answer
}

type Statement = (&'static Attack, String, Shown);

fn reads(foray: &Foray<'_>, index: usize, table: &Table) -> Vec<Statement> {
    let Table { name, .. } = table;
    let foreign = foray.foreign(table);
    let select = format!("select 1 from {name} where {foreign}");
    let count = foray.count_foreign(table);
    vec![
        (
            &SELECT_SPELLED,
            format!("with w as materialized (table {name}) select 1 from w where {foreign}"),
            Shown::Rows,
        ),
        (&SELECT_FOR_UPDATE, format!("{select} for update"), Shown::Rows),
        (
            &CURSOR,
            format!("declare cloison_verify cursor for {select}; fetch all from cloison_verify"),
            Shown::Tag("FETCH"),
        ),
        (&COPY_TO, format!("copy ({select}) to stdout"), Shown::Lines),
        (
            &PREPARE,
            // It outlives a rollback, so each has a name of its own.
            format!(
                "prepare cloison_verify_{index} as {select}; execute cloison_verify_{index}; \
                 deallocate cloison_verify_{index}"
            ),
            Shown::Rows,
        ),
        (&COMMIT_INSIDE, format!("commit; begin; {count}"), Shown::Number),
        (&COMMIT_AND_CHAIN, format!("commit and chain; {count}"), Shown::Number),
        (
            &EXPLAIN,
            format!(
                "set local enable_indexscan = off; set local enable_indexonlyscan = off; \
                 set local enable_bitmapscan = off; \
                 explain (analyze, costs off, timing off, summary off) select 1 from {name}"
            ),
            Shown::Removed,
        ),
    ]
}

fn writes(foray: &Foray<'_>, table: &Table) -> Vec<Statement> {
    let Table { name, column, column_type, .. } = table;
    let mut writes = vec![(&TRUNCATE, format!("truncate {name}"), Shown::Tag("TRUNCATE TABLE"))];
    let Some(other) = table.value(foray.other).filter(|_| table.class == Class::Tenant) else {
        return writes;
    };
    let other = format!("{}::{column_type}", escape_literal(other));
    let matched = format!("merge into {name} t using (select {other} as k) s on t.{column} = s.k");
    // A default would be made although the row is refused, and could move a sequence.
    let (columns, nulls): (String, String) =
        table.defaulted.iter().map(|name| (format!(", {name}"), ", null")).unzip();
    let columns = format!("({column}{columns}) overriding system value");
    let conflict =
        format!("insert into {name} {columns} values ({other}{nulls}) on conflict do nothing");
    writes.extend([
        (&MERGE, format!("{matched} when matched then delete"), Shown::Tag("MERGE")),
        (
            &MERGE_INSERT,
            format!("{matched} when not matched then insert {columns} values (s.k{nulls})"),
            Shown::Tag("MERGE"),
        ),
        (&ON_CONFLICT, conflict, Shown::Tag("INSERT")),
        (
            &WITH_WRITE,
            format!("with w as (delete from {name} where {column} = {other} returning 1) select 1 from w"),
            Shown::Rows,
        ),
    ]);
    writes
}

fn judge(
    foray: &Foray<'_>,
    table: &Table,
    counts: Option<Counts>,
    answer: &Answer,
    shown: Shown,
) -> Verdict {
    let rows = match shown {
        Shown::Rows => answer.rows.len(),
        Shown::Lines => answer.copied.iter().filter(|byte| **byte == b'\n').count(),
        Shown::Tag("TRUNCATE TABLE") => {
            answer.tags.iter().filter(|tag| *tag == "TRUNCATE TABLE").count()
        }
        Shown::Tag(verb) => usize::try_from(answer.reached(verb)).unwrap_or(usize::MAX),
        Shown::Number => answer.number().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        Shown::Removed => removed(answer),
    };
    if rows > 0 {
        return reached(table, rows, shown);
    }
    if let Some(error) = answer.error().filter(|error| error.is_past_policies()) {
        let seen = format!("no policy refused the row, only a constraint: {}", error.brief());
        return Verdict::failed(seen, &table.mend);
    }
    by_error(answer, || {
        if foray.is_worth_it(table, counts) {
            Verdict::by(Layer::Policy)
        } else {
            Verdict::skipped(NO_PREY)
        }
    })
}

/// What it means that something was reached.
fn reached(table: &Table, rows: usize, shown: Shown) -> Verdict {
    match shown {
        Shown::Removed => Verdict::open(
            format!("EXPLAIN ANALYZE tells that a policy removed {rows} rows"),
            "rows do not cross, their number does: refuse EXPLAIN ANALYZE to tenants",
        ),
        Shown::Tag("TRUNCATE TABLE") => {
            Verdict::failed("the table was emptied, for all tenants", &table.mend)
        }
        Shown::Rows | Shown::Tag(_) | Shown::Lines | Shown::Number => {
            Verdict::failed(format!("{rows} rows of others were reached"), &table.mend)
        }
    }
}

/// The rows that filters removed, by a plan.
fn removed(answer: &Answer) -> usize {
    let lines = answer.rows.iter().filter_map(|row| row.first()?.as_deref());
    let counts = lines.filter_map(|line| line.split_once("Rows Removed by Filter: "));
    counts.filter_map(|(_, count)| count.trim().parse::<usize>().ok()).sum()
}

/// A row for the other tenant, by COPY.
async fn copy_from(
    wire: &mut Option<Wire>,
    foray: &Foray<'_>,
    table: &Table,
) -> Result<Verdict, Lost> {
    let Some(other) = table.value(foray.other) else { return Ok(Verdict::skipped(NO_KEY)) };
    let open = session(wire, foray).await?;
    open.ask(BEGIN).await?;
    // A default would be made although the row is refused, and could move a sequence.
    let (columns, nulls): (String, String) =
        table.defaulted.iter().map(|name| (format!(", {name}"), "\t\\N")).unzip();
    let sql = format!("copy {} ({}{columns}) from stdin", table.name, table.column);
    let mut answer = open.ask(&sql).await?;
    if answer.wants_data {
        open.message(b'd', format!("{other}{nulls}\n").as_bytes())
            .message(b'c', b"")
            .send()
            .await?;
        answer = open.answer().await?;
    }
    open.ask("rollback").await?;
    let copied = answer.reached("COPY");
    Ok(if copied > 0 {
        Verdict::failed(format!("{copied} rows of the other tenant were copied in"), &table.mend)
    } else {
        match answer.error() {
            Some(error) if error.is_past_policies() => Verdict::failed(
                format!("no policy refused the row, only a constraint: {}", error.brief()),
                &table.mend,
            ),
            Some(_) | None => by_error(&answer, || Verdict::skipped("nothing was copied")),
        }
    })
}

/// A condition that fails on the first row of another tenant that it is asked about, and says what
/// is in it.
async fn failing_condition(
    wire: &mut Option<Wire>,
    foray: &Foray<'_>,
    table: &Table,
    counts: Option<Counts>,
) -> Result<Verdict, Lost> {
    let foreign = foray.foreign(table);
    let sql = format!(
        "select count(*) from {} victim where case when {foreign} \
         then (victim::pg_catalog.text || 'x')::pg_catalog.int4 end = 0",
        table.name
    );
    let answer = run(wire, foray, &sql).await?;
    if answer.error().is_some_and(|error| error.code() == "22P02") {
        let seen = "the error of a condition tells the content of another tenant's row";
        return Ok(Verdict::failed(seen, &table.mend));
    }
    Ok(judge(foray, table, counts, &answer, Shown::Number))
}

/// The extended protocol: a statement with a name, and what follows an error in a pipeline.
async fn messages(
    wire: &mut Option<Wire>,
    foray: &Foray<'_>,
    table: &Table,
    counts: Option<Counts>,
) -> [(&'static Attack, Result<Verdict, Lost>); 2] {
    let count = foray.count_foreign(table);
    let prepared = async {
        let open = session(wire, foray).await?;
        open.parse("cloison_verify", &count).execute("cloison_verify", &[]).sync();
        open.message(b'C', b"Scloison_verify\0").sync().send().await?;
        let answer = open.answer().await?;
        open.answer().await?;
        Ok(judge(foray, table, counts, &answer, Shown::Number))
    };
    let prepared = prepared.await;
    let pipeline = async {
        let open = session(wire, foray).await?;
        open.parse("", "begin").execute("", &[]).parse("", "commit").execute("", &[]);
        open.parse("", "select 1/0").execute("", &[]).sync();
        open.parse("", &count).execute("", &[]).sync();
        open.query(&format!("rollback; {count}")).send().await?;
        open.answer().await?;
        let second = open.answer().await?;
        let third = open.answer().await?;
        let verdict = judge(foray, table, counts, &second, Shown::Number);
        let is_clean = verdict.is_passed();
        Ok(if is_clean { judge(foray, table, counts, &third, Shown::Number) } else { verdict })
    };
    let pipeline = pipeline.await;
    [(&PREPARED, prepared), (&PIPELINE, pipeline)]
}

const NO_KEY: &str = "the other tenant has no external key";

use Owasp::{Access, Context, Session};
use Section::{Around, Transactions, Wire as Protocol};

static SELECT_SPELLED: Attack =
    attack("select_spelled", Around, Access, "TABLE in a CTE shows own rows only");
static SELECT_FOR_UPDATE: Attack =
    attack("select_for_update", Around, Access, "SELECT FOR UPDATE locks own rows only");
static CURSOR: Attack = attack("cursor", Around, Access, "a cursor fetches own rows only");
static COPY_TO: Attack = attack("copy_to", Around, Access, "COPY TO hands out own rows only");
static COPY_FROM: Attack =
    attack("copy_from", Around, Access, "COPY FROM brings in no row of another tenant");
static PREPARE: Attack =
    attack("prepare_execute", Around, Access, "PREPARE and EXECUTE show own rows only");
static COMMIT_INSIDE: Attack = attack(
    "commit_inside",
    Transactions,
    Context,
    "what follows a COMMIT in the same message sees own rows only",
);
static COMMIT_AND_CHAIN: Attack =
    attack("commit_and_chain", Transactions, Context, "COMMIT AND CHAIN keeps to own rows");
static EXPLAIN: Attack =
    attack("explain_analyze", Around, Access, "EXPLAIN ANALYZE counts own rows only");
static TRUNCATE: Attack = attack("truncate", Around, Access, "a tenant cannot truncate");
static MERGE: Attack = attack("merge", Around, Access, "MERGE reaches own rows only");
static MERGE_INSERT: Attack =
    attack("merge_insert", Around, Access, "MERGE inserts no row of another tenant");
static ON_CONFLICT: Attack = attack(
    "insert_on_conflict",
    Around,
    Access,
    "INSERT ON CONFLICT brings in no row of another tenant",
);
static WITH_WRITE: Attack =
    attack("delete_in_with", Around, Access, "a DELETE inside a SELECT reaches own rows only");
static FAILING_CONDITION: Attack = attack(
    "failing_condition",
    Around,
    Access,
    "a condition that fails is not asked about others' rows",
);
static PREPARED: Attack = attack(
    "prepared_statement",
    Protocol,
    Session,
    "a prepared statement of the protocol shows own rows only",
);
static PIPELINE: Attack = attack(
    "pipeline_error",
    Protocol,
    Context,
    "what follows an error in a pipeline sees own rows only",
);
