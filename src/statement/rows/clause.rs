//! How far the clauses have got that say what a name in front of a parenthesis is.

use super::super::lexer::Token;
use super::super::names::Part;

/// Where the list of `WITH` that begins the statement has got to; anything unexpected ends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum With {
    As,
    Body,
    Columns,
    /// Behind a query of the list.
    Listed,
    Name,
    Named,
    /// There is none, or it has ended.
    Over,
}

impl With {
    /// Outside of parentheses.
    pub(super) fn before(self, part: Part<'_>, is_start: bool) -> Self {
        let is_name = matches!(part.token, Token::Word | Token::Name);
        match (self, part.token) {
            (Self::Over, _) if is_start && part.is_word("with") => Self::Name,
            (Self::Name, _) if part.is_word("recursive") => Self::Name,
            (Self::Name, _) if is_name => Self::Named,
            (Self::Named, Token::Open) => Self::Columns,
            (Self::Named, _) if part.is_word("as") => Self::As,
            (Self::As, _) if part.is_word("not") || part.is_word("materialized") => Self::As,
            (Self::As, Token::Open) => Self::Body,
            (Self::Listed, Token::Comma) => Self::Name,
            _ => Self::Over,
        }
    }

    /// Behind a parenthesis that brought the statement back outside of all.
    pub(super) const fn behind_parenthesis(self) -> Self {
        match self {
            Self::Columns => Self::Named,
            Self::Body => Self::Listed,
            Self::As | Self::Listed | Self::Name | Self::Named | Self::Over => Self::Over,
        }
    }

    /// Whether the statement that the list belongs to may follow.
    pub(super) fn is_listed(self) -> bool {
        self == Self::Listed
    }

    /// Whether a name of the list follows.
    pub(super) fn is_at_name(self) -> bool {
        self == Self::Name
    }
}

/// Where a `COPY` has got to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Copy {
    /// Files and programs.
    Elsewhere,
    From,
    /// Up to its `FROM` or `TO`.
    Source,
    Stdin,
    Stdout,
    To,
}

impl Copy {
    /// Outside of parentheses, and not behind a dot.
    pub(super) fn before(self, part: Part<'_>) -> Self {
        // Postgres takes either for the other.
        let is_client = part.is_word("stdin") || part.is_word("stdout");
        match self {
            Self::Source if part.is_word("from") => Self::From,
            Self::Source if part.is_word("to") => Self::To,
            Self::From if is_client => Self::Stdin,
            Self::To if is_client => Self::Stdout,
            Self::From | Self::To => Self::Elsewhere,
            Self::Elsewhere | Self::Source | Self::Stdin | Self::Stdout => self,
        }
    }
}
