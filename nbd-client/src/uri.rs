//! Where an export is: NBD URIs (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md>).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// An export on one server, or on several that serve the same volume (`nbd://a,b,c/db`, our extension).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    endpoints: Vec<Endpoint>,
}

/// One export on one server.
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
    /// A unix socket.
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
}

impl From<Endpoint> for Uri {
    fn from(endpoint: Endpoint) -> Uri {
        Uri { endpoints: vec![endpoint] }
    }
}

impl FromStr for Uri {
    type Err = Error;

    #[expect(clippy::todo, reason = "to come")]
    fn from_str(_text: &str) -> Result<Uri, Error> {
        todo!()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
