//! Calls of `set_config()`, which is `SET` as a function: which settings a statement changes.
//!
//! Only names are read, and whether the change ends with the transaction: the values are asked for
//! when the transaction is over.

#![expect(clippy::wildcard_enum_match_arm, reason = "of other tokens nothing is known")]

use std::sync::Arc;

use super::identifier::identifier;
use super::identity::{Flag, boolean};
use super::lexer::{Token, Tokens};
use super::names::Part;
use crate::scan;

/// A change of a setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assignment {
    /// Which setting.
    pub name: SettingName,
    /// Whether it ends with the transaction.
    pub is_local: Flag,
}

/// How a statement names a setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SettingName {
    /// In lower case, as Postgres compares it.
    Known(String),
    /// The value of the parameter of that number, from 1.
    Parameter(usize),
}

/// What a statement changes by `set_config()`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Assigned {
    /// Nothing that outlives the transaction.
    Nothing,
    /// These settings.
    Settings(Arc<[Assignment]>),
    /// Settings that the text does not name.
    Unknown,
}

/// A setting's name with all of its parts; a longer one is not followed.
const LONGEST_NAME: usize = 255;

/// Calls in one statement; what has more is not followed.
const MOST: usize = 100;

/// Whether a setting of this name, in lower case, can be read and set again for its client: its
/// parts are words. Not the session's role, which is not to follow a client by a function.
pub fn can_be_followed(name: &str) -> bool {
    let is_word = |word: &str| {
        word.len() <= 63
            && word.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && word
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'$'))
    };
    let is_role = matches!(name, "role" | "session_authorization");
    !is_role && name.len() <= LONGEST_NAME && name.split('.').all(is_word)
}

/// Whether a name in front of a parenthesis is the function's.
pub(super) fn is_set_config(schema: Option<Part<'_>>, name: Part<'_>) -> bool {
    let is = |part: Part<'_>, name: &[u8]| match part.token {
        Token::Escaped => identifier(part, b'\\').as_deref() == Some(name),
        _ => part.is(name),
    };
    schema.is_none_or(|schema| is(schema, b"pg_catalog")) && is(name, b"set_config")
}

/// Whether a text may hold a call of it: a quick look.
pub(super) fn may_call(text: &[u8]) -> bool {
    scan::contains_word(text, b"set_config")
}

/// Reads the calls in a statement.
pub(super) fn read(text: &[u8]) -> Assigned {
    let mut found = Vec::new();
    if !(Calls { tokens: Tokens::new(text), found: &mut found }).read(true) || found.len() > MOST {
        return Assigned::Unknown;
    }
    // Of a call that says so, nothing is left.
    found.retain(|assignment| assignment.is_local != Flag::Is(true) && !is_ours(assignment));
    if found.is_empty() { Assigned::Nothing } else { Assigned::Settings(found.into()) }
}

/// Who the session acts for is nothing that follows it.
fn is_ours(assignment: &Assignment) -> bool {
    matches!(&assignment.name, SettingName::Known(name) if name.starts_with("cloison."))
}

/// The settings that the calls change, with the parameters' values. `None`: one of them cannot be
/// followed.
pub fn resolve(
    assignments: &[Assignment],
    value: impl Fn(usize) -> Option<String>,
) -> Option<Arc<[Assignment]>> {
    let mut resolved = Vec::with_capacity(assignments.len());
    for Assignment { name, is_local } in assignments {
        let is_local = match is_local {
            Flag::Is(is_local) => *is_local,
            Flag::Parameter(number) => {
                value(*number).and_then(|value| boolean(value.as_bytes())).unwrap_or(false)
            }
        };
        let name = match name {
            SettingName::Known(name) => name.clone(),
            SettingName::Parameter(number) => match value(*number) {
                Some(name) => name.to_ascii_lowercase(),
                // Postgres refuses to set nothing.
                None => continue,
            },
        };
        if is_local || name.starts_with("cloison.") {
            continue;
        }
        if !can_be_followed(&name) {
            return None;
        }
        let name = SettingName::Known(name);
        resolved.push(Assignment { name, is_local: Flag::Is(false) });
    }
    Some(resolved.into())
}

/// Goes through the tokens of a statement.
struct Calls<'a, 'f> {
    tokens: Tokens<'a>,
    found: &'f mut Vec<Assignment>,
}

impl<'a> Calls<'a, '_> {
    fn part(&self) -> Part<'a> {
        Part { token: self.tokens.token(), bytes: self.tokens.bytes() }
    }

    /// Notes every call. False: one of them names no setting that can be followed. Code of `DO`
    /// `has_bodies` in strings.
    fn read(&mut self, has_bodies: bool) -> bool {
        let is_do = has_bodies && self.part().is_word("do");
        let (mut schema, mut name, mut behind_dot) = (None, None, false);
        loop {
            let part = self.part();
            match part.token {
                Token::End => return true,
                Token::Unreadable => return false,
                Token::Word | Token::Name | Token::Escaped => {
                    schema = if behind_dot { name } else { None };
                    (name, behind_dot) = (Some(part), false);
                }
                Token::Dot => behind_dot = name.is_some(),
                Token::Open => {
                    let is_it = name.take().is_some_and(|name| is_set_config(schema, name));
                    if is_it && !self.call() {
                        return false;
                    }
                    if is_it {
                        continue;
                    }
                }
                Token::String if is_do && may_call(part.bytes) && !self.body(part.bytes) => {
                    return false;
                }
                _ => (name, behind_dot) = (None, false),
            }
            self.tokens.advance();
        }
    }

    /// The code of a `DO`, between dollars.
    fn body(&mut self, string: &'a [u8]) -> bool {
        let Some(inner) = dollar_quoted(string) else { return false };
        Calls { tokens: Tokens::new(inner), found: self.found }.read(false)
    }

    /// Reads from the parenthesis to behind the call's own.
    fn call(&mut self) -> bool {
        self.tokens.advance();
        let Some(name) = self.name() else { return false };
        // Of the value nothing matters but where it ends.
        if !self.skip_argument() {
            return false;
        }
        let is_local = self.flag();
        if is_local == Some(Flag::Is(true)) {
            self.found.push(Assignment { name, is_local: Flag::Is(true) });
            return true;
        }
        let is_followed = match &name {
            SettingName::Known(name) => name.starts_with("cloison.") || can_be_followed(name),
            SettingName::Parameter(_) => true,
        };
        self.found.push(Assignment { name, is_local: is_local.unwrap_or(Flag::Is(false)) });
        is_followed
    }

    /// The first argument with its comma. One that is computed may name any setting: that is known
    /// only where the call is local.
    fn name(&mut self) -> Option<SettingName> {
        let name = self.constant();
        let is_whole = name.is_some() && self.cast() && self.tokens.token() == Token::Comma;
        if is_whole {
            self.tokens.advance();
            return name;
        }
        // A name that nothing has, and that is not followed.
        self.skip_argument().then(|| SettingName::Known(String::new()))
    }

    fn constant(&mut self) -> Option<SettingName> {
        let is_typed = ["text", "varchar"].iter().any(|word| self.part().is_word(word));
        if is_typed {
            self.tokens.advance();
        }
        let part = self.part();
        let found = match part.token {
            Token::Parameter if !is_typed => {
                let number = std::str::from_utf8(part.bytes.get(1..)?).ok()?.parse().ok()?;
                SettingName::Parameter(number)
            }
            Token::String => SettingName::Known(literal(part.bytes)?.to_ascii_lowercase()),
            _ => return None,
        };
        self.tokens.advance();
        Some(found)
    }

    /// Goes past casts to a type whose name is a word or two.
    fn cast(&mut self) -> bool {
        while self.tokens.token() == Token::Cast {
            self.tokens.advance();
            let mut words = 0;
            while matches!(self.tokens.token(), Token::Word | Token::Name | Token::Dot) {
                self.tokens.advance();
                words += 1;
            }
            if words == 0 {
                return false;
            }
        }
        true
    }

    /// Goes behind the comma that ends an argument.
    fn skip_argument(&mut self) -> bool {
        let mut depth = 0_usize;
        loop {
            match self.tokens.token() {
                Token::End | Token::Unreadable => return false,
                // One call within another is not looked into.
                Token::Word | Token::Name | Token::Escaped if is_set_config(None, self.part()) => {
                    return false;
                }
                Token::Open | Token::Symbol(b'[') => depth += 1,
                Token::Close | Token::Symbol(b']') if depth > 0 => depth -= 1,
                // Fewer arguments than it has.
                Token::Close => return false,
                Token::Comma if depth == 0 => {
                    self.tokens.advance();
                    return true;
                }
                _ => {}
            }
            self.tokens.advance();
        }
    }

    /// The last argument, if it can be read; the tokens stand at the parenthesis then, or wherever
    /// the reading ended.
    fn flag(&mut self) -> Option<Flag> {
        let part = self.part();
        let flag = match part.token {
            Token::Word => boolean(part.bytes).map(Flag::Is),
            Token::String => literal(part.bytes)
                .and_then(|text| boolean(text.trim_ascii().as_bytes()))
                .map(Flag::Is),
            Token::Parameter => {
                let digits = std::str::from_utf8(part.bytes.get(1..)?).ok()?;
                digits.parse().ok().map(Flag::Parameter)
            }
            _ => None,
        }?;
        self.tokens.advance();
        let is_whole = self.cast() && self.tokens.token() == Token::Close;
        is_whole.then_some(flag)
    }
}

/// What a string constant holds, if it holds no escapes.
fn literal(constant: &[u8]) -> Option<String> {
    let constant = std::str::from_utf8(constant).ok()?;
    scan::step(4 * constant.len());
    if let Some(inner) = dollar_quoted(constant.as_bytes()) {
        return std::str::from_utf8(inner).ok().map(str::to_owned);
    }
    let (inner, has_escapes) = match constant.strip_prefix(['e', 'E']) {
        Some(quoted) => (quoted, true),
        None => (constant, false),
    };
    let inner = inner.strip_prefix('\'')?.strip_suffix('\'')?;
    // What goes on in the next line is nobody's habit.
    let is_escaped = has_escapes && inner.contains('\\');
    let is_plain = !is_escaped && !inner.replace("''", "").contains('\'');
    is_plain.then(|| inner.replace("''", "'"))
}

/// What stands between the dollars of a string constant.
fn dollar_quoted(constant: &[u8]) -> Option<&[u8]> {
    let tag = constant.strip_prefix(b"$")?.iter().position(|byte| *byte == b'$')? + 2;
    let end = constant.len().checked_sub(tag)?;
    constant.get(tag..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name`, `$1`, with `*` behind it for one whose flag is a parameter's; `-` for nothing, `?`
    /// for what cannot be followed.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let seen = match read(text.as_bytes()) {
            Assigned::Nothing => "-".to_owned(),
            Assigned::Unknown => "?".to_owned(),
            Assigned::Settings(found) => {
                let one = |assignment: &Assignment| {
                    let flag = match assignment.is_local {
                        Flag::Is(_) => String::new(),
                        Flag::Parameter(number) => format!("*{number}"),
                    };
                    match &assignment.name {
                        SettingName::Known(name) => format!("{name}{flag}"),
                        SettingName::Parameter(number) => format!("${number}{flag}"),
                    }
                };
                found.iter().map(one).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn the_settings_that_are_changed_are_named() {
        check("select pg_catalog.set_config('search_path', '', false)", "search_path");
        check("SELECT Set_Config('TimeZone', 'Asia/Tokyo', 'f') AS x", "timezone");
        check("select set_config($1, $2, $3)", "$1*3");
        check("select set_config($1::text, $2, $3::bool)", "$1*3");
        check("select set_config('a.b'::text, coalesce($1, 'x', f(2, 3)), false)", "a.b");
        check(
            "select set_config(text 'jit', 'off', false), 1, set_config('a.b','',false)",
            "jit a.b",
        );
        check("select \"pg_catalog\".\"set_config\"($$jit$$, 'off', 0::bool)", "jit");
        check("select U&\"set\\005fconfig\"(E'jit', 'off', false)", "jit");
        check("with x as (select set_config('jit', 'off', false)) select * from x", "jit");
        check(
            "select set_config('jit', (select v from t where a = any (array[1, 2])), false)",
            "jit",
        );
        check("do $$ begin perform set_config('jit', 'off', false); end $$", "jit");
        check("do language plpgsql $a$ begin perform set_config('a.b', c, true); end $a$", "-");
    }

    #[test]
    fn what_ends_with_the_transaction_is_nothing() {
        check("select set_config('request.jwt.claims', $1, true)", "-");
        check("select set_config(name, value, 't') from t", "-");
        check("select set_config('role', 'x', TRUE)", "-");
        check("select set_config('cloison.context', '', false)", "-");
        check("select 'set_config(' as \"set_config\", set_config from t", "-");
    }

    #[test]
    fn what_no_text_names_is_not_followed() {
        for text in [
            "select set_config(name, setting, false) from saved",
            "select set_config('a' || 'b', 'c', false)",
            "select set_config('role', 'x', false)",
            "select set_config(is_local => false, setting_name => 'jit', new_value => 'off')",
            "select set_config(E'\\x6ait', 'off', false)",
            "do 'begin perform set_config(''jit'', ''off'', false); end'",
            "do $$ begin perform set_config(n, 'off', false); end $$",
            "select set_config('a.b', set_config('jit', 'off', false), true)",
        ] {
            check(text, "?");
        }
        check("select set_config('jit', 'off', not true)", "jit");
    }

    #[test]
    fn values_of_parameters_name_settings() {
        let Assigned::Settings(found) = read(b"select set_config($1, $2, $3)") else { panic!() };
        let with = |name: Option<&'static str>, local: &'static str| {
            let value = move |number| match number {
                1 => name.map(str::to_owned),
                _ => Some(local.to_owned()),
            };
            resolve(&found, value).map(|found| found.len())
        };
        assert_eq!(with(Some("Search_Path"), "f"), Some(1));
        assert_eq!(with(Some("jit"), "t"), Some(0));
        assert_eq!(with(Some("role"), "f"), None);
        assert_eq!(with(Some("a b"), "f"), None);
        assert_eq!(with(Some("cloison.context"), "f"), Some(0));
        assert_eq!(with(None, "f"), Some(0));
    }

    #[test]
    fn the_work_is_linear() {
        scan::tests::is_linear("set_config", |text| {
            read(text);
            let calls = [b"select set_config(", text, b")"].concat();
            read(&calls);
        });
    }
}
