//! libpq's connection strings with TLS: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, which the
//! driver that the kit uses leaves to others.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{self as driver, ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Socket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Error;
use crate::config::{ServerTlsMode, TlsIdentity};

/// The word for the system's own authorities.
const SYSTEM: &str = "system";

/// Why a connection string cannot be used. It is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is none, or has an option that the driver does not know.
    #[error("it is no connection string that is understood here")]
    Config(#[from] tokio_postgres::Error),
    /// `sslmode` has a value that libpq does not know.
    #[error("sslmode is disable, allow, prefer, require, verify-ca or verify-full, not {0:?}")]
    Mode(String),
    /// Everybody gets a certificate of the system's authorities, for some name.
    #[error(
        "sslmode={0} would trust every certificate that the system's authorities have signed for \
         anybody: use verify-full, or name the server's own authority in sslrootcert"
    )]
    Weak(String),
    /// A certificate without its key, or the other way round.
    #[error("sslcert and sslkey go together")]
    Identity,
    /// The authorities, the certificate or the key cannot be used.
    #[error("sslrootcert, sslcert or sslkey cannot be used")]
    Files(#[from] Error),
}

/// How TLS is begun with a server; as `sslmode` has it.
#[derive(Clone)]
pub struct Tls {
    connector: Option<TlsConnector>,
    mode: ServerTlsMode,
    ca_file: Option<PathBuf>,
}

/// The same for one host.
pub struct ToHost {
    connector: Option<TlsConnector>,
    host: String,
}

/// A connection under TLS.
pub struct Encrypted(TlsStream<Socket>);

/// libpq's options for TLS, as they were given.
#[derive(Debug, Default)]
pub struct Options {
    /// `sslmode`; without it TLS is used if the server has it, and nobody asks whose it is.
    pub mode: Option<String>,
    /// `sslrootcert`: who may have signed the server's certificate; `system` or nothing means the
    /// system's authorities.
    pub authorities: Option<String>,
    /// `sslcert`: what is shown to a server that asks who we are.
    pub certificate: Option<String>,
    /// `sslkey`: its key.
    pub key: Option<String>,
}

/// Takes a URL or `name=value` pairs apart.
///
/// # Errors
///
/// Says what is wrong with it, without its password.
pub fn parse(text: &str) -> Result<(Config, Tls), UrlError> {
    let mut options = Options::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let rest =
        if is_url { without_query(text, &mut options) } else { without_pairs(text, &mut options) };
    let mut config: Config = rest.parse()?;
    let tls = options.apply(&mut config)?;
    Ok((config, tls))
}

impl Options {
    /// Tells the driver, and answers what it shall do.
    ///
    /// # Errors
    ///
    /// Says which option has an impossible value.
    pub fn apply(self, config: &mut Config) -> Result<Tls, UrlError> {
        let mode = self.server_mode()?;
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => {
                Some(TlsIdentity { certificate_file: certificate.into(), key_file: key.into() })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(UrlError::Identity),
        };
        let hosts = config.get_hosts();
        let is_local = !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_)));
        config.ssl_mode(match mode {
            // There is no TLS on a Unix socket, whatever is asked for.
            _ if is_local => SslMode::Disable,
            ServerTlsMode::Disable => SslMode::Disable,
            ServerTlsMode::Prefer => SslMode::Prefer,
            ServerTlsMode::Require | ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull => {
                SslMode::Require
            }
        });
        super::install_provider();
        let ca_file = self.authorities.filter(|value| value != SYSTEM).map(PathBuf::from);
        let connector = super::connector(mode, ca_file.as_deref(), identity.as_ref())?;
        Ok(Tls { connector, mode, ca_file })
    }

    fn server_mode(&self) -> Result<ServerTlsMode, UrlError> {
        let (mode, authorities) = (self.mode.as_deref(), self.authorities.as_deref());
        Ok(match (mode, authorities) {
            (None | Some("verify-full"), Some(SYSTEM)) => ServerTlsMode::VerifyFull,
            (Some(weak @ ("allow" | "prefer" | "require" | "verify-ca")), Some(SYSTEM))
            | (Some(weak @ "verify-ca"), None) => return Err(UrlError::Weak(weak.to_owned())),
            (Some("disable"), _) => ServerTlsMode::Disable,
            (Some("allow" | "prefer") | None, _) => ServerTlsMode::Prefer,
            // As libpq: who names authorities wants them asked.
            (Some("require"), None) => ServerTlsMode::Require,
            (Some("require" | "verify-ca"), Some(_)) => ServerTlsMode::VerifyCa,
            (Some("verify-full"), _) => ServerTlsMode::VerifyFull,
            (Some(other), _) => return Err(UrlError::Mode(other.to_owned())),
        })
    }

    /// Where the option of this name goes, if it is one of these.
    fn place(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "sslmode" => Some(&mut self.mode),
            "sslrootcert" => Some(&mut self.authorities),
            "sslcert" => Some(&mut self.certificate),
            "sslkey" => Some(&mut self.key),
            _ => None,
        }
    }
}

/// The URL without the parameters that belong into `options`.
fn without_query(url: &str, options: &mut Options) -> String {
    // A password may have a question mark; the driver looks for its end first, too.
    let host = url.find('@').unwrap_or_default();
    let Some(query) = url[host..].find('?').map(|mark| host + mark) else { return url.to_owned() };
    let mut rest = Vec::new();
    for pair in url[query + 1..].split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match options.place(&decoded(name)) {
            Some(place) => *place = Some(decoded(value)),
            None => rest.push(pair),
        }
    }
    let start = &url[..query];
    if rest.is_empty() { start.to_owned() } else { format!("{start}?{}", rest.join("&")) }
}

/// The same for `name=value` pairs, whose values may stand in quotes.
fn without_pairs(text: &str, options: &mut Options) -> String {
    let (mut kept, mut rest) = (String::new(), text.trim_start());
    while let Some((name, after)) = rest.split_once('=') {
        let (value, written, after) = first_value(after.trim_start());
        match options.place(name.trim()) {
            Some(place) => *place = Some(value),
            None => kept.push_str(&format!("{name}={written} ")),
        }
        rest = after.trim_start();
    }
    kept + rest
}

/// A value, the same as it is written, and what follows.
fn first_value(text: &str) -> (String, &str, &str) {
    let (mut value, mut length, mut chars) = (String::new(), 0, text.chars());
    let is_quoted = text.starts_with('\'');
    if is_quoted {
        chars.next();
        length = 1;
    }
    while let Some(mut c) = chars.next() {
        if is_quoted && c == '\'' || !is_quoted && c.is_whitespace() {
            length += usize::from(is_quoted);
            break;
        }
        length += c.len_utf8();
        if c == '\\' {
            c = chars.next().unwrap_or(c);
            length += c.len_utf8();
        }
        value.push(c);
    }
    let (written, after) = text.split_at(length.min(text.len()));
    (value, written, after)
}

/// A URL's text without its percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        let digits = rest.as_slice().get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest.nth(1);
            }
            Some(_) | None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Tls {
    /// What the connection string asks for, in the configuration's terms.
    pub const fn mode(&self) -> ServerTlsMode {
        self.mode
    }

    /// The file of authorities that the connection string names.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ToHost> {
        Ok(ToHost { connector: self.connector.clone(), host: host.to_owned() })
    }
}

impl TlsConnect<Socket> for ToHost {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = self.connector.ok_or(io::ErrorKind::Unsupported)?;
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            connector.connect(name, socket).await.map(Encrypted)
        })
    }
}

impl driver::TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.connector.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> (SslMode, bool) {
        let (config, tls) = parse(text).unwrap();
        (config.get_ssl_mode(), tls.connector.is_some())
    }

    #[test]
    fn the_mode_is_taken_out_of_either_form() {
        for (options, expected) in [
            ("", (SslMode::Prefer, true)),
            ("sslmode=disable", (SslMode::Disable, false)),
            ("sslmode=allow", (SslMode::Prefer, true)),
            ("sslmode=prefer", (SslMode::Prefer, true)),
            ("sslmode=require", (SslMode::Require, true)),
            ("sslmode=verify-full", (SslMode::Require, true)),
            ("sslmode=verify-full&sslrootcert=system", (SslMode::Require, true)),
            ("sslrootcert=system", (SslMode::Require, true)),
        ] {
            let url = format!("postgres://u:p@db/app?{options}&connect_timeout=3");
            let pairs = format!("host=db user=u {}", options.replace('&', " "));
            assert_eq!(mode(&url.replace("?&", "?")), expected, "{url}");
            assert_eq!(mode(&pairs), expected, "{pairs}");
        }
        assert_eq!(mode("host=/run user=u sslmode=require").0, SslMode::Disable);
    }

    #[test]
    fn no_way_of_writing_it_gets_less_than_it_asks_for() {
        for url in [
            "postgres://u:p?q@db/a?sslmode=require",
            "postgres://u:p?q=1&r@db/a?sslmode=require",
            "postgres://db/a?ssl%6dode=re%71uire",
            "postgresql://db?sslmode=disable&sslmode=require",
            "host=db password='a sslmode=disable b' sslmode = 'require'",
            r"host=db password=a\ sslmode=disable sslmode=require",
        ] {
            assert_eq!(mode(url).0, SslMode::Require, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let error = |options: &str| parse(&format!("host=db user=u {options}")).unwrap_err();
        assert!(matches!(error("sslmode=on"), UrlError::Mode(mode) if mode == "on"));
        for weak in ["allow", "prefer", "require", "verify-ca"] {
            let options = format!("sslmode={weak} sslrootcert=system");
            assert!(matches!(error(&options), UrlError::Weak(mode) if mode == weak), "{weak}");
        }
        assert!(matches!(error("sslmode=verify-ca"), UrlError::Weak(_)));
        assert!(matches!(error("sslcert=/tmp/a"), UrlError::Identity));
        assert!(matches!(error("sslkey=/tmp/a"), UrlError::Identity));
        let missing = error("sslmode=verify-ca sslrootcert='/no such/file'");
        assert!(matches!(missing, UrlError::Files(Error::Read { .. })));
        let missing = error("sslcert=/no/a sslkey=/no/b");
        assert!(matches!(missing, UrlError::Files(Error::Read { .. })));
        assert!(matches!(error("sslcrl=/tmp/a"), UrlError::Config(_)));
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let text = r"user=u sslmode = 'disable' password='it\'s a = \\ b' host=db";
        let (config, _) = parse(text).unwrap();
        assert_eq!(config.get_password(), Some(r"it's a = \ b".as_bytes()));
        assert_eq!((config.get_user(), config.get_ssl_mode()), (Some("u"), SslMode::Disable));
        assert_eq!(config.get_hosts(), [Host::Tcp("db".to_owned())]);
        let (config, _) = parse("postgres://u:p%3F%26@db/app?application_name=x").unwrap();
        assert_eq!(config.get_password(), Some(b"p?&".as_slice()));
        assert_eq!(decoded("/a%20b%2fc%"), "/a b/c%");
        assert!(parse("postgres://u@db/app?no_such=1").is_err());
        assert!(parse("nonsense").is_err());
    }
}
