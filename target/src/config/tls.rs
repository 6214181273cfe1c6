//! TLS for NBD clients: certificates, key and client CA from PEM files into rustls' settings.
//!
//! A directory is read in the layout of QEMU and libnbd: `server-cert.pem`, `server-key.pem`, and, when
//! clients must prove themselves, `ca-cert.pem`. Its one rule: every error names the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::mistake::Wrong;

/// Where the pieces are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, its chain after it.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Who signs clients' certificates; with it, clients must present one.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// The pieces of a directory as QEMU and libnbd lay it out.
    pub fn in_directory(directory: &Path, verify_clients: bool) -> TlsFiles {
        TlsFiles {
            certificate: directory.join("server-cert.pem"),
            key: directory.join("server-key.pem"),
            client_ca: verify_clients.then(|| directory.join("ca-cert.pem")),
        }
    }

    /// Changes when the certificates do: the files' certificates, one after the other.
    pub fn fingerprint(&self) -> Vec<u8> {
        let files = [Some(&self.certificate), self.client_ca.as_ref()];
        let read = files.into_iter().flatten().filter_map(|path| std::fs::read(path).ok());
        read.flatten().collect()
    }

    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, Wrong> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unreadable("the private key", &self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the ring provider has the default versions");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(path)?.into(), provider)
                    .build()
                    .map_err(|error| unreadable("the client CA", path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| {
            let cause =
                format!("{} and {} do not fit: {error}", self.certificate.display(), self.key.display());
            Wrong::new(cause, "name a certificate and the key that it was made for")
        })?;
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable("the certificate", path, &error))?;
    if chain.is_empty() {
        return Err(Wrong::new(
            format!("{} holds no certificate", path.display()),
            "name a PEM file with a certificate",
        ));
    }
    Ok(chain)
}

fn roots(path: &Path) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unreadable("the client CA", path, &error))?;
    }
    Ok(roots)
}

fn unreadable(what: &str, path: &Path, error: &dyn std::error::Error) -> Wrong {
    let cause = format!("{what} {} cannot be used: {error}", path.display());
    Wrong::new(cause, "name a readable PEM file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = TlsFiles::in_directory(directory.path(), false);
        assert!(files.load().expect_err("nothing there").to_string().contains("server-cert.pem"));
        std::fs::write(&files.certificate, "not PEM").expect("written");
        let error = files.load().expect_err("no certificate").to_string();
        assert!(error.contains("server-cert.pem holds no certificate"), "{error}");
    }

    fn write_pair(directory: &Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let (certificate, key) =
            (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        TlsFiles { certificate, key, client_ca: None }
    }

    #[test]
    fn a_certificate_loads_with_its_own_key_only() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (one, other) = (write_pair(directory.path(), "one"), write_pair(directory.path(), "other"));
        one.load().expect("it fits");
        TlsFiles { client_ca: Some(other.certificate.clone()), ..one.clone() }
            .load()
            .expect("with a client CA");
        let error = TlsFiles { key: other.key.clone(), ..one.clone() }.load().expect_err("it does not fit");
        assert!(error.to_string().contains("do not fit"), "{error}");
        let error = TlsFiles { key: one.certificate.clone(), ..one.clone() }.load().expect_err("no key");
        assert!(error.to_string().contains("the private key"), "{error}");
        assert_ne!(one.fingerprint(), other.fingerprint());
    }
}
