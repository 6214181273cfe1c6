//! Where an export is: NBD URIs (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md>).
//!
//! ```
//! use nbd_client::{Address, Uri};
//!
//! let uri: Uri = "nbds://a,b:10810/db?tls-certificates=/etc/pki/nbd".parse()?;
//! assert_eq!(uri.endpoints().len(), 2);
//! assert_eq!(uri.endpoints()[1].address, Address::Tcp { host: "b".into(), port: 10810 });
//! assert_eq!(uri.endpoints()[1].export, "db");
//! # Ok::<(), nbd_client::Error>(())
//! ```
//! Its one rule: what is not understood is refused, with the word that was not.

mod parse;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// The port that IANA has assigned to NBD.
pub(crate) const PORT: u16 = 10809;

/// An export on one server, or on several that serve the same volume (`nbd://a,b,c/db`, our extension).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    endpoints: Vec<Endpoint>,
}

/// One export on one server. Its `Display` is the server alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where the server listens.
    pub address: Address,
    /// The export's name; empty for the server's default.
    pub export: String,
    /// How to use TLS, or not at all.
    pub tls: Option<Tls>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name or IP address, and a port.
    Tcp {
        /// The name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket; a path that begins with NUL is in the abstract namespace.
    Unix(PathBuf),
}

/// How to use TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The folder of `ca-cert.pem` and, to be known to the server, `client-cert.pem` and `client-key.pem`.
    /// Without one the system's authorities are trusted.
    pub certificates: Option<PathBuf>,
    /// The name that the server's certificate must have; `None` for the host's.
    pub hostname: Option<String>,
    /// Whether the server's certificate is looked at.
    pub verify_peer: bool,
}

impl Uri {
    /// The servers, at least one.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The export's name; empty for the servers' default.
    pub fn export(&self) -> &str {
        &self.endpoints[0].export
    }
}

impl From<Endpoint> for Uri {
    fn from(endpoint: Endpoint) -> Uri {
        Uri { endpoints: vec![endpoint] }
    }
}

impl FromStr for Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Uri, Error> {
        parse::uri(text).map(|endpoints| Uri { endpoints })
    }
}

/// The form that can be parsed again.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { address, export, tls } = &self.endpoints[0];
        let secure = if tls.is_some() { "s" } else { "" };
        let mut query = Vec::new();
        match address {
            Address::Tcp { .. } => {
                let hosts: Vec<String> = self.endpoints.iter().map(Endpoint::to_string).collect();
                write!(f, "nbd{secure}://{}/{}", hosts.join(","), parse::encoded(export))?;
            }
            Address::Unix(path) => {
                write!(f, "nbd{secure}+unix:///{}", parse::encoded(export))?;
                query.push(format!("socket={}", parse::encoded(&path.to_string_lossy())));
            }
        }
        query.extend(tls.iter().flat_map(Tls::parameters));
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}

impl Tls {
    fn parameters(&self) -> Vec<String> {
        let folder = self.certificates.as_ref().map(|folder| parse::encoded(&folder.to_string_lossy()));
        let hostname = self.hostname.as_deref().map(parse::encoded);
        let parameters = [
            folder.map(|folder| format!("tls-certificates={folder}")),
            hostname.map(|name| format!("tls-hostname={name}")),
            (!self.verify_peer).then(|| "tls-verify-peer=0".to_owned()),
        ];
        parameters.into_iter().flatten().collect()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.to_string_lossy().replace('\0', "@")),
        }
    }
}
