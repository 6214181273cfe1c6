//! Where a volume is served: `nbd://HOST:PORT/EXPORT`, `nbd+unix:///EXPORT?socket=PATH` or
//! `iscsi://HOST:PORT/TARGET/LUN`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol as Transport, SockAddr, Socket, Type};

use crate::protocol::Protocol;

const NBD_PORT: u16 = 10809;
const ISCSI_PORT: u16 = 3260;
const TIMEOUT: Duration = Duration::from_secs(10);

/// A served volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The server's socket.
    pub endpoint: Endpoint,
    /// What the volume is called there.
    pub name: Name,
}

/// A server's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

/// A volume's name in its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An NBD export.
    Export(String),
    /// A logical unit of an iSCSI target.
    Unit {
        /// The target's name.
        target: String,
        /// The unit's number.
        lun: u16,
    },
}

impl Address {
    /// What is spoken there.
    pub fn protocol(&self) -> Protocol {
        match self.name {
            Name::Export(_) => Protocol::Nbd,
            Name::Unit { .. } => Protocol::Iscsi,
        }
    }

    /// A blocking socket to the server.
    pub fn connect(&self) -> Result<Socket> {
        self.endpoint.connect().with_context(|| format!("cannot connect to {self}"))
    }
}

impl Endpoint {
    fn connect(&self) -> Result<Socket> {
        let (domain, transport) = match self {
            Endpoint::Tcp(address) => (Domain::for_address(*address), Some(Transport::TCP)),
            Endpoint::Unix(_) => (Domain::UNIX, None),
        };
        let socket = Socket::new(domain, Type::STREAM, transport)?;
        if transport.is_some() {
            socket.set_tcp_nodelay(true)?;
        }
        socket.connect_timeout(&self.socket_address()?, TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(socket)
    }

    fn socket_address(&self) -> Result<SockAddr> {
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
        match (&self.endpoint, &self.name) {
            (Endpoint::Tcp(portal), Name::Export(export)) => write!(out, "nbd://{portal}/{export}"),
            (Endpoint::Tcp(portal), Name::Unit { target, lun }) => {
                write!(out, "iscsi://{portal}/{target}/{lun}")
            }
            (Endpoint::Unix(path), Name::Export(export)) => {
                write!(out, "nbd+unix:///{export}?socket={}", path.display())
            }
            (Endpoint::Unix(path), Name::Unit { target, lun }) => {
                write!(out, "{target}/{lun} at {}", path.display())
            }
        }
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(uri: &str) -> Result<Address> {
        if let Some(rest) = uri.strip_prefix("nbd+unix:///") {
            let (export, socket) = rest.split_once("?socket=").context("nbd+unix wants ?socket=PATH")?;
            return Ok(Address {
                endpoint: Endpoint::Unix(socket.into()),
                name: Name::Export(export.into()),
            });
        }
        if let Some(rest) = uri.strip_prefix("nbd://") {
            let (host, export) = rest.split_once('/').unwrap_or((rest, ""));
            let endpoint = Endpoint::Tcp(resolve(host, NBD_PORT)?);
            return Ok(Address { endpoint, name: Name::Export(export.into()) });
        }
        let Some(rest) = uri.strip_prefix("iscsi://") else {
            bail!("{uri}: begin with nbd://, nbd+unix:/// or iscsi://")
        };
        let (host, rest) = rest.split_once('/').context("iscsi wants HOST/TARGET/LUN")?;
        let (target, lun) = rest.rsplit_once('/').context("iscsi wants HOST/TARGET/LUN")?;
        let lun = lun.parse().with_context(|| format!("{lun} is no number of a logical unit"))?;
        let endpoint = Endpoint::Tcp(resolve(host, ISCSI_PORT)?);
        Ok(Address { endpoint, name: Name::Unit { target: target.into(), lun } })
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let found = host.to_socket_addrs().or_else(|_| (host, port).to_socket_addrs());
    let mut addresses = found.with_context(|| format!("{host}: no such host; write HOST or HOST:PORT"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        let uris = [
            "nbd://127.0.0.1:10809/disk",
            "nbd://[::1]:7/",
            "nbd+unix:///disk?socket=/tmp/s",
            "iscsi://127.0.0.1:3260/iqn.2026-11.io.ringsan:disk/0",
        ];
        for uri in uris {
            assert_eq!(uri.parse::<Address>().expect("valid").to_string(), uri);
        }
    }

    #[test]
    fn the_port_may_be_left_out() {
        for (uri, full) in [
            ("nbd://127.0.0.1/d", "nbd://127.0.0.1:10809/d"),
            ("iscsi://127.0.0.1/iqn.2026-11.x:d/1", "iscsi://127.0.0.1:3260/iqn.2026-11.x:d/1"),
        ] {
            assert_eq!(uri.parse::<Address>().expect("valid").to_string(), full);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for uri in
            ["http://127.0.0.1/", "nbd+unix:///x", "iscsi://127.0.0.1/iqn.x", "iscsi://127.0.0.1/iqn.x/a"]
        {
            assert!(uri.parse::<Address>().is_err(), "{uri}");
        }
    }
}
