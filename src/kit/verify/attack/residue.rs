//! What one tenant leaves on a server connection, and whether the next one finds it.

use std::time::Duration;

use super::{BEGIN, Foray, attack, by_error};
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::session::Session;
use crate::kit::verify::wire::{Answer, Lost, Wire};

/// Something to leave, and how to find it: `look` answers null, or fails, where there is nothing.
struct Residue {
    attack: &'static Attack,
    leave: &'static str,
    look: &'static str,
    ends: Ends,
}

/// How the one that leaves it leaves.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Ends {
    /// Its transaction is committed, and it says goodbye.
    Well,
    /// In its transaction, without a word.
    InTransaction,
}

/// The other tenant leaves it, this one looks.
pub(super) async fn all(foray: &mut Foray<'_>) {
    for residue in RESIDUES {
        let verdict = try_out(foray, residue).await;
        foray.put(residue.attack, "connection", verdict);
    }
}

async fn try_out(foray: &Foray<'_>, residue: &Residue) -> Result<Verdict, Lost> {
    let mut process = String::new();
    for _ in 0..TRIES {
        let mut leaver = Wire::open(foray.other_road).await?;
        let begin = format!("begin; {PROCESS}; {}", residue.leave);
        let left = match residue.ends {
            Ends::Well => leaver.ask(&format!("{begin}; commit")).await?,
            Ends::InTransaction => leaver.ask(&begin).await?,
        };
        match residue.ends {
            Ends::InTransaction => leaver.die(),
            Ends::Well => leaver.close().await,
        }
        // The pool resets it behind the client's back.
        tokio::time::sleep(RESET).await;
        if left.error().is_some() {
            return Ok(by_error(&left, || Verdict::HELD));
        }
        process = first(&left);
        let mut finder = Wire::open(foray.road).await?;
        let found = finder.ask(&format!("{BEGIN}; {PROCESS}; {}; rollback", residue.look)).await?;
        if found.status != b'I' {
            finder.ask("rollback").await?;
        }
        finder.close().await;
        let is_inside = found.notices.iter().any(|notice| notice.code() == "25001");
        if is_inside {
            let seen = "the connection was handed on inside a transaction of another tenant";
            return Ok(Verdict::failed(seen, REMEDY));
        }
        // A value of one's own stands for what is known beforehand: a random number.
        let value = found.rows.get(1).and_then(|row| row.first()?.as_deref());
        if value.is_some_and(|value| residue.look != RANDOM || given(&left) == Some(value)) {
            let seen = "the next tenant on the connection finds it";
            return Ok(Verdict::failed(seen, REMEDY));
        }
        if first(&found) == process {
            return Ok(match found.error() {
                Some(error) if !CLEAN.contains(&error.code()) => Verdict::skipped(error.brief()),
                Some(_) | None => Verdict::by(Layer::Scrub),
            });
        }
    }
    Ok(if is_gone(foray.operator, &process).await {
        // Closed rather than handed on.
        Verdict::by(Layer::Scrub)
    } else {
        Verdict::skipped("the pool gave other server connections")
    })
}

/// The process of a session, as the first thing that it tells.
fn first(answer: &Answer) -> String {
    let value = answer.rows.first().and_then(|row| row.first()?.clone());
    value.unwrap_or_default()
}

/// The value that the leaver has seen and the finder must not see again.
fn given(left: &Answer) -> Option<&str> {
    left.rows.get(2)?.first()?.as_deref()
}

/// Whether a server process ends; it may be about to.
async fn is_gone(operator: &Session, process: &str) -> bool {
    let sql = "select 1 from pg_catalog.pg_stat_activity where pid::text = $1";
    for _ in 0..20 {
        let rows = operator.query("look for a process", sql, &[&process]).await;
        if rows.is_ok_and(|rows| rows.is_empty()) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

const fn residue(attack: &'static Attack, leave: &'static str, look: &'static str) -> Residue {
    Residue { attack, leave, look, ends: Ends::Well }
}

const RESIDUES: &[Residue] = &[
    residue(
        &TEMPORARY_TABLE,
        "create temp table cloison_verify (x int)",
        "select pg_catalog.to_regclass('pg_temp.cloison_verify')::text",
    ),
    residue(&STATEMENT, "prepare cloison_verify as select 1", "execute cloison_verify"),
    residue(
        &CURSOR,
        "declare cloison_verify cursor with hold for select 1",
        "fetch all from cloison_verify",
    ),
    residue(
        &SETTING,
        "set cloison_verify.residue = 'left'",
        "select nullif(pg_catalog.current_setting('cloison_verify.residue', true), '')",
    ),
    residue(
        &SET_CONFIG,
        "select pg_catalog.set_config('cloison_verify.other', 'left', false)",
        "select nullif(pg_catalog.current_setting('cloison_verify.other', true), '')",
    ),
    residue(
        &TIMEOUT,
        "set idle_session_timeout = '4321s'",
        "select case '4321s' when \
         pg_catalog.current_setting('idle_session_timeout') then 'left' end",
    ),
    residue(
        &SEARCH_PATH,
        "set search_path = cloison_verify_nowhere",
        "select case pg_catalog.current_setting('search_path') \
         when 'cloison_verify_nowhere' then 'left' end",
    ),
    residue(
        &READ_ONLY,
        "set session characteristics as transaction read only",
        "select case pg_catalog.current_setting('default_transaction_read_only') \
         when 'on' then 'left' end",
    ),
    residue(
        &LISTEN,
        "listen cloison_verify",
        "select pg_catalog.string_agg(c, '') from pg_catalog.pg_listening_channels() c",
    ),
    residue(
        &LOCK,
        "select pg_catalog.pg_advisory_lock(2026112110)",
        "select case when pg_catalog.pg_advisory_unlock(2026112110) then 'left' end",
    ),
    residue(
        &SEED,
        "select pg_catalog.setseed(0.25); select pg_catalog.random()::text; \
         select pg_catalog.setseed(0.25)",
        RANDOM,
    ),
    residue(
        &SEQUENCE,
        "create temp sequence cloison_verify_s; select pg_catalog.nextval('cloison_verify_s')",
        "select pg_catalog.lastval()::text",
    ),
    residue(
        &NAME,
        "set application_name = 'cloison_verify_left'",
        "select case pg_catalog.current_setting('application_name') \
         when 'cloison_verify_left' then 'left' end",
    ),
    Residue {
        attack: &TRANSACTION,
        leave: "select 1",
        look: "select nullif(pg_catalog.now() <> pg_catalog.statement_timestamp(), true)::text \
               where false",
        ends: Ends::InTransaction,
    },
];

const PROCESS: &str = "select pg_catalog.pg_backend_pid()::text";

const RANDOM: &str = "select pg_catalog.random()::text";

const REMEDY: &str =
    "a bug of the proxy: until it is mended, pool_mode = \"session\" and a new connection for each";

/// No such statement, cursor, sequence, function, or no right to ask.
const CLEAN: [&str; 4] = ["26000", "34000", "55000", "42501"];

/// About how long a reset takes.
const RESET: Duration = Duration::from_millis(10);

/// So often is the pool asked for the same server connection.
const TRIES: u8 = 10;

use Owasp::Session as Cache;
use Section::Residue as Left;

static TEMPORARY_TABLE: Attack =
    attack("residue_temp_table", Left, Cache, "no temporary table is left for the next tenant");
static STATEMENT: Attack =
    attack("residue_prepared", Left, Cache, "no prepared statement is left for the next tenant");
static CURSOR: Attack =
    attack("residue_cursor", Left, Cache, "no held cursor is left for the next tenant");
static SETTING: Attack =
    attack("residue_set", Left, Cache, "no setting is left for the next tenant");
static SET_CONFIG: Attack =
    attack("residue_set_config", Left, Cache, "nothing that set_config() set is left");
static TIMEOUT: Attack = attack("residue_timeout", Left, Cache, "no timeout is left");
static SEARCH_PATH: Attack = attack("residue_search_path", Left, Cache, "no search_path is left");
static READ_ONLY: Attack =
    attack("residue_characteristics", Left, Cache, "no session characteristics are left");
static LISTEN: Attack = attack("residue_listen", Left, Cache, "no channel is still listened to");
static LOCK: Attack =
    attack("residue_advisory_lock", Left, Cache, "no advisory lock is still held");
static SEED: Attack = attack("residue_seed", Left, Cache, "no seed makes the next numbers known");
static SEQUENCE: Attack =
    attack("residue_sequence", Left, Cache, "lastval() tells nothing of the tenant before");
static NAME: Attack =
    attack("residue_application_name", Left, Cache, "no application_name is left");
static TRANSACTION: Attack = attack(
    "residue_transaction",
    Section::Transactions,
    Cache,
    "nobody lands in a transaction that another has left open",
);
