//! SASL OAUTHBEARER with a real client: libpq 18.

use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::script::python_with;
use crate::stand::{A, B, Mode, stand};

/// libpq goes to https alone.
const ISSUER: &str = "https://issuer.example";

#[test]
fn libpq() {
    // Nobody else takes it in so short a time.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let issuers = json!({
        "oauth": {
            "issuer": ISSUER,
            "audience": "shop",
            "algorithms": ["ES256"],
            "jwks_file": stand().jwks_file(),
        },
    });
    let oauth = json!({
        "oauth_port": free.port(),
        "oauth_issuer": ISSUER,
        "oauth_scope": "openid sql",
    });
    let (_proxy, listen) = stand().proxy("oauth", &issuers, &oauth);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = |tenant: &str, exp: u64| {
        stand().mint(&json!({"iss": ISSUER, "aud": "shop", "exp": exp, "tenant_id": tenant}))
    };
    let environment = [
        ("OAUTH_LISTEN", free.to_string()),
        ("PASSWORD_LISTEN", listen),
        ("OAUTH_ISSUER", ISSUER.to_owned()),
        ("TENANT_A", A.to_owned()),
        ("TENANT_B", B.to_owned()),
        ("TOKEN_A", token(A, now + 600)),
        ("TOKEN_B", token(B, now + 600)),
        ("EXPIRED", token(A, now - 60)),
    ];
    python_with(Mode::Session, "python/with_oauthbearer.py", environment.into_iter());
}
