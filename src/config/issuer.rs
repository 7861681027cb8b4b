//! `[issuers.<name>]`: the rules by which tokens are accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Table;

use crate::types::{Access, Secret};

use super::environment::in_variable;
use super::error::Error;
use super::key_source::{jwks_max_stale, key_source};
use super::provider::{DIRECTORY, PROVIDERS, Preset, Provider, user_editable};
use super::reader::{Reader, Section};
use super::{Algorithm, Issuer, KeySource, Pool, TenantLookup};

pub(super) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("HS256", Algorithm::Hs256),
    ("RS256", Algorithm::Rs256),
    ("PS256", Algorithm::Ps256),
    ("ES256", Algorithm::Es256),
    ("EdDSA", Algorithm::EdDsa),
];

pub(super) const LOOKUPS: &[(&str, TenantLookup)] = &[
    ("id", TenantLookup::Id),
    ("slug", TenantLookup::Slug),
    ("external_key", TenantLookup::ExternalKey),
];

/// What the path of one claim may be.
const ONE_PATH: &str =
    r#"a path with dots, or a list of names such as ["https://acme.io/tenant", "id"]"#;

const ACCESSES: &[(&str, Access)] =
    &[("tenant", Access::Tenant), ("superadmin", Access::Superadmin), ("owner", Access::Owner)];

const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

impl Algorithm {
    /// Its name in the configuration and in a token's header (RFC 7518, section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl TenantLookup {
    /// The word of the configuration, which is the column's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Slug => "slug",
            Self::ExternalKey => "external_key",
        }
    }
}

/// Reads every rule, and refuses rules that would open a road to the wrong tokens.
pub(super) fn issuers(reader: &Reader, pools: &BTreeMap<Access, Pool>) -> Vec<Issuer> {
    let names = reader.names("issuers");
    refuse_unclear_names(reader, &names);
    // A rule without a key source has left its error and cannot be compared with others.
    let rules: Vec<(Issuer, bool)> = names.iter().map(|name| issuer(reader, name)).collect();
    refuse_closed_roads(reader, &rules, pools);
    for (index, (rule, _)) in rules.iter().enumerate() {
        for (other, _) in rules.iter().skip(index + 1) {
            refuse_shared_road(reader, rule, other);
            refuse_shared_road(reader, other, rule);
        }
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// One rule, and whether its `access` is known.
fn issuer(reader: &Reader, name: &str) -> (Issuer, bool) {
    let section = reader.section(&format!("issuers.{name}"));
    let provider = section.choice("provider", PROVIDERS);
    let preset = provider.map(Provider::preset);
    section.require("issuer", "the exact `iss` claim");
    section.require("audience", "what the `aud` claim must contain");
    let access = section.choice("access", ACCESSES);
    let keys = key_source(&section);
    let algorithms = algorithms(&section, preset.as_ref(), keys.as_ref());
    let issuer = Issuer {
        name: name.to_owned(),
        access: access.unwrap_or(Access::Tenant),
        provider,
        issuer: section.text("issuer"),
        audiences: not_empty(&section, "audience", section.list("audience")),
        algorithms,
        keys: keys.unwrap_or_else(|| KeySource::Secret(Secret::new(Vec::new()))),
        jwks_max_stale: jwks_max_stale(&section),
        tenant_claims: tenant_claims(&section, preset.as_ref()),
        tenants_claim: tenants_claim(&section),
        tenant_lookup: tenant_lookup(&section, preset.as_ref()),
        required_claims: required_claims(&section, preset.as_ref()),
        leeway: leeway(&section),
        claims_in_sql: claims_in_sql(&section, access),
    };
    refuse_wrong_issuer(&section, &issuer);
    (issuer, access.is_some())
}

fn refuse_wrong_issuer(section: &Section<'_>, issuer: &Issuer) {
    if !section.has("issuer") {
        return;
    }
    if issuer.provider != Some(Provider::Entra) && issuer.issuer.contains(DIRECTORY) {
        section.refuse("issuer", format!("{DIRECTORY} is for provider = \"entra\" alone"));
    }
    if let Some(objection) =
        issuer.provider.and_then(|provider| provider.objection(&issuer.issuer, &issuer.audiences))
    {
        section.refuse("issuer", objection);
    }
    // WorkOS' tokens name no audience: what proves for whom they are is whose keys sign them.
    if let (Some(Provider::Workos), KeySource::JwksUrl(url) | KeySource::Discovery(url)) =
        (issuer.provider, &issuer.keys)
        && !issuer.audiences.iter().any(|client| url.contains(client.as_str()))
    {
        section.refuse("audience", "expected the client id that the URL of the keys holds");
    }
}

/// What is written, or what the provider signs with as far as the keys allow it.
fn algorithms(
    section: &Section<'_>,
    preset: Option<&Preset>,
    keys: Option<&KeySource>,
) -> Vec<Algorithm> {
    if let (Some(preset), false) = (preset, section.is_written("algorithms")) {
        let is_secret = matches!(keys, Some(KeySource::Secret(_)));
        let fits = |algorithm: &&Algorithm| (**algorithm == Algorithm::Hs256) == is_secret;
        let fitting: Vec<Algorithm> = preset.algorithms.iter().filter(fits).copied().collect();
        if fitting.is_empty() {
            section.refuse("secret", "this provider does not sign with a secret: use jwks_url");
        }
        // Asked for, so that the list of keys is known to be complete.
        section.choices("algorithms", ALGORITHMS);
        return fitting;
    }
    section.require("algorithms", "a list of HS256, RS256, PS256, ES256 or EdDSA");
    let algorithms = section.choices("algorithms", ALGORITHMS);
    refuse_wrong_algorithms(section, algorithms.as_deref().unwrap_or_default(), keys);
    not_empty(section, "algorithms", algorithms)
}

fn tenant_lookup(section: &Section<'_>, preset: Option<&Preset>) -> Vec<TenantLookup> {
    let written = not_empty(section, "tenant_lookup", section.choices("tenant_lookup", LOOKUPS));
    match preset {
        Some(preset) if !section.is_written("tenant_lookup") => vec![preset.tenant_lookup],
        Some(_) | None => written,
    }
}

/// The items of a list. An absent or wrong list has left its error already.
fn not_empty<T>(section: &Section<'_>, key: &str, list: Option<Vec<T>>) -> Vec<T> {
    if list.as_ref().is_some_and(Vec::is_empty) {
        section.refuse(key, "expected at least one item");
    }
    list.unwrap_or_default()
}

/// A public key taken for an HMAC secret is the oldest forgery of a JWT.
fn refuse_wrong_algorithms(
    section: &Section<'_>,
    algorithms: &[Algorithm],
    keys: Option<&KeySource>,
) {
    let is_secret = matches!(keys, Some(KeySource::Secret(_)));
    let has_hmac = algorithms.contains(&Algorithm::Hs256);
    if is_secret && algorithms.iter().any(|algorithm| *algorithm != Algorithm::Hs256) {
        section.refuse("algorithms", "a secret goes with HS256 alone");
    }
    if keys.is_some() && !is_secret && has_hmac {
        section.refuse("algorithms", "HS256 needs secret or secret_file");
    }
}

/// The paths that are written, or those of the provider, or the default.
fn tenant_claims(section: &Section<'_>, preset: Option<&Preset>) -> Vec<Vec<String>> {
    const SEVERAL: &str =
        r#"a list of paths such as ["org_id", ["https://acme.io/tenant", "id"], "o.id"]"#;
    let single =
        not_empty(section, "tenant_claim", section.read("tenant_claim", ONE_PATH, claim_path));
    let several = section.read("tenant_claims", SEVERAL, |value| match value.as_array() {
        None => value.as_str()?.split(',').map(|path| named(path.trim())).collect(),
        Some(paths) => paths.iter().map(claim_path).collect::<Option<Vec<_>>>(),
    });
    let (key, paths) = match (several, preset) {
        (Some(paths), _) => ("tenant_claims", paths),
        (None, Some(preset)) if !section.is_written("tenant_claim") => {
            let owned = |path: &&[&str]| path.iter().map(|name| (*name).to_owned()).collect();
            ("provider", preset.tenant_claims.iter().map(owned).collect())
        }
        (None, _) => ("tenant_claim", vec![single]),
    };
    if section.has("tenant_claims") && section.is_written("tenant_claim") {
        section.refuse("tenant_claims", "give tenant_claim or tenant_claims, not both");
    }
    if key == "tenant_claims" && (paths.is_empty() || paths.iter().any(Vec::is_empty)) {
        section.refuse(key, "expected at least one path, and no empty one");
    }
    for path in &paths {
        refuse_user_editable(section, key, path);
    }
    paths
}

/// The path of a service token's list; empty if there are no such tokens.
fn tenants_claim(section: &Section<'_>) -> Vec<String> {
    let path = section.read("tenants_claim", ONE_PATH, claim_path).unwrap_or_default();
    refuse_user_editable(section, "tenants_claim", &path);
    path
}

/// What a user may write must not say which rows that user sees.
fn refuse_user_editable(section: &Section<'_>, key: &str, path: &[String]) {
    if let Some(name) = user_editable(path) {
        let problem = format!(
            "users write {name} themselves, and could name any tenant or role there: \
             use a claim that only your servers write, such as app_metadata or public_metadata"
        );
        section.refuse(key, problem);
    }
}

/// Text is split at its dots; a list is for names that hold dots.
fn claim_path(value: &toml::Value) -> Option<Vec<String>> {
    match value.as_array() {
        None => named(value.as_str()?),
        Some(names) => names
            .iter()
            .map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned))
            .collect(),
    }
}

/// A path of names with dots between them. A URL is one name.
fn named(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    if text.contains("://") {
        return Some(vec![text.to_owned()]);
    }
    text.split('.').map(|name| (!name.is_empty()).then(|| name.to_owned())).collect()
}

fn required_claims(section: &Section<'_>, preset: Option<&Preset>) -> BTreeMap<String, String> {
    let allowed = r#"a table of texts such as { role = "admin" }"#;
    let mut claims = section
        .read("required_claims", allowed, |value| {
            let mut claims = BTreeMap::new();
            flatten(value.as_table()?, "", &mut claims).then_some(claims)
        })
        .unwrap_or_default();
    for path in claims.keys() {
        let names: Vec<String> = path.split('.').map(str::to_owned).collect();
        refuse_user_editable(section, "required_claims", &names);
    }
    for (path, text) in preset.map_or(&[][..], |preset| preset.required_claims) {
        claims.entry((*path).to_owned()).or_insert_with(|| (*text).to_owned());
    }
    claims
}

/// `app.role = "x"` without quotes is a table in a table to TOML, and a path to us.
fn flatten(table: &Table, prefix: &str, claims: &mut BTreeMap<String, String>) -> bool {
    table.iter().all(|(name, value)| {
        let path = format!("{prefix}{name}");
        match (value.as_table(), value.as_str()) {
            (Some(inner), _) => flatten(inner, &format!("{path}."), claims),
            (None, Some(text)) => claims.insert(path, text.to_owned()).is_none(),
            (None, None) => false,
        }
    })
}

fn leeway(section: &Section<'_>) -> Duration {
    let leeway = section.duration("leeway");
    if leeway > LONGEST_LEEWAY {
        section.refuse("leeway", "expected at most 300 seconds");
    }
    leeway
}

/// They are signed for one tenant, so nobody else has any.
fn claims_in_sql(section: &Section<'_>, access: Option<Access>) -> Vec<String> {
    let names = section.list("claims_in_sql").unwrap_or_default();
    if !names.is_empty() && access.is_some_and(|access| access != Access::Tenant) {
        section.refuse("claims_in_sql", r#"only rules with access = "tenant" have any"#);
    }
    names
}

/// Names are parts of variables, and two rules must not share those.
fn refuse_unclear_names(reader: &Reader, names: &[String]) {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let place = || format!("issuers.{name}");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_plain) {
            let problem = "expected a name of letters, digits, - and _";
            reader.error(Error::new(place(), problem));
        } else if let Some(other) = taken.insert(in_variable(name), name) {
            let problem = format!("differs from issuers.{other} only in case, - and _");
            reader.error(Error::new(place(), problem));
        }
    }
}

/// A pool without a rule can never be reached; a rule without a pool leads nowhere.
fn refuse_closed_roads(reader: &Reader, rules: &[(Issuer, bool)], pools: &BTreeMap<Access, Pool>) {
    // While an access is unknown, nobody can say which road is missing.
    let all_known = rules.iter().all(|(_, known)| *known);
    for access in Access::ALL {
        let mut of_access = rules.iter().map(|(rule, _)| rule).filter(|rule| rule.access == access);
        let (rule, has_pool) = (of_access.next(), pools.contains_key(&access));
        match rule {
            None if access == Access::Tenant && all_known => {
                let problem = r#"required: at least one [issuers.<name>] with access = "tenant""#;
                reader.error(Error::new("issuers", problem));
            }
            None if has_pool && all_known => {
                let problem = format!(r#"no [issuers.<name>] has access = "{access}""#);
                reader.error(Error::new(format!("pools.{access}"), problem));
            }
            Some(rule) if !has_pool => {
                let section = reader.section(&format!("issuers.{}", rule.name));
                section.refuse("access", format!("there is no [pools.{access}]"));
            }
            None | Some(_) => {}
        }
    }
}

/// Refuses a privileged rule that accepts whatever token another road's rule accepts.
fn refuse_shared_road(reader: &Reader, privileged: &Issuer, other: &Issuer) {
    if privileged.access == Access::Tenant || privileged.access == other.access {
        return;
    }
    let other_claims = privileged
        .required_claims
        .iter()
        .any(|(path, text)| other.required_claims.get(path) != Some(text));
    if privileged.may_share_tokens_with(other) && !other_claims {
        let section = reader.section(&format!("issuers.{}", privileged.name));
        section.refuse(
            "access",
            format!(
                "a token for issuers.{} would be accepted here too: \
                 give this rule an audience of its own, or required_claims",
                other.name
            ),
        );
    }
}
