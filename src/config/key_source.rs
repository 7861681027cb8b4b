//! Where an issuer's keys are: `secret`, a file, a URL, or the issuer's discovery document.

use std::time::Duration;

use reqwest::Url;

use super::KeySource;
use super::provider::DIRECTORY;
use super::reader::Section;

const KEY_SOURCES: &[&str] = &[
    "secret",
    "secret_file",
    "public_key_file",
    "jwks_file",
    "jwks_url",
    "discovery",
    "discovery_url",
];

/// What an issuer's discovery document is called (OpenID Connect Discovery 1.0, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Shortest secret: as long as HS256's hash (RFC 7518, section 3.2).
const SHORTEST_SECRET: usize = 32;

/// Keys older than this say nothing about what their issuer would say now.
const MOST_STALE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a URL may not be asked.
const HAS_USER: &str = "must not hold a user name or a password";

/// Exactly one of a few keys says where the issuer's keys are.
pub(super) fn key_source(section: &Section<'_>) -> Option<KeySource> {
    // All are asked for, so that the errors of each are found.
    let secret = section.secret("secret").map(KeySource::Secret);
    let pem = section.file("public_key_file").map(KeySource::PemFile);
    let jwks_file = section.file("jwks_file").map(KeySource::JwksFile);
    let jwks_url = url(section, "jwks_url").map(KeySource::JwksUrl);
    let discovery = discovery(section).map(KeySource::Discovery);
    let is_given = |key: &&str| match *key {
        "discovery" => section.boolean("discovery"),
        key => section.has(key),
    };
    let given: Vec<&str> = KEY_SOURCES.iter().copied().filter(is_given).collect();
    match given.as_slice() {
        [] => section
            .refuse("secret", format!("required: this, or one of {}", KEY_SOURCES[1..].join(", "))),
        [_] => {}
        // `secret` has said so itself.
        ["secret", "secret_file"] => {}
        [_, others @ ..] => {
            section.refuse(others[0], format!("give only one of {}", given.join(", ")));
        }
    }
    if let Some(KeySource::Secret(secret)) = &secret
        && secret.expose().len() < SHORTEST_SECRET
    {
        let key = if section.has("secret") { "secret" } else { "secret_file" };
        let length = secret.expose().len();
        section.refuse(
            key,
            format!("{length} bytes are too few: expected at least {SHORTEST_SECRET}"),
        );
    }
    secret.or(pem).or(jwks_file).or(jwks_url).or(discovery)
}

/// How old keys from a URL may become.
pub(super) fn jwks_max_stale(section: &Section<'_>) -> Duration {
    let stale = section.duration("jwks_max_stale");
    if stale < Duration::from_secs(1) || stale > MOST_STALE {
        section.refuse("jwks_max_stale", "expected one second to 30 days");
    }
    stale
}

/// The URL of the discovery document: what is written, or made of the issuer.
fn discovery(section: &Section<'_>) -> Option<String> {
    let written = url(section, "discovery_url");
    if !section.boolean("discovery") || !section.has("issuer") {
        return written;
    }
    // Entra's document for every directory is that of `common`, and names them as we do.
    let issuer = section.text("issuer").replace(DIRECTORY, "common");
    let made = format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'));
    match check_url(&made) {
        Ok(()) => return Some(made),
        Err(problem) => {
            section.refuse("discovery", format!("needs an issuer that can be asked: {problem}"));
        }
    }
    None
}

fn url(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.optional_text(key)?;
    match check_url(&text) {
        Ok(()) => return Some(text),
        Err(problem) if problem == HAS_USER => section.refuse_unseen(key, &problem),
        Err(problem) => section.refuse(key, problem),
    }
    None
}

pub(super) fn check_url(text: &str) -> Result<(), String> {
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err(HAS_USER.to_owned())
        }
        Ok(url) if url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url) => Ok(()),
        Ok(_) => Err("expected https://…, or http://… on loopback".to_owned()),
        Err(error) => Err(format!("expected a URL: {error}")),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
