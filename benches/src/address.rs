//! Where an NBD export is: `nbd://HOST:PORT/EXPORT` or `nbd+unix:///EXPORT?socket=PATH`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use socket2::SockAddr;

const PORT: u16 = 10809;

/// An export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The server's socket.
    pub endpoint: Endpoint,
    /// The export's name.
    pub export: String,
}

/// A server's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// As the kernel wants it.
    pub fn socket_address(&self) -> Result<SockAddr> {
        match self {
            Endpoint::Tcp(address) => Ok(SockAddr::from(*address)),
            Endpoint::Unix(path) => {
                SockAddr::unix(path).with_context(|| format!("{} is no socket path", path.display()))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(address) => write!(out, "nbd://{address}/{}", self.export),
            Endpoint::Unix(path) => write!(out, "nbd+unix:///{}?socket={}", self.export, path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(uri: &str) -> Result<Address> {
        if let Some(rest) = uri.strip_prefix("nbd+unix:///") {
            let (export, socket) = rest.split_once("?socket=").context("nbd+unix wants ?socket=PATH")?;
            return Ok(Address { endpoint: Endpoint::Unix(socket.into()), export: export.into() });
        }
        let Some(rest) = uri.strip_prefix("nbd://") else {
            bail!("{uri}: begin with nbd:// or nbd+unix:///")
        };
        let (host, export) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Address { endpoint: Endpoint::Tcp(resolve(host)?), export: export.into() })
    }
}

fn resolve(host: &str) -> Result<SocketAddr> {
    let found = host.to_socket_addrs().or_else(|_| (host, PORT).to_socket_addrs());
    let mut addresses = found.with_context(|| format!("{host}: no such host; write HOST or HOST:PORT"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for uri in ["nbd://127.0.0.1:10809/disk", "nbd://[::1]:7/", "nbd+unix:///disk?socket=/tmp/s"] {
            assert_eq!(uri.parse::<Address>().expect("valid").to_string(), uri);
        }
    }

    #[test]
    fn the_port_may_be_left_out() {
        let address: Address = "nbd://127.0.0.1/d".parse().expect("valid");
        assert_eq!(address.to_string(), "nbd://127.0.0.1:10809/d");
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!("http://127.0.0.1/".parse::<Address>().is_err());
        assert!("nbd+unix:///x".parse::<Address>().is_err());
    }
}
