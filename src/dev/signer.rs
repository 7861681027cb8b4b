//! Keys that others have made, which sign tokens for a try: RSA, P-256 and Ed25519.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::key::{encode, to_be_signed};
use crate::config::Algorithm;

/// The keys that can sign.
pub const CAN_SIGN: &str = "an RSA key of 2048 to 8192 bits (RS256, PS256), a P-256 key (ES256) or \
     an Ed25519 key (EdDSA), in PEM and not encrypted";

/// Why a key does not sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key signs by another algorithm.
    #[error("the key in {} does not sign {wanted}, but {can}", file.display())]
    Algorithm {
        /// The file.
        file: PathBuf,
        /// The algorithm that was asked for.
        wanted: &'static str,
        /// The algorithms of the key.
        can: &'static str,
    },
    /// The file holds something else.
    #[error("{} holds {found}; to sign takes {CAN_SIGN}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// The kind of thing that it seems to hold.
        found: &'static str,
    },
    /// The file cannot be read.
    #[error("could not read the signing key {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cryptographic library refused.
    #[error("could not sign the token")]
    Refused,
}

/// A private key and the algorithm that it signs by.
pub struct Signer {
    pair: Pair,
    algorithm: Algorithm,
    id: Option<String>,
}

enum Pair {
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Pair {
    /// Whatever of the three the file holds.
    fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        match &der {
            PrivateKeyDer::Pkcs1(der) => {
                let rsa = RsaKeyPair::from_der(der.secret_pkcs1_der()).ok();
                rsa.map(|pair| Self::Rsa(Box::new(pair)))
            }
            PrivateKeyDer::Sec1(der) => {
                let ec = EcdsaKeyPair::from_private_key_der(p256, der.secret_sec1_der()).ok();
                ec.map(|pair| Self::Ec(Box::new(pair)))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(Box::new).map(Self::Rsa);
                let ec = || EcdsaKeyPair::from_pkcs8(p256, der).ok().map(Box::new).map(Self::Ec);
                let ed = || Ed25519KeyPair::from_pkcs8(der).ok().map(Box::new).map(Self::Ed);
                rsa().or_else(ec).or_else(ed)
            }
            _ => None,
        }
    }

    /// Its algorithms, the usual one first, and the same in words.
    const fn algorithms(&self) -> (&'static [Algorithm], &'static str) {
        match self {
            Self::Ec(_) => (&[Algorithm::Es256], "ES256"),
            Self::Ed(_) => (&[Algorithm::EdDsa], "EdDSA"),
            Self::Rsa(_) => (&[Algorithm::Rs256, Algorithm::Ps256], "RS256 or PS256"),
        }
    }
}

impl Signer {
    /// Reads a key in PEM: PKCS#8, PKCS#1 or SEC 1. Without an algorithm it signs by its usual one;
    /// `id` is what its tokens name it by.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, holds something else, or does not sign that.
    pub fn load(
        file: &Path,
        algorithm: Option<Algorithm>,
        id: Option<String>,
    ) -> Result<Self, Error> {
        let file = file.to_owned();
        let pem = match fs::read(&file) {
            Ok(pem) => pem,
            Err(source) => return Err(Error::Read { file, source }),
        };
        let Some(pair) = Pair::from_pem(&pem) else {
            return Err(Error::Format { file, found: seems(&pem) });
        };
        let (algorithms, can) = pair.algorithms();
        let wanted = algorithm.or_else(|| algorithms.first().copied());
        match wanted.filter(|wanted| algorithms.contains(wanted)) {
            Some(algorithm) => Ok(Self { pair, algorithm, id }),
            None => {
                let wanted = algorithm.map_or("", Algorithm::as_str);
                Err(Error::Algorithm { file, wanted, can })
            }
        }
    }

    /// Signs `claims` as they are.
    ///
    /// # Errors
    ///
    /// Fails as the cryptographic library does.
    pub fn mint(&self, claims: &Map<String, Value>) -> Result<String, Error> {
        let mut header = json!({"alg": self.algorithm.as_str(), "typ": "JWT"});
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        let signed = to_be_signed(&header, claims);
        let signature = self.sign(signed.as_bytes()).map_err(|_| Error::Refused)?;
        Ok(format!("{signed}.{}", encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Ed(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                match self.algorithm {
                    Algorithm::Ps256 => {
                        pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)?;
                    }
                    Algorithm::Rs256 | Algorithm::Hs256 | Algorithm::Es256 | Algorithm::EdDsa => {
                        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                    }
                }
                Ok(signature)
            }
        }
    }
}

/// A file that holds no key to sign with: what it holds, by its label.
fn seems(pem: &[u8]) -> &'static str {
    let has = |label: &str| {
        let label = format!("-----BEGIN {label}-----");
        pem.windows(label.len()).any(|window| window == label.as_bytes())
    };
    if has("ENCRYPTED PRIVATE KEY") || pem.windows(9).any(|window| window == b"ENCRYPTED") {
        "an encrypted key (`openssl pkey -in … -out …` writes it without)"
    } else if has("PUBLIC KEY") || has("RSA PUBLIC KEY") {
        "a public key, which only verifies"
    } else if has("CERTIFICATE") {
        "a certificate, which only verifies"
    } else if has("OPENSSH PRIVATE KEY") {
        "a key of OpenSSH's own form"
    } else if has("PRIVATE KEY") || has("RSA PRIVATE KEY") || has("EC PRIVATE KEY") {
        "a private key of another kind or size"
    } else {
        "no private key in PEM"
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::KeyPair;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::auth::{self, TenantClaim, Tenants};
    use crate::config;
    use crate::types::Access;

    /// A folder that is gone when the test is over.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("cloison-sign-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn pem(&self, label: &str, der: &[u8]) -> PathBuf {
            let name = format!("{}-{}.pem", label.replace(' ', "-"), uuid::Uuid::new_v4());
            let body = BASE64_STANDARD.encode(der);
            let file = self.0.join(name);
            fs::write(&file, format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"))
                .unwrap();
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Files of private keys in each form, what they sign, and the file of the public half.
    fn keys(folder: &Folder) -> Vec<(PathBuf, &'static [Algorithm], PathBuf)> {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa_der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
        // PKCS#8 wraps PKCS#1: version, algorithm, and an octet string, whose heads are 26 bytes.
        let pkcs1 = &rsa_der.as_ref()[26..];
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let sec1: EcPrivateKeyRfc5915Der<'_> = ec.private_key().as_der().unwrap();
        let ed = Ed25519KeyPair::generate().unwrap();
        let ed_der: Pkcs8V1Der<'_> = ed.as_der().unwrap();
        let ed_public = ed.public_key().as_der().unwrap();
        let public = |der: &[u8]| folder.pem("PUBLIC KEY", der);
        let rsa_public = public(rsa_public.as_ref());
        let ec_public = public(ec.public_key().as_der().unwrap().as_ref());
        let rsa_signs: &[Algorithm] = &[Algorithm::Rs256, Algorithm::Ps256];
        vec![
            (folder.pem("PRIVATE KEY", rsa_der.as_ref()), rsa_signs, rsa_public.clone()),
            (folder.pem("RSA PRIVATE KEY", pkcs1), rsa_signs, rsa_public),
            (
                folder.pem("PRIVATE KEY", ec.to_pkcs8v1().unwrap().as_ref()),
                &[Algorithm::Es256],
                ec_public.clone(),
            ),
            (folder.pem("EC PRIVATE KEY", sec1.as_ref()), &[Algorithm::Es256], ec_public),
            (
                folder.pem("PRIVATE KEY", ed_der.as_ref()),
                &[Algorithm::EdDsa],
                public(ed_public.as_ref()),
            ),
        ]
    }

    /// By an implementation that is not ours.
    fn verifies(token: &str, algorithm: Algorithm, public: &Path) -> bool {
        let pem = fs::read(public).unwrap();
        let (algorithm, key) = match algorithm {
            Algorithm::Rs256 => (jsonwebtoken::Algorithm::RS256, DecodingKey::from_rsa_pem(&pem)),
            Algorithm::Ps256 => (jsonwebtoken::Algorithm::PS256, DecodingKey::from_rsa_pem(&pem)),
            Algorithm::Es256 => (jsonwebtoken::Algorithm::ES256, DecodingKey::from_ec_pem(&pem)),
            Algorithm::EdDsa => (jsonwebtoken::Algorithm::EdDSA, DecodingKey::from_ed_pem(&pem)),
            Algorithm::Hs256 => unreachable!("no key pair's"),
        };
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["us"]);
        jsonwebtoken::decode::<Value>(token, &key.unwrap(), &validation).is_ok()
    }

    #[tokio::test]
    async fn each_form_of_each_key_signs_what_both_verifiers_accept() {
        let folder = Folder::new();
        let now = SystemTime::now();
        let end = (now + Duration::from_secs(60)).duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": "me", "aud": "us", "exp": end, "tenant_id": "acme"});
        let claims = claims.as_object().unwrap();
        let mut minted = Vec::new();
        for (file, algorithms, public) in keys(&folder) {
            for algorithm in algorithms {
                let signer = Signer::load(&file, Some(*algorithm), Some("k1".to_owned())).unwrap();
                let token = signer.mint(claims).unwrap();
                assert!(verifies(&token, *algorithm, &public), "{algorithm:?} {file:?}");
                let header = jsonwebtoken::decode_header(&token).unwrap();
                assert_eq!(header.kid.as_deref(), Some("k1"));
                let text = format!(
                    "[control]\nuser = 'c'\n[pools.tenant]\nuser = 't'\n[server]\ndatabase = 'd'\n\
                     [issuers.app]\nissuer = 'me'\naudience = 'us'\ntenant_lookup = ['slug']\n\
                     algorithms = ['{}']\npublic_key_file = '{}'\n",
                    algorithm.as_str(),
                    public.display()
                );
                let rules = config::parse(&text, std::iter::empty()).unwrap().issuers;
                let verifier = auth::Verifier::new(&rules).unwrap();
                let proven = verifier.verify(&token, Access::Tenant, now).await.unwrap();
                let only = proven.tenants().and_then(Tenants::only).map(TenantClaim::value);
                assert_eq!(only, Some("acme"), "{algorithm:?} {file:?}");
                minted.push((token, *algorithm, public.clone()));
            }
            // The usual one, and no name that nobody asked for.
            let signer = Signer::load(&file, None, None).unwrap();
            let token = signer.mint(claims).unwrap();
            assert!(verifies(&token, algorithms[0], &public));
            assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid, None);
        }
        assert_eq!(minted.len(), 7);
        // Another's signature is not taken for one's own.
        let (token, ..) = &minted[0];
        assert!(!verifies(token, Algorithm::Ps256, &minted[0].2));
        let stranger = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public: PublicKeyX509Der<'_> = stranger.public_key().as_der().unwrap();
        assert!(!verifies(token, Algorithm::Rs256, &folder.pem("PUBLIC KEY", public.as_ref())));
    }

    #[test]
    fn what_cannot_sign_is_told_with_what_can() {
        let folder = Folder::new();
        let keys = keys(&folder);
        let told = |file: &Path, algorithm| match Signer::load(file, algorithm, None) {
            Ok(_) => panic!("it signs"),
            Err(error) => error.to_string(),
        };
        let (rsa, ec, public) = (&keys[0].0, &keys[2].0, &keys[0].2);
        let wrong = told(rsa, Some(Algorithm::Es256));
        assert!(wrong.ends_with("does not sign ES256, but RS256 or PS256"), "{wrong}");
        let wrong = told(ec, Some(Algorithm::Rs256));
        assert!(wrong.ends_with("does not sign RS256, but ES256"), "{wrong}");
        let plain = |name: &str, text: &str| {
            let file = folder.0.join(name);
            fs::write(&file, text).unwrap();
            file
        };
        for (file, found) in [
            (public.clone(), "a public key"),
            (plain("x", "precious"), "no private key in PEM"),
            (folder.pem("CERTIFICATE", b"x"), "a certificate"),
            (folder.pem("ENCRYPTED PRIVATE KEY", b"x"), "an encrypted key"),
            (folder.pem("PRIVATE KEY", b"x"), "a private key of another kind or size"),
        ] {
            let told = told(&file, None);
            assert!(told.contains(found) && told.ends_with(CAN_SIGN), "{told}");
        }
        assert!(told(&folder.0.join("none"), None).starts_with("could not read the signing key"));
    }
}
