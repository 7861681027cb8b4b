//! Keys that verify, each for one algorithm: from a secret, a PEM file or a JWK Set (RFC 7517).

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value};

use super::error::KeysError;
use super::json;
use super::token::algorithm_of;
use crate::config::Algorithm;

/// Shortest secret for HS256 (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;

/// Shortest RSA modulus in bytes (RFC 7518, section 3.3).
const MIN_RSA_MODULUS: usize = 256;

/// A key for one algorithm. A secret cannot be had from a public key's bytes or the other way
/// around: the two are made by different constructors.
pub(super) struct Key {
    id: Option<String>,
    /// For whose tokens the set says that it is: no standard's, but Entra's.
    issuer: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// A shared secret, for HS256.
    pub(super) fn secret(secret: &[u8]) -> Result<Self, KeysError> {
        if secret.len() < MIN_SECRET {
            return Err(KeysError::Format("the secret is shorter than 32 bytes"));
        }
        let material = Material::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Ok(Self { id: None, issuer: None, algorithm: Algorithm::Hs256, material })
    }

    /// The public key of a PEM file, once for each of `algorithms` that it fits.
    pub(super) fn from_pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Self>, KeysError> {
        let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(pem) else {
            return Err(KeysError::Format("no PUBLIC KEY in the PEM file"));
        };
        let keys: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| {
                let parsed = ParsedPublicKey::new(verification(*algorithm)?, der.as_ref()).ok()?;
                Some(Self {
                    id: None,
                    issuer: None,
                    algorithm: *algorithm,
                    material: Material::Public(parsed),
                })
            })
            .collect();
        if keys.is_empty() {
            return Err(KeysError::Format("the PEM file's key fits none of the rule's algorithms"));
        }
        Ok(keys)
    }

    /// The keys of a JWK Set. Keys that we cannot use are left out; a set without any is an error.
    pub(super) fn from_jwk_set(bytes: &[u8]) -> Result<Vec<Self>, KeysError> {
        let Ok(set) = json::object(bytes) else {
            return Err(KeysError::Format("the key set is not a JSON object"));
        };
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err(KeysError::Format("the key set has no list of keys"));
        };
        let keys: Vec<_> =
            list.iter().filter_map(Value::as_object).flat_map(Self::from_jwk).collect();
        if keys.is_empty() {
            return Err(KeysError::Format("the key set has no key that can be used"));
        }
        Ok(keys)
    }

    /// The key id in the key set.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whose tokens the key may sign, if its set says so.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The one algorithm that the key is for.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// One key an algorithm, for each that the JWK's own words allow (RFC 7517, section 4).
    fn from_jwk(jwk: &Map<String, Value>) -> Vec<Self> {
        let Some(allowed) = allowed_algorithms(jwk) else {
            return Vec::new();
        };
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Vec::new(),
        };
        let issuer = jwk.get("issuer").and_then(Value::as_str).map(str::to_owned);
        allowed
            .into_iter()
            .filter_map(|algorithm| {
                let material = Material::Public(public_key(jwk, algorithm)?);
                Some(Self { id: id.clone(), issuer: issuer.clone(), algorithm, material })
            })
            .collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What `kty`, `crv`, `alg`, `use` and `key_ops` leave. None when the key is not to be used.
///
/// A symmetric key (`oct`) in a set is never used: a secret comes from the configuration alone. Nor
/// is a key that was published together with its private half.
fn allowed_algorithms(jwk: &Map<String, Value>) -> Option<Vec<Algorithm>> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let of_type = match (text("kty")?, text("crv")) {
        ("RSA", None) => vec![Algorithm::Rs256, Algorithm::Ps256],
        ("EC", Some("P-256")) => vec![Algorithm::Es256],
        ("OKP", Some("Ed25519")) => vec![Algorithm::EdDsa],
        _ => return None,
    };
    let is_private = jwk.contains_key("d");
    let is_for_signatures = jwk.get("use").is_none_or(|value| value == "sig");
    let is_for_verifying = jwk.get("key_ops").is_none_or(|value| {
        value.as_array().is_some_and(|list| list.iter().any(|operation| operation == "verify"))
    });
    if is_private || !is_for_signatures || !is_for_verifying {
        return None;
    }
    match jwk.get("alg") {
        None => Some(of_type),
        Some(name) => {
            let only = algorithm_of(name.as_str()?)?;
            of_type.contains(&only).then(|| vec![only])
        }
    }
}

/// Parses the key's numbers (RFC 7518, section 6; RFC 8037, section 2).
fn public_key(jwk: &Map<String, Value>, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    match algorithm {
        Algorithm::Hs256 => None,
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let (n, e) = (number("n")?, number("e")?);
            if n.len() < MIN_RSA_MODULUS {
                return None;
            }
            let padding = match algorithm {
                Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                Algorithm::Hs256 | Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => {
                    &RSA_PKCS1_2048_8192_SHA256
                }
            };
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(padding).ok()
        }
        Algorithm::Es256 => {
            let (x, y) = (number("x")?, number("y")?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            // The uncompressed point of SEC 1, section 2.3.3.
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()
        }
        Algorithm::EdDsa => {
            let x = number("x").filter(|x| x.len() == 32)?;
            ParsedPublicKey::new(&ED25519, x).ok()
        }
    }
}

/// How a public key's signatures are verified. None for the algorithm that has no public key.
fn verification(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::Hs256 => None,
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
        Algorithm::EdDsa => Some(&ED25519),
    }
}
