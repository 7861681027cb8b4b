//! What `cloison init` is to set up: options, or their defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::Provider;

/// The options that answer a question. If any is given, nothing is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Answers {
    /// Where tokens come from: `secret` for an application that signs them itself, by HS256 with a
    /// secret that is made here; an identity provider of docs/providers.md, such as auth0; or the
    /// https URL of a JWK Set [default: secret]
    #[arg(long, value_name = "secret|PROVIDER|URL")]
    pub(super) tokens: Option<Tokens>,
    /// The exact iss claim [default, with a secret: the database's name]
    #[arg(long, value_name = "TEXT")]
    pub(super) issuer: Option<String>,
    /// What the aud claim has to contain [default, with a secret: the database's name]
    #[arg(long, value_name = "TEXT")]
    pub(super) audience: Option<String>,
    /// With the URL of a JWK Set: the signature algorithms [default: RS256,ES256]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) algorithms: Vec<String>,
    /// The claim that names the tenant; dots lead into objects [default: the provider's, or
    /// tenant_id]
    #[arg(long, value_name = "PATH")]
    pub(super) tenant_claim: Option<String>,
    /// When a server connection goes back to the pool: session or transaction [default: session]
    #[arg(long, value_name = "MODE")]
    pub(super) pool_mode: Option<PoolMode>,
    /// Where clients connect; * is every address [default: 127.0.0.1:6432]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<Listen>,
    /// The certificate chain that clients are shown, PEM; makes TLS a must for clients
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Make a tenant of this slug, unless it is there
    #[arg(long, value_name = "SLUG", value_parser = slug)]
    pub(super) tenant: Option<String>,
}

impl Answers {
    /// Whether any option of these is given.
    pub(super) fn is_any_given(&self) -> bool {
        self.tokens.is_some()
            || self.issuer.is_some()
            || self.audience.is_some()
            || !self.algorithms.is_empty()
            || self.tenant_claim.is_some()
            || self.pool_mode.is_some()
            || self.listen.is_some()
            || self.tls_cert.is_some()
            || self.tenant.is_some()
    }
}

/// Where tokens come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Tokens {
    /// The application signs them with a secret that is made here.
    Secret,
    /// A known identity provider, by the configuration's word; its keys are found by discovery.
    Provider(String),
    /// Whoever has the keys behind this URL.
    Jwks(String),
}

impl FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "secret" {
            return Ok(Self::Secret);
        }
        if text.contains("://") {
            return Ok(Self::Jwks(text.to_owned()));
        }
        let names = Provider::names().collect::<Vec<_>>();
        match names.contains(&text) {
            true => Ok(Self::Provider(text.to_owned())),
            false => Err(format!("expected secret, a URL, or one of {}", names.join(", "))),
        }
    }
}

/// The configuration's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PoolMode {
    Session,
    Transaction,
}

impl PoolMode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

impl FromStr for PoolMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Session, Self::Transaction]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| "expected session or transaction".to_owned())
    }
}

/// An address to listen on; none is all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Listen {
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

impl Listen {
    pub(super) const DEFAULT: Self =
        Self { address: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)), port: 6432 };

    pub(super) fn is_loopback(self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }

    /// The address in the configuration's word.
    pub(super) fn word(self) -> String {
        self.address.map_or("*".to_owned(), |address| address.to_string())
    }

    /// Where a client on this machine connects.
    pub(super) fn local_host(self) -> String {
        let given = self.address.filter(|address| !address.is_unspecified());
        given.map_or("127.0.0.1".to_owned(), |address| address.to_string())
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected an address and a port, such as 127.0.0.1:6432".to_owned();
        let found = match text.strip_prefix("*:") {
            Some(port) => Self { address: None, port: port.parse().map_err(|_| expected())? },
            None => {
                let address: SocketAddr = text.parse().map_err(|_| expected())?;
                Self { address: Some(address.ip()), port: address.port() }
            }
        };
        if found.port == 0 { Err(expected()) } else { Ok(found) }
    }
}

/// As the kit's table of tenants demands it.
pub(super) fn slug(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_slug = text.len() <= 63
        && text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text.chars().all(|c| is_plain(c) || c == '-');
    match is_slug {
        true => Ok(text.to_owned()),
        false => Err("expected lower-case letters, digits and hyphens".to_owned()),
    }
}

/// Everything decided.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub(super) tokens: Tokens,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<String>,
    pub(super) tenant_claim: Option<String>,
    pub(super) pool_mode: PoolMode,
    pub(super) listen: Listen,
    /// Certificate and key, as absolute paths.
    pub(super) tls: Option<(PathBuf, PathBuf)>,
    pub(super) tenant: Option<String>,
}

impl Choices {
    /// Fills in the defaults for this database.
    ///
    /// # Errors
    ///
    /// Says which option is missing, or which do not go together.
    pub(super) fn new(answers: Answers, database: &str) -> Result<Self, String> {
        let tokens = answers.tokens.unwrap_or(Tokens::Secret);
        let is_secret = tokens == Tokens::Secret;
        let or_database = |given: Option<String>, option| match given {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) | None if is_secret => Ok(database.to_owned()),
            Some(_) | None => Err(format!("{option} is missing: tokens of others need it")),
        };
        let listen = answers.listen.unwrap_or(Listen::DEFAULT);
        let tls = match (answers.tls_cert, answers.tls_key) {
            (Some(certificate), Some(key)) => Some((absolute(certificate)?, absolute(key)?)),
            (Some(_), None) | (None, Some(_)) => {
                return Err("--tls-cert and --tls-key go together".to_owned());
            }
            (None, None) if !listen.is_loopback() => {
                return Err(format!(
                    "--listen {}:{} is open to other machines, whose tokens would cross the \
                     network in clear text: give --tls-cert and --tls-key",
                    listen.word(),
                    listen.port
                ));
            }
            (None, None) => None,
        };
        let mut algorithms = answers.algorithms;
        if !algorithms.is_empty() && !matches!(tokens, Tokens::Jwks(_)) {
            return Err("--algorithms goes with the URL of a JWK Set".to_owned());
        }
        if algorithms.is_empty() {
            algorithms = vec!["RS256".to_owned(), "ES256".to_owned()];
        }
        Ok(Self {
            issuer: or_database(answers.issuer, "--issuer")?,
            audience: or_database(answers.audience, "--audience")?,
            tokens,
            algorithms,
            tenant_claim: answers.tenant_claim,
            pool_mode: answers.pool_mode.unwrap_or(PoolMode::Session),
            listen,
            tls,
            tenant: answers.tenant,
        })
    }

    pub(super) fn uses_secret(&self) -> bool {
        self.tokens == Tokens::Secret
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_options_an_application_signs_with_a_secret() {
        let choices = Choices::new(Answers::default(), "shop").unwrap();
        assert!(choices.uses_secret());
        assert_eq!((&*choices.issuer, &*choices.audience), ("shop", "shop"));
        assert_eq!(choices.listen, Listen::DEFAULT);
        assert_eq!(choices.pool_mode, PoolMode::Session);
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name() {
        let open = Some("*:6432".parse().unwrap());
        for (answers, words) in [
            (Answers { listen: open, ..Answers::default() }, "--listen *:6432 is open"),
            (
                Answers { tokens: Some("auth0".parse().unwrap()), ..Answers::default() },
                "--issuer is missing",
            ),
            (
                Answers { algorithms: vec!["ES256".to_owned()], ..Answers::default() },
                "--algorithms goes with",
            ),
        ] {
            let refused = Choices::new(answers, "shop").unwrap_err();
            assert!(refused.starts_with(words), "{refused}");
        }
    }

    #[test]
    fn words_are_read_or_refused() {
        assert_eq!("secret".parse(), Ok(Tokens::Secret));
        assert_eq!("okta".parse(), Ok(Tokens::Provider("okta".to_owned())));
        assert!("https://x.example/jwks".parse::<Tokens>().is_ok());
        assert!("acme".parse::<Tokens>().unwrap_err().contains("auth0"));
        assert_eq!("[::1]:7000".parse::<Listen>().unwrap().local_host(), "::1");
        assert_eq!("0.0.0.0:7000".parse::<Listen>().unwrap().local_host(), "127.0.0.1");
        for wrong in ["", "6432", "localhost:6432", "127.0.0.1:0", "*:x"] {
            assert!(wrong.parse::<Listen>().is_err(), "{wrong}");
        }
        for (text, is_slug) in
            [("acme", true), ("a-1", true), ("-a", false), ("Acme", false), ("", false)]
        {
            assert_eq!(slug(text).is_ok(), is_slug, "{text}");
        }
    }
}
