//! Ways to another's context that a list of statements does not show: text that is run inside
//! functions, names in front of the kit's, and a ticket that its own tenant gave away.

use std::time::{SystemTime, UNIX_EPOCH};

use postgres_protocol::escape::escape_literal;

use super::{Foray, NO_PAIR, NO_PREY, attack, by_error, pair, taken_back};
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Answer, Lost, Wire};

pub(super) async fn all(foray: &mut Foray<'_>) {
    for (attack, sql) in smuggled(foray) {
        let verdict = try_before_counting(foray, &sql).await;
        foray.put(attack, "session", verdict);
    }
    let verdict = replay_elsewhere(foray).await;
    foray.put(&REPLAY, "session", verdict);
    let verdict = replay_on_the_same_process(foray).await;
    foray.put(&REPLAY_SAME, "session", verdict);
}

/// Each is followed, in the same message, by a look at others' rows.
fn smuggled(foray: &Foray<'_>) -> Vec<(&'static Attack, String)> {
    let forged = format!("s{}9999999999{}", foray.other.id, "0".repeat(64));
    let set = format!("select set_config('cloison.context', '{forged}', true)::text");
    let text = escape_literal(&set);
    vec![
        (
            &SQL_IN_TEXT,
            format!("select pg_catalog.query_to_xml({text}, true, true, '')"),
        ),
        (
            &TEMPORARY_FUNCTION,
            format!(
                "create function pg_temp.cloison_verify() returns text language sql as {text}; \
                 select pg_temp.cloison_verify()"
            ),
        ),
        (
            &SHADOWED_TABLES,
            "create temp table signing_key (inner_pad bytea, outer_pad bytea); \
             create temp table settings (strict boolean, bind_process_id boolean); \
             insert into pg_temp.settings values (false, false); \
             set local search_path = pg_temp, cloison, public, pg_catalog"
                .to_owned(),
        ),
        (
            &SHADOWED_OPERATOR,
            "create function pg_temp.same(uuid, uuid) returns boolean language sql as 'select true'; \
             create operator pg_temp.= (leftarg = uuid, rightarg = uuid, function = pg_temp.same); \
             set local search_path = pg_temp, public, pg_catalog"
                .to_owned(),
        ),
        (&ROW_SECURITY_OFF, "set local row_security = off".to_owned()),
        (&PLAN_PRINTED, "set local debug_print_plan = on; set local client_min_messages = log".to_owned()),
    ]
}

/// Whether the first statement ran is no matter; what counts is what can be seen.
async fn try_before_counting(foray: &Foray<'_>, sql: &str) -> Result<Verdict, Lost> {
    let Some(table) = foray.prey() else { return Ok(Verdict::skipped(NO_PREY)) };
    let mut wire = Wire::open(foray.road).await?;
    let count = foray.count_foreign(table);
    let answer = taken_back(&mut wire, &format!("{sql}; {count}")).await?;
    wire.close().await;
    let reached_the_count = answer.error().is_none();
    if reached_the_count && let Some(rows @ 1..) = answer.number() {
        return Ok(Verdict::failed(format!("{rows} rows of others are visible"), &table.mend));
    }
    if answer.notices.iter().any(|notice| shows_bytes(&notice.text())) {
        let seen = "a notice tells bytes that a context is made with";
        return Ok(Verdict::failed(seen, "`cloison install` again"));
    }
    Ok(by_error(&answer, || Verdict::by(Layer::Policy)))
}

/// Whether a printed plan holds a constant of type bytea that is not empty: the statements here have
/// none, the signing key is one.
fn shows_bytes(plan: &str) -> bool {
    plan.split(":consttype 17 ").skip(1).any(|constant| {
        let value = constant.split_once(":constvalue ").map(|(_, value)| value);
        let length = value.and_then(|value| value.split(' ').next()?.parse::<usize>().ok());
        // The first four bytes are its length.
        length.is_some_and(|length| length > 4)
    })
}

/// A's ticket in B's session: it is worth nothing on another server process.
async fn replay_elsewhere(foray: &Foray<'_>) -> Result<Verdict, Lost> {
    let Some((mut taker, mut giver)) = (if foray.has_pairs { pair(foray).await } else { None })
    else {
        return Ok(Verdict::skipped(NO_PAIR));
    };
    // The giver's transaction stays open, so that the taker has another process.
    let ticket = giver.ask(&format!("begin; {TICKET}")).await?;
    let verdict = spend(foray, &mut taker, &ticket).await;
    giver.ask("rollback").await?;
    giver.close().await;
    taker.close().await;
    verdict.map(|(verdict, _)| verdict)
}

/// The same, where the pool hands the same process on. This is known, and takes the victim's help:
/// nobody can read another session's settings.
async fn replay_on_the_same_process(foray: &Foray<'_>) -> Result<Verdict, Lost> {
    for _ in 0..TRIES {
        let mut giver = Wire::open(foray.other_road).await?;
        let ticket = giver.ask(&format!("begin; {TICKET}; commit")).await?;
        giver.close().await;
        let mut taker = Wire::open(foray.road).await?;
        let spent = spend(foray, &mut taker, &ticket).await;
        taker.close().await;
        match spent? {
            (Verdict::Failed { seen, remedy }, true) => {
                let Some(left) = seconds_left(&ticket, SystemTime::now()) else {
                    let seen = format!("{seen}, with a ticket that is good for over a minute");
                    return Ok(Verdict::failed(seen, remedy));
                };
                let seen = format!(
                    "{seen}, with a ticket that their own tenant gave away, for {left} s more"
                );
                return Ok(Verdict::open(seen, "do not print the setting cloison.context"));
            }
            (verdict, true) => return Ok(verdict),
            (_, false) => {}
        }
    }
    Ok(Verdict::skipped("the pool gave other server connections"))
}

/// For how long a ticket is good; `None` if that is over a minute, or no end stands in it.
fn seconds_left(ticket: &Answer, now: SystemTime) -> Option<u64> {
    let ticket = ticket.rows.last()?.get(1)?.as_deref()?;
    let until: u64 = ticket.get(37..47)?.parse().ok()?;
    let left = until.saturating_sub(now.duration_since(UNIX_EPOCH).ok()?.as_secs());
    (left <= 60).then_some(left)
}

/// What a given ticket shows, and whether that was on the process that it was made for.
async fn spend(
    foray: &Foray<'_>,
    taker: &mut Wire,
    ticket: &Answer,
) -> Result<(Verdict, bool), Lost> {
    let given = ticket.rows.last().map(|row| (row.first(), row.get(1)));
    let Some((Some(Some(process)), Some(Some(ticket)))) = given else {
        return Ok((Verdict::skipped("the ticket could not be read"), true));
    };
    let Some(table) = foray.prey() else { return Ok((Verdict::skipped(NO_PREY), true)) };
    let sql = format!(
        "select pg_catalog.pg_backend_pid() = {process}, \
         pg_catalog.set_config('cloison.context', {}, true); {}",
        escape_literal(ticket),
        foray.count_foreign(table),
    );
    let answer = taken_back(taker, &sql).await?;
    let is_same = answer.rows.first().and_then(|row| row.first()?.as_deref()) == Some("t");
    let verdict = match answer.number() {
        Some(rows @ 1..) if answer.error().is_none() => {
            Verdict::failed(format!("{rows} rows of others are visible"), &table.mend)
        }
        Some(_) | None => by_error(&answer, || Verdict::by(Layer::Policy)),
    };
    Ok((verdict, is_same))
}

use Owasp::{Context, Session};
use Section::Context as Forging;

static SQL_IN_TEXT: Attack =
    attack("sql_in_text", Forging, Context, "functions that run SQL forge no context");
static TEMPORARY_FUNCTION: Attack =
    attack("temporary_function", Forging, Context, "functions made on the spot forge no context");
static SHADOWED_TABLES: Attack =
    attack("shadowed_tables", Forging, Context, "temporary tables do not stand in for the kit's");
static SHADOWED_OPERATOR: Attack = attack(
    "shadowed_operator",
    Forging,
    Context,
    "an operator of one's own does not reach policies",
);
static ROW_SECURITY_OFF: Attack =
    attack("row_security_off", Forging, Context, "row_security = off is an error, never more rows");
static PLAN_PRINTED: Attack =
    attack("printed_plan", Forging, Context, "printed plans tell nothing of the key");
static REPLAY: Attack =
    attack("replay", Forging, Session, "another session's ticket is worth nothing");
static REPLAY_SAME: Attack = attack(
    "replay_same_process",
    Forging,
    Session,
    "a ticket given away is worth nothing on the same server process",
);

const TICKET: &str =
    "select pg_catalog.pg_backend_pid()::text, pg_catalog.current_setting('cloison.context')";

/// So often is the pool asked for the same server connection.
const TRIES: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_constant_that_holds_something_tells() {
        let constant = |kind: u8, length: u8| {
            format!("{{CONST \n:consttype {kind} \n:constlen -1 \n:constvalue {length} [ 1 0 ]")
        };
        assert!(!shows_bytes(&constant(17, 4)));
        assert!(!shows_bytes(&constant(25, 68)));
        assert!(shows_bytes(&constant(17, 68)));
        assert!(shows_bytes(&format!("{}{}", constant(17, 4), constant(17, 68))));
    }
}
