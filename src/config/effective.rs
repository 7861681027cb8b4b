//! A configuration written as TOML: what `cloison check` prints.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use crate::guard::Policy;
use crate::types::Access;

use super::file::{
    CLIENT_TLS_MODES, IDENTITIES, LASTS, LINT_ACTIONS, LOG_FORMATS, REASONS, SERVER_TLS_MODES,
};
use super::filter::SWITCH;
use super::issuer::{ALGORITHMS, LOOKUPS};
use super::provider::PROVIDERS;
use super::reader::REDACTED;
use super::{
    Config, Issuer, Keepalive, KeySource, Login, Pool, PoolMode, ServerAddress, TlsIdentity,
    duration,
};

/// The configuration as it is in force: TOML that reads back as the same, once the secrets, which
/// are shown as `[redacted]`, are written in again.
pub fn effective(config: &Config) -> String {
    let mut page = Page::default();
    listen(&mut page, config);
    tls(&mut page, config);
    limits(&mut page, config);
    page.list("allow_startup_parameters", &config.startup_parameters.allow);
    page.list("ignore_startup_parameters", &config.startup_parameters.ignore);
    page.list("harmless_functions", &config.harmless_functions);
    page.list("role_settings", &config.role_settings);
    filter(&mut page, config.statement_filter.as_ref());
    page.text("superadmin_reason", word(REASONS, config.superadmin.needs_reason));
    page.duration("superadmin_session_lifetime", config.superadmin.lifetime);
    page.text("lint", word(LINT_ACTIONS, config.lint.action));
    page.duration("lint_interval", config.lint.interval);
    page.text("log_format", word(LOG_FORMATS, config.log.format));
    page.text("log_filter", &config.log.filter);
    page.section("server");
    match &config.server.address {
        ServerAddress::Tcp(host, port) => page.endpoint(host, *port),
        ServerAddress::Unix(folder, port) => page.endpoint(folder.display(), *port),
    }
    page.text("database", &config.server.database);
    page.section("control");
    login(&mut page, &config.control);
    for (access, pool) in &config.pools {
        self::pool(&mut page, *access, pool);
    }
    for issuer in &config.issuers {
        self::issuer(&mut page, issuer);
    }
    page.0
}

fn listen(page: &mut Page, config: &Config) {
    let addresses: Vec<String> = config.listen.addresses.iter().map(ToString::to_string).collect();
    page.list("listen_addr", &addresses);
    page.number("listen_port", config.listen.port);
    page.optional_path("unix_socket_dir", config.listen.unix_socket_dir.as_deref());
}

fn tls(page: &mut Page, config: &Config) {
    page.text("client_tls_sslmode", word(CLIENT_TLS_MODES, config.client_tls.mode));
    page.identity("client_tls", config.client_tls.identity.as_ref());
    page.value("allow_cleartext_token", &Value::Boolean(config.client_tls.allow_cleartext_token));
    if let Some(oauth) = &config.oauth {
        page.number("oauth_port", oauth.port);
        page.text("oauth_issuer", &oauth.issuer);
        page.text("oauth_scope", &oauth.scope);
    }
    page.value("api_keys", &Value::Boolean(config.api_keys));
    page.text("server_tls_sslmode", word(SERVER_TLS_MODES, config.server.tls_mode));
    page.optional_path("server_tls_ca_file", config.server.tls_ca_file.as_deref());
    // What the control login shows is the default of every pool.
    page.identity("server_tls", config.control.identity.as_ref());
}

fn limits(page: &mut Page, config: &Config) {
    let limits = &config.limits;
    page.number("worker_threads", config.worker_threads);
    let pooling = &config.transaction_pooling;
    page.number("max_prepared_statements", pooling.max_prepared);
    page.text("session_identity", word(IDENTITIES, config.sessions_take_tokens));
    page.text("set_tenant_lasts", word(LASTS, config.choice_outlives_transaction));
    page.text("session_statements", if pooling.pins { "pin" } else { "refuse" });
    page.number("max_client_conn", limits.max_client_conn);
    page.number("reserved_client_conn", limits.reserved_client_conn);
    page.duration("client_login_timeout", limits.client_login_timeout);
    page.duration("query_wait_timeout", limits.query_wait_timeout);
    let tenant = &limits.tenant;
    page.number("max_tenant_client_connections", tenant.client_connections);
    page.number("max_tenant_connections", tenant.server_connections);
    page.number("max_session_memory", tenant.session_memory);
    page.number("max_tenant_memory", tenant.memory);
    page.duration("query_timeout", tenant.query);
    page.duration("transaction_timeout", tenant.transaction);
    page.duration("idle_transaction_timeout", tenant.idle_transaction);
    page.duration("client_idle_timeout", tenant.client_idle);
    page.duration("client_write_timeout", tenant.client_write);
    keepalive(page, &config.keepalive);
    page.number("max_packet_size", tenant.packet);
    page.number("max_pipeline", tenant.pipeline);
    page.number("max_savepoints", tenant.savepoints);
    page.duration("server_connect_timeout", limits.server_connect_timeout);
    page.duration("server_idle_timeout", limits.server_idle_timeout);
    page.duration("server_lifetime", limits.server_lifetime);
    page.duration("shutdown_timeout", limits.shutdown_timeout);
}

fn keepalive(page: &mut Page, keepalive: &Keepalive) {
    page.value("tcp_keepalive", &Value::Boolean(keepalive.is_on));
    page.duration("tcp_keepidle", keepalive.idle);
    page.duration("tcp_keepintvl", keepalive.interval);
    page.number("tcp_keepcnt", keepalive.probes);
    page.duration("tcp_user_timeout", keepalive.user_timeout);
}

fn filter(page: &mut Page, policy: Option<&Policy>) {
    page.text("statement_filter", word(SWITCH, policy.is_some()));
    let Some(policy) = policy else { return };
    let statements: Vec<String> =
        policy.statements.iter().map(|group| group.as_str().to_owned()).collect();
    page.list("allowed_statements", &statements);
    page.list("allowed_settings", &policy.settings.iter().cloned().collect::<Vec<_>>());
    page.number("max_statement_length", policy.longest);
}

fn login(page: &mut Page, login: &Login) {
    page.text("user", &login.user);
    if login.password.is_some() {
        page.text("password", REDACTED);
    }
}

fn pool(page: &mut Page, access: Access, pool: &Pool) {
    page.section(&format!("pools.{access}"));
    login(page, &pool.login);
    page.number("pool_size", pool.size);
    match pool.mode {
        PoolMode::Session => page.text("pool_mode", "session"),
        PoolMode::Transaction => page.text("pool_mode", "transaction"),
    }
    if let Some(client_user) = &pool.client_user {
        page.text("client_user", client_user);
    }
    page.identity("tls", pool.login.identity.as_ref());
}

fn issuer(page: &mut Page, issuer: &Issuer) {
    page.section(&format!("issuers.{}", issuer.name));
    page.text("access", issuer.access.as_str());
    if let Some(provider) = issuer.provider {
        page.text("provider", word(PROVIDERS, provider));
    }
    page.text("issuer", &issuer.issuer);
    page.list("audience", &issuer.audiences);
    page.list("algorithms", &words(ALGORITHMS, &issuer.algorithms));
    match &issuer.keys {
        KeySource::Secret(_) => page.text("secret", REDACTED),
        KeySource::PemFile(path) => page.optional_path("public_key_file", Some(path)),
        KeySource::JwksFile(path) => page.optional_path("jwks_file", Some(path)),
        KeySource::JwksUrl(url) => page.text("jwks_url", url),
        KeySource::Discovery(url) => page.text("discovery_url", url),
    }
    page.duration("jwks_max_stale", issuer.jwks_max_stale);
    let path = |path: &Vec<String>| Value::Array(path.iter().cloned().map(Value::String).collect());
    let paths = issuer.tenant_claims.iter().map(path).collect();
    page.value("tenant_claims", &Value::Array(paths));
    page.list("tenants_claim", &issuer.tenants_claim);
    page.list("tenant_lookup", &words(LOOKUPS, &issuer.tenant_lookup));
    let claims = issuer.required_claims.iter();
    let claims: Table = claims.map(|(path, text)| (path.clone(), text.clone().into())).collect();
    page.value("required_claims", &Value::Table(claims));
    page.duration("leeway", issuer.leeway);
    page.list("claims_in_sql", &issuer.claims_in_sql);
}

/// The word that a value is written as. The tables hold every value.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn words<T: Copy + PartialEq>(known: &[(&'static str, T)], values: &[T]) -> Vec<String> {
    values.iter().map(|value| word(known, *value).to_owned()).collect()
}

/// Keys in the order in which they are put.
#[derive(Default)]
struct Page(String);

impl Page {
    fn section(&mut self, path: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "\n[{path}]");
    }

    fn value(&mut self, key: &str, value: &Value) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, &Value::String(text.to_owned()));
    }

    fn number<T: TryInto<i64>>(&mut self, key: &str, number: T) {
        self.value(key, &Value::Integer(number.try_into().unwrap_or(i64::MAX)));
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.value(key, &duration::to_value(duration));
    }

    fn list(&mut self, key: &str, items: &[String]) {
        self.value(key, &Value::Array(items.iter().cloned().map(Value::String).collect()));
    }

    fn optional_path(&mut self, key: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.text(key, &path.display().to_string());
        }
    }

    fn endpoint(&mut self, host: impl Display, port: u16) {
        self.text("host", &host.to_string());
        self.number("port", port);
    }

    fn identity(&mut self, prefix: &str, identity: Option<&TlsIdentity>) {
        let identity = identity.map(|it| (it.certificate_file.as_path(), it.key_file.as_path()));
        self.optional_path(&format!("{prefix}_cert_file"), identity.map(|(file, _)| file));
        self.optional_path(&format!("{prefix}_key_file"), identity.map(|(_, file)| file));
    }
}
