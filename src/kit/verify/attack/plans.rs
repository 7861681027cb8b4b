//! What plans and settings of others tell or change.

use super::{Foray, attack, open_unless_refused, taken_back};
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Answer, Lost, Wire};

pub(super) async fn all(foray: &mut Foray<'_>) {
    let explained = explained(foray).await;
    let is_given_back = matches!(explained, Ok((_, true)));
    foray.put(&EXPLAINED, "session", explained.map(|(verdict, _)| verdict));
    let verdict = printed(foray, is_given_back).await;
    foray.put(&PRINTED, "session", verdict);
    let verdict = shared_meaning(foray).await;
    foray.put(&SHARED, "connection", verdict);
}

/// `EXPLAIN` without costs; and whether it is the filter that lets it through, which an operator has
/// told to.
async fn explained(foray: &Foray<'_>) -> Result<(Verdict, bool), Lost> {
    let Some((table, _)) = foray.tables.first() else { return Ok((Verdict::HELD, false)) };
    let mut wire = Wire::open(foray.road).await?;
    let explain = format!("explain (costs off) select * from {}", table.name);
    let answer = taken_back(&mut wire, &explain).await?;
    // No operator can give this one back, and no tenant's role may do it.
    let never = taken_back(&mut wire, "checkpoint").await?;
    wire.close().await;
    let is_filtered = never.error().is_some_and(|error| error.layer() == Layer::Filter);
    let seen = "EXPLAIN shows which plan was chosen, by estimates from all tenants' rows";
    let remedy = "keep statement_filter on, and explain out of allowed_statements";
    let is_given_back = is_filtered && answer.error().is_none();
    Ok((open_unless_refused(&answer, seen, remedy), is_given_back))
}

/// Everything that a session can make Postgres tell of its plans, by a function that no filter of
/// statements reads.
async fn printed(foray: &Foray<'_>, is_given_back: bool) -> Result<Verdict, Lost> {
    let mut wire = Wire::open(foray.road).await?;
    let sets: Vec<String> = LOUD
        .iter()
        .map(|(name, value)| format!("select pg_catalog.set_config('{name}', '{value}', true)"))
        .collect();
    let sql = format!(
        "{}; select n from pg_catalog.generate_series(1, 10) n order by n desc",
        sets.join("; ")
    );
    let answer = taken_back(&mut wire, &sql).await?;
    wire.close().await;
    let is_told = |answer: &Answer| {
        answer.notices.iter().any(|notice| !matches!(notice.field(b'V'), "NOTICE" | "WARNING"))
    };
    let seen = "a message tells how a statement is planned, by estimates from all tenants' rows";
    Ok(if !is_told(&answer) {
        Verdict::by(Layer::Wire)
    } else if is_given_back {
        Verdict::open(seen, "take explain out of allowed_statements")
    } else {
        Verdict::failed(seen, "a bug of the proxy: such messages are not for tenants")
    })
}

/// The same text, prepared by both: what this tenant has set decides nothing for the other.
async fn shared_meaning(foray: &Foray<'_>) -> Result<Verdict, Lost> {
    let seen = "what another tenant has set decides what a prepared statement means";
    for number in 0..TRIES {
        let mut wire = Wire::open(foray.road).await?;
        wire.ask("begin; set local datestyle = 'SQL, DMY'").await?;
        let own_meaning = alone(&mut wire, number).await?;
        let own = prepared(&mut wire).await?;
        wire.ask("commit").await?;
        wire.close().await;
        if own_meaning.value() != Some("02-01") {
            return Ok(Verdict::skipped("DateStyle could not be changed"));
        }
        let mut other = Wire::open(foray.other_road).await?;
        let meaning = alone(&mut other, number).await?;
        let told = prepared(&mut other).await?;
        other.close().await;
        if own.value() != own_meaning.value() || told.value() != meaning.value() {
            return Ok(Verdict::failed(seen, "a bug of the proxy"));
        }
    }
    Ok(Verdict::by(Layer::Scrub))
}

/// What the statement means here: under a text that nobody else has sent.
async fn alone(wire: &mut Wire, number: u8) -> Result<Answer, Lost> {
    let mark = format!("{:?} {number}", wire.key());
    let sql = format!("/* {mark} */ select pg_catalog.to_char('01/02/2026'::date, 'MM-DD')");
    wire.ask(&sql).await
}

async fn prepared(wire: &mut Wire) -> Result<Answer, Lost> {
    let sql = "select pg_catalog.to_char('01/02/2026'::date, 'MM-DD') as cloison_verify";
    wire.parse("cloison_verify_date", sql).execute("cloison_verify_date", &[]).sync();
    wire.send().await?;
    wire.answer().await
}

/// Settings that every session may change.
const LOUD: [(&str, &str); 5] = [
    ("client_min_messages", "debug5"),
    ("debug_print_parse", "on"),
    ("debug_print_rewritten", "on"),
    ("debug_print_plan", "on"),
    ("trace_sort", "on"),
];

/// So often is the pool asked for the same server connection.
const TRIES: u8 = 5;

static EXPLAINED: Attack = attack(
    "explain_plan",
    Section::Around,
    Owasp::Access,
    "EXPLAIN shows no choice of a plan, which all tenants' rows make",
);
static PRINTED: Attack = attack(
    "plan_messages",
    Section::Around,
    Owasp::Access,
    "no message tells of plans and estimates, which all tenants' rows make",
);
static SHARED: Attack = attack(
    "shared_statement",
    Section::Residue,
    Owasp::Session,
    "a prepared statement means the same, whatever others have set",
);
