//! What all sessions of one role, or of one database, have in common.

use postgres_protocol::escape::escape_literal;

use super::{Foray, NO_PAIR, attack, open_unless_refused, pair, taken_back};
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Lost, Wire};

pub(super) async fn all(foray: &mut Foray<'_>) {
    for (attack, sql, seen, remedy) in alone() {
        let verdict = one(foray, &sql, seen, remedy).await;
        foray.put(attack, "session", verdict);
    }
    for (table, _) in foray.tables.iter().filter(|(table, _)| table.is_tenants()) {
        let name = escape_literal(&table.name);
        let size = format!("select pg_catalog.pg_relation_size({name})");
        let seen = "it tells how much all tenants have together";
        let remedy = "revoke execute on function pg_catalog.pg_relation_size(regclass, text) from \
                      public, and its relatives";
        let verdict = one(foray, &size, seen, remedy).await;
        foray.put(&TOTALS, &table.name, verdict);
        let lock = format!("lock table {} in access exclusive mode nowait", table.name);
        let seen = "one tenant can lock the table for all";
        let verdict =
            one(foray, &lock, seen, "no grant prevents it: a statement filter does").await;
        foray.put(&LOCK_TABLE, &table.name, verdict);
    }
    for (attack, verdict) in together(foray).await {
        foray.put(attack, "session", verdict);
    }
}

async fn one(foray: &Foray<'_>, sql: &str, seen: &str, remedy: &str) -> Result<Verdict, Lost> {
    let mut wire = Wire::open(foray.road).await?;
    let answer = taken_back(&mut wire, sql).await?;
    wire.close().await;
    // Somebody else holds it: then it could have been had.
    if answer.error().is_some_and(|error| error.code() == "55P03") {
        return Ok(Verdict::open(seen, remedy));
    }
    Ok(open_unless_refused(&answer, seen, remedy))
}

type Alone = (&'static Attack, String, &'static str, &'static str);

/// What one session suffices for.
fn alone() -> Vec<Alone> {
    vec![
        (
            &LARGE_OBJECTS,
            "select pg_catalog.lo_unlink(pg_catalog.lo_create(0))".to_owned(),
            "large objects have one owner for all tenants",
            "revoke execute on the lo_ functions from public",
        ),
        (
            &LARGE_OBJECT_LIST,
            "select oid from pg_catalog.pg_largeobject_metadata limit 1".to_owned(),
            "the list of large objects can be read",
            "revoke select on pg_catalog.pg_largeobject_metadata from public",
        ),
        (
            &LOCKS,
            "select count(*) from pg_catalog.pg_locks where pid <> pg_catalog.pg_backend_pid()"
                .to_owned(),
            "the locks of other sessions can be seen",
            "revoke select on pg_catalog.pg_locks, and execute on function \
             pg_catalog.pg_lock_status(), from public",
        ),
        (
            &COUNTERS,
            "select n_tup_ins from pg_catalog.pg_stat_user_tables limit 1".to_owned(),
            "the counters of all tenants' work can be read",
            "revoke select on the pg_stat views, and execute on the functions behind them",
        ),
    ]
}

type Verdicts = Vec<(&'static Attack, Result<Verdict, Lost>)>;

/// What takes two sessions at once.
async fn together(foray: &Foray<'_>) -> Verdicts {
    let mut verdicts = Vec::new();
    for attack in PAIRED {
        let verdict = match if foray.has_pairs { pair(foray).await } else { None } {
            Some((own, other)) => paired(attack, own, other).await,
            None => Ok(Verdict::skipped(NO_PAIR)),
        };
        verdicts.push((*attack, verdict));
    }
    verdicts
}

async fn paired(attack: &'static Attack, mut own: Wire, mut other: Wire) -> Result<Verdict, Lost> {
    let verdict = match attack.id {
        "activity_texts" => activity(&mut own, &mut other, ACTIVITY).await,
        "activity_functions" => activity(&mut own, &mut other, ACTIVITY_FUNCTION).await,
        "notify" => notify(&mut own, &mut other).await,
        "advisory_locks" => advisory(&mut own, &mut other).await,
        "cancel_backend" => signal(&mut own, &mut other, "pg_cancel_backend").await,
        _ => signal(&mut own, &mut other, "pg_terminate_backend").await,
    };
    own.close().await;
    other.close().await;
    verdict
}

/// The other's statement text, while it is in a transaction.
async fn activity(own: &mut Wire, other: &mut Wire, sql: &str) -> Result<Verdict, Lost> {
    // Without the words that have the proxy bind anew, which would be the last text then.
    let marker = format!("marker_{:x}", std::process::id());
    other.ask("begin").await?;
    other.ask(&format!("select '{marker}_text'")).await?;
    // In two pieces, so that the question is not its own answer.
    let answer = taken_back(own, &format!("{sql} like '%{marker}' || '\\_text%'")).await?;
    other.ask("rollback").await?;
    let remedy = "revoke select on pg_catalog.pg_stat_activity, and execute on the pg_stat_get \
                  functions behind it, from public";
    Ok(match (answer.error(), answer.number()) {
        (Some(error), _) => Verdict::by(error.layer()),
        (None, Some(1..)) => Verdict::open("the other tenant's statement can be read", remedy),
        (None, _) => Verdict::by(Layer::Grant),
    })
}

async fn notify(own: &mut Wire, other: &mut Wire) -> Result<Verdict, Lost> {
    let heard = own.ask("listen cloison_verify").await?;
    if let Some(error) = heard.error() {
        return Ok(Verdict::by(error.layer()));
    }
    let said = other.ask("notify cloison_verify, 'said'").await?;
    if let Some(error) = said.error() {
        return Ok(Verdict::by(error.layer()));
    }
    let heard = own.ask("select 1").await?;
    own.ask("unlisten *").await?;
    Ok(if heard.notifications.iter().any(|(_, text)| text == "said") {
        let remedy = "no grant prevents it: a statement filter does; the server may keep LISTEN \
                      to itself";
        Verdict::open("what one tenant notifies, another hears", remedy)
    } else {
        Verdict::skipped("nothing was heard")
    })
}

async fn advisory(own: &mut Wire, other: &mut Wire) -> Result<Verdict, Lost> {
    let lock = "select pg_catalog.pg_try_advisory_xact_lock(2026112111)";
    let held = other.ask(&format!("begin; {lock}")).await?;
    let tried = taken_back(own, lock).await?;
    other.ask("rollback").await?;
    Ok(match held.error().or(tried.error()) {
        Some(error) => Verdict::by(error.layer()),
        None if tried.value() == Some("f") => Verdict::open(
            "one tenant's advisory lock keeps another waiting",
            "revoke execute on the pg_advisory functions from public",
        ),
        None => Verdict::skipped("both had the lock"),
    })
}

/// The other is idle, so that a cancel request does nothing, and its end is no loss.
async fn signal(own: &mut Wire, other: &mut Wire, function: &str) -> Result<Verdict, Lost> {
    let process = other.ask("begin; select pg_catalog.pg_backend_pid()").await?;
    let Some(process) = process.number() else { return Ok(Verdict::skipped("no process id")) };
    let answer = taken_back(own, &format!("select pg_catalog.{function}({process})")).await?;
    // Gone, where it was ended.
    let _ = other.ask("rollback").await;
    let remedy = format!("revoke execute on function pg_catalog.{function} from public");
    Ok(match answer.error() {
        Some(error) => Verdict::by(error.layer()),
        None if answer.value() == Some("t") => {
            Verdict::open("one tenant can signal another's server process", remedy)
        }
        None => Verdict::by(Layer::Grant),
    })
}

const ACTIVITY: &str = "select count(*) from pg_catalog.pg_stat_activity \
                        where pid <> pg_catalog.pg_backend_pid() and query";

const ACTIVITY_FUNCTION: &str = "select count(*) from pg_catalog.pg_stat_get_activity(null) \
                                 where pid <> pg_catalog.pg_backend_pid() and query";

const PAIRED: &[&Attack] = &[&TEXTS, &TEXTS_BY_FUNCTION, &NOTIFY, &ADVISORY, &CANCEL, &TERMINATE];

use Owasp::{Access, Files, Monitoring, Requests, Session};
use Section::Shared;

static LARGE_OBJECTS: Attack =
    attack("large_objects", Shared, Files, "tenants share no large objects");
static LARGE_OBJECT_LIST: Attack =
    attack("large_object_list", Shared, Files, "large objects cannot be listed");
static LOCKS: Attack = attack("locks", Shared, Monitoring, "other sessions' locks cannot be seen");
static COUNTERS: Attack = attack("counters", Shared, Monitoring, "counters tell of own rows only");
static TOTALS: Attack = attack("totals", Shared, Access, "sizes tell of own rows only");
static LOCK_TABLE: Attack =
    attack("lock_table", Shared, Requests, "one tenant cannot lock a table for all");
static TEXTS: Attack =
    attack("activity_texts", Shared, Monitoring, "other tenants' statements cannot be read");
static TEXTS_BY_FUNCTION: Attack = attack(
    "activity_functions",
    Shared,
    Monitoring,
    "other tenants' statements cannot be read by the functions behind the view",
);
static NOTIFY: Attack = attack("notify", Shared, Session, "tenants share no channels");
static ADVISORY: Attack =
    attack("advisory_locks", Shared, Requests, "tenants share no advisory locks");
static CANCEL: Attack = attack(
    "cancel_backend",
    Shared,
    Requests,
    "one tenant cannot cancel another's statement by a function",
);
static TERMINATE: Attack = attack(
    "terminate_backend",
    Shared,
    Requests,
    "one tenant cannot end another's session by a function",
);
