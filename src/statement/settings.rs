//! `SET` and `RESET`: which settings they are about.

use std::borrow::Cow;

use super::control::Reader;
use super::lexer::Token;
use super::{Kind, Lexis, Reading, Surroundings, next};
use crate::scan;

impl Reader<'_, '_> {
    /// Reads what stands behind `SET`.
    pub(super) fn set(&mut self) -> Option<Reading> {
        let is_local = self.accept("local");
        let is_session = !is_local && self.accept("session");
        let target = if is_session { self.session_target() } else { None };
        let target = match target {
            Some(target) => target,
            None if self.accept("session") => self.session_target()?,
            None => self.target()?,
        };
        let names = match target {
            Target::Constraints | Target::Transaction if is_session => return None,
            Target::Constraints if is_local => return None,
            Target::Constraints | Target::Transaction => Vec::new(),
            Target::Settings(names) => names,
        };
        let is_clean = names.iter().all(|name| is_ordinary(name));
        // The context is lost by either, and whoever binds it has to know.
        let is_ours = names.iter().any(|name| name.starts_with("cloison."));
        let is_local = is_local && !is_ours || names.is_empty();
        let kind = if is_local {
            Kind::SetLocal { bears_on_plans: names.iter().any(|name| bears_on_plans(name)) }
        } else {
            Kind::Set(names)
        };
        self.tokens.is_at_end().then_some(Reading { kind, is_clean })
    }

    /// Reads what stands behind `RESET`.
    pub(super) fn reset(&mut self) -> Option<Reading> {
        let kind = if self.accept("all") {
            Kind::ResetAll
        } else if self.accept("session") {
            self.expect("authorization")?;
            Kind::Set(vec![AUTHORIZATION.to_owned()])
        } else if self.accept("time") {
            self.expect("zone")?;
            Kind::Set(vec!["timezone".to_owned()])
        } else {
            Kind::Set(vec![self.setting()?])
        };
        let is_clean =
            !matches!(&kind, Kind::Set(names) if names.iter().any(|name| !is_ordinary(name)));
        self.tokens.is_at_end().then_some(Reading { kind, is_clean })
    }

    /// What may stand behind `SESSION`.
    fn session_target(&mut self) -> Option<Target> {
        if self.accept("authorization") {
            return self.one(AUTHORIZATION);
        }
        if !self.accept("characteristics") {
            return None;
        }
        self.expect("as")?;
        self.expect("transaction")?;
        self.modes().then(|| {
            let names = ["isolation", "read_only", "deferrable"];
            Target::Settings(names.map(|name| format!("default_transaction_{name}")).to_vec())
        })
    }

    fn target(&mut self) -> Option<Target> {
        let word = self.part();
        if word.token == Token::Word {
            for (name, target) in SPECIAL {
                if word.is(name.as_bytes()) {
                    self.tokens.advance();
                    return self.special(name, target);
                }
            }
        }
        let name = self.setting()?;
        self.assigned(name)
    }

    /// What stands behind a word that may be a setting's name, or more than that.
    fn special(&mut self, word: &str, setting: &'static str) -> Option<Target> {
        if self.tokens.token() == Token::Symbol(b'=') || self.is_word("to") {
            return self.assigned(word.to_owned());
        }
        match word {
            "constraints" => self.constraints(),
            "transaction" => self.transaction(),
            "names" if self.tokens.is_at_end() => Some(Target::Settings(vec![setting.to_owned()])),
            "time" => {
                self.expect("zone")?;
                self.one(setting)
            }
            "xml" => {
                self.expect("option")?;
                self.one(setting)
            }
            _ => self.one(setting),
        }
    }

    fn constraints(&mut self) -> Option<Target> {
        let is_part =
            |token| matches!(token, Token::Word | Token::Name | Token::Dot | Token::Comma);
        while is_part(self.tokens.token()) {
            self.tokens.advance();
        }
        Some(Target::Constraints)
    }

    fn transaction(&mut self) -> Option<Target> {
        if self.accept("snapshot") {
            return self.accept_token(Token::String).then_some(Target::Transaction);
        }
        self.modes().then_some(Target::Transaction)
    }

    /// A setting's name, in lower case as Postgres compares it.
    fn setting(&mut self) -> Option<String> {
        let mut name = String::new();
        loop {
            let part = self.part();
            let word = if matches!(part.token, Token::Word | Token::Name) {
                self.tokens.advance();
                Cow::Borrowed(part.bytes)
            } else {
                Cow::Owned(self.identifier()?)
            };
            // Longer ones are cut, and a dot inside of quotes may be any part's.
            if !scan::is_ascii(&word) || word.len() > 63 || word.contains(&b'.') {
                return None;
            }
            if name.len() > LONGEST_NAME {
                return None;
            }
            name.extend(word.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            if !self.accept_token(Token::Dot) {
                return Some(name);
            }
            name.push('.');
        }
    }

    fn assigned(&mut self, name: String) -> Option<Target> {
        let is_assigned = self.accept_symbol(b'=') || self.accept("to");
        let is_value = is_assigned && self.values();
        is_value.then(|| Target::Settings(vec![name]))
    }

    fn one(&mut self, name: &str) -> Option<Target> {
        self.values().then(|| Target::Settings(vec![name.to_owned()]))
    }

    /// Values up to the end, at least one.
    fn values(&mut self) -> bool {
        let start = self.tokens.start();
        while matches!(
            self.tokens.token(),
            Token::Word
                | Token::Name
                | Token::Escaped
                | Token::String
                | Token::Number
                | Token::Comma
                | Token::Symbol(b'-' | b'+')
        ) {
            self.tokens.advance();
        }
        self.tokens.start() > start
    }
}

/// A setting's name with all of its parts; a longer one is not followed.
const LONGEST_NAME: usize = 255;

/// What is set.
enum Target {
    Constraints,
    Settings(Vec<String>),
    Transaction,
}

/// Words behind `SET` that mean more than a setting of that name, and the setting.
const SPECIAL: [(&str, &str); 7] = [
    ("constraints", ""),
    ("names", "client_encoding"),
    ("role", "role"),
    ("schema", "search_path"),
    ("time", "timezone"),
    ("transaction", ""),
    ("xml", "xmloption"),
];

/// Whether a setting is no more than a value that can be set again.
fn is_ordinary(name: &str) -> bool {
    let is_ours = name.starts_with("cloison.");
    !is_ours && !UNORDINARY.contains(&name)
}

const AUTHORIZATION: &str = "session_authorization";

/// Roles, the transaction's own, the seed of `random()`, which nothing resets, what decides how the
/// texts behind it are read, and names that are not the setting's own in every major.
const UNORDINARY: [&str; 11] = [
    "client_encoding",
    "force_parallel_mode",
    "role",
    "seed",
    AUTHORIZATION,
    "sort_mem",
    "standard_conforming_strings",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "vacuum_mem",
];

/// Whether a plan, or what a text means to Postgres, may depend on a setting, by its name in lower
/// case: on every one that is not known for the contrary.
pub fn bears_on_plans(name: &str) -> bool {
    !WITHOUT_BEARING.contains(&name)
}

/// Limits of time, what is told, and how a transaction runs and ends.
const WITHOUT_BEARING: [&str; 15] = [
    "application_name",
    "client_min_messages",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "seed",
    "statement_timeout",
    "synchronous_commit",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
];

/// Whether a text provably leaves every setting as it is. One that only ends a transaction counts as
/// such: what it undoes was not.
pub fn keeps_settings(text: &[u8], lexis: Lexis) -> bool {
    let nothing = Surroundings::default();
    let mut rest = text;
    while !rest.is_empty() {
        let next = next(rest, lexis, &nothing);
        let keeps = matches!(
            next.reading.kind,
            Kind::Empty
                | Kind::Begin
                | Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::RollbackTo
                | Kind::Savepoint
                | Kind::Show
                | Kind::Rows
        );
        if !keeps || !next.reading.is_clean {
            return false;
        }
        rest = rest.get(next.rest..).unwrap_or_default();
    }
    true
}
