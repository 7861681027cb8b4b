//! The questions of `cloison init`, on a terminal.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::str::FromStr;

use super::choices::{Answers, Listen, PoolMode, Tokens, slug};

/// Asks for everything, with a default that an empty line takes.
///
/// # Errors
///
/// The terminal is gone.
pub(super) fn ask(
    database: &str,
    input: &mut impl BufRead,
    out: &mut impl Write,
) -> io::Result<Answers> {
    let mut terminal = Terminal { input, out };
    let tokens = terminal.one(TOKENS, Some("secret"), Tokens::from_str)?;
    let default = (tokens == Tokens::Secret).then_some(database);
    let issuer = terminal.one("The exact iss claim of its tokens", default, text)?;
    let audience = terminal.one("What their aud claim contains", default, text)?;
    let tenant_claim = match tokens {
        // The provider's is known.
        Tokens::Provider(_) => None,
        Tokens::Secret | Tokens::Jwks(_) => {
            Some(terminal.one("The claim that names the tenant", Some("tenant_id"), text)?)
        }
    };
    let pool_mode = terminal.one(POOL_MODE, Some("session"), PoolMode::from_str)?;
    let listen = terminal.one(LISTEN, Some("127.0.0.1:6432"), Listen::from_str)?;
    let (tls_cert, tls_key) = match listen.is_loopback() {
        true => (None, None),
        false => (
            Some(terminal.one("Certificate chain for TLS, a PEM file", None, file)?),
            Some(terminal.one("Its private key, a PEM file", None, file)?),
        ),
    };
    let tenant = terminal.one(TENANT, Some(""), |text| match text {
        "" => Ok(None),
        text => slug(text).map(Some),
    })?;
    Ok(Answers {
        tokens: Some(tokens),
        issuer: Some(issuer),
        audience: Some(audience),
        algorithms: Vec::new(),
        tenant_claim,
        pool_mode: Some(pool_mode),
        listen: Some(listen),
        tls_cert,
        tls_key,
        tenant,
    })
}

struct Terminal<'a, I, O> {
    input: &'a mut I,
    out: &'a mut O,
}

impl<I: BufRead, O: Write> Terminal<'_, I, O> {
    /// Asks until the answer can be read. An empty line takes the default.
    fn one<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<T> {
        loop {
            match default.filter(|default| !default.is_empty()) {
                Some(default) => write!(self.out, "{question} [{default}]: ")?,
                None => write!(self.out, "{question}: ")?,
            }
            self.out.flush()?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer = match (line.trim(), default) {
                ("", Some(default)) => default,
                (answer, _) => answer,
            };
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(problem) => writeln!(self.out, "  {problem}")?,
            }
        }
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected a text".to_owned()) } else { Ok(text.to_owned()) }
}

fn file(text: &str) -> Result<PathBuf, String> {
    std::fs::metadata(text)
        .map(|_| text.into())
        .map_err(|error| format!("cannot read {text:?}: {error}"))
}

const TOKENS: &str = "Who signs the tokens? \"secret\" for your application with a secret made here,\n\
    a provider (auth0, clerk, cognito, entra, firebase, keycloak, okta, supabase, workos,\n\
    zitadel), or the https URL of a JWK Set";

const POOL_MODE: &str = "Pool mode, session or transaction (which serves many clients)";

const LISTEN: &str = "Where do clients connect? An address and a port, or *:6432";

const TENANT: &str = "The slug of a first tenant, or nothing";

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &str) -> (io::Result<Answers>, String) {
        let mut out = Vec::new();
        let answers = ask("shop", &mut lines.as_bytes(), &mut out);
        (answers, String::from_utf8(out).unwrap())
    }

    #[test]
    fn empty_lines_take_the_defaults() {
        let (answers, told) = asked("\n\n\n\n\n\n\n");
        let answers = answers.unwrap();
        assert_eq!(answers.tokens, Some(Tokens::Secret));
        assert_eq!(answers.issuer.as_deref(), Some("shop"));
        assert_eq!(answers.listen, Some(Listen::DEFAULT));
        assert_eq!(answers.tenant, None);
        assert_eq!(told.matches(": ").count(), 7, "{told}");
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again() {
        let lines =
            "auth1\nauth0\n\nhttps://a.eu.auth0.com/\napi\nstatement\ntransaction\n\nAcme\nacme\n";
        let (answers, told) = asked(lines);
        let answers = answers.unwrap();
        assert_eq!(answers.tokens, Some(Tokens::Provider("auth0".to_owned())));
        assert_eq!(answers.issuer.as_deref(), Some("https://a.eu.auth0.com/"));
        assert_eq!(answers.tenant_claim, None);
        assert_eq!(answers.pool_mode, Some(PoolMode::Transaction));
        assert_eq!(answers.tenant.as_deref(), Some("acme"));
        for problem in ["expected secret", "expected a text", "expected session", "lower-case"] {
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn a_terminal_that_is_gone_ends_it() {
        let (answers, _) = asked("secret\n");
        assert_eq!(answers.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
