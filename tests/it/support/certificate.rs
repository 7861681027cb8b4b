//! Certificates for one test: files in a folder of their own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority, and a folder for what it signs; both go with the value.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// The files of one certificate and its key.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("cloison-it-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let authority = Self { issuer, folder };
        authority.write("ca.crt", &authority.issuer.pem());
        authority
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Signs a certificate for a host, or for a role.
    pub(crate) fn sign(&self, name: &str) -> Files {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Files {
            certificate: self.write(&format!("{name}.crt"), &certificate.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    /// A certificate of X.509 version 1, which `openssl x509 -req` makes where it is given no
    /// extensions.
    pub(crate) fn self_signed_version_1(&self, name: &str) -> Files {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = self.write(&format!("{name}.csr"), &request);
        let key = self.write(&format!("{name}.key"), &key.serialize_pem());
        let certificate = self.write(&format!("{name}.crt"), "");
        let made = std::process::Command::new("openssl")
            .args(["x509", "-req", "-days", "2", "-in"])
            .arg(request)
            .arg("-signkey")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Newer versions of openssl may add extensions, and with them version 3.
        let mut shown = std::process::Command::new("openssl");
        shown.args(["x509", "-noout", "-text", "-in"]).arg(&certificate);
        let shown = String::from_utf8(shown.output().unwrap().stdout).unwrap();
        assert!(shown.contains("Version: 1 "), "{shown}");
        Files { certificate, key }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Authority {
    /// Hands a file to whom a cluster runs as when the tests run as root.
    pub(crate) fn give_away(&self, path: &Path) {
        use std::os::unix::fs::{MetadataExt, chown};
        let Ok(account) = std::fs::metadata(crate::support::postgres::data_dir()) else { return };
        // Whoever is not root runs its clusters itself.
        let _ = chown(path, Some(account.uid()), Some(account.gid()));
    }
}

impl Files {
    /// The lines of a configuration that show this certificate to clients.
    pub(crate) fn client_tls(&self, mode: &str) -> String {
        let show = |path: &Path| path.display().to_string();
        format!(
            "client_tls_sslmode = \"{mode}\"\nclient_tls_cert_file = \"{}\"\nclient_tls_key_file = \"{}\"",
            show(&self.certificate),
            show(&self.key)
        )
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
