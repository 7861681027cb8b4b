//! Whose a super-admin's session is, for what the database refuses him himself.

use aws_lc_rs::digest;
use serde_json::json;

use crate::auth::VerifiedClaims;

/// Whose token a super-admin's session came with, and whether it may change rows.
#[derive(Clone, Debug)]
pub struct Actor {
    json: String,
    writes: bool,
}

impl Actor {
    /// Takes what the token can be revoked by, as hashes: of one size, and the same in every encoding.
    pub(super) fn of(claims: &VerifiedClaims) -> Self {
        Self::new(claims.token_issuer(), claims.subject(), claims.token_id())
    }

    fn new(issuer: &str, subject: Option<&str>, token: Option<&str>) -> Self {
        let json = json!({
            "issuer": hash(issuer),
            "subject": subject.map(hash),
            "token": token.map(hash),
        });
        Self { json: json.to_string(), writes: false }
    }

    pub(super) const fn permit_writes(&mut self) {
        self.writes = true;
    }

    /// Whether the session may change rows.
    pub const fn writes(&self) -> bool {
        self.writes
    }

    /// `cloison.current_actor()` in SQL.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

/// SHA-256 in hex.
fn hash(name: &str) -> String {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_told_in_hashes() {
        let json = Actor::new("i", Some("ada"), None).json;
        // python3: hashlib.sha256(b'ada').hexdigest()
        let ada = "fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029";
        assert!(json.contains(&format!(r#""subject":"{ada}""#)), "{json}");
        assert!(json.contains(r#""token":null"#) && json.is_ascii(), "{json}");
    }
}
