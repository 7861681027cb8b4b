//! The configuration as it is meant: validated, typed, no strings that stand for something else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::guard::Policy;
use crate::types::{Access, Secret};

mod duration;
mod effective;
mod environment;
mod error;
mod file;
mod filter;
mod issuer;
mod keepalive;
mod key_source;
mod keys;
mod limits;
mod login;
mod oauth;
mod pgbouncer;
mod places;
mod provider;
mod reader;
mod secrets;
#[cfg(test)]
mod tests;

pub use effective::effective;
pub use error::{Error, Errors};
pub use file::{load, parse};
pub use keepalive::Keepalive;
pub use limits::{TenantLimits, WithoutTenant};
pub use provider::Provider;
pub use reader::read_secret;
pub use secrets::{SecretFiles, secret_files};

/// Everything that `cloison serve` needs to know, after every check.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// TLS towards clients.
    pub client_tls: ClientTls,
    /// The one Postgres database behind the proxy.
    pub server: Server,
    /// The proxy's own login, a member of `cloison_control`.
    pub control: Login,
    /// The pools that client sessions run in, by what their token allows.
    pub pools: BTreeMap<Access, Pool>,
    /// Who may sign tokens. Never empty.
    pub issuers: Vec<Issuer>,
    /// Where OAUTHBEARER is spoken, if anywhere.
    pub oauth: Option<Oauth>,
    /// Whether API keys are accepted in the place of a token.
    pub api_keys: bool,
    /// Time and number limits that a client cannot lift.
    pub limits: Limits,
    /// How soon a client or a Postgres that has vanished is noticed.
    pub keepalive: Keepalive,
    /// Threads that serve clients. At least one.
    pub worker_threads: usize,
    /// The rules of transaction pooling.
    pub transaction_pooling: TransactionPooling,
    /// Which startup parameters pass beyond the built-in list.
    pub startup_parameters: StartupParameters,
    /// Functions of the application, as `schema.name`, that leave nothing in a session: a server
    /// connection that has run them needs no reset because of them.
    pub harmless_functions: Vec<String>,
    /// What the tenants' role may have been given as defaults of its own, as `name=value`.
    pub role_settings: Vec<String>,
    /// What tenants' statements may be; `None`: anything that the database lets them.
    pub statement_filter: Option<Policy>,
    /// With session pooling, a tenant's session may become another's by a token in band.
    pub sessions_take_tokens: bool,
    /// A tenant that is chosen in a transaction stays chosen for the session.
    pub choice_outlives_transaction: bool,
    /// What holds for super-admins' sessions.
    pub superadmin: Superadmin,
    /// What a critical finding of the lints leads to.
    pub lint: Lint,
    /// How the program tells what it does.
    pub log: Log,
}

impl Config {
    /// The road that a client asks for by its user name. What it may have, its token decides.
    pub fn access_of(&self, user: &str) -> Access {
        let claimed = |pool: &Pool| pool.client_user.as_deref() == Some(user);
        let found = self.pools.iter().find(|(_, pool)| claimed(pool));
        found.map_or(Access::Tenant, |(access, _)| *access)
    }
}

/// Where clients connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listen {
    /// Addresses to bind; empty when only the Unix socket is wanted.
    pub addresses: Vec<IpAddr>,
    /// TCP port of every address, and the number in the Unix socket's name. 0 picks a free one.
    pub port: u16,
    /// Folder of the Unix socket `.s.PGSQL.<port>`, if one is wanted.
    pub unix_socket_dir: Option<PathBuf>,
}

/// A port where clients present their token by SASL OAUTHBEARER instead of as a password. The server
/// speaks first, so it is the port that says which: no client can be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Oauth {
    /// TCP port, on every address of [`Listen`]. 0 picks a free one.
    pub port: u16,
    /// Where clients without a token are told to get one: the issuer of one of the rules.
    pub issuer: String,
    /// The scope to ask for there.
    pub scope: String,
}

/// TLS towards clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientTls {
    /// Whether TLS is offered and whether it is demanded.
    pub mode: ClientTlsMode,
    /// Certificate chain and key, PEM. Present unless the mode is `Disable`.
    pub identity: Option<TlsIdentity>,
    /// Whether a token may cross a network in clear text. Loopback and Unix sockets always may.
    pub allow_cleartext_token: bool,
}

/// pgbouncer's `client_tls_sslmode`, without the modes that ask clients for certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientTlsMode {
    /// TLS is never offered.
    Disable,
    /// TLS is offered; the client chooses.
    Allow,
    /// A client without TLS is refused, except over a Unix socket.
    Require,
}

/// A certificate chain and its private key, both PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsIdentity {
    /// The chain, leaf first.
    pub certificate_file: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}

/// The one Postgres database behind the proxy.
#[derive(Clone, Debug)]
pub struct Server {
    /// How to reach it.
    pub address: ServerAddress,
    /// The database that every session uses.
    pub database: String,
    /// How much the connection to Postgres trusts the network.
    pub tls_mode: ServerTlsMode,
    /// PEM file of authorities to trust; the system's when absent.
    pub tls_ca_file: Option<PathBuf>,
}

/// A TCP endpoint or a Unix socket.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ServerAddress {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Folder of the socket, and the port in its name.
    Unix(PathBuf, u16),
}

/// libpq's `sslmode`, as far as a proxy has a use for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerTlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the server has it, unverified. The default, as libpq's.
    Prefer,
    /// TLS or nothing, unverified.
    Require,
    /// TLS with a certificate from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// How the proxy logs in to Postgres.
#[derive(Clone, Debug)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<Secret<String>>,
    /// Its certificate, if the server asks for one.
    pub identity: Option<TlsIdentity>,
}

/// A pool of server connections that share one login.
#[derive(Clone, Debug)]
pub struct Pool {
    /// How its server connections log in.
    pub login: Login,
    /// When a server connection goes back to the pool.
    pub mode: PoolMode,
    /// Most server connections at any time.
    pub size: usize,
    /// The user name by which a client asks for this pool. The tenant pool, for which this is
    /// absent, takes every name that no other pool claims.
    pub client_user: Option<String>,
}

/// pgbouncer's `pool_mode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolMode {
    /// The client keeps its server connection until it leaves.
    Session,
    /// The client has a server connection for as long as a transaction lasts.
    Transaction,
}

/// The rules of transaction pooling.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransactionPooling {
    /// Most named statements that a server connection holds.
    pub max_prepared: usize,
    /// A statement that works on one session only keeps its server connection for the client,
    /// instead of being refused.
    pub pins: bool,
    /// Plans are kept for other clients whatever settings they were made under. No configuration
    /// says so: `cloison verify --self-test` does, to see that the suite notices.
    pub keeps_plans: bool,
}

/// One rule by which a token is accepted. Several rules may share an `iss`.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The rule's name: the last part of `[issuers.<name>]`.
    pub name: String,
    /// What a token accepted by this rule allows.
    pub access: Access,
    /// Whose tokens these are, if that is known: some want a look that others do not.
    pub provider: Option<Provider>,
    /// The exact `iss` claim. Entra's may hold `{tenantid}` in place of the directory.
    pub issuer: String,
    /// The `aud` claim, or what the provider has in its place, must contain one of these. Never
    /// empty.
    pub audiences: Vec<String>,
    /// Signature algorithms that are accepted. Never empty, never taken from the token.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys are.
    pub keys: KeySource,
    /// How old keys from a URL may become while it cannot be asked.
    pub jwks_max_stale: Duration,
    /// Paths of claims that may name the tenant, each from the outside in. The first that leads
    /// anywhere counts. A `*` is every member of an object or a list, whatever its name.
    pub tenant_claims: Vec<Vec<String>>,
    /// Path of the claim that lists the tenants of a service token. Empty: there are none.
    pub tenants_claim: Vec<String>,
    /// What the tenant claim may hold, in the order in which it is tried.
    pub tenant_lookup: Vec<TenantLookup>,
    /// Claims (dotted paths) that must hold exactly this text, or a list that contains it.
    pub required_claims: BTreeMap<String, String>,
    /// How far `exp` and `nbf` may be off, for clocks that disagree.
    pub leeway: Duration,
    /// Names of the claims that SQL may read; `*` for all.
    pub claims_in_sql: Vec<String>,
}

/// Signature algorithms of RFC 7518 and RFC 8037 that a rule may accept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// HMAC with SHA-256; needs a secret of its own.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A shared secret of at least 32 bytes, for HS256 alone.
    Secret(Secret<Vec<u8>>),
    /// One public key, PEM, read again when it changes.
    PemFile(PathBuf),
    /// A JWK Set (RFC 7517) on disk, read again when it changes.
    JwksFile(PathBuf),
    /// A JWK Set behind `https://`, or `http://` on loopback.
    JwksUrl(String),
    /// Where the issuer's OpenID Connect discovery document is, which says where the JWK Set is.
    Discovery(String),
}

/// What a tenant claim may hold.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TenantLookup {
    /// `cloison.tenants.id`.
    Id,
    /// `cloison.tenants.slug`.
    Slug,
    /// `cloison.tenants.external_key`.
    ExternalKey,
}

/// Time and number limits that a client cannot lift. Durations of zero mean "no limit", as in
/// pgbouncer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Most client connections, before and after login.
    pub max_client_conn: usize,
    /// Most connections of super-admins and the owner beyond that.
    pub reserved_client_conn: usize,
    /// From accept to the end of login.
    pub client_login_timeout: Duration,
    /// Longest wait for a server connection.
    pub query_wait_timeout: Duration,
    /// What one tenant may take of what all share.
    pub tenant: TenantLimits,
    /// What the sessions of one token holder may take that act for no tenant.
    pub without_tenant: WithoutTenant,
    /// From connect to the end of the login at Postgres.
    pub server_connect_timeout: Duration,
    /// An idle server connection is closed after this time.
    pub server_idle_timeout: Duration,
    /// A server connection older than this is closed when it is released.
    pub server_lifetime: Duration,
    /// How long sessions may go on after SIGTERM.
    pub shutdown_timeout: Duration,
}

/// Which startup parameters pass beyond the built-in list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StartupParameters {
    /// Applied as if they were on the built-in list.
    pub allow: Vec<String>,
    /// Accepted and dropped: pgbouncer's `ignore_startup_parameters`.
    pub ignore: Vec<String>,
}

/// What holds for super-admins' sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Superadmin {
    /// There is none without a reason.
    pub needs_reason: bool,
    /// Each ends after this time at the latest; zero: with its token.
    pub lifetime: Duration,
}

/// How the database is looked over, and what for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lint {
    /// What a critical finding leads to.
    pub action: LintAction,
    /// How often it is looked for; zero: at the start only.
    pub interval: Duration,
}

/// What a critical finding leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LintAction {
    /// `cloison serve` does not start; while it runs, tenants get no session and no transaction.
    Refuse,
    /// Tenants get no new session; those who have one go on.
    Unready,
    /// It is logged.
    Warn,
}

/// How the program tells what it does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A filter in the syntax of `tracing-subscriber`'s `EnvFilter`, such as `info`.
    pub filter: String,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}
