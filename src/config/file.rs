//! One TOML file and the environment, read into a [`Config`].

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use toml::Table;
use tracing_subscriber::EnvFilter;

use super::error::{Error, Errors};
use super::keepalive;
use super::login::{self, Defaults};
use super::places::Places;
use super::reader::{Reader, Section};
use super::{
    ClientTls, ClientTlsMode, Config, Limits, Lint, LintAction, Listen, Log, LogFormat, Server,
    ServerAddress, ServerTlsMode, StartupParameters, Superadmin, TransactionPooling, environment,
    filter, issuer, limits, oauth,
};
use crate::types::Access;

pub(super) const CLIENT_TLS_MODES: &[(&str, ClientTlsMode)] = &[
    ("disable", ClientTlsMode::Disable),
    ("allow", ClientTlsMode::Allow),
    ("prefer", ClientTlsMode::Allow),
    ("require", ClientTlsMode::Require),
];

pub(super) const SERVER_TLS_MODES: &[(&str, ServerTlsMode)] = &[
    ("disable", ServerTlsMode::Disable),
    ("prefer", ServerTlsMode::Prefer),
    ("require", ServerTlsMode::Require),
    ("verify-ca", ServerTlsMode::VerifyCa),
    ("verify-full", ServerTlsMode::VerifyFull),
];

impl ServerTlsMode {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        SERVER_TLS_MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }
}

pub(super) const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) const LINT_ACTIONS: &[(&str, LintAction)] =
    &[("refuse", LintAction::Refuse), ("unready", LintAction::Unready), ("warn", LintAction::Warn)];

/// Whether a super-admin has to say why.
pub(super) const REASONS: &[(&str, bool)] = &[("required", true), ("optional", false)];

/// Most threads: more than any machine has cores.
const MOST_WORKERS: i64 = 1_024;

/// Most named statements of a server connection: each holds memory there.
const MOST_PREPARED: i64 = 10_000;

/// Whether sessions take tokens in band, by its name.
pub(super) const IDENTITIES: &[(&str, bool)] = &[("login", false), ("in_band", true)];

/// Whether a choice outlives its transaction, by its name.
pub(super) const LASTS: &[(&str, bool)] = &[("transaction", false), ("session", true)];

/// What becomes of statements that work on one session only.
const SESSION_STATEMENTS: &[(&str, bool)] = &[("refuse", false), ("pin", true)];

/// Most client connections: what one machine can hold.
const MOST_CLIENTS: i64 = 1_000_000;

/// Reads a file, if there is one, and lays the `CLOISON_…` variables of `env` over it.
///
/// # Errors
///
/// Everything that is wrong, at once.
pub fn load(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, Errors> {
    let Some(path) = path else { return parse("", env) };
    let place = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        Errors::new(vec![Error::new(&place, format!("cannot be read: {error}"))])
    })?;
    let places = Places::of(path, &text);
    read(&text, &place, places, env).and_then(into_config)
}

/// As [`load`], from a text.
///
/// # Errors
///
/// Everything that is wrong, at once.
pub fn parse(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Config, Errors> {
    read(text, "configuration", Places::default(), env).and_then(into_config)
}

/// Text and environment as a reader. Where the text is no TOML, that is the only error: what its
/// keys say cannot be known.
pub(super) fn read(
    text: &str,
    place: &str,
    places: Places,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Reader, Errors> {
    let mut table: Table =
        text.parse().map_err(|error| Errors::new(vec![syntax_error(text, place, &error)]))?;
    let mut errors = Vec::new();
    let variables = environment::overlay(&mut table, env, &mut errors);
    Ok(Reader::new(table, variables, places, errors))
}

/// What the values mean, unless anything is wrong.
pub(super) fn into_config(reader: Reader) -> Result<Config, Errors> {
    let config = config(&reader);
    let errors = reader.finish();
    if errors.is_empty() { Ok(config) } else { Err(Errors::new(errors)) }
}

/// The place and the reason only: the line itself may hold a password.
fn syntax_error(text: &str, place: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Error::new(format!("{place}:{line}:{column}"), error.message())
}

/// Means something only if the reader has no errors afterwards.
pub(super) fn config(reader: &Reader) -> Config {
    let top = reader.top();
    let listen = listen(&top);
    let client_tls = client_tls(&top);
    let mut limits = self::limits(&top);
    let startup_parameters = startup_parameters(&top);
    let harmless_functions = harmless_functions(&top);
    let lint = lint(&top);
    let log = log(&top);
    let server = server(&top, &reader.section("server"));
    let defaults = Defaults::read(&top);
    let control = login::control(reader, &defaults);
    let pools = login::pools(reader, &defaults, &control);
    limits::leave_room(&top, &mut limits, pools.get(&Access::Tenant).map_or(0, |pool| pool.size));
    let issuers = issuer::issuers(reader, &pools);
    let oauth = oauth::oauth(&top, &listen, &issuers);
    Config {
        listen,
        client_tls,
        server,
        control,
        pools,
        issuers,
        oauth,
        api_keys: top.boolean("api_keys"),
        limits,
        keepalive: keepalive::read(&top),
        worker_threads: top.number("worker_threads", 1..=MOST_WORKERS).unwrap_or_default(),
        transaction_pooling: transaction_pooling(&top),
        startup_parameters,
        harmless_functions,
        role_settings: role_settings(&top),
        statement_filter: filter::policy(&top),
        sessions_take_tokens: top.choice("session_identity", IDENTITIES).unwrap_or(false),
        choice_outlives_transaction: top.choice("set_tenant_lasts", LASTS).unwrap_or(false),
        superadmin: Superadmin {
            needs_reason: top.choice("superadmin_reason", REASONS).unwrap_or(true),
            lifetime: top.duration("superadmin_session_lifetime"),
        },
        lint,
        log,
    }
}

fn listen(top: &Section<'_>) -> Listen {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let items = top.list("listen_addr");
    for item in items.iter().flatten() {
        match item.parse() {
            _ if *item == "*" => {
                addresses
                    .extend([IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()]);
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let problem = format!("{item:?} is not an IP address or \"*\"");
                top.refuse("listen_addr", problem);
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|address| seen.insert(*address));
    let unix_socket_dir = top.path("unix_socket_dir");
    if items.is_some_and(|items| items.is_empty()) && unix_socket_dir.is_none() {
        top.refuse("listen_addr", "nothing to listen on: give an address, or unix_socket_dir");
    }
    let port = top.number("listen_port", 0..=65_535).unwrap_or_default();
    Listen { addresses, port, unix_socket_dir }
}

fn client_tls(top: &Section<'_>) -> ClientTls {
    let mode = top.choice("client_tls_sslmode", CLIENT_TLS_MODES).unwrap_or(ClientTlsMode::Disable);
    let identity = login::identity(top, "client_tls_cert_file", "client_tls_key_file");
    let has_none = !top.has("client_tls_cert_file") && !top.has("client_tls_key_file");
    if mode != ClientTlsMode::Disable && has_none {
        top.refuse("client_tls_sslmode", "needs client_tls_cert_file and client_tls_key_file");
    }
    ClientTls { mode, identity, allow_cleartext_token: top.boolean("allow_cleartext_token") }
}

fn server(top: &Section<'_>, section: &Section<'_>) -> Server {
    let port = section.number("port", 1..=65_535).unwrap_or_default();
    section.require("database", "the database that every session uses");
    let tls_mode =
        top.choice("server_tls_sslmode", SERVER_TLS_MODES).unwrap_or(ServerTlsMode::Prefer);
    let tls_ca_file = top.file("server_tls_ca_file");
    match tls_mode {
        // An operator who names an authority believes that it is asked.
        ServerTlsMode::Disable | ServerTlsMode::Prefer | ServerTlsMode::Require
            if top.has("server_tls_ca_file") =>
        {
            let problem = "is only used if server_tls_sslmode is verify-ca or verify-full";
            top.refuse("server_tls_ca_file", problem);
        }
        ServerTlsMode::Disable
        | ServerTlsMode::Prefer
        | ServerTlsMode::Require
        | ServerTlsMode::VerifyCa
        | ServerTlsMode::VerifyFull => {}
    }
    Server {
        address: server_address(section, port),
        database: section.text("database"),
        tls_mode,
        tls_ca_file,
    }
}

fn server_address(section: &Section<'_>, port: u16) -> ServerAddress {
    let host = section.text("host");
    if host.starts_with('/') {
        return ServerAddress::Unix(host.into(), port);
    }
    // Not shown, because a URL in the wrong place holds a password.
    if host.contains(|c: char| c.is_whitespace() || "/@,".contains(c)) {
        let problem = "expected one host name or address, or the absolute folder of a Unix socket";
        section.refuse_unseen("host", problem);
    }
    ServerAddress::Tcp(host, port)
}

fn limits(top: &Section<'_>) -> Limits {
    Limits {
        max_client_conn: top.number("max_client_conn", 1..=MOST_CLIENTS).unwrap_or_default(),
        reserved_client_conn: top
            .number("reserved_client_conn", 0..=MOST_CLIENTS)
            .unwrap_or_default(),
        client_login_timeout: top.duration("client_login_timeout"),
        query_wait_timeout: top.duration("query_wait_timeout"),
        tenant: limits::of_tenants(top),
        without_tenant: limits::WithoutTenant::default(),
        server_connect_timeout: top.duration("server_connect_timeout"),
        server_idle_timeout: top.duration("server_idle_timeout"),
        server_lifetime: top.duration("server_lifetime"),
        shutdown_timeout: top.duration("shutdown_timeout"),
    }
}

fn transaction_pooling(top: &Section<'_>) -> TransactionPooling {
    let most = top.number("max_prepared_statements", 1..=MOST_PREPARED).unwrap_or_default();
    let pins = top.choice("session_statements", SESSION_STATEMENTS);
    TransactionPooling { max_prepared: most, pins: pins.unwrap_or_default(), keeps_plans: false }
}

fn startup_parameters(top: &Section<'_>) -> StartupParameters {
    let allow = top.list("allow_startup_parameters").unwrap_or_default();
    for name in &allow {
        let lower = name.to_lowercase();
        if matches!(lower.as_str(), "role" | "session_authorization" | "replication")
            || lower.starts_with("cloison.")
        {
            let problem = format!("{name} would change who a session acts for");
            top.refuse("allow_startup_parameters", problem);
        }
    }
    let ignore = top.list("ignore_startup_parameters").unwrap_or_default();
    StartupParameters { allow, ignore }
}

fn harmless_functions(top: &Section<'_>) -> Vec<String> {
    let functions = top.list("harmless_functions").unwrap_or_default();
    for name in &functions {
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() != 2 || parts.iter().any(|part| part.trim() != *part || part.is_empty()) {
            let problem = format!("{name:?} is not schema.name, such as public.touch_updated_at");
            top.refuse("harmless_functions", problem);
        }
    }
    functions
}

fn lint(top: &Section<'_>) -> Lint {
    let action = top.choice("lint", LINT_ACTIONS).unwrap_or(LintAction::Refuse);
    Lint { action, interval: top.duration("lint_interval") }
}

fn role_settings(top: &Section<'_>) -> Vec<String> {
    let settings = top.list("role_settings").unwrap_or_default();
    for setting in settings.iter().filter(|setting| !setting.contains('=')) {
        let problem = format!("{setting:?} is not name=value, such as statement_timeout=30s");
        top.refuse("role_settings", problem);
    }
    settings
}

fn log(top: &Section<'_>) -> Log {
    let filter = top.text("log_filter");
    if let Err(error) = EnvFilter::builder().parse(&filter) {
        top.refuse("log_filter", format!("expected a filter such as info: {error}"));
    }
    Log { format: top.choice("log_format", LOG_FORMATS).unwrap_or(LogFormat::Text), filter }
}
