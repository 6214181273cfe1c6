//! TLS for NBD clients and between nodes: certificates, key and CA from PEM files into rustls' settings.
//!
//! A directory is read in the layout of QEMU and libnbd: `server-cert.pem`, `server-key.pem`, and, when
//! clients must prove themselves, `ca-cert.pem`. Its one rule: every error names the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

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

    /// Reads the files, for clients of NBD.
    pub fn load(&self) -> Result<Arc<ServerConfig>, Wrong> {
        self.server(rustls::DEFAULT_VERSIONS).map(Arc::new)
    }

    /// The same for links that peers dial: each link proves anew who both ends are.
    pub fn load_link_server(&self) -> Result<Arc<ServerConfig>, Wrong> {
        let mut config = self.server(&[&TLS13])?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// For links that this node dials; the same CA signs the certificates of all nodes.
    pub fn load_link_client(&self) -> Result<Arc<ClientConfig>, Wrong> {
        let (chain, key) = self.identity()?;
        let roots = self.client_ca.as_deref().map_or_else(|| Ok(RootCertStore::empty()), roots)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the ring provider has TLS 1.3")
            .with_root_certificates(roots);
        let mut config = builder.with_client_auth_cert(chain, key).map_err(|error| self.unfit(&error))?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Whether the certificate is that of the node called `name`.
    pub fn check_name(&self, name: &str) -> Result<(), Wrong> {
        let nameless = |_| {
            let cause = format!("the node's name, `{name}`, cannot stand in a certificate");
            Wrong::new(cause, "give the node a name that is a host's, or do without TLS between nodes")
        };
        let server_name = ServerName::try_from(name).map_err(nameless)?;
        let path = &self.certificate;
        let own = certificates(path)?.into_iter().next().expect("there is at least one");
        let parsed =
            ParsedCertificate::try_from(&own).map_err(|error| unreadable("the certificate", path, &error))?;
        verify_server_name(&parsed, &server_name).map_err(|_| {
            let cause = format!("the certificate {} is not that of the node `{name}`", path.display());
            Wrong::new(
                cause,
                format!("name one with the DNS name {name} among its subject alternative names"),
            )
        })
    }

    fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<ServerConfig, Wrong> {
        let (chain, key) = self.identity()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the ring provider has all versions");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(path)?.into(), provider())
                    .build()
                    .map_err(|error| unreadable("the client CA", path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        builder.with_single_cert(chain, key).map_err(|error| self.unfit(&error))
    }

    fn identity(&self) -> Result<Identity, Wrong> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unreadable("the private key", &self.key, &error))?;
        Ok((chain, key))
    }

    fn unfit(&self, error: &rustls::Error) -> Wrong {
        let cause = format!("{} and {} do not fit: {error}", self.certificate.display(), self.key.display());
        Wrong::new(cause, "name a certificate and the key that it was made for")
    }
}

/// Who one is: a chain of certificates, and the key of the first.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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
