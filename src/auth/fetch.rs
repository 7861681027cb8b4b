//! Asks an issuer's endpoints: one GET each, bounded in time and size, no redirects.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use reqwest::{Client, StatusCode, Url, redirect};
use serde_json::Value;

use super::error::KeysError;
use super::json;
use super::keys::lock;

/// Where a JWK Set is.
#[derive(Debug)]
pub(super) enum Source {
    /// Behind this URL.
    Jwks(Endpoint),
    /// Where the issuer's own document says (OpenID Connect Discovery 1.0, section 4).
    Discovery {
        document: Endpoint,
        /// The issuer, letter by letter as the document has to give it.
        issuer: String,
        /// What the document said last.
        jwks: Mutex<Option<Arc<Endpoint>>>,
    },
}

impl Source {
    pub(super) fn jwks(url: &str, max_bytes: usize) -> Result<Self, KeysError> {
        Ok(Self::Jwks(Endpoint::new(url, max_bytes)?))
    }

    pub(super) fn discovery(url: &str, issuer: &str, max_bytes: usize) -> Result<Self, KeysError> {
        let document = Endpoint::new(url, max_bytes)?;
        Ok(Self::Discovery { document, issuer: issuer.to_owned(), jwks: Mutex::new(None) })
    }

    /// The JWK Set as it is now. Not bounded in time.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, KeysError> {
        match self {
            Self::Jwks(endpoint) => endpoint.fetch().await,
            Self::Discovery { document, issuer, jwks } => {
                let url = jwks_uri(&document.fetch().await?, issuer)?;
                let known = lock(jwks).clone().filter(|endpoint| endpoint.url.as_str() == url);
                let endpoint = match known {
                    Some(endpoint) => endpoint,
                    None => {
                        let endpoint = Arc::new(document.leading_to(&url)?);
                        *lock(jwks) = Some(Arc::clone(&endpoint));
                        endpoint
                    }
                };
                endpoint.fetch().await
            }
        }
    }
}

/// Where the document of `issuer`, and of nobody else, says that the keys are.
fn jwks_uri(document: &[u8], issuer: &str) -> Result<String, KeysError> {
    let Ok(document) = json::object(document) else {
        return Err(KeysError::Format("the discovery document is not a JSON object"));
    };
    // Section 4.3: without this, one issuer could serve another's document, or its own keys for it.
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(KeysError::Format("the discovery document is another issuer's"));
    }
    match document.get("jwks_uri").and_then(Value::as_str) {
        Some(url) => Ok(Url::parse(url).map_err(|_| KeysError::Url)?.into()),
        None => Err(KeysError::Format("the discovery document has no jwks_uri")),
    }
}

/// An endpoint that may be asked: `https`, or `http` on loopback.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    client: Client,
    /// Most bytes of an answer.
    max_bytes: usize,
}

impl Endpoint {
    pub(super) fn new(url: &str, max_bytes: usize) -> Result<Self, KeysError> {
        let url = Url::parse(url).map_err(|_| KeysError::Url)?;
        let is_local = is_loopback(&url);
        let may_be_asked = url.scheme() == "https" || (url.scheme() == "http" && is_local);
        if !may_be_asked || !url.username().is_empty() || url.password().is_some() {
            return Err(KeysError::Url);
        }
        // reqwest would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(KeysError::Fetch("the process has no TLS provider installed".to_owned()));
        }
        // A redirect would let the endpoint point us into our own network.
        let builder = Client::builder().redirect(redirect::Policy::none());
        let builder = if is_local { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| KeysError::Fetch(reason(error)))?;
        Ok(Self { url, client, max_bytes })
    }

    /// Another endpoint that this one names: on loopback only if it is there itself, so that
    /// nobody outside points us at what listens inside.
    pub(super) fn leading_to(&self, url: &str) -> Result<Self, KeysError> {
        let endpoint = Self::new(url, self.max_bytes)?;
        let leads_inside = is_loopback(&endpoint.url) && !is_loopback(&self.url);
        if leads_inside { Err(KeysError::Url) } else { Ok(endpoint) }
    }

    /// The answer's body, of status 200.
    async fn fetch(&self) -> Result<Vec<u8>, KeysError> {
        let failed = |error| KeysError::Fetch(reason(error));
        let mut response = self.client.get(self.url.clone()).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(KeysError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.max_bytes {
                return Err(KeysError::TooLarge(self.max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The whole chain of causes, without the URL, whose query may hold a secret.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
