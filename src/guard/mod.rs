//! What a tenant's statements may be: an allow-list of kinds and settings, judged with Postgres'
//! own grammar.
//!
//! Isolation of rows never rests on it: what a function runs, and `set_config()`, it does not see.
//! It closes what the database leaves open to every role (the role's own settings, notifications,
//! locks on tables that others use, counts of other tenants' rows in a plan), and answers early and
//! well. Whatever is not on the list is refused, and so is every text that the grammar does not
//! know: that of a newer Postgres, too.

mod caret;
mod kind;
mod settings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use pg_raw_parse::Error;

use crate::recent::Recent;
use crate::statement::Lexis;

pub use kind::Group;
pub use settings::is_setting_name;

/// What tenants may do beyond the built-in list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Kinds of statements that are given back.
    pub statements: BTreeSet<Group>,
    /// Settings that may be changed, in lower case; `app.*` stands for all that begin so.
    pub settings: BTreeSet<String>,
    /// Texts longer than this are refused: a parse tree takes up to a hundred times their size.
    pub longest: usize,
}

/// Judges texts, and remembers those that may pass.
pub struct Guard {
    policy: Policy,
    passed: Recent<Box<[u8]>, ()>,
}

/// Texts that are remembered; a repeated one costs a look-up.
const REMEMBERED: usize = 4096;

/// Longer ones are not remembered: hardly ever are they the same again.
const LONGEST_REMEMBERED: usize = 4096;

/// A run of 6,000 characters: no ruler in a comment is that long.
const MOST_EFFORT: usize = 36_000_000;

/// Why a text may not pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A statement of a kind that is not on the list.
    Statement {
        /// Its name, such as `ALTER ROLE`.
        name: &'static str,
        /// What gives it back, if anything does.
        group: Option<Group>,
    },
    /// A setting that is not on the list.
    Setting(String),
    /// `EXPLAIN` with numbers that tell of all tenants' rows.
    Explain,
    /// The grammar does not know it.
    Unparsable {
        /// What the parser says.
        message: String,
        /// Where, in characters from 1, if that can be told.
        position: Option<usize>,
    },
    /// It holds bytes that may not be what they look like.
    Unreadable,
    /// It is longer than the limit.
    TooLong {
        /// In bytes.
        length: usize,
        /// As configured.
        longest: usize,
    },
}

impl Guard {
    /// Holds tenants to a policy.
    pub fn new(policy: Policy) -> Self {
        Self { policy, passed: Recent::new(REMEMBERED) }
    }

    /// Longer texts are refused.
    pub const fn longest(&self) -> usize {
        self.policy.longest
    }

    /// Judges a text as a whole: bytes in the client's encoding, without a zero byte.
    ///
    /// # Errors
    ///
    /// The first statement that may not pass keeps all of them from it.
    pub fn judge(&self, text: &[u8], lexis: Lexis) -> Result<(), Refusal> {
        if text.len() > self.policy.longest {
            return Err(Refusal::TooLong { length: text.len(), longest: self.policy.longest });
        }
        // The grammar reads as Postgres does with its own defaults.
        let is_unsure = (!lexis.standard_strings && text.contains(&b'\\'))
            || (!lexis.safe_encoding && !text.is_ascii());
        if is_unsure {
            return Err(Refusal::Unreadable);
        }
        let is_short = text.len() <= LONGEST_REMEMBERED;
        if is_short && self.passed.get(text).is_some() {
            return Ok(());
        }
        if scanning_effort(text) > MOST_EFFORT {
            return Err(Refusal::Unreadable);
        }
        self.parse(text)?;
        if is_short {
            self.passed.insert(text.into(), ());
        }
        Ok(())
    }

    fn parse(&self, text: &[u8]) -> Result<(), Refusal> {
        let text = readable(text);
        match pg_raw_parse::parse(&text) {
            Ok(tree) => tree.iter().try_for_each(|raw| kind::judge(raw.stmt(), &self.policy)),
            Err(Error::Parse(error)) => {
                let message = error.to_string();
                let position = caret::position(&text, &message);
                Err(Refusal::Unparsable { message, position })
            }
            Err(Error::PgError(_) | Error::StatementContainedNul(_)) => Err(Refusal::Unreadable),
        }
    }
}

/// How long Postgres' scanner may be at work on a text, in steps of about a nanosecond.
///
/// At every start of a comment or an operator it reads on for as long as there are characters of
/// operators, and then goes back: a text of nothing but `/*` costs the square of its length.
fn scanning_effort(text: &[u8]) -> usize {
    let runs = text.split(|byte| !b"~!@#^&|`?+-*/%<>=".contains(byte));
    runs.fold(0, |sum: usize, run| sum.saturating_add(run.len().saturating_mul(run.len())))
}

/// Text in an encoding that has ASCII for ASCII, as UTF-8: every other byte becomes a letter that
/// no keyword has.
fn readable(text: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let letter = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { 'é' };
            Cow::Owned(text.iter().map(letter).collect())
        }
    }
}
