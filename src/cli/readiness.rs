//! Everything that has to be right before the first client comes: one list, which
//! `cloison check --connect` prints and `cloison serve` goes by.

mod files;
mod postgres;

use std::time::SystemTime;

use tokio::runtime::Handle;

use crate::auth::{self, KeyStatus, Verifier};
use crate::config::{ClientTlsMode, Config, TlsIdentity};
use crate::tenant::Directory;
use crate::tls;
use crate::types::Access;

use super::serve::watch::{Standing, Watch};

pub(super) use files::check as files;

/// One thing that was looked at, and how it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Check {
    /// What it is about: `pool tenant`.
    pub(super) subject: String,
    /// What was looked at: a role, a file, an address.
    pub(super) value: String,
    pub(super) state: State,
}

/// How it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// As it should be.
    Good,
    /// It works, and somebody should look at it.
    Warning(Trouble),
    /// It does not work, or not for everybody.
    Failed(Trouble, Stops),
    /// Something else has to be there first.
    NotTried,
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Trouble {
    pub(super) cause: String,
    pub(super) cure: String,
}

/// What a failure keeps `cloison serve` from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stops {
    /// Nothing: those that it does not concern are served.
    Nothing,
    /// It waits until what is away is there.
    Waiting,
    /// It does not start.
    Start,
}

impl Check {
    fn good(subject: impl Into<String>, value: impl Into<String>) -> Self {
        Self { subject: subject.into(), value: value.into(), state: State::Good }
    }

    fn not_tried(subject: impl Into<String>, value: impl Into<String>) -> Self {
        Self { subject: subject.into(), value: value.into(), state: State::NotTried }
    }

    fn warns(self, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        let trouble = Trouble { cause: cause.into(), cure: cure.into() };
        Self { state: State::Warning(trouble), ..self }
    }

    fn fails(self, stops: Stops, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        let trouble = Trouble { cause: cause.into(), cure: cure.into() };
        Self { state: State::Failed(trouble, stops), ..self }
    }

    /// The trouble, if it keeps `cloison serve` from this.
    pub(super) fn stops(&self, what: Stops) -> Option<&Trouble> {
        match &self.state {
            State::Failed(trouble, stops) if *stops == what => Some(trouble),
            State::Good | State::Warning(_) | State::Failed(..) | State::NotTried => None,
        }
    }
}

/// Everything that was looked at, and what was made on the way.
pub(super) struct Looked {
    pub(super) checks: Vec<Check>,
    /// The proxy's own connection, if it is there.
    pub(super) directory: Option<Directory>,
    /// What goes on looking at the database, and what it found first.
    pub(super) watch: Option<(Watch, Standing)>,
}

/// Looks at everything but the modes of files.
///
/// The proxy's own connection is looked after at `home`.
pub(super) async fn look(
    config: &Config,
    verifier: &Result<Verifier, auth::Error>,
    home: &Handle,
) -> Looked {
    let mut checks = vec![listen(config)];
    checks.extend(certificates(config));
    checks.extend(keys(verifier).await);
    let mut looked = postgres::look(config, home).await;
    checks.append(&mut looked.checks);
    Looked { checks, ..looked }
}

/// Whether clients of other machines can log in, and their tokens are not seen on the way.
fn listen(config: &Config) -> Check {
    let mut places: Vec<String> = config
        .listen
        .addresses
        .iter()
        .map(|address| std::net::SocketAddr::new(*address, config.listen.port).to_string())
        .collect();
    places.extend(config.listen.unix_socket_dir.iter().map(|folder| folder.display().to_string()));
    let tls = match config.client_tls.mode {
        ClientTlsMode::Disable => "no TLS",
        ClientTlsMode::Allow => "TLS for clients that ask for it",
        ClientTlsMode::Require => "TLS required",
    };
    let check = Check::good("listen", format!("{}, {tls}", places.join(", ")));
    let is_open = config.listen.addresses.iter().any(|address| !address.is_loopback());
    match (is_open && config.client_tls.mode == ClientTlsMode::Disable, config) {
        (false, _) => check,
        (true, config) if config.client_tls.allow_cleartext_token => check.warns(
            "tokens of other machines cross the network in clear text: who reads one along the way \
             can be that tenant (allow_cleartext_token)",
            LISTEN_CURE,
        ),
        (true, _) => check.fails(
            Stops::Nothing,
            "clients of other machines are refused, because their tokens would cross the network \
             in clear text (C007)",
            LISTEN_CURE,
        ),
    }
}

const LISTEN_CURE: &str = "set client_tls_sslmode = \"require\" with client_tls_cert_file and \
     client_tls_key_file, or listen_addr = \"127.0.0.1\"";

/// The certificates that are shown to clients and to Postgres, each once.
fn certificates(config: &Config) -> Vec<Check> {
    let logins = [&config.control].into_iter().chain(config.pools.values().map(|pool| &pool.login));
    let to_postgres = logins.filter_map(|login| login.identity.as_ref());
    let to_clients = config.client_tls.identity.as_ref();
    let mut seen: Vec<&TlsIdentity> = Vec::new();
    let mut checks = Vec::new();
    for identity in to_clients.into_iter().chain(to_postgres) {
        if !seen.contains(&identity) {
            seen.push(identity);
            checks.push(certificate(identity));
        }
    }
    checks
}

/// Certificates are renewed earlier than this before their end.
const SOON: u64 = 30;

fn certificate(identity: &TlsIdentity) -> Check {
    let file = identity.certificate_file.display();
    let check = Check::good("certificate", file.to_string());
    let end = match tls::valid_until(identity) {
        Ok(end) => end,
        Err(error) => {
            let cure = "name a PEM file with the server's certificate first, and its own key";
            return check.fails(Stops::Start, in_one_line(&error), cure);
        }
    };
    let Some(end) = end else { return check };
    let renew = "renew it: cloison reads the files at its start";
    match end.duration_since(SystemTime::now()) {
        Err(past) => {
            let days = past.duration().as_secs() / 86_400;
            let cause = format!("expired {days} days ago: clients that verify it are refused");
            check.fails(Stops::Nothing, cause, renew)
        }
        Ok(left) => {
            let days = left.as_secs() / 86_400;
            let check = Check { value: format!("{file}: {days} days left"), ..check };
            if days >= SOON { check } else { check.warns(format!("it ends in {days} days"), renew) }
        }
    }
}

/// The keys of each rule. Those of one provider that is away keep nobody else's tenants waiting.
async fn keys(verifier: &Result<Verifier, auth::Error>) -> Vec<Check> {
    let verifier = match verifier {
        Ok(verifier) => verifier,
        Err(error) => {
            let cure = "correct the [issuers.…] section that is named";
            return vec![Check::good("issuers", "").fails(Stops::Start, in_one_line(error), cure)];
        }
    };
    let all = verifier.status().await;
    let serves_somebody =
        all.iter().any(|status| status.access == Access::Tenant && status.keys.is_ok());
    all.into_iter().map(|status| issuer(status, serves_somebody)).collect()
}

fn issuer(status: KeyStatus, serves_somebody: bool) -> Check {
    let KeyStatus { rule, place, keys, .. } = status;
    let check = Check::good(format!("issuer {rule}"), place.clone());
    let stops = if serves_somebody { Stops::Nothing } else { Stops::Waiting };
    match keys {
        Ok(0) => check.warns("there is no key that can be used: no token is accepted", "add one"),
        Ok(count) => {
            let plural = if count == 1 { "key" } else { "keys" };
            Check { value: format!("{place}: {count} {plural}"), ..check }
        }
        Err(why) => {
            let cure = format!("start the key server, or correct the URL in [issuers.{rule}]");
            check.fails(stops, why, cure)
        }
    }
}

/// An error and its causes.
fn in_one_line(error: &dyn std::error::Error) -> String {
    super::report(error).replace("\n  because: ", ": ")
}
