//! Asks a key set endpoint: one GET, bounded in time and size, no redirects.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};

use super::error::KeysError;

/// An endpoint that may be asked: `https`, or `http` on loopback.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    client: Client,
    /// For the whole answer, from connecting to its last byte.
    timeout: Duration,
    /// Most bytes of an answer.
    max_bytes: usize,
}

impl Endpoint {
    pub(super) fn new(url: &str, timeout: Duration, max_bytes: usize) -> Result<Self, KeysError> {
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
        Ok(Self { url, client, timeout, max_bytes })
    }

    /// The answer's body, of status 200.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, KeysError> {
        match tokio::time::timeout(self.timeout, self.read()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(KeysError::Fetch(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn read(&self) -> Result<Vec<u8>, KeysError> {
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
