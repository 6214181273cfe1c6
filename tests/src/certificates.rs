//! A certificate authority for one test, in the files that libnbd, qemu and ringsan expect.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A folder with `ca-cert.pem`, `server-cert.pem`, `server-key.pem`, `client-cert.pem`, `client-key.pem`.
pub struct Certificates(PathBuf);

impl Certificates {
    /// A new authority, a server certificate for localhost and its addresses, and a client certificate, in `folder`.
    pub fn make(folder: &Path) -> Result<Certificates> {
        fs::create_dir_all(folder)?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "test authority");
        let ca_key = KeyPair::generate()?;
        fs::write(folder.join("ca-cert.pem"), ca.self_signed(&ca_key)?.pem())?;
        let issuer = Issuer::new(ca, ca_key);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        leaf(folder, "server", CertificateParams::new(names)?, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
        leaf(
            folder,
            "client",
            CertificateParams::new(Vec::new())?,
            ExtendedKeyUsagePurpose::ClientAuth,
            &issuer,
        )?;
        Ok(Certificates(folder.to_owned()))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Leaves only the authority's certificate: a client that can check the server and has none to show.
    pub fn without_client(self) -> Result<Certificates> {
        fs::remove_file(self.file("client-cert.pem"))?;
        fs::remove_file(self.file("client-key.pem"))?;
        Ok(self)
    }
}

fn leaf(
    folder: &Path,
    name: &str,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<()> {
    params.distinguished_name.push(DnType::CommonName, format!("test {name}"));
    params.extended_key_usages.push(usage);
    let key = KeyPair::generate()?;
    fs::write(folder.join(format!("{name}-cert.pem")), params.signed_by(&key, issuer)?.pem())?;
    fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem())?;
    Ok(())
}
