//! `cloison token`: mints a development token and prints it, and nothing else, on stdout.

mod options;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::{self, Algorithm};
use crate::dev;
use crate::dev::key::{self, SigningKey};
use crate::dev::signer::{self, Signer};
use crate::types::Access;

/// Mint a development token.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The tenant that the token is for: its id, slug or external key
    #[arg(long)]
    tenant: Option<String>,
    /// Instead of one tenant those that the holder may choose from, with commas between them, or *
    #[arg(long, value_name = "LIST", conflicts_with = "tenant")]
    tenants: Option<String>,
    /// What the token allows: tenant, superadmin or owner
    #[arg(long, default_value = "tenant", value_parser = options::access)]
    access: Access,
    /// Further claims, a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// How long the token is valid: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = options::ttl)]
    ttl: Duration,
    /// The sub claim
    #[arg(long)]
    subject: Option<String>,
    /// The iss claim
    #[arg(long, default_value = dev::ISSUER)]
    issuer: String,
    /// The aud claim [default: cloison-dev, or cloison-dev-superadmin, cloison-dev-owner]
    #[arg(long)]
    audience: Option<String>,
    /// Name of the claim that names the tenant; dots lead into objects
    #[arg(long, default_value = "tenant_id", value_name = "PATH")]
    tenant_claim: String,
    /// Name of the claim that lists tenants
    #[arg(long, default_value = "tenants", value_name = "PATH")]
    tenants_claim: String,
    /// The signing key, in PEM: RSA, P-256 or Ed25519 [default: that of `cloison dev`]
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    key: Option<PathBuf>,
    /// How --key signs: RS256, PS256, ES256 or EdDSA [default: as is usual for the key]
    #[arg(long, value_name = "NAME", requires = "key", value_parser = options::algorithm)]
    algorithm: Option<Algorithm>,
    /// The token's kid: the name of --key in a key set that has several
    #[arg(long, value_name = "ID", requires = "key")]
    key_id: Option<String>,
    /// Sign with the secret in this file (HS256), as an issuer's secret_file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Where `cloison dev` keeps its data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--claims` is not a JSON object.
    #[error("--claims is not a JSON object")]
    Claims(#[source] serde_json::Error),
    /// The system's clock is impossible.
    #[error("the clock is before 1970 or too far ahead")]
    Clock,
    /// There is no key that `cloison dev` has made.
    #[error(
        "no signing key: run `cloison dev`, which makes one; or give --secret-file (HS256), or \
         --key with {}",
        signer::CAN_SIGN
    )]
    Key(#[source] key::Error),
    /// The key that was given cannot be used.
    #[error("--key does not do")]
    Signer(#[source] signer::Error),
    /// A super-admin or an owner without a name.
    #[error(
        "--access {0} needs --subject, the name of its holder: the proxy records who comes, and \
         refuses a token without a name"
    )]
    NoSubject(Access),
    /// A token for more than one tenant names none.
    #[error("--tenant does not go with --access {0}")]
    NeedlessTenant(Access),
    /// A tenant's token has to name it.
    #[error("--tenant is missing: which tenant is the token for?")]
    NoTenant,
    /// stdout is closed.
    #[error("could not print the token")]
    Print(#[source] io::Error),
    /// A claim that has an option of its own, or that we set.
    #[error("--claims may not set {0:?}: {1}")]
    Reserved(String, &'static str),
    /// `--secret-file` cannot be read.
    #[error("could not read the secret {}", file.display())]
    Secret {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Mints a token and prints it.
pub fn run(args: Args) -> Result<ExitCode, Error> {
    let token = if let Some(file) = &args.secret_file {
        let unreadable = |source| Error::Secret { file: file.clone(), source };
        let secret = config::read_secret(file).map_err(unreadable)?;
        key::mint_with_secret(&secret, &claims(args, SystemTime::now())?)
    } else if let Some(file) = &args.key {
        let id = args.key_id.clone();
        let key = Signer::load(file, args.algorithm, id).map_err(Error::Signer)?;
        key.mint(&claims(args, SystemTime::now())?).map_err(Error::Signer)?
    } else {
        let folder = args.data_dir.clone().unwrap_or_else(dev::default_data_dir);
        let key = SigningKey::load(&folder.join(dev::SIGNING_KEY)).map_err(Error::Key)?;
        key.mint(&claims(args, SystemTime::now())?).map_err(Error::Key)?
    };
    writeln!(io::stdout(), "{token}").map_err(Error::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// The claims of the token that `args` ask for.
fn claims(args: Args, now: SystemTime) -> Result<Map<String, Value>, Error> {
    let mut claims: Map<String, Value> = match &args.claims {
        None => Map::new(),
        Some(text) => serde_json::from_str(text).map_err(Error::Claims)?,
    };
    let reserved = [
        ("iss", "use --issuer"),
        ("aud", "use --audience"),
        ("exp", "use --ttl"),
        ("iat", "it is the time of minting"),
    ];
    for (name, instead) in reserved {
        if claims.contains_key(name) {
            return Err(Error::Reserved(name.to_owned(), instead));
        }
    }
    match (args.access, args.tenant, args.tenants.as_deref()) {
        (Access::Tenant, None, None) => return Err(Error::NoTenant),
        (Access::Tenant, Some(tenant), _) => put(&mut claims, &args.tenant_claim, tenant.into())?,
        (Access::Tenant, None, Some("*")) => put(&mut claims, &args.tenants_claim, "*".into())?,
        (Access::Tenant, None, Some(list)) => {
            let names: Vec<&str> = list.split(',').filter(|name| !name.is_empty()).collect();
            put(&mut claims, &args.tenants_claim, names.into())?;
        }
        (Access::Superadmin | Access::Owner, None, None) => {}
        (Access::Superadmin | Access::Owner, _, _) => {
            return Err(Error::NeedlessTenant(args.access));
        }
    }
    if let Some(subject) = args.subject
        && claims.insert("sub".to_owned(), subject.into()).is_some()
    {
        return Err(Error::Reserved("sub".to_owned(), "--subject sets it"));
    }
    if args.access != Access::Tenant && !claims.get("sub").is_some_and(is_name) {
        return Err(Error::NoSubject(args.access));
    }
    let issued = now.duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?;
    let expires = issued.checked_add(args.ttl).ok_or(Error::Clock)?;
    let audience = args.audience.unwrap_or_else(|| default_audience(args.access).to_owned());
    claims.insert("iss".to_owned(), args.issuer.into());
    claims.insert("aud".to_owned(), audience.into());
    claims.insert("iat".to_owned(), issued.as_secs().into());
    claims.insert("exp".to_owned(), expires.as_secs().into());
    claims.entry("jti").or_insert_with(|| Uuid::new_v4().to_string().into());
    Ok(claims)
}

/// Sets the claim of the tenant or tenants, which `--claims` may surround but not set.
fn put(claims: &mut Map<String, Value>, path: &str, tenants: Value) -> Result<(), Error> {
    let reserved = || Error::Reserved(path.to_owned(), "use --tenant or --tenants");
    // A name that is a URL is one name, dots and all.
    let (parents, name) = match path.rsplit_once('.') {
        Some((parents, name)) if !path.contains("://") => (Some(parents), name),
        Some(_) | None => (None, path),
    };
    let mut object = claims;
    for parent in parents.into_iter().flat_map(|parents| parents.split('.')) {
        let member = object.entry(parent).or_insert_with(|| json!({}));
        object = member.as_object_mut().ok_or_else(reserved)?;
    }
    match object.insert(name.to_owned(), tenants) {
        None => Ok(()),
        Some(_) => Err(reserved()),
    }
}

/// Whether a subject is a name by which the proxy can record its holder.
fn is_name(subject: &Value) -> bool {
    subject.as_str().is_some_and(|name| name.chars().any(char::is_alphanumeric))
}

fn default_audience(access: Access) -> &'static str {
    match access {
        Access::Tenant => dev::AUDIENCE,
        Access::Superadmin => dev::SUPERADMIN_AUDIENCE,
        Access::Owner => dev::OWNER_AUDIENCE,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::auth;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn minted(line: &[&str]) -> Result<Map<String, Value>, String> {
        let command = Command::try_parse_from(std::iter::once(&"token").chain(line))
            .map_err(|error| error.to_string())?;
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        claims(command.args, now).map_err(|error| error.to_string())
    }

    #[test]
    fn a_tenants_token_says_whose_it_is_and_until_when() {
        let claims = minted(&["--tenant", "acme", "--ttl", "15m", "--subject", "ada"]).unwrap();
        for (name, expected) in [
            ("tenant_id", json!("acme")),
            ("iss", json!(dev::ISSUER)),
            ("aud", json!("cloison-dev")),
            ("iat", json!(1_000)),
            ("exp", json!(1_900)),
            ("sub", json!("ada")),
        ] {
            assert_eq!(claims[name], expected, "{name}");
        }
    }

    #[test]
    fn a_service_token_lists_tenants() {
        for (list, expected) in
            [("acme,globex", json!(["acme", "globex"])), ("*", json!("*")), ("", json!([]))]
        {
            let claims = minted(&["--tenants", list]).unwrap();
            assert_eq!(claims["tenants"], expected, "{list}");
            assert!(!claims.contains_key("tenant_id"));
        }
        let claims = minted(&["--tenants", "a", "--tenants-claim", "app.orgs"]).unwrap();
        assert_eq!(claims["app"], json!({"orgs": ["a"]}));
        assert!(minted(&["--tenants", "a", "--access", "owner"]).is_err());
        assert!(minted(&["--tenants", "a", "--tenant", "b"]).is_err());
    }

    #[test]
    fn each_access_has_an_audience_of_its_own() {
        for access in ["superadmin", "owner"] {
            for nameless in [&[][..], &["--subject", ""], &["--subject", "-"]] {
                let refused = minted(&[&["--access", access], nameless].concat()).unwrap_err();
                assert!(refused.starts_with(&format!("--access {access} needs --subject")));
            }
            let named = ["--access", access, "--claims", r#"{"sub":"ada"}"#];
            assert_eq!(minted(&named).unwrap()["sub"], "ada");
            let claims = minted(&["--access", access, "--subject", "ada"]).unwrap();
            assert_eq!(claims["aud"], json!(format!("cloison-dev-{access}")));
            assert!(!claims.contains_key("tenant_id"));
        }
    }

    #[test]
    fn the_tenant_claim_may_lie_deep_and_may_be_a_url() {
        let line = ["--tenant", "acme", "--claims", r#"{"app":{"role":"x"}}"#];
        let claims = minted(&[&line[..], &["--tenant-claim", "app.org.id"]].concat()).unwrap();
        assert_eq!(claims["app"], json!({"role": "x", "org": {"id": "acme"}}));
        let url = "https://example.com/tenant";
        let claims = minted(&["--tenant", "acme", "--tenant-claim", url]).unwrap();
        assert_eq!(claims[url], json!("acme"));
    }

    #[tokio::test]
    async fn a_minted_token_is_accepted_by_the_proxys_rules() {
        let key = SigningKey::generate().unwrap();
        let file = std::env::temp_dir().join(format!("cloison-token-{}", Uuid::new_v4()));
        for (access, line) in [
            (Access::Tenant, &["--tenant", "acme"][..]),
            (Access::Superadmin, &["--access", "superadmin", "--subject", "ada"]),
            (Access::Owner, &["--access", "owner", "--subject", "ada"]),
        ] {
            std::fs::write(&file, key.jwks().to_string()).unwrap();
            let rule = config::Issuer {
                name: access.as_str().to_owned(),
                access,
                provider: None,
                issuer: dev::ISSUER.to_owned(),
                audiences: vec![default_audience(access).to_owned()],
                algorithms: vec![config::Algorithm::Es256],
                keys: config::KeySource::JwksFile(file.clone()),
                jwks_max_stale: Duration::from_secs(86_400),
                tenant_claims: vec![vec!["tenant_id".to_owned()]],
                tenants_claim: Vec::new(),
                tenant_lookup: vec![config::TenantLookup::Slug],
                claims_in_sql: Vec::new(),
                required_claims: std::collections::BTreeMap::new(),
                leeway: Duration::ZERO,
            };
            let verifier = auth::Verifier::new(&[rule]).unwrap();
            std::fs::remove_file(&file).unwrap();
            let token = key.mint(&minted(line).unwrap()).unwrap();
            let now = UNIX_EPOCH + Duration::from_secs(1_000);
            let proven = verifier.verify(&token, access, now).await.unwrap();
            assert_eq!(
                proven.tenants().and_then(auth::Tenants::only).map(auth::TenantClaim::value),
                line.get(1).copied().filter(|_| access == Access::Tenant)
            );
        }
    }

    #[tokio::test]
    async fn a_token_of_a_secret_is_accepted_by_a_rule_that_has_it() {
        let file = std::env::temp_dir().join(format!("cloison-secret-{}", Uuid::new_v4()));
        std::fs::write(&file, "thirty-two bytes and a newline...\n").unwrap();
        let secret = config::read_secret(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let text = format!(
            "[control]\nuser = 'c'\n[pools.tenant]\nuser = 't'\n[server]\ndatabase = 'd'\n\
             [issuers.app]\nissuer = 'me'\naudience = 'us'\nalgorithms = ['HS256']\n\
             secret = '{}'\ntenant_claim = 'org.id'\ntenant_lookup = ['slug']\n",
            "thirty-two bytes and a newline..."
        );
        let rules = config::parse(&text, std::iter::empty()).unwrap().issuers;
        let verifier = auth::Verifier::new(&rules).unwrap();
        let line = ["--tenant", "acme", "--issuer", "me", "--audience", "us"];
        let line = [&line[..], &["--tenant-claim", "org.id"]].concat();
        let token = key::mint_with_secret(&secret, &minted(&line).unwrap());
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let proven = verifier.verify(&token, Access::Tenant, now).await.unwrap();
        assert_eq!(
            proven.tenants().and_then(auth::Tenants::only).map(auth::TenantClaim::value),
            Some("acme")
        );
        let other =
            key::mint_with_secret(&crate::types::Secret::new(vec![7; 32]), &minted(&line).unwrap());
        assert!(verifier.verify(&other, Access::Tenant, now).await.is_err());
    }

    #[test]
    fn claims_cannot_override_what_has_an_option() {
        for (claims, path) in [
            (r#"{"iss":"x"}"#, "tenant_id"),
            (r#"{"aud":"x"}"#, "tenant_id"),
            (r#"{"exp":1}"#, "tenant_id"),
            (r#"{"iat":1}"#, "tenant_id"),
            (r#"{"sub":"x"}"#, "tenant_id"),
            (r#"{"tenant_id":"x"}"#, "tenant_id"),
            (r#"{"app":{"tenant":"x"}}"#, "app.tenant"),
            (r#"{"app":"x"}"#, "app.tenant"),
        ] {
            let line = ["--tenant", "acme", "--subject", "s", "--claims", claims];
            let refused = minted(&[&line[..], &["--tenant-claim", path]].concat()).unwrap_err();
            assert!(refused.starts_with("--claims may not set"), "{claims}: {refused}");
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for (line, message) in [
            (vec![], "--tenant is missing"),
            (vec!["--tenant", "a", "--access", "owner"], "--tenant does not go with"),
            (vec!["--tenant", "a", "--claims", "[]"], "--claims is not a JSON object"),
            (vec!["--access", "root"], "expected tenant, superadmin or owner"),
        ] {
            let refused = minted(&line).unwrap_err();
            assert!(refused.contains(message), "{line:?}: {refused}");
        }
    }
}
