//! A token of each provider's shape, by a rule that says no more than which provider it is.

use serde_json::{Value, json};

use super::support::*;
use crate::auth::{Error, TenantClaim, Tenants, VerifiedClaims, Verifier};
use crate::config::{self, Algorithm, TenantLookup};
use crate::types::Access;

const DIRECTORY: &str = "aaaabbbb-0000-4000-8000-cccc11112222";
const OTHER_DIRECTORY: &str = "ddddeeee-0000-4000-8000-ffff33334444";

/// What a rule in a configuration file makes of a token that is signed with a key of the set.
struct Stand {
    keys: TempFile,
    rule: String,
    signer: &'static Signer,
}

impl Stand {
    fn new(rule: &str) -> Self {
        Self::with(rule, Algorithm::Rs256, None)
    }

    /// With another algorithm, or a key that is one issuer's alone.
    fn with(rule: &str, algorithm: Algorithm, key_issuer: Option<&str>) -> Self {
        let signer = SIGNERS.of(algorithm);
        let mut key = signer.jwk("key-1");
        if let Some(issuer) = key_issuer {
            key["issuer"] = issuer.into();
        }
        Self { keys: TempFile::new(&jwks(&[key])), rule: rule.to_owned(), signer }
    }

    fn issuer(&self) -> config::Issuer {
        let text = format!(
            "[server]\ndatabase = 'app'\n[control]\nuser = 'c'\n[pools.tenant]\nuser = 't'\n\
             [issuers.idp]\njwks_file = '{}'\n{}",
            self.keys.0.display(),
            self.rule
        );
        let config = config::parse(&text, std::iter::empty());
        config.unwrap_or_else(|errors| panic!("{errors}")).issuers.remove(0)
    }

    fn verify(&self, claims: &Value) -> Result<VerifiedClaims, Error> {
        let mut header = self.signer.header();
        header["kid"] = "key-1".into();
        let token = self.signer.raw(&header.to_string(), &claims.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verifier = Verifier::new(&[self.issuer()]).unwrap();
        runtime.block_on(verifier.verify(&token, Access::Tenant, now()))
    }

    /// The token is accepted, and for this tenant.
    #[track_caller]
    fn accepts(&self, claims: &Value, tenant: &str, lookup: TenantLookup) {
        let proven = self.verify(claims).unwrap_or_else(|error| panic!("{error}: {claims}"));
        let found = proven.tenants().and_then(Tenants::only).unwrap();
        assert_eq!((found.value(), found.lookup()), (tenant, &[lookup][..]), "{claims}");
    }

    /// The token is refused with a few claims changed, or gone where they are null.
    #[track_caller]
    fn refuses(&self, claims: &Value, changes: Value, expected: &str) {
        let claims = changed(claims, &changes);
        assert_eq!(kind(&self.verify(&claims)), expected, "{changes}");
    }
}

fn changed(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[test]
fn auth0_names_the_organization_by_its_id() {
    let stand = Stand::new(
        "provider = 'auth0'\nissuer = 'https://acme.eu.auth0.com/'\naudience = 'https://api.acme.io'",
    );
    let claims = json!({
        "iss": "https://acme.eu.auth0.com/", "sub": "auth0|602c0dcab993d10073daf680",
        "aud": ["https://api.acme.io", "https://acme.eu.auth0.com/userinfo"],
        "iat": NOW, "exp": NOW + 600, "azp": "ENDmmAJsbwI1hOG1KPJddQ8LHjV6kLkV",
        "scope": "openid profile", "org_id": "org_9ybsU1dN2dKfDkBi", "org_name": "globex",
        "permissions": [],
    });
    stand.accepts(&claims, "org_9ybsU1dN2dKfDkBi", TenantLookup::ExternalKey);
    // A user who is not in an organization has no tenant, whatever its name.
    stand.refuses(&claims, json!({"org_id": null}), "TenantClaimMissing");
    stand.refuses(&claims, json!({"aud": "https://acme.eu.auth0.com/userinfo"}), "Audience");
}

#[test]
fn clerk_has_two_versions_of_session_tokens() {
    let stand = Stand::new(
        "provider = 'clerk'\nissuer = 'https://clerk.acme.io'\naudience = 'https://app.acme.io'",
    );
    let version_2 = json!({
        "azp": "https://app.acme.io", "exp": NOW + 60, "fva": [7, -1], "iat": NOW,
        "iss": "https://clerk.acme.io", "jti": "a1b2", "nbf": NOW - 10,
        "o": {"fpm": "3", "id": "org_2xGlobex", "per": "read,manage", "rol": "admin", "slg": "globex"},
        "pla": "u:free,o:pro", "sid": "sess_123", "sts": "active", "sub": "user_123", "v": 2,
    });
    stand.accepts(&version_2, "org_2xGlobex", TenantLookup::ExternalKey);
    let version_1 = changed(
        &version_2,
        &json!({"o": null, "v": null, "org_id": "org_2xGlobex", "org_slug": "globex"}),
    );
    stand.accepts(&version_1, "org_2xGlobex", TenantLookup::ExternalKey);
    // A template may give the token an audience, which then says for whom it is.
    let template = changed(&version_2, &json!({"aud": "https://app.acme.io", "azp": "https://x"}));
    stand.accepts(&template, "org_2xGlobex", TenantLookup::ExternalKey);
    stand.refuses(&version_2, json!({"aud": "https://other.io"}), "Audience");
    stand.refuses(&version_2, json!({"azp": "https://evil.example"}), "Audience");
    stand.refuses(&version_2, json!({"azp": ["https://app.acme.io"]}), "ClaimInvalid");
    stand.refuses(&version_2, json!({"azp": null}), "ClaimMissing");
    stand.refuses(&version_2, json!({"sts": "pending"}), "RequiredClaim");
    stand.refuses(&version_2, json!({"o": null}), "TenantClaimMissing");
}

#[test]
fn workos_says_for_whom_by_its_keys() {
    let stand = Stand::new(
        "provider = 'workos'\nissuer = 'https://api.workos.com'\naudience = 'client_123'",
    );
    let claims = json!({
        "iss": "https://api.workos.com", "sub": "user_01HB", "act": {"sub": "admin@acme.io"},
        "org_id": "org_01HRDM", "role": "member", "roles": ["member"],
        "permissions": ["posts:read"], "sid": "session_01HQ", "jti": "01HQ", "exp": NOW + 300,
        "iat": NOW,
    });
    stand.accepts(&claims, "org_01HRDM", TenantLookup::ExternalKey);
    stand.accepts(
        &changed(&claims, &json!({"client_id": "client_123"})),
        "org_01HRDM",
        TenantLookup::ExternalKey,
    );
    stand.refuses(&claims, json!({"client_id": "client_456"}), "Audience");
    stand.refuses(&claims, json!({"aud": "client_456"}), "Audience");
    stand.refuses(&claims, json!({"org_id": null}), "TenantClaimMissing");
}

#[test]
fn keycloak_names_organizations_in_three_ways() {
    let stand = Stand::with(
        "provider = 'keycloak'\nissuer = 'https://id.acme.io/realms/acme'\naudience = 'shop'",
        Algorithm::Es256,
        None,
    );
    let claims = json!({
        "exp": NOW + 300, "iat": NOW, "jti": "onrtac:5e0a", "typ": "Bearer",
        "iss": "https://id.acme.io/realms/acme", "aud": ["shop", "account"],
        "sub": "f7e3a3a4-1a1b-4b6e-9d4e-1d2a0e5a7c10", "azp": "web", "sid": "e1b5",
        "realm_access": {"roles": ["offline_access"]}, "scope": "openid organization",
        "organization": ["globex"],
    });
    stand.accepts(&claims, "globex", TenantLookup::ExternalKey);
    let bare = changed(&claims, &json!({"organization": {"globex": {}}}));
    stand.accepts(&bare, "globex", TenantLookup::ExternalKey);
    let id = "42c3e46f-2477-44d7-a85b-d3b43f6b31fa";
    let with_id = json!({"globex": {"id": id, "attr1": ["value1"]}});
    let with_id = changed(&claims, &json!({ "organization": with_id }));
    stand.accepts(&with_id, id, TenantLookup::ExternalKey);
    for (several, expected) in [
        (json!(["globex", "acme"]), ["globex", "acme"]),
        (json!({"acme": {}, "globex": {}}), ["acme", "globex"]),
        (json!({"acme": {"id": id}, "globex": {"id": "8"}}), [id, "8"]),
    ] {
        // Nobody guesses: the session acts for none of them until one is chosen.
        let proven = stand.verify(&changed(&claims, &json!({ "organization": several })));
        let proven = proven.unwrap();
        let Some(Tenants::Listed(list)) = proven.tenants() else { panic!("{several}") };
        let list: Vec<_> = list.iter().map(TenantClaim::value).collect();
        assert_eq!(list, expected);
        assert!(proven.tenants().and_then(Tenants::only).is_none());
    }
    let uneven = json!({"acme": {"id": id}, "globex": {}});
    stand.refuses(&claims, json!({ "organization": uneven }), "TenantClaimInvalid");
    stand.refuses(&claims, json!({"organization": ["globex", "*"]}), "TenantClaimInvalid");
    for none in [json!([]), json!({}), Value::Null] {
        stand.refuses(&claims, json!({ "organization": none }), "TenantClaimMissing");
    }
    stand.refuses(&claims, json!({"organization": [["globex"]]}), "TenantClaimInvalid");
    for kind in [json!("ID"), json!("Logout"), Value::Null] {
        stand.refuses(&claims, json!({ "typ": kind }), "RequiredClaim");
    }
}

#[test]
fn supabase_names_the_tenant_in_app_metadata() {
    let rule = "provider = 'supabase'\nissuer = 'https://abc.supabase.co/auth/v1'\n\
                audience = 'authenticated'";
    let stand = Stand::with(rule, Algorithm::Es256, None);
    let claims = json!({
        "aal": "aal1", "amr": [{"method": "password", "timestamp": NOW}],
        "app_metadata": {"provider": "email", "providers": ["email"], "tenant_id": TENANT},
        "aud": "authenticated", "email": "ada@acme.io", "exp": NOW + 600, "iat": NOW,
        "iss": "https://abc.supabase.co/auth/v1", "phone": "", "role": "authenticated",
        "session_id": "1b0f", "sub": "123e4567-e89b-12d3-a456-426614174000",
        "user_metadata": {"tenant_id": "0198c7a2-0000-7c11-9b0a-3f1f6a0d9e22"},
        "is_anonymous": false,
    });
    stand.accepts(&claims, TENANT, TenantLookup::Id);
    // What the user wrote itself is not looked at, even if there is nothing else.
    stand.refuses(&claims, json!({"app_metadata": {}}), "TenantClaimMissing");
    for role in ["anon", "service_role"] {
        stand.refuses(&claims, json!({ "role": role }), "RequiredClaim");
    }
}

#[test]
fn cognito_names_the_client_in_access_tokens() {
    let stand = Stand::new(
        "provider = 'cognito'\naudience = '57cbishk4j24pabc1234567890'\n\
         issuer = 'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_example'",
    );
    let access = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "device_key": "d", "version": 2,
        "cognito:groups": ["testers"], "scope": "openid",
        "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_example",
        "client_id": "57cbishk4j24pabc1234567890", "origin_jti": "o", "event_id": "e",
        "token_use": "access", "auth_time": NOW, "exp": NOW + 600, "iat": NOW, "jti": "j",
        "username": "my-test-user", "tenant_id": TENANT,
    });
    stand.accepts(&access, TENANT, TenantLookup::Id);
    stand.refuses(&access, json!({"client_id": "another"}), "Audience");
    stand.refuses(&access, json!({"client_id": null}), "ClaimMissing");
    // An audience does not make up for another client.
    let bound = json!({"client_id": "another", "aud": "57cbishk4j24pabc1234567890"});
    stand.refuses(&access, bound, "Audience");
    let id = changed(
        &access,
        &json!({
            "token_use": "id", "client_id": null, "aud": "57cbishk4j24pabc1234567890",
            "tenant_id": null, "custom:tenant_id": TENANT,
        }),
    );
    stand.accepts(&id, TENANT, TenantLookup::Id);
    stand.refuses(&id, json!({"aud": "another"}), "Audience");
    for kind in [json!("refresh"), json!(["access"]), Value::Null] {
        stand.refuses(&access, json!({ "token_use": kind }), "RequiredClaim");
    }
}

#[test]
fn okta_has_a_claim_of_the_authorization_servers_own() {
    let stand = Stand::new(
        "provider = 'okta'\nissuer = 'https://acme.okta.com/oauth2/default'\n\
         audience = 'api://default'",
    );
    let claims = json!({
        "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
        "iss": "https://acme.okta.com/oauth2/default", "aud": "api://default", "iat": NOW,
        "exp": NOW + 600, "cid": "nmdP1fcyvdVO11AL7ECm", "uid": "00ujmkLgagxeRrAg20g3",
        "scp": ["openid", "email"], "sub": "ada@acme.io", "groups": ["Everyone"],
        "tenant_id": TENANT,
    });
    stand.accepts(&claims, TENANT, TenantLookup::Id);
    stand.refuses(&claims, json!({"tenant_id": null}), "TenantClaimMissing");
    stand.refuses(&claims, json!({"tenant_id": [TENANT, TENANT]}), "TenantClaimInvalid");
}

fn entra(directory: &str) -> Value {
    json!({
        "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
        "iss": format!("https://login.microsoftonline.com/{directory}/v2.0"),
        "iat": NOW, "nbf": NOW, "exp": NOW + 600, "aio": "AXQAi/8IAAAA", "azp": "6e74172b",
        "azpacr": "0", "name": "Ada", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
        "preferred_username": "ada@acme.io", "rh": "I", "scp": "access_as_user",
        "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": directory, "uti": "f", "ver": "2.0",
    })
}

#[test]
fn entra_names_the_customers_directory() {
    let of = |issuer: &str, key_issuer: &str| {
        let rule = format!(
            "provider = 'entra'\naudience = '6e74172b-be56-4843-9ff4-e66a39bb12e3'\n\
             issuer = 'https://login.microsoftonline.com/{issuer}/v2.0'"
        );
        let key_issuer = format!("https://login.microsoftonline.com/{key_issuer}/v2.0");
        Stand::with(&rule, Algorithm::Rs256, Some(&key_issuer))
    };
    let open = of("{tenantid}", "{tenantid}");
    for directory in [DIRECTORY, OTHER_DIRECTORY] {
        open.accepts(&entra(directory), directory, TenantLookup::ExternalKey);
    }
    // A directory that speaks of another one.
    open.refuses(&entra(DIRECTORY), json!({"tid": OTHER_DIRECTORY}), "RequiredClaim");
    open.refuses(&entra(DIRECTORY), json!({"tid": null}), "RequiredClaim");
    for iss in [
        "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(),
        "https://login.microsoftonline.com/common/v2.0".to_owned(),
        format!("https://login.microsoftonline.com/{DIRECTORY}/x/v2.0"),
        format!("https://login.evil.example/{DIRECTORY}/v2.0"),
        format!("https://login.microsoftonline.com/{DIRECTORY}/v2.0/"),
    ] {
        open.refuses(&entra(DIRECTORY), json!({ "iss": iss }), "UnknownIssuer");
    }
    // One directory alone.
    let single = of(DIRECTORY, "{tenantid}");
    single.accepts(&entra(DIRECTORY), DIRECTORY, TenantLookup::ExternalKey);
    single.refuses(&entra(OTHER_DIRECTORY), json!({}), "UnknownIssuer");
    // A key of one directory does not sign for another, wherever it was published.
    let narrow = of("{tenantid}", OTHER_DIRECTORY);
    narrow.accepts(&entra(OTHER_DIRECTORY), OTHER_DIRECTORY, TenantLookup::ExternalKey);
    narrow.refuses(&entra(DIRECTORY), json!({}), "UnknownKey");
}

#[test]
fn firebase_names_the_tenant_of_the_identity_platform() {
    let stand = Stand::new(
        "provider = 'firebase'\nissuer = 'https://securetoken.google.com/acme-prod'\n\
         audience = 'acme-prod'",
    );
    let claims = json!({
        "iss": "https://securetoken.google.com/acme-prod", "aud": "acme-prod", "auth_time": NOW - 5,
        "user_id": "kZ2", "sub": "kZ2", "iat": NOW, "exp": NOW + 600, "email": "ada@acme.io",
        "email_verified": true,
        "firebase": {
            "identities": {"email": ["ada@acme.io"]}, "sign_in_provider": "password",
            "tenant": "globex-k3x2a",
        },
    });
    stand.accepts(&claims, "globex-k3x2a", TenantLookup::ExternalKey);
    stand.refuses(&claims, json!({"sub": ""}), "RequiredClaim");
    stand.refuses(&claims, json!({"auth_time": NOW + 60}), "RequiredClaim");
    stand.refuses(&claims, json!({"auth_time": null}), "RequiredClaim");
    stand.refuses(&claims, json!({"firebase": {"identities": {}}}), "TenantClaimMissing");
    // Session cookies are signed for the same project, by another issuer.
    let cookie = json!({"iss": "https://session.firebase.google.com/acme-prod"});
    stand.refuses(&claims, cookie, "UnknownIssuer");
}

#[test]
fn zitadel_names_the_organization_that_owns_the_user() {
    let stand = Stand::new(
        "provider = 'zitadel'\nissuer = 'https://acme.zitadel.cloud'\naudience = '69234237810729019'",
    );
    let claims = json!({
        "iss": "https://acme.zitadel.cloud", "sub": "77776025198584418",
        "aud": ["69234237810729019@acme", "69234237810729019"], "azp": "69234237810729019@acme",
        "exp": NOW + 600, "iat": NOW, "nbf": NOW, "jti": "69234237813329048",
        "urn:zitadel:iam:user:resourceowner:id": "69234237810729234",
        "urn:zitadel:iam:user:resourceowner:name": "Globex",
        "urn:zitadel:iam:user:resourceowner:primary_domain": "globex.zitadel.cloud",
    });
    stand.accepts(&claims, "69234237810729234", TenantLookup::ExternalKey);
    stand.refuses(
        &claims,
        json!({"urn:zitadel:iam:user:resourceowner:id": null}),
        "TenantClaimMissing",
    );
}

#[test]
fn what_is_written_wins_over_the_preset() {
    let stand = Stand::new(
        "provider = 'clerk'\nissuer = 'https://clerk.acme.io'\naudience = 'https://app.acme.io'\n\
         tenant_claims = ['https://acme.io/tenant', ['https://acme.io/org', 'id'], 'o.slg']\n\
         tenant_lookup = ['slug']",
    );
    let claims = |changes: Value| {
        let claims = json!({
            "azp": "https://app.acme.io", "exp": NOW + 60, "iss": "https://clerk.acme.io",
            "o": {"id": "org_2xGlobex", "slg": "third"}, "sub": "user_123", "v": 2,
        });
        changed(&claims, &changes)
    };
    stand.accepts(&claims(json!({})), "third", TenantLookup::Slug);
    let second = json!({"https://acme.io/org": {"id": "second"}});
    stand.accepts(&claims(second), "second", TenantLookup::Slug);
    let first = json!({"https://acme.io/tenant": "first", "https://acme.io/org": {"id": "second"}});
    stand.accepts(&claims(first), "first", TenantLookup::Slug);
    // The first path that leads anywhere counts, even to something that is no tenant.
    stand.refuses(&claims(json!({})), json!({"https://acme.io/tenant": 7}), "TenantClaimInvalid");
}
