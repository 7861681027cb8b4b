//! What a client has asked about its identity by messages of the extended query protocol: it is
//! read in `Parse`, gets its values in `Bind`, and is done in `Execute`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::values::Values;
use crate::protocol::ClientError;
use crate::statement::identity::{self, Argument, Flag, Identification, Wish};

/// Statements and portals about the identity that one client may have.
const MOST: usize = 1000;

/// What is to be done, all of its values there.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) what: What,
    pub(super) is_local: bool,
}

/// What is to be done. No `Debug` that would show a token.
#[derive(Clone)]
pub(super) enum What {
    /// Present a token.
    Token(Arc<str>),
    /// Choose a tenant. Whether that is local is the configuration's to say.
    Tenant(Arc<str>),
    /// Go back to the login's identity.
    Reset,
}

impl Asked {
    /// The tenant that the client named, for the log: escaped, and cut to a bounded length.
    pub(super) fn tenant_for_log(&self) -> Option<String> {
        match &self.what {
            What::Tenant(name) => {
                Some(name.chars().take(64).flat_map(char::escape_default).collect())
            }
            What::Token(_) | What::Reset => None,
        }
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("is_local", &self.is_local).finish_non_exhaustive()
    }
}

/// Statements and portals about the identity, by the client's names.
#[derive(Default)]
pub(super) struct Asking {
    statements: HashMap<Box<[u8]>, Arc<Wish>>,
    portals: HashMap<Box<[u8]>, Asked>,
    /// What they take.
    bytes: usize,
}

impl Wish {
    /// What it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Token(Argument::Text(text), _) | Self::Tenant(Argument::Text(text)) => text.len(),
            Self::Token(..) | Self::Tenant(_) | Self::Reset(_) => 0,
        }
    }
}

impl Asked {
    /// What it takes.
    fn bytes(&self) -> usize {
        match &self.what {
            What::Token(text) | What::Tenant(text) => text.len(),
            What::Reset => 0,
        }
    }
}

impl Asking {
    /// Bytes that are kept for them.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes what a client's statement is; `None`: about something else.
    pub(super) fn parsed(&mut self, name: &[u8], wish: Option<Wish>) -> Result<(), ClientError> {
        match wish {
            Some(_) if self.statements.len() >= MOST => {
                let message = "too many prepared statements about the session's identity";
                return Err(ClientError::error("53400", "C404", message)
                    .hint("Close those that are not needed."));
            }
            Some(wish) => {
                self.forget(name);
                self.bytes += name.len() + wish.bytes();
                self.statements.insert(name.into(), Arc::new(wish));
            }
            None => self.forget(name),
        }
        Ok(())
    }

    /// A client's statement is given up.
    pub(super) fn forget(&mut self, name: &[u8]) {
        if !self.statements.is_empty()
            && let Some(wish) = self.statements.remove(name)
        {
            self.bytes -= name.len() + wish.bytes();
        }
    }

    /// What a client's statement wants, if it is about the identity.
    pub(super) fn wish(&self, name: &[u8]) -> Option<&Arc<Wish>> {
        if self.statements.is_empty() { None } else { self.statements.get(name) }
    }

    /// Notes what a portal will do; `None`: something else.
    pub(super) fn bound(&mut self, portal: &[u8], asked: Option<Asked>) -> Result<(), ClientError> {
        match asked {
            Some(_) if self.portals.len() >= MOST => {
                let message = "too many portals about the session's identity";
                return Err(ClientError::error("53400", "C404", message).hint("Close some."));
            }
            Some(asked) => {
                self.forget_portal(portal);
                self.bytes += portal.len() + asked.bytes();
                self.portals.insert(portal.into(), asked);
            }
            None if self.portals.is_empty() => {}
            None => self.forget_portal(portal),
        }
        Ok(())
    }

    fn forget_portal(&mut self, portal: &[u8]) {
        if let Some(asked) = self.portals.remove(portal) {
            self.bytes -= portal.len() + asked.bytes();
        }
    }

    /// What `Execute` of a portal is about.
    pub(super) fn portal(&self, portal: &[u8]) -> Option<&Asked> {
        if self.portals.is_empty() { None } else { self.portals.get(portal) }
    }

    /// Portals end with their transaction.
    pub(super) fn forget_portals(&mut self) {
        if !self.portals.is_empty() {
            let portals = std::mem::take(&mut self.portals);
            let bytes: usize =
                portals.iter().map(|(portal, asked)| portal.len() + asked.bytes()).sum();
            self.bytes -= bytes;
        }
    }

    /// Everything was discarded.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What a statement with its values written in it asks; `None`: it has parameters.
pub(super) fn asked(wish: &Wish) -> Option<Asked> {
    resolve(wish, |_| None)
}

/// Reads the body of a `Bind` for such a statement. Gives what is asked, and the body with an empty
/// value where the token stood. `None`: malformed, or not to be read.
pub(super) fn bind(wish: &Wish, body: &[u8]) -> Option<(Asked, Vec<u8>)> {
    let values = Values::read(body)?;
    let asked = resolve(wish, |number| values.text(number))?;
    let Wish::Token(Argument::Parameter(number), _) = wish else {
        return Some((asked, body.to_vec()));
    };
    let at = *values.starts.get(number.checked_sub(1)?)?;
    let behind = *values.starts.get(*number)?;
    let mut clean = body.get(..at)?.to_vec();
    clean.extend_from_slice(&0_u32.to_be_bytes());
    clean.extend_from_slice(body.get(behind..)?);
    Some((asked, clean))
}

fn resolve(wish: &Wish, value: impl Fn(usize) -> Option<String>) -> Option<Asked> {
    let text = |argument: &Argument| match argument {
        Argument::Text(text) => Some(text.clone()),
        Argument::Parameter(number) => value(*number),
    };
    let flag = |flag: &Flag| match flag {
        Flag::Is(is) => Some(*is),
        Flag::Parameter(number) => identity::boolean(value(*number)?.as_bytes()),
    };
    Some(match wish {
        Wish::Token(token, local) => {
            let token = text(token)?;
            let what = if token.is_empty() { What::Reset } else { What::Token(token.into()) };
            Asked { what, is_local: flag(local)? }
        }
        Wish::Tenant(tenant) => Asked { what: What::Tenant(text(tenant)?.into()), is_local: false },
        Wish::Reset(local) => Asked { what: What::Reset, is_local: flag(local)? },
    })
}

/// The body of a `Parse` behind the name: another text in place of the client's.
pub(super) fn definition(found: &Identification, types: &[u8]) -> Vec<u8> {
    [&found.text[..], b"\0", types].concat()
}

/// Appends a message whose body is `body`.
pub(super) fn put(tag: u8, body: &[u8], out: &mut BytesMut) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    out.put_slice(body);
}

/// The answer to a text that names the token's setting in a way that is not known.
pub(super) fn unknown_form() -> ClientError {
    let message = "cloison.jwt cannot be set in this way";
    ClientError::error("42501", "C208", message).hint(
        "Send SET cloison.jwt = '…', or select set_config('cloison.jwt', $1, true), as a statement \
         of its own.",
    )
}

/// The answer to a token where nobody is to become somebody else.
pub(super) fn not_a_tenant() -> ClientError {
    let message = "only the session of a tenant takes a token in cloison.jwt";
    ClientError::error("42501", "C208", message)
        .hint("Connect with the token, by the user name of its road.")
}

/// The answer to a token in a session that keeps the tenant of its login.
pub(super) fn has_its_tenant() -> ClientError {
    let message = "this session stays with the tenant of its login";
    ClientError::error("0A000", "C410", message).hint(
        "With session pooling, connect with a token that lists tenants, or none, and present \
         others after that. The operator can let all sessions: session_identity = \"in_band\".",
    )
}

/// The answer to values that cannot be read.
pub(super) fn unreadable() -> ClientError {
    let message = "the values of a statement about the session's identity cannot be read";
    ClientError::error("22023", "C209", message).hint("Send them as texts.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan;

    /// The body of a `Bind` with these formats and values.
    fn body(formats: &[i16], values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = b"portal\0statement\0".to_vec();
        out.put_i16(formats.len() as i16);
        formats.iter().for_each(|format| out.put_i16(*format));
        out.put_i16(values.len() as i16);
        for value in values {
            match value {
                Some(value) => {
                    out.put_i32(value.len() as i32);
                    out.put_slice(value);
                }
                None => out.put_i32(-1),
            }
        }
        out.put_i16(0);
        out
    }

    fn seen(wish: &Wish, body: &[u8]) -> Option<(String, bool)> {
        let (asked, _) = bind(wish, body)?;
        let what = match asked.what {
            What::Token(token) => format!("token {token}"),
            What::Tenant(tenant) => format!("tenant {tenant}"),
            What::Reset => "reset".to_owned(),
        };
        Some((what, asked.is_local))
    }

    #[test]
    fn a_token_does_not_go_on() {
        let wish = Wish::Token(Argument::Parameter(2), Flag::Parameter(1));
        let values = body(&[], &[Some(b"t"), Some(b"secret")]);
        let (_, clean) = bind(&wish, &values).unwrap();
        assert_eq!(clean, body(&[], &[Some(b"t"), Some(b"")]));
        assert_eq!(seen(&wish, &values), Some(("token secret".to_owned(), true)));
        let binary = body(&[1, 0], &[Some(&[0]), Some(b"secret")]);
        assert_eq!(seen(&wish, &binary), Some(("token secret".to_owned(), false)));
        let empty = body(&[1], &[Some(&[1]), Some(b"")]);
        assert_eq!(seen(&wish, &empty), Some(("reset".to_owned(), true)));
    }

    #[test]
    fn a_tenant_is_an_id_in_binary_too() {
        let wish = Wish::Tenant(Argument::Parameter(1));
        let id = uuid::Uuid::from_u128(7);
        let expected = Some((format!("tenant {id}"), false));
        assert_eq!(seen(&wish, &body(&[1], &[Some(id.as_bytes())])), expected);
        assert_eq!(seen(&wish, &body(&[], &[Some(id.to_string().as_bytes())])), expected);
    }

    #[test]
    fn the_work_is_linear() {
        let wishes = [
            Wish::Token(Argument::Parameter(1), Flag::Parameter(2)),
            Wish::Tenant(Argument::Parameter(30_000)),
        ];
        scan::tests::is_linear("bind", |text| {
            let whole = body(&[], &[Some(text), Some(b"t")]);
            let many: Vec<_> = text.chunks(3).map(Some).collect();
            let many = body(&[], &many);
            for (wish, body) in wishes.iter().zip([&whole, &many]) {
                bind(wish, body);
                bind(wish, text);
            }
        });
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let wish = Wish::Token(Argument::Parameter(1), Flag::Parameter(2));
        for values in [
            body(&[], &[]),
            body(&[], &[None, Some(b"t")]),
            body(&[], &[Some(b"x"), Some(b"maybe")]),
            body(&[], &[Some(&[0xff]), Some(b"t")]),
            body(&[2], &[Some(b"x"), Some(b"t")]),
            body(&[], &[Some(b"x"), Some(b"t")])[..30].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(seen(&wish, &values), None);
        }
    }
}
