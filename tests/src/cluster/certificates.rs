//! Certificates of nodes, each for its name and for both ends of a link, by one authority.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A folder with `ca.pem`, and NAME.pem and NAME.key of each node.
pub struct NodeCertificates(PathBuf);

impl NodeCertificates {
    /// A new authority, and a certificate for each of these names.
    pub fn make(folder: &Path, names: &[&str]) -> Result<NodeCertificates> {
        fs::create_dir_all(folder)?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate()?;
        fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
        let issuer = Issuer::new(ca, ca_key);
        for name in names {
            let mut params = CertificateParams::new([(*name).to_owned()])?;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &issuer)?.pem())?;
            let path = folder.join(format!("{name}.key"));
            fs::write(&path, key.serialize_pem())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(NodeCertificates(folder.to_owned()))
    }

    /// The lines of `[mirror]` for the node of this name, which shows what `authority` trusts.
    pub fn lines(&self, name: &str, authority: &NodeCertificates) -> String {
        let file = |folder: &Path, file: String| folder.join(file).display().to_string();
        format!(
            "tls_certificate = {:?}\ntls_key = {:?}\ntls_ca = {:?}",
            file(&self.0, format!("{name}.pem")),
            file(&self.0, format!("{name}.key")),
            file(&authority.0, "ca.pem".to_owned()),
        )
    }
}
