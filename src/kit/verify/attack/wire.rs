//! Messages that no driver sends, connections that break in the middle, and cancel keys.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::{Foray, NO_PAIR, attack, pair};
use crate::kit::verify::Error;
use crate::kit::verify::check::{Attack, Layer, Owasp, Section};
use crate::kit::verify::report::Verdict;
use crate::kit::verify::wire::{Answer, Lost, Wire};

pub(super) async fn all(foray: &mut Foray<'_>) -> Result<(), Error> {
    let doing = "look up a function";
    let rows = foray.operator.query(doing, FUNCTION, &[]).await?;
    let function: Option<i64> = rows.first().and_then(|row| row.try_get(0).ok());
    let verdict = function_call(foray, function.unwrap_or_default()).await;
    foray.put(&FUNCTION_CALL, "session", verdict);
    for (attack, bytes) in VIOLATIONS {
        let verdict = violate(foray, bytes).await;
        foray.put(attack, "session", verdict);
    }
    for (attack, how) in DEATHS {
        let verdict = die(foray, *how).await;
        foray.put(attack, "connection", verdict);
    }
    let verdict = statement_names(foray).await;
    foray.put(&NAMES, "connection", verdict);
    let verdict = cancel_keys(foray).await;
    foray.put(&CANCEL_KEYS, "session", verdict);
    Ok(())
}

/// `set_config()` by its number, with no SQL at all.
async fn function_call(foray: &Foray<'_>, function: i64) -> Result<Verdict, Lost> {
    let forged = format!("s{}{}", foray.other.id, "0".repeat(64));
    let mut body = BytesMut::new();
    body.put_u32(u32::try_from(function).unwrap_or_default());
    body.put_u16(0);
    body.put_u16(3);
    for argument in ["cloison.context", &forged, "false"] {
        body.put_u32(u32::try_from(argument.len()).unwrap_or_default());
        body.put_slice(argument.as_bytes());
    }
    body.put_u16(0);
    let mut wire = Wire::open(foray.road).await?;
    wire.message(b'F', &body).send().await?;
    let answer = wire.answer().await?;
    wire.close().await;
    Ok(match answer.error() {
        Some(error) => Verdict::by(error.layer()),
        None => Verdict::failed(
            "a function was called without any SQL",
            "a bug of the proxy: the message FunctionCall is not for tenants",
        ),
    })
}

/// The session ends, and nothing else does.
async fn violate(foray: &Foray<'_>, bytes: &[u8]) -> Result<Verdict, Lost> {
    let mut wire = Wire::open(foray.road).await?;
    wire.raw(bytes).send().await?;
    let answer = wire.answer().await?;
    Ok(match answer.error() {
        Some(error) if answer.is_closed => Verdict::by(error.layer()),
        Some(_) | None => Verdict::failed(
            "the proxy went on after a message that has no place in a session",
            "a bug of the proxy",
        ),
    })
}

/// How a client dies.
#[derive(Clone, Copy)]
enum Death {
    /// Long before the end of a result.
    Result,
    /// Long before the end of a COPY.
    Copy,
    /// After messages without a Sync.
    Pipeline,
}

/// The other tenant dies; what this one is answered is its own, and all of it.
async fn die(foray: &Foray<'_>, how: Death) -> Result<Verdict, Lost> {
    for _ in 0..TRIES {
        let mut dying = Wire::open(foray.other_road).await?;
        let rows = "select 'other' from pg_catalog.generate_series(1, 200000)";
        match how {
            Death::Result => dying.query(rows),
            Death::Copy => dying.query(&format!("copy ({rows}) to stdout")),
            Death::Pipeline => {
                dying.parse("", "begin").execute("", &[]).parse("", rows).execute("", &[])
            }
        };
        dying.message(b'H', b"").send().await?;
        // Something is on its way.
        dying.receive().await?;
        dying.die();
        let mut next = Wire::open(foray.road).await?;
        let answer = next.ask("select 'own'").await?;
        next.close().await;
        let is_own = answer.error().is_none()
            && answer.copied.is_empty()
            && answer.rows == [[Some("own".to_owned())]];
        if !is_own {
            let seen = format!("the next tenant was answered {}", described(&answer));
            return Ok(Verdict::failed(seen, "a bug of the proxy"));
        }
    }
    Ok(Verdict::by(Layer::Scrub))
}

fn described(answer: &Answer) -> String {
    match answer.error() {
        Some(error) => error.brief(),
        None => format!("{} rows, {} bytes of COPY", answer.rows.len(), answer.copied.len()),
    }
}

/// The other tenant's prepared statement of the protocol, by its name.
async fn statement_names(foray: &Foray<'_>) -> Result<Verdict, Lost> {
    let mut by = Layer::Scrub;
    for _ in 0..TRIES {
        let mut other = Wire::open(foray.other_road).await?;
        other.parse("cloison_verify_name", "select 'other'").sync().send().await?;
        other.answer().await?;
        other.close().await;
        let mut own = Wire::open(foray.road).await?;
        own.execute("cloison_verify_name", &[]).sync().send().await?;
        let answer = own.answer().await?;
        own.close().await;
        match answer.error() {
            None => {
                let seen = "another tenant's prepared statement can be executed";
                return Ok(Verdict::failed(seen, "a bug of the proxy"));
            }
            Some(error) if error.layer() != Layer::Server => by = error.layer(),
            Some(_) => {}
        }
    }
    Ok(Verdict::by(by))
}

/// Random keys, the own key, and the key of a session that is over, against the other's statement.
/// Its own key then has to work, or nothing is proven.
async fn cancel_keys(foray: &Foray<'_>) -> Result<Verdict, Lost> {
    // First, so that it needs no third server connection.
    let stale = Wire::open(foray.road).await?;
    let mut keys = vec![stale.key()];
    stale.close().await;
    let Some((own, mut other)) = (if foray.has_pairs { pair(foray).await } else { None }) else {
        return Ok(Verdict::skipped(NO_PAIR));
    };
    keys.push(own.key());
    // The other's process id with every secret that a counter would have begun with.
    for secret in 0..16_u32 {
        let mut key = BytesMut::from(other.key().get(..4).unwrap_or_default());
        key.put_u32(secret);
        keys.push(key.freeze());
    }
    other.query("select pg_catalog.pg_sleep(0.3)").send().await?;
    for key in &keys {
        Wire::cancel(own.road(), key).await?;
    }
    let answer = other.answer().await?;
    if let Some(error) = answer.error() {
        return Ok(if error.code() == "57014" {
            Verdict::failed("one tenant has cancelled another's statement", "a bug of the proxy")
        } else {
            Verdict::skipped(error.brief())
        });
    }
    other.query("select pg_catalog.pg_sleep(9)").send().await?;
    let key = other.key();
    // It may not have begun yet, and a request that comes too early is not kept.
    let cancel = async {
        loop {
            tokio::time::sleep(AGAIN).await;
            let _ = Wire::cancel(foray.other_road, &key).await;
        }
    };
    let answer: Result<Answer, Lost> = tokio::select! {
        answer = other.answer() => answer,
        () = cancel => Err(Lost("no cancel request was sent".to_owned())),
    };
    own.close().await;
    other.close().await;
    Ok(if answer?.error().is_some_and(|error| error.code() == "57014") {
        Verdict::by(Layer::Wire)
    } else {
        Verdict::skipped("its own key does not cancel it either")
    })
}

type Violation = (&'static Attack, &'static [u8]);

const VIOLATIONS: &[Violation] = &[
    (&LATE_PASSWORD, b"p\0\0\0\x06x\0"),
    (&UNKNOWN_MESSAGE, b"~\0\0\0\x04"),
    (&IMPOSSIBLE_LENGTH, b"Q\xff\xff\xff\xff"),
    (&BACKEND_MESSAGE, b"Z\0\0\0\x05I"),
];

const DEATHS: &[(&Attack, Death)] = &[
    (&DEATH_IN_RESULT, Death::Result),
    (&DEATH_IN_COPY, Death::Copy),
    (&DEATH_IN_PIPELINE, Death::Pipeline),
];

/// How often a session's own statement is asked to end.
const AGAIN: Duration = Duration::from_millis(50);

/// Often enough that the pool would hand a connection on.
const TRIES: u8 = 3;

const FUNCTION: &str =
    "select 'pg_catalog.set_config(text, text, boolean)'::pg_catalog.regprocedure::oid::bigint";

use Owasp::{Context, Requests, Session};
use Section::Wire as Protocol;

static FUNCTION_CALL: Attack =
    attack("function_call", Protocol, Context, "no function is called by its number, past all SQL");
static LATE_PASSWORD: Attack =
    attack("late_password", Protocol, Context, "a second password is not listened to");
static UNKNOWN_MESSAGE: Attack =
    attack("unknown_message", Protocol, Requests, "messages of unknown types end the session");
static IMPOSSIBLE_LENGTH: Attack =
    attack("impossible_length", Protocol, Requests, "impossible lengths end the session");
static BACKEND_MESSAGE: Attack =
    attack("backend_message", Protocol, Requests, "a client cannot speak as the server");
static DEATH_IN_RESULT: Attack = attack(
    "death_in_result",
    Protocol,
    Session,
    "the rest of a dead client's result goes to nobody",
);
static DEATH_IN_COPY: Attack =
    attack("death_in_copy", Protocol, Session, "the rest of a dead client's COPY goes to nobody");
static DEATH_IN_PIPELINE: Attack = attack(
    "death_in_pipeline",
    Protocol,
    Session,
    "the answers to a dead client's pipeline go to nobody",
);
static NAMES: Attack =
    attack("statement_names", Protocol, Session, "a prepared statement's name is its own client's");
static CANCEL_KEYS: Attack =
    attack("cancel_keys", Protocol, Requests, "no key but a session's own cancels its statement");
