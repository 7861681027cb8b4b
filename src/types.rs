//! Newtypes for everything that could be swapped by mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// How long a client may wait for a server connection, whatever it waits for on the way there.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    until: Option<Instant>,
}

impl Patience {
    /// From now on; zero is for ever.
    pub fn new(limit: Duration) -> Self {
        Self { limit, until: (!limit.is_zero()).then(|| Instant::now() + limit) }
    }

    /// All of it.
    pub const fn limit(self) -> Duration {
        self.limit
    }

    /// The end, if there is one.
    pub const fn until(self) -> Option<Instant> {
        self.until
    }
}

/// The tenant whose rows a session may see: the primary key of `cloison.tenants`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TenantId(Uuid);

impl TenantId {
    /// Wraps an id that was read from the tenants table or from a verified claim.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The sixteen bytes of the id, in the order in which Postgres' `uuid_send` writes them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id as the `uuid` type that `tokio-postgres` sends.
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    /// Accepts the hyphenated form only, as Postgres prints it: one spelling, one thing to compare.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(Self(id)),
            Ok(_) | Err(_) => Err(InvalidTenantId),
        }
    }
}

/// A text that is not a tenant id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a UUID in its hyphenated form")]
pub struct InvalidTenantId;

/// What a token allows its holder to be, and so which pool its session runs in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Access {
    /// One tenant's rows, under the policies.
    Tenant,
    /// Every tenant's rows, once `enable_superadmin_mode()` was called.
    Superadmin,
    /// The application's migrations: DDL and everything else that the owner may do.
    Owner,
}

impl Access {
    /// Every kind, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Superadmin, Self::Owner];

    /// The word used in the configuration, in logs and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Superadmin => "superadmin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one session in logs and in the audit log. Never reused while the process lives.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The process id of a server connection's backend, as `BackendKeyData` tells it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ServerPid(pub i32);

/// Settings that a server connection is started with, so that `RESET` goes back to them.
///
/// Names are in lower case. Two clients with equal settings may use the same server connection,
/// one after the other.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct SessionSettings(BTreeMap<String, String>);

impl SessionSettings {
    /// Adds a setting; a later value takes the place of an earlier one, as in Postgres.
    pub fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// Takes a setting out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The value of a setting.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// One end of a connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket: ours, because clients have none.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// What `BackendKeyData` hands out and a `CancelRequest` brings back.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct CancelKey {
    /// The process id that was told.
    pub pid: i32,
    /// The secret that was told: 4 bytes up to protocol 3.1, up to 256 from 3.2 on.
    pub secret: Vec<u8>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// What stands for one server process in all that is signed for it, as the kit tells it: 32 digits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProcessMark([u8; 32]);

impl ProcessMark {
    /// Reads what `cloison.this_process()` has told.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 32] = text.try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(Self(digits))
    }

    /// The digits; zero bytes where nobody has asked.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value that is never printed: a password, a key or a token.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides `value` from `Debug` and from logs.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The hidden value. Whoever calls this must not print it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether a text that ends up in the audit log reads as what it is: no control characters, nothing
/// that ends a line, nothing that turns the direction of what is printed.
pub fn is_one_line(text: &str) -> bool {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    !text.chars().any(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_ends_a_line_is_found() {
        for plain in ["", "ticket 7", "Ünïcödé 名前 עברית", "👩\u{200d}💻"] {
            assert!(is_one_line(plain), "{plain:?}");
        }
        for odd in ['\0', '\n', '\u{1b}', '\u{85}', '\u{200f}', '\u{2028}', '\u{202e}', '\u{2066}']
        {
            assert!(!is_one_line(&format!("a{odd}b")), "{odd:?}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }

    #[test]
    fn tenant_ids_have_one_spelling() {
        let id = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";
        assert_eq!(id.parse::<TenantId>().map(|id| id.to_string()).as_deref(), Ok(id));
        for other in [
            "{0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11}",
            "0198c7a25d2c7c119b0a3f1f6a0d9e11",
            "urn:uuid:0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11",
            " 0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11",
            "",
        ] {
            assert!(other.parse::<TenantId>().is_err(), "{other:?}");
        }
    }
}
