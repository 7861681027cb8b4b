//! rustls configurations, made from files: one towards clients, one a login towards Postgres.

mod url;
mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{ClientTls, ServerTlsMode, TlsIdentity};

pub use url::{Encrypted, Options, Tls, ToHost, UrlError, parse as parse_url};

/// The protocol's name in TLS (ALPN), demanded where TLS starts without an `SSLRequest`.
pub const ALPN: &[u8] = b"postgresql";

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing, unreadable or not PEM.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file has no certificate where one is due.
    #[error("{0} has no certificate")]
    Empty(PathBuf),
    /// A private key that is another certificate's.
    #[error(
        "the private key {} does not belong to the certificate {}",
        .0.key_file.display(), .0.certificate_file.display()
    )]
    Mismatch(Box<TlsIdentity>),
    /// rustls does not accept what a certificate's or a key's file holds.
    #[error(
        "the certificate {} with the key {} is not usable",
        .0.certificate_file.display(), .0.key_file.display()
    )]
    Identity(Box<TlsIdentity>, #[source] Box<rustls::Error>),
    /// rustls does not accept what a file of authorities holds.
    #[error("the certificate authorities are not usable")]
    Rustls(#[from] rustls::Error),
    /// The authorities cannot be used to verify anything.
    #[error("the certificate authorities are not usable")]
    Authorities(#[from] rustls::client::VerifierBuilderError),
}

/// How to answer clients that ask for TLS; `None` when there is no certificate to show.
///
/// # Errors
///
/// Fails when the files of `tls` cannot be used.
pub fn acceptor(tls: &ClientTls) -> Result<Option<TlsAcceptor>, Error> {
    let Some(identity) = &tls.identity else {
        return Ok(None);
    };
    let (chain, key) = load(identity)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unfit(identity, error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// How to start TLS towards Postgres; `None` when the mode says never.
///
/// # Errors
///
/// Fails when a file cannot be used.
pub fn connector(
    mode: ServerTlsMode,
    ca_file: Option<&Path>,
    identity: Option<&TlsIdentity>,
) -> Result<Option<TlsConnector>, Error> {
    let builder = ClientConfig::builder();
    let provider = Arc::clone(builder.crypto_provider());
    let builder = match mode {
        ServerTlsMode::Disable => return Ok(None),
        ServerTlsMode::Prefer | ServerTlsMode::Require => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
        ServerTlsMode::VerifyCa => builder.dangerous().with_custom_certificate_verifier(Arc::new(
            AnyName(WebPkiServerVerifier::builder(Arc::new(authorities(ca_file)?)).build()?),
        )),
        ServerTlsMode::VerifyFull => builder.with_root_certificates(authorities(ca_file)?),
    };
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = load(identity)?;
            let made = builder.with_client_auth_cert(chain, key);
            made.map_err(|error| unfit(identity, error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn load(
    identity: &TlsIdentity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = certificates(&identity.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key_file)
        .map_err(|source| Error::Read { path: identity.key_file.clone(), source })?;
    Ok((chain, key))
}

/// Until when every certificate of a chain is good; `None` if the chain does not say it in a way that
/// is understood here.
///
/// # Errors
///
/// Fails when the files cannot be used, or the key is another certificate's.
pub fn valid_until(identity: &TlsIdentity) -> Result<Option<SystemTime>, Error> {
    install_provider();
    let (chain, key) = load(identity)?;
    let end = chain.iter().map(|certificate| validity::end(certificate)).min().flatten();
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unfit(identity, error))?;
    Ok(end)
}

/// Names both files: which of them is the wrong one, nobody can say.
fn unfit(identity: &TlsIdentity, source: rustls::Error) -> Error {
    let identity = Box::new(identity.clone());
    if matches!(source, rustls::Error::InconsistentKeys(_)) {
        return Error::Mismatch(identity);
    }
    Error::Identity(identity, Box::new(source))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if chain.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(chain) }
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate)?;
            }
        }
        None => {
            // A system store with unreadable entries is still a store; an empty one trusts nobody.
            let _ = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

/// libpq's `sslmode=require`: encryption against listeners, not against impostors.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if is_unreadable(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if is_unreadable(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// True for a certificate that rustls cannot read, such as one of X.509 version 1.
///
/// Its signature over the handshake cannot be checked. Where no certificate is verified, an
/// impostor could show one of its own, so the check protects nothing there.
fn is_unreadable(cert: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(cert).is_err()
}

/// libpq's `sslmode=verify-ca`: the chain must hold, the name need not fit.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Makes aws-lc the cryptography of the whole process. Harmless when done twice.
pub fn install_provider() {
    // An error means that it was done before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
