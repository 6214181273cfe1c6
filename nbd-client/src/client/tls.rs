//! From a URI's TLS parameters to what rustls wants: whom to trust, who we are, whom we expect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Kind};
use crate::uri::{Address, Endpoint, Tls};

/// Where distributions keep the authorities that everybody trusts.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What rustls is to do for connections to `endpoint`; `None` where TLS is not wanted.
pub(super) fn config(endpoint: &Endpoint) -> Result<Option<Arc<ClientConfig>>, Error> {
    let Some(tls) = &endpoint.tls else { return Ok(None) };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::caused(Kind::Tls, "TLS cannot be set up", error))?;
    let builder = if tls.verify_peer {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), provider).build();
        let verifier = verifier
            .map_err(|error| Error::caused(Kind::Tls, "the certificate authorities cannot be used", error))?;
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody { provider }))
    };
    let config = match identity(tls)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Error::caused(Kind::Tls, "the client's certificate and key cannot be used", error)
        })?,
    };
    Ok(Some(Arc::new(config)))
}

/// The name that the server's certificate must have.
pub(super) fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, Error> {
    let tls = endpoint.tls.as_ref();
    let name = match (tls.and_then(|tls| tls.hostname.as_deref()), &endpoint.address) {
        (Some(name), _) => name,
        (None, Address::Tcp { host, .. }) => host,
        // Nobody looks at it then.
        (None, Address::Unix(_)) if tls.is_some_and(|tls| !tls.verify_peer) => "localhost",
        (None, Address::Unix(_)) => {
            let what = "a server on a unix socket has no name for its certificate";
            return Err(Error::new(Kind::Tls, what).remedy("add tls-hostname=NAME to the URI"));
        }
    };
    let owned = ServerName::try_from(name.to_owned());
    owned.map_err(|_| Error::new(Kind::Tls, format!("{name:?} is no host name for a certificate")))
}

fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let path = match &tls.certificates {
        Some(folder) => folder.join("ca-cert.pem"),
        None => system_bundle()?,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&path)? {
        // System bundles have some that rustls does not take.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        let what = format!("{} holds no certificate authority that can be used", path.display());
        return Err(Error::new(Kind::Tls, what));
    }
    Ok(roots)
}

fn system_bundle() -> Result<PathBuf, Error> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
    named.or(known).ok_or_else(|| {
        Error::new(Kind::Tls, "this system has no list of certificate authorities")
            .remedy("name a folder with ca-cert.pem: tls-certificates=FOLDER")
    })
}

type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Who we are; `None` if the folder does not say.
fn identity(tls: &Tls) -> Result<Option<ClientIdentity>, Error> {
    let Some(folder) = &tls.certificates else { return Ok(None) };
    let (chain, key) = (folder.join("client-cert.pem"), folder.join("client-key.pem"));
    match (chain.exists(), key.exists()) {
        (false, false) => return Ok(None),
        (true, true) => {}
        (true, false) => return Err(half_identity(&chain, &key)),
        (false, true) => return Err(half_identity(&key, &chain)),
    }
    let key_der = PrivateKeyDer::from_pem_file(&key).map_err(|error| unreadable(&key, error))?;
    Ok(Some((certificates(&chain)?, key_der)))
}

fn half_identity(there: &Path, missing: &Path) -> Error {
    let what = format!("{} is there, but not {}", there.display(), missing.display());
    Error::new(Kind::Tls, what).remedy("provide both, or neither to be nobody in particular")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: rustls::pki_types::pem::Error) -> Error {
    let what = format!("{} cannot be read as PEM", path.display());
    Error::caused(Kind::Tls, what, error).remedy(
        "see that tls-certificates names the folder of the PEM files, and that this user may read them",
    )
}

/// tls-verify-peer=0: encrypted, with whoever answers.
#[derive(Debug)]
struct TrustAnybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
