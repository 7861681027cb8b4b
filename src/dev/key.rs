//! A development signing key: ES256, kept in a file that only its owner reads.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use crate::files::write_private;
use crate::types::Secret;

/// Why a signing key cannot be made, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a PKCS#8 PEM with a P-256 key, such as `cloison dev` makes.
    #[error("{} is not a P-256 private key in PKCS#8 PEM", .0.display())]
    Format(PathBuf),
    /// The file cannot be read.
    #[error("could not read the signing key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cryptographic library refused.
    #[error("could not {0}")]
    Refused(&'static str),
    /// The file cannot be written.
    #[error("could not write the signing key {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A private key that signs development tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    /// The thumbprint of RFC 7638, under which the public key is published.
    id: String,
}

impl SigningKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, Error> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| Error::Refused("generate a signing key"))
            .map(Self::new)
    }

    /// Reads a key that [`SigningKey::save`], or `openssl genpkey`, wrote.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let pem = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| Error::Format(path.to_owned()))?;
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
            .map_err(|_| Error::Format(path.to_owned()))
            .map(Self::new)
    }

    /// Reads the key of the file, or makes one and keeps it there.
    pub fn load_or_generate(path: &Path) -> Result<Self, Error> {
        match Self::load(path) {
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                key.save(path)?;
                Ok(key)
            }
            outcome => outcome,
        }
    }

    fn new(pair: EcdsaKeyPair) -> Self {
        let (x, y) = coordinates(&pair);
        // RFC 7638, section 3: the required members in alphabetical order, without blanks.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = encode(digest::digest(&digest::SHA256, members.as_bytes()));
        Self { pair, id }
    }

    /// Writes the key for its owner's eyes only: the whole file appears at once, or not at all.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let der = self.pair.to_pkcs8v1().map_err(|_| Error::Refused("encode the signing key"))?;
        write_private(path, to_pem("PRIVATE KEY", der.as_ref()).as_bytes())
            .map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    /// The key id that tokens name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half as a JWK Set.
    pub fn jwks(&self) -> Value {
        let (x, y) = coordinates(&self.pair);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "x": x, "y": y,
            "kid": self.id, "use": "sig", "alg": "ES256",
        }]})
    }

    /// The public half as PEM.
    pub fn public_pem(&self) -> Result<String, Error> {
        let der = self.pair.public_key().as_der();
        let der = der.map_err(|_| Error::Refused("encode the public key"))?;
        Ok(to_pem("PUBLIC KEY", der.as_ref()))
    }

    /// Signs `claims` as they are.
    pub fn mint(&self, claims: &Map<String, Value>) -> Result<String, Error> {
        let signed = to_be_signed(&json!({"alg": "ES256", "kid": self.id, "typ": "JWT"}), claims);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| Error::Refused("sign the token"))?;
        Ok(format!("{signed}.{}", encode(signature)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Signs `claims` as they are with a secret that the proxy has, too: HS256 (RFC 7518, section 3.2).
pub fn mint_with_secret(secret: &Secret<Vec<u8>>, claims: &Map<String, Value>) -> String {
    let signed = to_be_signed(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// What the signature is about (RFC 7515, section 5.1).
pub(super) fn to_be_signed(header: &Value, claims: &Map<String, Value>) -> String {
    format!("{}.{}", encode(header.to_string()), encode(Value::Object(claims.clone()).to_string()))
}

/// The public point's coordinates, base64url.
fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    // SEC 1, section 2.3.3: one byte that says "uncompressed", then x and y of equal length.
    let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    (encode(x), encode(y))
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Lines of 64 characters between two labels (RFC 7468, section 2).
fn to_pem(label: &str, der: &[u8]) -> String {
    let mut lines = format!("-----BEGIN {label}-----\n");
    for (position, character) in BASE64_STANDARD.encode(der).chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines.push_str(&format!("\n-----END {label}-----\n"));
    lines
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that is gone when the test is over.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("cloison-key-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_saved_key_is_private_and_comes_back_the_same() {
        let folder = Folder::new();
        let path = folder.0.join("signing-key.pem");
        let key = SigningKey::load_or_generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
        let again = SigningKey::load_or_generate(&path).unwrap();
        assert_eq!(again.jwks(), key.jwks());
        assert!(fs::read_to_string(&path).unwrap().lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let folder = Folder::new();
        let path = folder.0.join("signing-key.pem");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(SigningKey::load_or_generate(&path), Err(Error::Format(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_key_id_is_the_thumbprint_of_the_jwk() {
        let key = SigningKey::generate().unwrap();
        let jwk = key.jwks()["keys"][0].clone();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
        let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        assert_eq!(thumbprint, key.id());
    }

    #[test]
    fn keys_do_not_print() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id()));
    }
}
