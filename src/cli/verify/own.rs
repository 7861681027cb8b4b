//! A proxy of the suite's own: from a configuration, in this process, with tokens that it signs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use super::Error;
use crate::cli::serve::{self, Running};
use crate::config::{
    Algorithm, ClientTlsMode, Config, Issuer, KeySource, LintAction, PoolMode, TenantLookup,
};
use crate::kit::verify::{self, Road, Roads};
use crate::observe::Observer;
use crate::types::{Access, Secret};

/// The pool mode that is tried.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Mode {
    /// A client keeps its server connection
    Session,
    /// A server connection for each transaction
    Transaction,
}

const NO_SUPERADMIN: &str = "it has no [pools.superadmin], with whose help the suite knows what \
                             there is to be seen: config/example.toml shows the pool and its rule";

/// A layer that can be switched off. The tables' own layers cannot: policies, grants and signed
/// contexts are the database's, and the reset between clients has no switch; --self-test breaks
/// those in a database that nobody needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Without {
    /// Tenants may send any statement, as with `statement_filter = "off"`
    Filter,
    /// Critical findings of lint do not keep tenants out, as with `lint = "warn"`
    Lint,
    /// Statements that leave something in a session are let through with transaction pooling
    Refusals,
    /// Shared statements run by plans that were made under another client's settings. For
    /// --self-test alone: nothing else holds without it
    #[value(skip)]
    Settling,
}

/// The configuration with the layer off.
fn switch_off(config: &mut Config, layer: Without) {
    match layer {
        Without::Filter => config.statement_filter = None,
        Without::Lint => config.lint.action = LintAction::Warn,
        Without::Refusals => config.transaction_pooling.pins = true,
        Without::Settling => config.transaction_pooling.keeps_plans = true,
    }
}

/// Starts the proxy, and finds the two tenants that have rows in most tables.
pub(super) async fn start(
    mut config: Config,
    mode: Option<Mode>,
    without: &[Without],
    operator: Road,
) -> Result<(Roads, Running), Error> {
    let candidates = verify::candidates(&operator).await?;
    let [a, b, ..] = &candidates[..] else { return Err(Error::FewTenants(candidates.len())) };
    if !config.pools.contains_key(&Access::Superadmin) {
        return Err(Error::Own(NO_SUPERADMIN.to_owned()));
    }
    let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    take_over(&mut config, &key);
    if let (Some(mode), Some(pool)) = (mode, config.pools.get_mut(&Access::Tenant)) {
        pool.mode = match mode {
            Mode::Session => PoolMode::Session,
            Mode::Transaction => PoolMode::Transaction,
        };
    }
    for layer in without {
        switch_off(&mut config, *layer);
    }
    let database = config.server.database.clone();
    let superadmin = config.pools.get(&Access::Superadmin).and_then(|p| p.client_user.clone());
    let superadmin = superadmin.unwrap_or_else(|| "cloison_superadmin".to_owned());
    let running = serve::start(config, Observer::new()).await;
    let running = running.map_err(|error| Error::Own(error.report()))?;
    let address = running.tcp_address().ok_or_else(|| Error::Own("no address".to_owned()))?;
    let url = |user: &str, access: Access, tenant: Option<String>| {
        let token = token(&key, access, tenant);
        url(address, user, &token, &database)
    };
    let tenant = |who, tenant: &verify::TenantName| {
        Road::new(who, &url("app", Access::Tenant, Some(tenant.id.to_string())))
    };
    let roads = Roads {
        tenants: [tenant("tenant A", a)?, tenant("tenant B", b)?],
        superadmin: Road::new("the super-admin", &url(&superadmin, Access::Superadmin, None))?,
        operator: Some(operator),
    };
    Ok((roads, running))
}

/// Loopback, a free port, and nobody's tokens but ours.
fn take_over(config: &mut Config, key: &str) {
    config.listen.addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    config.listen.port = 0;
    config.listen.unix_socket_dir = None;
    config.oauth = None;
    config.client_tls.mode = ClientTlsMode::Disable;
    let roads = config.pools.keys();
    config.issuers = roads
        .map(|access| Issuer {
            name: format!("verify_{access}"),
            access: *access,
            provider: None,
            issuer: ISSUER.to_owned(),
            audiences: vec![format!("{ISSUER} {access}")],
            algorithms: vec![Algorithm::Hs256],
            keys: KeySource::Secret(Secret::new(key.as_bytes().to_vec())),
            jwks_max_stale: Duration::from_secs(86_400),
            tenant_claims: vec![vec!["tenant".to_owned()]],
            tenants_claim: Vec::new(),
            tenant_lookup: vec![TenantLookup::Id],
            claims_in_sql: Vec::new(),
            required_claims: std::collections::BTreeMap::new(),
            leeway: Duration::ZERO,
        })
        .collect();
}

fn token(key: &str, access: Access, tenant: Option<String>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut claims = json!({
        "iss": ISSUER,
        "aud": format!("{ISSUER} {access}"),
        "sub": ISSUER,
        "reason": "cloison verify",
        "iat": now,
        "exp": now + TOKEN_LIFE,
        "jti": uuid::Uuid::new_v4().to_string(),
    });
    if let Some(tenant) = tenant {
        claims["tenant"] = json!(tenant);
    }
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({"alg": "HS256", "typ": "JWT"}).to_string();
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", encode(mac.as_ref()))
}

fn url(address: SocketAddr, user: &str, token: &str, database: &str) -> String {
    let encoded = crate::cli::dev::report::percent_encoded;
    format!("postgres://{}:{token}@{address}/{}", encoded(user), encoded(database))
}

const ISSUER: &str = "cloison verify";

/// A day, in seconds: as long as the longest chaos.
const TOKEN_LIFE: u64 = 24 * 60 * 60;
