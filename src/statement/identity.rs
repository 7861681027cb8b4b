//! Statements by which a client says who it is: a token in `cloison.jwt`, a choice by `set_tenant`.
//!
//! They are for the proxy. Postgres gets, in place of each, a statement that is answered alike and
//! does nothing but take the context away, so that order, errors and rollbacks stay its own work.
//! The reading is strict: what is written in another way is not recognised, and a text that names
//! the token's setting and is not recognised is not for Postgres.

mod reader;

use reader::{only_asks, read};

use crate::scan;

/// What a text is to the session's identity.
pub enum Mention {
    /// Nothing.
    None,
    /// It names the token's setting in a way that is not known: it may hold a token.
    Unknown,
    /// It is such a statement.
    Statement(Box<Identification>),
}

/// A statement by which a client says who it is.
#[derive(Clone)]
pub struct Identification {
    /// What the client wants.
    pub wish: Wish,
    /// What Postgres gets in its place. It holds no token.
    pub text: Vec<u8>,
}

/// What the client wants. No `Debug`: it may hold a token.
#[derive(Clone)]
pub enum Wish {
    /// To be whom a token names.
    Token(Argument, Flag),
    /// To act for a tenant among those that its token allows.
    Tenant(Argument),
    /// To be whom its login made it.
    Reset(Flag),
}

/// A text in a statement.
#[derive(Clone)]
pub enum Argument {
    /// Written there.
    Text(String),
    /// The parameter of that number, from 1.
    Parameter(usize),
}

/// Whether it holds until the end of the transaction only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flag {
    /// As it says.
    Is(bool),
    /// As the parameter of that number says.
    Parameter(usize),
}

/// Whether a text may be about the session's identity: a quick look, for every text.
pub fn may_mention(text: &[u8]) -> bool {
    let (mut at, mut names_token) = (0, false);
    while let Some(found) = text.get(at..).and_then(|rest| scan::position(rest, is_sign)) {
        at += found;
        let is_choice = match text.get(at) {
            Some(b'_') => behind(text, at, b"_tenant") && at >= 3 && behind(text, at - 3, b"set"),
            _ => {
                names_token |= behind(text, at, b"jwt");
                false
            }
        };
        if is_choice {
            return true;
        }
        at += 1;
    }
    // Looked for once, however often the other word stands there.
    names_token && contains(text, b"cloison")
}

/// What no text without the words has many of.
const fn is_sign(byte: u8) -> bool {
    matches!(byte, b'_' | b'j' | b'J')
}

fn behind(text: &[u8], at: usize, word: &[u8]) -> bool {
    scan::step(word.len());
    text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    scan::contains_word(text, word)
}

/// Reads a text of one statement, in an encoding that has ASCII for ASCII. The text is not to have
/// a second statement: then it is `Unknown` if it names the token's setting.
pub fn mention(text: &[u8]) -> Mention {
    if !may_mention(text) {
        return Mention::None;
    }
    if let Some(found) = read(text) {
        return Mention::Statement(Box::new(found));
    }
    let names_token = contains(text, b"cloison") && contains(text, b"jwt");
    if names_token && !only_asks(text) { Mention::Unknown } else { Mention::None }
}

/// How Postgres reads the usual words for a truth value.
pub fn boolean(text: &[u8]) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    if is(["t", "true", "on", "yes", "1"]) {
        Some(true)
    } else if is(["f", "false", "off", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wish in few words, and what Postgres gets.
    fn seen(text: &str) -> (String, String) {
        let found = match mention(text.as_bytes()) {
            Mention::None => return ("none".to_owned(), String::new()),
            Mention::Unknown => return ("unknown".to_owned(), String::new()),
            Mention::Statement(found) => found,
        };
        let argument = |argument: &Argument| match argument {
            Argument::Text(text) => text.clone(),
            Argument::Parameter(number) => format!("${number}"),
        };
        let wish = match &found.wish {
            Wish::Token(token, local) => format!("token {} {local:?}", argument(token)),
            Wish::Tenant(tenant) => format!("tenant {}", argument(tenant)),
            Wish::Reset(local) => format!("reset {local:?}"),
        };
        (wish, String::from_utf8(found.text).unwrap())
    }

    #[track_caller]
    fn check(text: &str, wish: &str, instead: &str) {
        assert_eq!(seen(text), (wish.to_owned(), instead.to_owned()), "{text}");
    }

    #[test]
    fn a_token_is_taken_out_of_what_postgres_gets() {
        let set = "set cloison.context = ''";
        check("SET cloison.jwt = 'a.b.c'", "token a.b.c Is(false)", set);
        check("set session Cloison.JWT to 'a.b.c' ; ", "token a.b.c Is(false)", set);
        check("/* x */ set \"cloison\" . \"jwt\"='a''b'", "token a'b Is(false)", set);
        let local = "set local cloison.context = ''";
        check("SET LOCAL cloison.jwt = 'a'", "token a Is(true)", local);
        check(
            "select set_config('cloison.jwt', $1, true)",
            "token $1 Is(true)",
            "select set_config('cloison.context', $1, true)",
        );
        check(
            "SELECT pg_catalog.set_config('cloison.jwt', 'tok', $2::bool) AS x;",
            "token tok Parameter(2)",
            "SELECT pg_catalog.set_config('cloison.context', '', $2::bool) AS x;",
        );
        check(
            "select set_config('cloison.jwt', $1::text, 'f')",
            "token $1 Is(false)",
            "select set_config('cloison.context', $1::text, 'f')",
        );
    }

    #[test]
    fn an_identity_is_given_up() {
        check("reset cloison.jwt", "reset Is(false)", "reset cloison.context");
        check("set cloison.jwt to default", "reset Is(false)", "set cloison.context to default");
        check(
            "select set_config('cloison.jwt', '', false)",
            "reset Is(false)",
            "select set_config('cloison.context', '', false)",
        );
    }

    #[test]
    fn a_tenant_is_chosen() {
        let sleep = "select pg_catalog.pg_sleep(0) as set_tenant";
        check("SELECT set_tenant('acme')", "tenant acme", sleep);
        check("select public.set_tenant('acme'::uuid);", "tenant acme", sleep);
        check("select cloison.\"set_tenant\"('acme')", "tenant acme", sleep);
        let asks = " where ($1::pg_catalog.text) is null or true";
        check("select set_tenant($1)", "tenant $1", &format!("{sleep}{asks}"));
        check(
            "select set_tenant($1::VARCHAR) AS set_tenant_1",
            "tenant $1",
            "select pg_catalog.pg_sleep(0) as set_tenant_1 where ($1::VARCHAR) is null or true",
        );
        let table = "select * from pg_catalog.pg_sleep(0) as set_tenant";
        check("SELECT * FROM set_tenant('acme')", "tenant acme", table);
    }

    #[test]
    fn whatever_else_may_hold_a_token_is_not_for_postgres() {
        for text in [
            "set cloison.jwt = 'a'; select 1",
            "select set_config('cloison.jwt', 'a' || 'b', true)",
            "select set_config('cloison.jwt', 'a', true), 1",
            "with x as (select set_config('cloison.jwt', 'a', true)) select * from x",
            "do $$ begin perform set_config('cloison.jwt', 'a', true); end $$",
            "set cloison.jwt = E'a'",
            "set cloison.jwt = $$a$$",
            "set cloison.jwt = 'a\\b'",
            "set cloison.jwt = abc",
            "prepare p as select set_config('cloison.jwt', $1, true)",
            "alter role x set cloison.jwt = 'a'",
            "set cloison.jwt = 'a'\n'b'",
            "set cloison.jwt",
        ] {
            assert_eq!(seen(text).0, "unknown", "{text}");
        }
    }

    #[test]
    fn what_only_asks_passes_and_what_chooses_oddly_is_left_to_postgres() {
        for text in [
            "show cloison.jwt",
            "select current_setting('cloison.jwt', true)",
            "select 1",
            "select jwt from tokens",
            "select * from settenant",
            "select set_tenant('a'), set_tenant('b')",
            "select set_tenant((select slug from t))",
            "call set_tenant('a')",
            "select other.set_tenant('a')",
            "select set_tenant('a') from t",
        ] {
            assert_eq!(seen(text).0, "none", "{text}");
        }
    }
}
