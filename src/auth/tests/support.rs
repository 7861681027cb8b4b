//! Signers, rules and tokens. `jsonwebtoken` signs, so that our verifier is held against a stranger.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm as Jose, EncodingKey};
use serde_json::{Value, json};

use crate::auth::{Error, VerifiedClaims, Verifier};
use crate::config::{Algorithm, Issuer, KeySource, TenantLookup};
use crate::types::{Access, Secret};

pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const AUDIENCE: &str = "cloison";
pub(super) const TENANT: &str = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A file that is gone when the test is over.
pub(super) struct TempFile(pub(super) PathBuf);

impl TempFile {
    pub(super) fn new(content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cloison-auth-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Who signs tokens with one key and one algorithm.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) jose: Jose,
    key: EncodingKey,
    /// The public key as PEM; for HS256 the secret.
    pub(super) public: String,
    file: TempFile,
}

pub(super) struct Signers(Vec<Signer>);

/// One signer an algorithm, made once: RSA keys take their time.
pub(super) static SIGNERS: LazyLock<Signers> = LazyLock::new(Signers::generate);
/// The same algorithms with other keys.
pub(super) static STRANGERS: LazyLock<Signers> = LazyLock::new(Signers::generate);

impl Signers {
    fn generate() -> Self {
        let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let ed = Ed25519KeyPair::generate().unwrap();
        let ed_private: Pkcs8V1Der<'_> = ed.as_der().unwrap();
        let rsa_key =
            EncodingKey::from_rsa_pem(pem("PRIVATE KEY", rsa_private.as_ref()).as_bytes());
        let rsa_key = rsa_key.unwrap();
        let rsa_public = pem("PUBLIC KEY", rsa_public.as_ref());
        let ec_key = EncodingKey::from_ec_der(ec.to_pkcs8v1().unwrap().as_ref());
        let ec_public = pem("PUBLIC KEY", ec.public_key().as_der().unwrap().as_ref());
        let ed_key = EncodingKey::from_ed_der(ed_private.as_ref());
        let ed_public = pem("PUBLIC KEY", ed.public_key().as_der().unwrap().as_ref());
        let secret = uuid::Uuid::new_v4().simple().to_string();
        let secret_key = EncodingKey::from_secret(secret.as_bytes());
        let signer = |algorithm, jose, key, public: String| {
            let file = TempFile::new(&public);
            Signer { algorithm, jose, key, public, file }
        };
        Self(vec![
            signer(Algorithm::Hs256, Jose::HS256, secret_key, secret),
            signer(Algorithm::Rs256, Jose::RS256, rsa_key.clone(), rsa_public.clone()),
            signer(Algorithm::Ps256, Jose::PS256, rsa_key, rsa_public),
            signer(Algorithm::Es256, Jose::ES256, ec_key, ec_public),
            signer(Algorithm::EdDsa, Jose::EdDSA, ed_key, ed_public),
        ])
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }

    pub(super) fn asymmetric(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter().filter(|signer| signer.algorithm != Algorithm::Hs256)
    }

    pub(super) fn of(&self, algorithm: Algorithm) -> &Signer {
        self.0.iter().find(|signer| signer.algorithm == algorithm).unwrap()
    }
}

impl Signer {
    /// One more with a key of its own.
    pub(super) fn es256() -> Self {
        let Signers(signers) = Signers::generate();
        signers.into_iter().find(|signer| signer.algorithm == Algorithm::Es256).unwrap()
    }

    /// A rule for tenants that trusts this signer: by its secret or its PEM file.
    pub(super) fn rule(&self) -> Issuer {
        let keys = match self.algorithm {
            Algorithm::Hs256 => KeySource::Secret(Secret::new(self.public.clone().into_bytes())),
            Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 | Algorithm::EdDsa => {
                KeySource::PemFile(self.file.0.clone())
            }
        };
        rule(keys, vec![self.algorithm])
    }

    pub(super) fn jwk(&self, id: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.jose).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = id.into();
        jwk
    }

    pub(super) fn header(&self) -> Value {
        json!({"alg": self.jose, "typ": "JWT"})
    }

    /// A good token with these claims.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.raw(&self.header().to_string(), &claims.to_string())
    }

    /// A good token that names a key.
    pub(super) fn token_of_key(&self, id: &str) -> String {
        let mut header = self.header();
        header["kid"] = id.into();
        self.raw(&header.to_string(), &good_claims().to_string())
    }

    /// Signs any two texts.
    pub(super) fn raw(&self, header: &str, claims: &str) -> String {
        self.sign(&format!("{}.{}", encode(header), encode(claims)))
    }

    pub(super) fn sign(&self, signed: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.jose);
        format!("{signed}.{}", signature.unwrap())
    }
}

pub(super) fn rule(keys: KeySource, algorithms: Vec<Algorithm>) -> Issuer {
    Issuer {
        name: "main".to_owned(),
        access: Access::Tenant,
        provider: None,
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned(), "second".to_owned()],
        algorithms,
        keys,
        jwks_max_stale: Duration::from_secs(86_400),
        tenant_claims: vec![vec!["tenant_id".to_owned()]],
        tenants_claim: Vec::new(),
        tenant_lookup: vec![TenantLookup::Id],
        claims_in_sql: Vec::new(),
        required_claims: BTreeMap::new(),
        leeway: Duration::from_secs(30),
    }
}

pub(super) fn good_claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 60, "tenant_id": TENANT})
}

/// The good claims with one changed, or left out when `value` is null.
pub(super) fn with(name: &str, value: Value) -> Value {
    let mut claims = good_claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

pub(super) fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

pub(super) async fn verify(rules: &[Issuer], token: &str) -> Result<VerifiedClaims, Error> {
    Verifier::new(rules).unwrap().verify(token, Access::Tenant, now()).await
}

/// The variant's name.
pub(super) fn kind<T>(outcome: &Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "Ok".to_owned(),
        Err(error) => {
            let text = format!("{error:?}");
            text.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
        }
    }
}

/// Verifies a token by one rule and compares what came of it.
#[track_caller]
pub(super) fn check(rule: &Issuer, token: &str, expected: &str, what: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(verify(std::slice::from_ref(rule), token));
    assert_eq!(kind(&outcome), expected, "{what} ({:?})", rule.algorithms);
    if let Err(error) = outcome {
        let told = error.refusal();
        assert!(["28P01", "28000"].contains(&told.sqlstate), "{what}");
        assert!(!format!("{error}{told:?}").contains(TENANT), "{what}: a claim's value is told");
    }
}
