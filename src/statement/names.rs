//! What a name does where it stands: a keyword, a function that is called, an attribute.

mod index;

use std::str;

use self::index::Lists;
use super::Surroundings;
use super::functions;
use super::lexer::Token;
use crate::scan;

/// Longer names are cut by Postgres, and are then other names.
const LONGEST: usize = 63;

/// What a name in front of a parenthesis does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// A built-in function that leaves nothing, or a function that is vouched for.
    Harmless,
    /// Not a call at all: a keyword, or a type.
    Keyword,
    /// Takes or gives back an advisory lock of the session.
    Lock,
    /// Anything else.
    Unknown,
}

/// A part of a name, as the text has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part<'a> {
    pub(super) token: Token,
    pub(super) bytes: &'a [u8],
}

impl Part<'_> {
    /// Whether it is this keyword.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.token == Token::Word && self.bytes.eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether Postgres takes it for this lower-case name.
    pub(super) fn is(&self, name: &[u8]) -> bool {
        let is_folded = self.token == Token::Word && self.bytes.eq_ignore_ascii_case(name);
        is_folded || (self.token == Token::Name && self.bytes == name)
    }
}

/// A name in lower case, on the stack.
struct Lower {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Lower {
    /// Nothing for a name that is too long, or not ASCII: what Postgres folds it to is not known.
    fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST];
        for (to, from) in bytes.get_mut(..name.len())?.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        scan::is_ascii(name).then_some(Self { bytes, length: name.len() })
    }

    fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl Surroundings {
    /// What `name (` does.
    pub(super) fn call(&self, name: Part<'_>) -> Call {
        let Some(lower) = Lower::new(name.bytes) else { return Call::Unknown };
        let lower = lower.as_str();
        // In quotes, upper case is another name.
        if name.token == Token::Name && lower.as_bytes() != name.bytes {
            return Call::Unknown;
        }
        let lists = Lists::of(lower);
        let is_word = name.token == Token::Word;
        if is_word && lists.has(Lists::RESERVED) {
            return Call::Keyword;
        }
        if lists.has(Lists::LOCKS) {
            return Call::Lock;
        }
        let is_hidden = self.functions.contains(lower);
        let is_vouched = self.vouched.contains(lower);
        if is_hidden && !is_vouched {
            Call::Unknown
        } else if lists.has(Lists::HARMLESS) {
            Call::Harmless
        } else if is_word && lists.has(Lists::UNRESERVED) {
            Call::Keyword
        } else if is_vouched && !lists.has(Lists::DOUBTFUL) {
            Call::Harmless
        } else {
            Call::Unknown
        }
    }

    /// What `schema.name (` does.
    pub(super) fn qualified_call(&self, schema: Part<'_>, name: Part<'_>) -> Call {
        let Some(lower) = Lower::new(name.bytes).filter(|_| name.token != Token::Escaped) else {
            return Call::Unknown;
        };
        let lower = lower.as_str();
        if name.token == Token::Name && lower.as_bytes() != name.bytes {
            return Call::Unknown;
        }
        if schema.is(b"pg_catalog") {
            let lists = Lists::of(lower);
            return match (lists.has(Lists::LOCKS), lists.has(Lists::HARMLESS)) {
                (true, _) => Call::Lock,
                (false, true) => Call::Harmless,
                (false, false) => Call::Unknown,
            };
        }
        let is_ours = schema.is(b"cloison") && functions::OURS.contains(&lower);
        // Whoever may make temporary functions vouches for nothing.
        let is_temporary = schema.bytes.get(..3).is_none_or(|start| {
            start.eq_ignore_ascii_case(b"pg_") || !scan::is_ascii(schema.bytes)
        }) && schema.bytes.len() > 2;
        let is_vouched = self.vouched.contains(lower) && !is_temporary;
        if is_ours || is_vouched { Call::Harmless } else { Call::Unknown }
    }

    /// Whether `something.name` may call a function that leaves something: for Postgres `x.f` is
    /// `f(x)` if `x` has no such attribute.
    pub(super) fn may_call_by_attribute(&self, name: Part<'_>) -> bool {
        let Some(lower) = Lower::new(name.bytes) else {
            // Postgres folds no name in quotes, and cuts long ones.
            let is_exact = name.token == Token::Name && name.bytes.len() <= LONGEST;
            return !is_exact || self.functions.iter().any(|function| !function.is_ascii());
        };
        let lower = lower.as_str();
        let is_unknown = self.functions.contains(lower) && !self.vouched.contains(lower);
        let lists = Lists::of(lower);
        is_unknown || lists.has(Lists::LOCKS) || lists.has(Lists::DOUBTFUL)
    }
}

/// Keywords that cannot be a function's name in any major; without `treat`, which calls a function
/// by a type's name.
#[rustfmt::skip]
pub(super) const RESERVED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "between",
    "bigint", "bit", "boolean", "both", "case", "cast", "char", "character", "check", "coalesce",
    "collate", "column", "constraint", "create", "current_catalog", "current_date",
    "current_role", "current_time", "current_timestamp", "current_user", "dec", "decimal",
    "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "exists",
    "extract", "false", "fetch", "float", "for", "foreign", "from", "grant", "greatest", "group",
    "grouping", "having", "in", "initially", "inout", "int", "integer", "intersect", "interval",
    "into", "lateral", "leading", "least", "limit", "localtime", "localtimestamp", "national",
    "nchar", "none", "normalize", "not", "null", "nullif", "numeric", "offset", "on", "only",
    "or", "order", "out", "overlay", "placing", "position", "precision", "primary", "real",
    "references", "returning", "row", "select", "session_user", "setof", "smallint", "some",
    "substring", "symmetric", "table", "then", "time", "timestamp", "to", "trailing", "trim",
    "true", "union", "unique", "user", "using", "values", "varchar", "variadic", "when", "where",
    "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest",
    "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
];

/// Words in front of a parenthesis that are no function of Postgres; a function of somebody
/// else's may have such a name.
#[rustfmt::skip]
pub(super) const UNRESERVED: &[&str] = &[
    "by", "columns", "conflict", "cube", "escape", "exclude", "filter", "first", "force_not_null",
    "force_null", "force_quote", "groups", "ilike", "inet", "insert", "is", "json", "json_array",
    "json_arrayagg", "json_exists", "json_object", "json_objectagg", "json_query", "json_scalar",
    "json_serialize", "json_table", "json_value", "jsonb", "like", "materialized", "merge_action",
    "next", "operator", "over", "overlaps", "passing", "range", "regtype", "rollup", "rows",
    "second", "set", "sets", "stdin", "stdout", "uuid", "varying", "within", "zone",
];
