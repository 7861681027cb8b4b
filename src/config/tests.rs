//! Tables of good and bad configurations, and the files in `config/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, KEYS, Key};
use super::*;

const MINIMAL: &str = include_str!("../../config/minimal.toml");
const EXAMPLE: &str = include_str!("../../config/example.toml");

fn no_env() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (String, String)> + 'a {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// The least that works, with keys above and sections below.
fn minimal_with(top: &str, below: &str) -> String {
    format!("{top}\n{MINIMAL}\n{below}")
}

/// Files of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("cloison-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, mode: u32, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[track_caller]
fn good(text: &str) -> Config {
    parse(text, no_env()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn bad(text: &str, expected: &str) {
    bad_with_env(text, &[], expected);
}

#[track_caller]
fn bad_with_env(text: &str, variables: &[(&str, &str)], expected: &str) {
    match parse(text, env(variables)) {
        Ok(_) => panic!("accepted, but expected: {expected}"),
        Err(errors) => assert_eq!(errors.to_string(), expected),
    }
}

#[test]
fn minimal_file_has_the_defaults() {
    let config = good(MINIMAL);
    assert_eq!(config.listen.addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.listen.port, 6432);
    assert_eq!(config.client_tls.mode, ClientTlsMode::Disable);
    assert!(!config.client_tls.allow_cleartext_token);
    assert_eq!(config.server.address, ServerAddress::Tcp("localhost".into(), 5432));
    assert_eq!(config.server.tls_mode, ServerTlsMode::Prefer);
    assert_eq!(config.limits.max_client_conn, 1000);
    assert_eq!(config.limits.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.limits.query_wait_timeout, Duration::from_secs(120));
    assert_eq!(config.pools.len(), 1);
    assert_eq!(config.pools[&Access::Tenant].size, 20);
    let issuer = &config.issuers[0];
    assert_eq!((issuer.name.as_str(), issuer.access), ("app", Access::Tenant));
    assert_eq!(issuer.tenant_claims, [["tenant_id"]]);
    assert_eq!(issuer.tenant_lookup, [TenantLookup::Id]);
    assert_eq!(issuer.leeway, Duration::from_secs(10));
}

#[test]
fn nothing_at_all_says_what_is_required() {
    bad(
        "",
        "server.database: required: the database that every session uses\n\
         control.user: required: the proxy's own role, a member of cloison_control\n\
         pools.tenant.user: required: the role that sessions of this pool run as\n\
         issuers: required: at least one [issuers.<name>] with access = \"tenant\"",
    );
}

#[test]
fn all_errors_come_at_once() {
    bad(
        &minimal_with("listen_prot = 1\nlisten_port = 70000\nlog_format = 'xml'", ""),
        "listen_prot: unknown key; did you mean listen_port?\n\
         listen_port = 70000: expected a whole number from 0 to 65535\n\
         log_format = \"xml\": expected text or json",
    );
}

#[test]
fn wrong_keys_outside_sections_are_refused() {
    for (line, expected) in [
        (
            r#"listen_port = "6432""#,
            r#"listen_port = "6432": expected a whole number from 0 to 65535"#,
        ),
        (
            r#"listen_addr = "localhost""#,
            r#"listen_addr = "localhost": "localhost" is not an IP address or "*""#,
        ),
        (
            r#"listen_addr = """#,
            r#"listen_addr = "": nothing to listen on: give an address, or unix_socket_dir"#,
        ),
        (
            r#"listen_addr = "::1,,""#,
            r#"listen_addr = "::1,,": expected a list with commas or an array of texts"#,
        ),
        (r#"lint = "x""#, r#"lint = "x": expected refuse, unready or warn"#),
        (r#"session_statements = "x""#, r#"session_statements = "x": expected refuse or pin"#),
        (
            "max_prepared_statements = 0",
            "max_prepared_statements = 0: expected a whole number from 1 to 10000",
        ),
        (
            r#"pool_mode = "statement""#,
            r#"pool_mode = "statement": there will be no statement pooling, because it breaks transactions: expected session or transaction"#,
        ),
        (r#"pool_mode = "x""#, r#"pool_mode = "x": expected session or transaction"#),
        ("max_client_conn = 0", "max_client_conn = 0: expected a whole number from 1 to 1000000"),
        (
            "default_pool_size = 0",
            "default_pool_size = 0: expected a whole number from 1 to 100000",
        ),
        (
            r#"query_wait_timeout = "soon""#,
            r#"query_wait_timeout = "soon": expected a duration: seconds as a number, or text such as "500ms", "30s", "5m" or "2h""#,
        ),
        (
            r#"allow_cleartext_token = "yes""#,
            r#"allow_cleartext_token = "yes": expected true or false"#,
        ),
        (
            r#"client_tls_sslmode = "require""#,
            r#"client_tls_sslmode = "require": needs client_tls_cert_file and client_tls_key_file"#,
        ),
        (
            r#"server_tls_sslmode = "verify""#,
            r#"server_tls_sslmode = "verify": expected disable, prefer, require, verify-ca or verify-full"#,
        ),
        (
            r#"server_tls_ca_file = "Cargo.toml""#,
            r#"server_tls_ca_file = "Cargo.toml": is only used if server_tls_sslmode is verify-ca or verify-full"#,
        ),
        (
            "server_tls_sslmode = 'verify-ca'\nserver_tls_ca_file = '/none'",
            r#"server_tls_ca_file = "/none": cannot be read: No such file or directory (os error 2)"#,
        ),
        (
            r#"server_tls_cert_file = "Cargo.toml""#,
            r#"server_tls_cert_file = "Cargo.toml": needs server_tls_key_file beside it"#,
        ),
        (
            r#"allow_startup_parameters = ["Role"]"#,
            r#"allow_startup_parameters = ["Role"]: Role would change who a session acts for"#,
        ),
        (
            r#"harmless_functions = ["public.f", "touch"]"#,
            r#"harmless_functions = ["public.f", "touch"]: "touch" is not schema.name, such as public.touch_updated_at"#,
        ),
        (
            r#"role_settings = ["lock_timeout"]"#,
            r#"role_settings = ["lock_timeout"]: "lock_timeout" is not name=value, such as statement_timeout=30s"#,
        ),
        (
            r#"allowed_statements = "lock, truncate""#,
            r#"allowed_statements = "lock, truncate": expected a list of ddl, do, explain, listen, lock, maintenance, prepare transaction or temporary tables"#,
        ),
        (
            r#"allowed_settings = ["role"]"#,
            r#"allowed_settings = ["role"]: "role" is no setting that tenants can have: expected a name such as work_mem, app.user or app.*; not role, session_authorization or cloison's own"#,
        ),
        (
            r#"harmless_functions = "a.b.c""#,
            r#"harmless_functions = "a.b.c": "a.b.c" is not schema.name, such as public.touch_updated_at"#,
        ),
        (
            r#"harmless_functions = [".f"]"#,
            r#"harmless_functions = [".f"]: ".f" is not schema.name, such as public.touch_updated_at"#,
        ),
        (
            r#"pgbouncer = { x = 1 }"#,
            "pgbouncer: unknown key (pgbouncer's): its keys stand above the first [section], without a heading",
        ),
        (r#""server.host" = "x""#, "server.host: unknown key: names in quotes may hold no dots"),
        (r#"host = "x""#, "host: unknown key; did you mean server.host?"),
    ] {
        bad(&minimal_with(line, ""), expected);
    }
}

#[test]
fn wrong_sections_are_refused() {
    let issuer =
        "issuer = 'https://x/'\naudience = 'x'\nalgorithms = ['ES256']\njwks_url = 'https://x/'";
    for (below, expected) in [
        ("[servers]\nhost = 'x'".to_owned(), "servers: unknown key; did you mean server?"),
        (
            "[pools.other]\nuser = 'x'".to_owned(),
            "pools.other: unknown pool: expected tenant, superadmin or owner",
        ),
        (
            "[pools.superadmin]\nuser = 'app_superadmin'".to_owned(),
            "pools.superadmin: no [issuers.<name>] has access = \"superadmin\"",
        ),
        (
            format!("[issuers.ops]\naccess = 'owner'\n{issuer}"),
            "issuers.ops.access = \"owner\": there is no [pools.owner]",
        ),
        (
            format!(
                "[pools.owner]\nuser = 'app_tenant'\n[issuers.ops]\naccess = 'owner'\n{issuer}"
            ),
            "pools.owner.user = \"app_tenant\": this is the role of [pools.tenant]: every pool and [control] need one each",
        ),
        (
            format!(
                "[pools.owner]\nuser = 'cloison_proxy'\npassword = ''\n[issuers.ops]\naccess = 'owner'\n{issuer}"
            ),
            "pools.owner.user = \"cloison_proxy\": this is the role of [control]: every pool and [control] need one each",
        ),
        (
            format!(
                "claims_in_sql = ['sub', 'a.b']\n[pools.owner]\nuser = 'o'\nclient_user = 'x'\n[pools.superadmin]\nuser = 's'\nclient_user = 'x'\n\
                 [issuers.a]\naccess = 'owner'\n{issuer}\n[issuers.b]\naccess = 'superadmin'\n{}",
                issuer.replace("'x'", "'y'")
            ),
            "pools.owner.client_user = \"x\": this is the client_user of [pools.superadmin] too: clients could not choose",
        ),
        (
            format!("[issuers.my-app]\n{issuer}\n[issuers.my_app]\n{issuer}"),
            "issuers.my_app: differs from issuers.my-app only in case, - and _",
        ),
        (
            format!("[issuers.'a b']\n{issuer}"),
            "issuers.a b: expected a name of letters, digits, - and _",
        ),
    ] {
        bad(&minimal_with("", &below), expected);
    }
    bad(
        &MINIMAL.replace("user = \"app_tenant\"", "user = 'app_tenant'\nclient_user = 'x'"),
        "pools.tenant.client_user: unknown key; did you mean pools.superadmin.client_user?",
    );
}

#[test]
fn wrong_issuers_are_refused() {
    let secret = "x".repeat(32);
    let jwks = r#"jwks_url   = "https://auth.example.com/.well-known/jwks.json""#;
    for (line, expected) in [
        (
            String::new(),
            "issuers.app.secret: required: this, or one of secret_file, public_key_file, jwks_file, jwks_url, discovery, discovery_url",
        ),
        (
            "jwks_url = 'http://x/'".into(),
            r#"issuers.app.jwks_url = "http://x/": expected https://…, or http://… on loopback"#,
        ),
        (
            "jwks_url = 'http://127.0.0.1.evil.com/'".into(),
            r#"issuers.app.jwks_url = "http://127.0.0.1.evil.com/": expected https://…, or http://… on loopback"#,
        ),
        (
            "jwks_url = 'https://me:hunter2@x/'".into(),
            "issuers.app.jwks_url: must not hold a user name or a password",
        ),
        (
            "jwks_url = 'x'".into(),
            r#"issuers.app.jwks_url = "x": expected a URL: relative URL without a base"#,
        ),
        (
            format!("{jwks}\npublic_key_file = 'Cargo.toml'"),
            "issuers.app.jwks_url = \"https://auth.example.com/.well-known/jwks.json\": give only one of public_key_file, jwks_url",
        ),
        (
            format!("secret = '{secret}'"),
            r#"issuers.app.algorithms = ["ES256"]: a secret goes with HS256 alone"#,
        ),
        (
            "secret = '[redacted]'".into(),
            "issuers.app.secret: this is what `cloison check` prints for a secret; write the secret\n\
             issuers.app.secret: 10 bytes are too few: expected at least 32\n\
             issuers.app.algorithms = [\"ES256\"]: a secret goes with HS256 alone",
        ),
        (
            format!("{jwks}\ndiscovery = true"),
            "issuers.app.discovery = true: give only one of jwks_url, discovery",
        ),
        (
            "discovery_url = 'http://auth.example.com/x'".into(),
            r#"issuers.app.discovery_url = "http://auth.example.com/x": expected https://…, or http://… on loopback"#,
        ),
        (
            format!("{jwks}\njwks_max_stale = 0"),
            "issuers.app.jwks_max_stale = 0: expected one second to 30 days",
        ),
        (format!("{jwks}\nleeway = 301"), "issuers.app.leeway = 301: expected at most 300 seconds"),
        (
            format!("{jwks}\ntenant_claim = ''"),
            r#"issuers.app.tenant_claim = "": expected at least one item"#,
        ),
        (
            format!("{jwks}\ntenant_claim = 'a..b'"),
            "issuers.app.tenant_claim = \"a..b\": expected a path with dots, or a list of names such as [\"https://acme.io/tenant\", \"id\"]",
        ),
        (
            format!("{jwks}\ntenant_lookup = ['name']"),
            r#"issuers.app.tenant_lookup = ["name"]: expected a list of id, slug or external_key"#,
        ),
        (
            format!("{jwks}\nrequired_claims = {{ admin = true }}"),
            r#"issuers.app.required_claims = { admin = true }: expected a table of texts such as { role = "admin" }"#,
        ),
        (
            format!("{jwks}\nclaims_in_sql = ['']"),
            r#"issuers.app.claims_in_sql = [""]: expected a list with commas or an array of texts"#,
        ),
        (
            format!("{jwks}\naccess = 'root'"),
            r#"issuers.app.access = "root": expected tenant, superadmin or owner"#,
        ),
    ] {
        bad(&MINIMAL.replace(jwks, &line), expected);
    }
    for (from, to, expected) in [
        (
            "[\"ES256\"]",
            "[\"HS256\"]",
            "issuers.app.algorithms = [\"HS256\"]: HS256 needs secret or secret_file",
        ),
        (
            "[\"ES256\"]",
            "[\"none\"]",
            "issuers.app.algorithms = [\"none\"]: expected a list of HS256, RS256, PS256, ES256 or EdDSA",
        ),
        ("[\"ES256\"]", "[]", "issuers.app.algorithms = []: expected at least one item"),
        (
            "audience   = \"app\"",
            "audience = []",
            "issuers.app.audience = []: expected at least one item",
        ),
        (
            "audience   = \"app\"",
            "",
            "issuers.app.audience: required: what the `aud` claim must contain",
        ),
    ] {
        bad(&MINIMAL.replace(from, to), expected);
    }
}

#[test]
fn only_tenants_have_claims_in_sql() {
    let text = "[pools.superadmin]\nuser = 's'\n[issuers.ops]\naccess = 'superadmin'\n\
        claims_in_sql = '*'\nissuer = 'x'\naudience = 'y'\nalgorithms = 'HS256'\nsecret = ";
    bad(
        &minimal_with("", &format!("{text}'{}'", "s".repeat(40))),
        r#"issuers.ops.claims_in_sql = "*": only rules with access = "tenant" have any"#,
    );
}

#[test]
fn what_users_write_themselves_is_no_claim() {
    let refused = |key: &str, value: &str, name: &str| {
        format!(
            "issuers.app.{key} = {value}: users write {name} themselves, and could name any tenant \
             or role there: use a claim that only your servers write, such as app_metadata or \
             public_metadata"
        )
    };
    for (key, value, name) in [
        ("tenant_claim", r#""user_metadata.tenant_id""#, "user_metadata"),
        ("tenant_claim", r#""raw_user_meta_data.tenant_id""#, "raw_user_meta_data"),
        ("tenant_claim", r#"["unsafe_metadata", "tenant"]"#, "unsafe_metadata"),
        ("tenant_claim", r#""unsafeMetadata.tenant""#, "unsafeMetadata"),
        (
            "tenant_claim",
            r#"["https://acme.io/user_metadata", "id"]"#,
            "https://acme.io/user_metadata",
        ),
        ("tenant_claims", r#"["org_id", "user_metadata.org_id"]"#, "user_metadata"),
        ("tenants_claim", r#""user_metadata.orgs""#, "user_metadata"),
        ("required_claims", r#"{ user_metadata = { role = "admin" } }"#, "user_metadata"),
        ("required_claims", r#"{ "user_metadata.role" = "admin" }"#, "user_metadata"),
    ] {
        for provider in ["", "provider = 'clerk'\n", "provider = 'supabase'\n"] {
            let text = MINIMAL.replace("[issuers.app]", &format!("[issuers.app]\n{provider}"));
            bad(&format!("{text}\n{key} = {value}"), &refused(key, value, name));
        }
    }
    for fine in ["app_metadata.tenant_id", "public_metadata.org", "metadata.user", "user.metadata"]
    {
        good(&minimal_with("", &format!("tenant_claim = '{fine}'")));
    }
}

#[test]
fn the_discovery_document_is_where_the_issuer_is() {
    let jwks = r#"jwks_url   = "https://auth.example.com/.well-known/jwks.json""#;
    let found = |issuer: &str, line: &str| {
        let text = MINIMAL.replace(jwks, line).replace("https://auth.example.com/", issuer);
        format!("{:?}", good(&text).issuers[0].keys)
    };
    for (issuer, url) in [
        ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
        ("https://a.example", "https://a.example/.well-known/openid-configuration"),
        (
            "https://a.example/realms/x",
            "https://a.example/realms/x/.well-known/openid-configuration",
        ),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/.well-known/openid-configuration"),
    ] {
        assert_eq!(found(issuer, "discovery = true"), format!("Discovery({url:?})"));
    }
    assert_eq!(found("any", "discovery_url = 'https://b/doc'"), r#"Discovery("https://b/doc")"#);
    bad(
        &MINIMAL.replace(jwks, "discovery = true").replace("https://auth.example.com/", "my-app"),
        "issuers.app.discovery = true: needs an issuer that can be asked: expected a URL: \
         relative URL without a base",
    );
}

#[test]
fn oauth_is_three_keys_or_none() {
    let (port, issuer, scope) = (
        "oauth_port = 6433",
        "oauth_issuer = 'https://auth.example.com/'",
        "oauth_scope = 'openid sql'",
    );
    let together = "required: oauth_port, oauth_issuer and oauth_scope go together";
    let config = good(&minimal_with(&[port, issuer, scope].join("\n"), ""));
    let oauth = config.oauth.as_ref().unwrap();
    assert_eq!((oauth.port, oauth.scope.as_str()), (6433, "openid sql"));
    assert_eq!(format!("{:?}", good(&effective(&config))), format!("{config:?}"));
    for (lines, expected) in [
        (vec![port, issuer], format!("oauth_scope: {together}")),
        (vec![scope], format!("oauth_port: {together}\noauth_issuer: {together}")),
        (
            vec!["oauth_port = 6432", issuer, scope],
            "oauth_port = 6432: is listen_port, where passwords are asked for".to_owned(),
        ),
        (
            vec![port, issuer, scope, "listen_addr = ''\nunix_socket_dir = '/run'"],
            "oauth_port = 6433: needs an address in listen_addr".to_owned(),
        ),
        (
            vec![port, "oauth_issuer = 'https://other.example/'", scope],
            "oauth_issuer = \"https://other.example/\": no [issuers.<name>] has this issuer: its tokens would be refused".to_owned(),
        ),
        (
            vec![port, "oauth_issuer = 'app'", scope],
            "oauth_issuer = \"app\": expected a URL: relative URL without a base".to_owned(),
        ),
        (
            vec![port, issuer, "oauth_scope = 'a\"b'"],
            "oauth_scope = 'a\"b': expected scopes with blanks between them".to_owned(),
        ),
    ] {
        bad(&minimal_with(&lines.join("\n"), ""), &expected);
    }
}

#[test]
fn a_provider_is_held_to_what_it_can_be() {
    let rule = |lines: &str| {
        let (head, _) = MINIMAL.split_once("[issuers.app]").unwrap();
        format!("{head}[issuers.app]\n{lines}")
    };
    let keys = "jwks_url = 'https://x/'";
    for (lines, expected) in [
        (
            format!(
                "provider = 'auth-0'\nissuer = 'x'\naudience = 'a'\nalgorithms = 'ES256'\n{keys}"
            ),
            "issuers.app.provider = \"auth-0\": expected auth0, clerk, workos, keycloak, supabase, cognito, okta, entra, firebase or zitadel",
        ),
        (
            format!("provider = 'auth0'\nissuer = 'https://a.auth0.com'\naudience = 'a'\n{keys}"),
            "issuers.app.issuer = \"https://a.auth0.com\": Auth0's issuer ends in a slash, such as https://acme.eu.auth0.com/",
        ),
        (
            format!("provider = 'okta'\nissuer = 'https://a.okta.com'\naudience = 'a'\n{keys}"),
            "issuers.app.issuer = \"https://a.okta.com\": expected the issuer of a custom authorization server, such as https://acme.okta.com/oauth2/default",
        ),
        (
            format!(
                "provider = 'firebase'\nissuer = 'https://securetoken.google.com/b'\naudience = 'a'\n{keys}"
            ),
            "issuers.app.issuer = \"https://securetoken.google.com/b\": expected https://securetoken.google.com/ and the project, which is the audience",
        ),
        (
            format!(
                "provider = 'workos'\nissuer = 'https://api.workos.com'\naudience = 'client_1'\n{keys}"
            ),
            "issuers.app.audience = \"client_1\": expected the client id that the URL of the keys holds",
        ),
        (
            format!(
                "provider = 'okta'\nissuer = 'https://a/oauth2/b'\naudience = 'a'\nsecret = '{}'",
                "x".repeat(32)
            ),
            "issuers.app.secret: this provider does not sign with a secret: use jwks_url",
        ),
        (
            format!(
                "issuer = 'https://a/{{tenantid}}/'\naudience = 'a'\nalgorithms = 'ES256'\n{keys}"
            ),
            "issuers.app.issuer = \"https://a/{tenantid}/\": {tenantid} is for provider = \"entra\" alone",
        ),
        (
            format!(
                "provider = 'entra'\nissuer = 'x'\naudience = 'a'\n{keys}\ntenant_claim = 'a'\ntenant_claims = ['b']"
            ),
            "issuers.app.tenant_claims = [\"b\"]: give tenant_claim or tenant_claims, not both",
        ),
        (
            format!("provider = 'entra'\nissuer = 'x'\naudience = 'a'\n{keys}\ntenant_claims = []"),
            "issuers.app.tenant_claims = []: expected at least one path, and no empty one",
        ),
    ] {
        bad(&rule(&lines), expected);
    }
    // With a shared secret Supabase signs with nothing else, and without one never.
    let supabase =
        "provider = 'supabase'\nissuer = 'https://a/auth/v1'\naudience = 'authenticated'";
    let config = good(&rule(&format!("{supabase}\nsecret = '{}'", "x".repeat(32))));
    assert_eq!(config.issuers[0].algorithms, [Algorithm::Hs256]);
    let config = good(&rule(&format!("{supabase}\n{keys}")));
    assert_eq!(config.issuers[0].algorithms, [Algorithm::Es256, Algorithm::Rs256]);
    // A claim that the provider requires stays, beside those that are written.
    let config = good(&rule(&format!("{supabase}\n{keys}\nrequired_claims = {{ aal = 'aal2' }}")));
    let required = &config.issuers[0].required_claims;
    assert_eq!((required["aal"].as_str(), required["role"].as_str()), ("aal2", "authenticated"));
    let printed = effective(&config);
    assert_eq!(format!("{:?}", good(&printed)), format!("{config:?}"));
}

#[test]
fn a_tenants_token_never_opens_another_road() {
    const REFUSED: &str = "issuers.ops.access = \"superadmin\": a token for issuers.app would be \
        accepted here too: give this rule an audience of its own, or required_claims";
    // Each case: what the tenant's rule adds, what the super-admin's rule has, whether it is good.
    for (app, ops, is_good) in [
        ("", "audience = 'app'", false),
        ("", "audience = 'ops'", true),
        ("", "audience = ['ops', 'app']", false),
        ("", "audience = 'app'\nrequired_claims = { role = 'superadmin' }", true),
        ("required_claims = { role = 'x' }", "audience = 'app'", false),
        (
            "required_claims = { role = 'x' }",
            "audience = 'app'\nrequired_claims = { role = 'x' }",
            false,
        ),
        (
            "required_claims = { role = 'x' }",
            "audience = 'app'\nrequired_claims = { role = 'y' }",
            true,
        ),
    ] {
        let text = minimal_with(
            "",
            &format!(
                "{app}\n[pools.superadmin]\nuser = 's'\n[issuers.ops]\naccess = 'superadmin'\n{ops}\n\
                 issuer = 'https://auth.example.com/'\nalgorithms = ['ES256']\njwks_url = 'https://x/'"
            ),
        );
        if is_good {
            good(&text);
        } else {
            bad(&text, REFUSED);
        }
    }
    // Who reads the audience elsewhere, or from nowhere, is not told apart by it; an open issuer
    // is every directory's.
    for (app, ops) in [
        ("provider = 'clerk'\n", "audience = 'ops'"),
        (
            "provider = 'workos'\njwks_url = 'https://x/app'\n",
            "audience = 'ops'\nprovider = 'workos'\njwks_url = 'https://x/ops'",
        ),
    ] {
        let (head, tail) = MINIMAL.split_once("jwks_url ").unwrap();
        let (_, tail) = tail.split_once('\n').unwrap_or(("", ""));
        let key = if app.contains("jwks_url") { "" } else { "jwks_url = 'https://x/'\n" };
        let ops_key = if ops.contains("jwks_url") { "" } else { "jwks_url = 'https://x/'\n" };
        let text = format!(
            "{head}{key}{app}{tail}[pools.superadmin]\nuser = 's'\n[issuers.ops]\n\
             access = 'superadmin'\nissuer = 'https://auth.example.com/'\nalgorithms = ['ES256']\n{ops}\n{ops_key}"
        );
        bad(&text, REFUSED);
    }
    let entra = |directory: &str| {
        format!(
            "provider = 'entra'\nissuer = 'https://login/{directory}/v2.0'\naudience = 'a'\n\
             jwks_url = 'https://x/'\n"
        )
    };
    let (head, _) = MINIMAL.split_once("[issuers.app]").unwrap();
    let text = |app: &str, ops: &str| {
        format!(
            "{head}[issuers.app]\n{}[pools.superadmin]\nuser = 's'\n[issuers.ops]\n\
             access = 'superadmin'\n{}",
            entra(app),
            entra(ops)
        )
    };
    let (one, other) =
        ("aaaabbbb-0000-4000-8000-cccc11112222", "ddddeeee-0000-4000-8000-ffff33334444");
    for (app, ops) in [("{tenantid}", one), (one, "{tenantid}"), ("{tenantid}", "{tenantid}")] {
        bad(&text(app, ops), REFUSED);
    }
    good(&text(one, other));
}

#[test]
fn secrets_are_read_from_files_and_never_shown() {
    let folder = Folder::new("secrets");
    let at = |file: &str| {
        MINIMAL.replace("user = \"app_tenant\"", &format!("user = 't'\npassword_file = '{file}'"))
    };
    let private = folder.file("private", 0o600, "hunter2\n");
    let config = good(&at(&private));
    let password = config.pools[&Access::Tenant].login.password.as_ref().unwrap();
    assert_eq!(password.expose(), "hunter2");
    assert!(!format!("{config:?} {}", effective(&config)).contains("hunter2"));

    let open = folder.file("open", 0o644, "hunter2");
    bad(
        &at(&open),
        &format!(
            "pools.tenant.password_file = \"{open}\": every user of this machine may open it: chmod 600 {open}"
        ),
    );
    let empty = folder.file("empty", 0o600, "\n");
    bad(&at(&empty), &format!("pools.tenant.password_file = \"{empty}\": the file is empty"));
    bad(&at("/"), "pools.tenant.password_file = \"/\": expected a file");

    let control =
        |line: &str| MINIMAL.replace("user = \"cloison_proxy\"", &format!("user = 'c'\n{line}"));
    bad(&control("password = 42"), "control.password: expected text");
    bad(
        &control("pasword = 'hunter2'"),
        "control.pasword: unknown key; did you mean control.password?",
    );
    bad(
        &control("password = 'hunter2"),
        "configuration:13:20: invalid literal string, expected `'`",
    );
    bad(
        &control(&format!("password = 'hunter2'\npassword_file = '{private}'")),
        "control.password: give password or password_file, not both",
    );
    bad(
        &MINIMAL.replace("\"localhost\"", "'postgres://me:hunter2@db'"),
        "server.host: expected one host name or address, or the absolute folder of a Unix socket",
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let folder = Folder::new("environment");
    let file = folder.file("password", 0o600, "from the file");
    let text = minimal_with("listen_port = 1", "[issuers.my-app]\n")
        .replace("user = \"cloison_proxy\"", &format!("user = 'c'\npassword_file = '{file}'"));
    let variables = [
        ("CLOISON_LISTEN_PORT", "7000"),
        ("CLOISON_LISTEN_ADDR", "10.0.0.1, ::1"),
        ("CLOISON_SERVER_HOST", "/run/postgresql"),
        ("CLOISON_QUERY_WAIT_TIMEOUT", "500ms"),
        ("CLOISON_ALLOW_CLEARTEXT_TOKEN", "true"),
        ("CLOISON_CONTROL_PASSWORD", "from the environment"),
        ("CLOISON_POOLS_TENANT_POOL_SIZE", "7"),
        ("CLOISON_ISSUERS_MY_APP_ISSUER", "https://my/"),
        ("CLOISON_ISSUERS_MY_APP_AUDIENCE", "a,b"),
        ("CLOISON_ISSUERS_MY_APP_ALGORITHMS", "[\"RS256\"]"),
        ("CLOISON_ISSUERS_MY_APP_TENANT_CLAIM", "app.tenant"),
        ("CLOISON_ISSUERS_MY_APP_REQUIRED_CLAIMS", "{ app.role = \"x\" }"),
        ("CLOISON_ISSUERS_MY_APP_JWKS_URL", "http://[::1]:9/"),
        ("CLOISON_CONFIG", "x"),
        ("CLOISON_DATA_DIR", "x"),
        ("CLOISON_PG_BINDIR", "x"),
        ("PATH", "x"),
    ];
    let config = parse(&text, env(&variables)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.listen.port, 7000);
    assert_eq!(config.listen.addresses.len(), 2);
    assert_eq!(config.server.address, ServerAddress::Unix("/run/postgresql".into(), 5432));
    assert_eq!(config.limits.query_wait_timeout, Duration::from_millis(500));
    assert!(config.client_tls.allow_cleartext_token);
    assert_eq!(config.control.password.as_ref().unwrap().expose(), "from the environment");
    assert_eq!(config.pools[&Access::Tenant].size, 7);
    let issuer = config.issuers.iter().find(|issuer| issuer.name == "my-app").unwrap();
    assert_eq!(issuer.audiences, ["a", "b"]);
    assert_eq!(issuer.algorithms, [Algorithm::Rs256]);
    assert_eq!(issuer.tenant_claims, [["app", "tenant"]]);
    assert_eq!(issuer.required_claims["app.role"], "x");
}

#[test]
fn wrong_variables_are_refused() {
    for (variable, value, expected) in [
        (
            "CLOISON_LISTEN_PORT",
            "many",
            "listen_port = \"many\" (from CLOISON_LISTEN_PORT): expected a whole number from 0 to 65535",
        ),
        (
            "CLOISON_LISTEN_PROT",
            "1",
            "CLOISON_LISTEN_PROT: unknown variable; did you mean CLOISON_LISTEN_PORT?",
        ),
        (
            "CLOISON_ISSUERS_APP_AUDIENC",
            "x",
            "CLOISON_ISSUERS_APP_AUDIENC: unknown variable; did you mean CLOISON_ISSUERS_APP_AUDIENCE?",
        ),
        (
            "CLOISON_POOLS_TENANT_CLIENT_USER",
            "x",
            "CLOISON_POOLS_TENANT_CLIENT_USER: unknown variable",
        ),
        (
            "CLOISON_ISSUERS_APP_ALGORITHMS",
            "[\"ES256\"",
            "issuers.app.algorithms (from CLOISON_ISSUERS_APP_ALGORITHMS): expected a list with commas or a TOML array",
        ),
        (
            "CLOISON_ISSUERS_APP_REQUIRED_CLAIMS",
            "{}\nx = 1",
            "issuers.app.required_claims (from CLOISON_ISSUERS_APP_REQUIRED_CLAIMS): expected a TOML table such as { role = \"admin\" }",
        ),
        (
            "CLOISON_ISSUERS_APP_SECRET",
            "hunter2",
            "issuers.app.secret (from CLOISON_ISSUERS_APP_SECRET): 7 bytes are too few: expected at least 32\n\
             issuers.app.algorithms = [\"ES256\"]: a secret goes with HS256 alone",
        ),
    ] {
        bad_with_env(MINIMAL, &[(variable, value)], expected);
    }
}

#[test]
fn effective_configuration_reads_back_as_the_same() {
    let folder = Folder::new("effective");
    let (cert, key) = (folder.file("crt", 0o644, "x"), folder.file("key", 0o640, "x"));
    let top = format!(
        "listen_addr = '*'\nunix_socket_dir = '/run'\nclient_tls_sslmode = 'prefer'\nlog_filter = 'debug'\n\
         client_tls_cert_file = '{cert}'\nclient_tls_key_file = '{key}'\nserver_idle_timeout = '1.5'\n\
         server_tls_cert_file = '{cert}'\nserver_tls_key_file = '{key}'\nlog_format = 'json'\napi_keys = true\n\
         server_tls_sslmode = 'verify-full'\nserver_tls_ca_file = '{cert}'\nignore_startup_parameters = 'a, b'\n\
         harmless_functions = ['public.touch', 'app.f']\nallowed_statements = 'lock, temporary tables'\n\
         allowed_settings = ['Work_Mem', 'app.*']\nrole_settings = ['lock_timeout=5s']\nmax_savepoints = 3\nquery_timeout = '1.5'"
    );
    let below = format!(
        "[pools.owner]\nuser = 'o'\npassword = 'hunter2'\nclient_user = 'boss'\npool_size = 3\n\
         tls_cert_file = '{cert}'\ntls_key_file = '{key}'\n[issuers.ops]\naccess = 'owner'\nissuer = 'x'\n\
         audience = 'ops'\nalgorithms = 'HS256'\nsecret = '{}'\ntenant_claim = ['a.b', 'c']\n\
         tenant_lookup = 'slug, id'\nleeway = '0.5'\n[issuers.ops.required_claims]\n\"a.b\" = 'x'",
        "s".repeat(40)
    );
    let config = good(&minimal_with(&top, &below));
    let printed = effective(&config);
    let secrets = format!("secret = \"{}\"", "s".repeat(40));
    let restored = printed
        .replace("secret = \"[redacted]\"", &secrets)
        .replace("\"[redacted]\"", "\"hunter2\"");
    assert_eq!(format!("{:?}", good(&restored)), format!("{config:?}"));
    assert!(!printed.contains("hunter2") && !printed.contains("ssss"));
}

/// The key lines of `config/example.toml` by path: text of the value, and whether it is in force.
fn example_keys() -> BTreeMap<String, (String, bool)> {
    let (mut section, mut found) = (String::new(), BTreeMap::new());
    for line in EXAMPLE.lines() {
        let (code, in_force) = match line.strip_prefix('#') {
            Some(code) if code.starts_with(' ') => continue,
            Some(code) => (code, false),
            None => (line, true),
        };
        if let Some(name) = code.strip_prefix('[').and_then(|code| code.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, value)) = code.split_once('=') {
            let path = format!("{section}{}", key.trim());
            let again = found.insert(path.clone(), (value.trim().to_owned(), in_force));
            assert_eq!(again, None, "{path} occurs twice");
        }
    }
    found
}

#[test]
fn example_holds_every_key_at_its_default() {
    let example = example_keys();
    let mut families = BTreeSet::new();
    for (path, (value, in_force)) in &example {
        let key: &Key = keys::find(path).unwrap_or_else(|| panic!("{path} is no key"));
        families.insert(key.path);
        if !key.default.is_empty() {
            assert_eq!((value.as_str(), *in_force), (key.default, false), "{path}");
        }
        assert!(reader::default_value(value).is_some(), "{path}");
    }
    assert_eq!(families, KEYS.iter().map(|key| key.path).collect());
    for access in Access::ALL {
        for key in KEYS.iter().filter(|key| key.path.starts_with("pools.")) {
            let path = key.path.replace('*', access.as_str());
            assert_eq!(example.contains_key(&path), keys::find(&path).is_some(), "{path}");
        }
    }
}

#[test]
fn example_without_comments_has_the_defaults() {
    let defaults = effective(&good(MINIMAL));
    assert_eq!(effective(&good(EXAMPLE)), defaults);
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match (line.strip_prefix('#'), line.split_once('=')) {
            (Some(code), Some((key, _))) => {
                let name = key.trim_start_matches('#').trim();
                let has_default = KEYS.iter().any(|key| {
                    key.path.rsplit('.').next() == Some(name) && !key.default.is_empty()
                });
                // `pool_mode` of a pool is the same text as the one outside every section.
                if has_default && !code.starts_with(' ') && !code.starts_with("pool_mode     ") {
                    code
                } else {
                    line
                }
            }
            _ => line,
        })
        .collect();
    assert_eq!(effective(&good(&uncommented.join("\n"))), defaults);
}

#[test]
fn every_key_on_the_list_is_read() {
    let text = minimal_with("", "[pools.superadmin]\nuser = 's'");
    let reader = file::read(&text, "text", places::Places::default(), no_env()).unwrap();
    file::config(&reader);
    assert_eq!(reader.asked(), KEYS.iter().map(|key| key.path).collect());
}

#[test]
fn errors_of_a_file_say_where_it_is() {
    let folder = Folder::new("places");
    let text = "\
listen_port = 70000
auth_type = 'md5'

[server]
database = 'd'
prot = 1

[control]
password_file = 'none'

[pools.tenant]
user = 'app'
tls_cert_file = 1

[issuers.app]
audience = 'a'
algorithms = [
    'RS256',
    'XX',
]
";
    let file = folder.file("cloison.toml", 0o600, text);
    let at = |variables: &[(&str, &str)]| {
        load(Some(file.as_ref()), env(variables)).unwrap_err().to_string()
    };
    let told = at(&[("CLOISON_POOLS_TENANT_POOL_SIZE", "many"), ("CLOISON_AUTH_FILE", "x")]);
    let missing = folder.0.join("none");
    for line in [
        &format!("{file}:1: listen_port = 70000: expected a whole number from 0 to 65535"),
        &format!("{file}:2: auth_type: unknown key (pgbouncer's): clients present a token"),
        &format!("{file}:6: server.prot: unknown key; did you mean server.port?"),
        // A key that is missing is missing from its section.
        &format!("{file}:8: control.user: required"),
        &format!(
            "{file}:9: control.password_file = \"none\": cannot be read: No such file or directory \
             (os error 2) ({})",
            missing.display()
        ),
        &format!("{file}:13: pools.tenant.tls_cert_file = 1: expected text"),
        &format!("{file}:15: issuers.app.issuer: required"),
        &format!("{file}:17: issuers.app.algorithms = [\"RS256\", \"XX\"]: expected a list"),
        // A value of the environment is in no line.
        "pools.tenant.pool_size = \"many\" (from CLOISON_POOLS_TENANT_POOL_SIZE): expected",
        "CLOISON_AUTH_FILE: unknown variable (pgbouncer's): there is no list of users",
    ] {
        assert!(told.lines().any(|told| told.starts_with(line)), "{line}\n\n{told}");
    }
    let empty = folder.file("empty.toml", 0o600, "");
    let told = load(Some(empty.as_ref()), no_env()).unwrap_err().to_string();
    assert!(told.lines().all(|line| line.starts_with(&format!("{empty}: "))), "{told}");
    let broken = folder.file("broken.toml", 0o600, "a = 1\n[server\n");
    let told = load(Some(broken.as_ref()), no_env()).unwrap_err().to_string();
    assert!(told.starts_with(&format!("{broken}:2:")), "{told}");
}

#[test]
fn file_names_start_from_the_configurations_folder() {
    let folder = Folder::new("relative");
    fs::create_dir(folder.0.join("keys")).unwrap();
    for name in ["password", "keys/secret", "server.crt", "server.key", "keys/key.pem"] {
        folder.file(name, 0o600, &"s".repeat(40));
    }
    let text = "\
client_tls_sslmode = 'require'
client_tls_cert_file = 'server.crt'
client_tls_key_file = './server.key'
unix_socket_dir = 'run'
[server]
database = 'd'
[control]
user = 'c'
password_file = 'password'
[pools.tenant]
user = 't'
[issuers.one]
issuer = 'i'
audience = 'a'
algorithms = ['HS256']
secret_file = 'keys/secret'
[issuers.two]
issuer = 'j'
audience = 'a'
algorithms = ['ES256']
public_key_file = 'keys/key.pem'
";
    let file = folder.file("cloison.toml", 0o600, text);
    let config = load(Some(file.as_ref()), no_env()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.control.password.as_ref().unwrap().expose(), &"s".repeat(40));
    let identity = config.client_tls.identity.as_ref().unwrap();
    assert_eq!(identity.certificate_file, folder.0.join("server.crt"));
    assert_eq!(config.listen.unix_socket_dir, Some(folder.0.join("run")));
    assert!(
        matches!(&config.issuers[1].keys, KeySource::PemFile(path) if *path == folder.0.join("keys/key.pem"))
    );
    // The configuration that is printed holds wherever it is put.
    let printed = effective(&config)
        .replace("\"[redacted]\"", "\"ssssssssssssssssssssssssssssssssssssssss\"");
    assert!(printed.contains(&folder.0.join("server.crt").display().to_string()), "{printed}");
    parse(&printed, no_env()).unwrap_or_else(|errors| panic!("{errors}"));
    // A variable is read where the program runs.
    let from_variable = env(&[("CLOISON_CONTROL_PASSWORD_FILE", "password")]);
    let told = load(Some(file.as_ref()), from_variable).unwrap_err().to_string();
    assert!(
        told.starts_with("control.password_file = \"password\" (from CLOISON_CONTROL"),
        "{told}"
    );
}
