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

use pg_raw_parse::{Error, Node};

use crate::recent::Recent;
use crate::scan;
use crate::statement::{self, Lexis};

pub use kind::Group;
pub use settings::is_setting_name;

/// Whose statements are judged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Whose {
    /// Held to a list of statements and settings.
    #[default]
    Tenants,
    /// Held to a list of statements: they share one role, and what is on record is all that it does.
    Superadmins,
}

/// What they may do beyond the built-in list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Whom it holds for.
    pub whose: Whose,
    /// Kinds of statements that are given back.
    pub statements: BTreeSet<Group>,
    /// Settings that may be changed, in lower case; `app.*` stands for all that begin so.
    pub settings: BTreeSet<String>,
    /// Texts longer than this are refused: a parse tree takes up to a hundred times their size.
    pub longest: usize,
}

/// A super-admin's text is no longer: what is recorded is read as a whole.
const LONGEST_OF_SUPERADMINS: usize = 16 << 20;

impl Policy {
    /// What holds for super-admins: no change of the role that all of them share, no lock that keeps
    /// others waiting, no code that nobody has read.
    pub fn of_superadmins() -> Self {
        use Group::{Ddl, Explain, Maintenance, TemporaryTables};
        Self {
            whose: Whose::Superadmins,
            statements: [Ddl, Explain, Maintenance, TemporaryTables].into(),
            settings: BTreeSet::new(),
            longest: LONGEST_OF_SUPERADMINS,
        }
    }
}

/// Judges texts, and remembers those that may pass.
pub struct Guard {
    policy: Policy,
    /// And whether they leave every setting as it is.
    passed: Recent<Box<[u8]>, bool>,
}

/// Texts that are remembered; a repeated one costs a look-up.
const REMEMBERED: usize = 4096;

/// Longer ones are not remembered: hardly ever are they the same again.
const LONGEST_REMEMBERED: usize = 4096;

/// Of what the parser says, which quotes the text, so many characters are kept.
const LONGEST_MESSAGE: usize = 500;

/// Most steps of the scanner for each byte of a text, and for any text at all: a run of 1,000
/// signs passes everywhere, one of 6,000 nowhere.
const MOST_EFFORT_A_BYTE: usize = 512;
const LEAST_EFFORT: usize = 1_000_000;
const MOST_EFFORT: usize = 36_000_000;

/// Most parts of a name with dots: Postgres takes three where it is not the name of a setting.
const MOST_NAME_PARTS: usize = 64;

/// What the grammar needs for a character that it counts, in the same steps.
const COUNTED: usize = 5;

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
    /// A statement that super-admins may not send.
    OfSuperadmins(&'static str),
    /// A setting that is not on the list.
    Setting(String),
    /// `EXPLAIN`: a plan tells of all tenants' rows.
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
    /// The grammar would need far more time or memory for it than for others of its length.
    Costly,
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

    /// Whether tenants may see plans and estimates.
    pub fn shows_plans(&self) -> bool {
        self.policy.statements.contains(&Group::Explain)
    }

    /// Longer texts are refused.
    pub const fn longest(&self) -> usize {
        self.policy.longest
    }

    /// Refuses a text for its length alone, before anybody reads it.
    ///
    /// # Errors
    ///
    /// It is longer than the limit.
    pub const fn check_length(&self, length: usize) -> Result<(), Refusal> {
        let longest = self.policy.longest;
        if length > longest { Err(Refusal::TooLong { length, longest }) } else { Ok(()) }
    }

    /// Judges a text as a whole: bytes in the client's encoding, without a zero byte.
    ///
    /// # Errors
    ///
    /// The first statement that may not pass keeps all of them from it.
    pub fn judge(&self, text: &[u8], lexis: Lexis) -> Result<(), Refusal> {
        self.judge_settings(text, lexis).map(|_| ())
    }

    /// The same; says of what may pass whether it leaves every setting as it is, so that the next
    /// text is read as this one.
    ///
    /// # Errors
    ///
    /// As [`Self::judge`].
    pub fn judge_settings(&self, text: &[u8], lexis: Lexis) -> Result<bool, Refusal> {
        self.check_length(text.len())?;
        // The grammar reads as Postgres does with its own defaults.
        if (!lexis.standard_strings || !lexis.safe_encoding) && depends_on_settings(text, lexis) {
            return Err(Refusal::Unreadable);
        }
        let is_short = text.len() <= LONGEST_REMEMBERED;
        if is_short && let Some(keeps_settings) = self.passed.get(text) {
            return Ok(keeps_settings);
        }
        let grammar = statement::effort(text);
        let effort = scanning_effort(text).saturating_add(grammar.counted.saturating_mul(COUNTED));
        if effort > most_effort(text.len()) || grammar.name_parts > MOST_NAME_PARTS {
            return Err(Refusal::Costly);
        }
        self.parse(text)?;
        let keeps_settings = statement::keeps_settings(text, lexis);
        if is_short {
            self.passed.insert(text.into(), keeps_settings);
        }
        Ok(keeps_settings)
    }

    fn judge_statement(&self, statement: Node<'_>) -> Result<(), Refusal> {
        let judged = kind::judge(statement, &self.policy);
        match (self.policy.whose, judged) {
            (Whose::Superadmins, Err(Refusal::Statement { name, .. })) => {
                Err(Refusal::OfSuperadmins(name))
            }
            (_, judged) => judged,
        }
    }

    fn parse(&self, text: &[u8]) -> Result<(), Refusal> {
        let text = readable(text);
        // What the grammar does with them is bounded by scanning_effort() and by its own stack.
        scan::step(text.len());
        match pg_raw_parse::parse(&text) {
            Ok(tree) => tree.iter().try_for_each(|raw| self.judge_statement(raw.stmt())),
            Err(Error::Parse(error)) => {
                let message = error.to_string();
                let position = caret::position(&text, &message);
                let message = message.chars().take(LONGEST_MESSAGE).collect();
                Err(Refusal::Unparsable { message, position })
            }
            Err(Error::PgError(_) | Error::StatementContainedNul(_)) => Err(Refusal::Unreadable),
        }
    }
}

/// Whether a text is read in another way where these settings are not what the grammar takes them for.
fn depends_on_settings(text: &[u8], lexis: Lexis) -> bool {
    (!lexis.standard_strings && scan::contains(text, b'\\'))
        || (!lexis.safe_encoding && !scan::is_ascii(text))
}

/// How long Postgres' scanner may be at work on a text, in steps of about a nanosecond.
///
/// At every start of a comment or an operator it reads on for as long as there are characters of
/// operators, and then goes back, behind each `/*`, and to each `+` and `-` that ends an operator: a
/// text of nothing but `/*` costs the square of its length. Behind `--` it reads on to the line's
/// end.
fn scanning_effort(text: &[u8]) -> usize {
    scan::step(3 * text.len());
    let runs = text.split(|byte| !b"~!@#^&|`?+-*/%<>=".contains(byte));
    let effort = |run: &[u8]| {
        let comments = run.windows(2).filter(|pair| pair == b"/*").count();
        let dashes = run.windows(2).position(|pair| pair == b"--").unwrap_or(run.len());
        let signs = run.iter().take(dashes).filter(|byte| matches!(byte, b'+' | b'-')).count();
        run.len().saturating_mul(1 + comments + signs)
    };
    runs.fold(0, |sum: usize, run| sum.saturating_add(effort(run)))
}

/// What the scanner may take for a text of this length.
fn most_effort(length: usize) -> usize {
    length.saturating_mul(MOST_EFFORT_A_BYTE).saturating_add(LEAST_EFFORT).min(MOST_EFFORT)
}

/// Text in an encoding that has ASCII for ASCII, as UTF-8: every other byte becomes a letter that
/// no keyword has.
fn readable(text: &[u8]) -> Cow<'_, str> {
    scan::step(text.len());
    match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let letter = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { 'é' };
            Cow::Owned(text.iter().map(letter).collect())
        }
    }
}
