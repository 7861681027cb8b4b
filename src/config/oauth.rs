//! `oauth_port`, `oauth_issuer`, `oauth_scope`: a port for clients that speak OAUTHBEARER.

use super::key_source::check_url;
use super::reader::Section;
use super::{Issuer, Listen, Oauth};

const KEYS: [&str; 3] = ["oauth_port", "oauth_issuer", "oauth_scope"];

/// All three keys, or none.
pub(super) fn oauth(top: &Section<'_>, listen: &Listen, issuers: &[Issuer]) -> Option<Oauth> {
    let port: Option<u16> = top.number("oauth_port", 1..=65_535);
    let issuer = top.optional_text("oauth_issuer");
    let scope = top.optional_text("oauth_scope");
    if !KEYS.iter().any(|key| top.has(key)) {
        return None;
    }
    for key in KEYS.iter().filter(|key| !top.has(key)) {
        top.refuse(key, "required: oauth_port, oauth_issuer and oauth_scope go together");
    }
    if port == Some(listen.port) {
        top.refuse("oauth_port", "is listen_port, where passwords are asked for");
    }
    if top.has("oauth_port") && listen.addresses.is_empty() {
        top.refuse("oauth_port", "needs an address in listen_addr");
    }
    if let Some(issuer) = &issuer {
        refuse_issuer(top, issuer, issuers);
    }
    // RFC 6749, section 3.3: what is put into JSON and into a client's URL.
    let is_scope = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
    if scope.as_ref().is_some_and(|scope| !scope.chars().all(is_scope)) {
        top.refuse("oauth_scope", "expected scopes with blanks between them");
    }
    Some(Oauth { port: port?, issuer: issuer?, scope: scope? })
}

fn refuse_issuer(top: &Section<'_>, issuer: &str, issuers: &[Issuer]) {
    if let Err(problem) = check_url(issuer) {
        top.refuse("oauth_issuer", problem);
    } else if !issuers.iter().any(|rule| rule.issuer == issuer) {
        top.refuse(
            "oauth_issuer",
            "no [issuers.<name>] has this issuer: its tokens would be refused",
        );
    }
}
