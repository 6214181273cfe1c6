//! What nodes prove who they are with under TLS: one authority and one certificate a node, for the whole process.
//!
//! Its one rule: all is signed by Ed25519, whose signatures are of one length: the same seed sends as many bytes.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519,
};
use ringsan::config::mistake::Wrong;
use ringsan::config::tls::TlsFiles;
use ringsan::settings::LinkTls;

use crate::plan::NAMES;

/// That of the node with this number.
pub fn link_tls(host: usize) -> LinkTls {
    static MADE: OnceLock<Vec<LinkTls>> = OnceLock::new();
    MADE.get_or_init(|| make().expect("files of our own making"))[host].clone()
}

/// As nodes load theirs: from files.
fn make() -> io::Result<Vec<LinkTls>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let key = || KeyPair::generate_for(&PKCS_ED25519).map_err(io::Error::other);
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = key()?;
    std::fs::write(folder.join("ca"), ca.self_signed(&ca_key).map_err(io::Error::other)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    NAMES.iter().map(|name| link_tls_of(folder, name, &key()?, &issuer)).collect()
}

fn link_tls_of(
    folder: &Path,
    name: &str,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
) -> io::Result<LinkTls> {
    let mut params = CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
    params.serial_number = Some(vec![1, name.as_bytes()[0]].into());
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let [certificate, key_file] = ["crt", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
    std::fs::write(&certificate, params.signed_by(key, issuer).map_err(io::Error::other)?.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    let files = TlsFiles { certificate, key: key_file, client_ca: Some(folder.join("ca")) };
    let load = || Ok(LinkTls { server: files.load_link_server()?, client: files.load_link_client()? });
    load().map_err(|wrong: Wrong| io::Error::other(wrong.to_string()))
}
