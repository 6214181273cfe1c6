//! Listening sockets: bound here, on the control thread, and then given to cores.
//!
//! Its one rule: an address that is in use is an error that names it, and a socket file is removed only
//! when nobody listens behind it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::values::portal_text;
use crate::fault::{Fault, Kind};
use crate::settings::{Portal, Protocol};

const BACKLOG: i32 = 1024;

/// A portal with its listening socket.
pub struct Bound {
    /// What it serves.
    pub protocol: Protocol,
    /// Which.
    pub portal: Portal,
    /// The address that clients know it by.
    pub address: String,
    /// The socket.
    pub listener: OwnedFd,
    /// The file of a unix socket, removed when this is dropped.
    pub file: Option<SocketFile>,
}

/// The file of a unix socket that this process made.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds `portal`; `others` are the node's other portals.
pub fn bind(protocol: Protocol, portal: &Portal, others: &[Portal]) -> Result<Bound, Fault> {
    let unusable = |error| in_use(protocol, portal, error);
    let (listener, file) = match portal {
        Portal::Tcp(address) => (bind_tcp(*address, others).map_err(unusable)?, None),
        Portal::Unix(path) => {
            clear_stale(path)?;
            let listener = bind_unix(path).map_err(unusable)?;
            (listener, Some(SocketFile(path.clone())))
        }
        Portal::Inherited(_) => {
            return Err(Fault::new(Kind::Invalid, "a portal of systemd is handed over, not bound"));
        }
    };
    let address = local_address(&listener).unwrap_or_else(|| portal_text(portal));
    Ok(Bound { protocol, portal: portal.clone(), address, listener, file })
}

/// Binds the admin API's address.
pub fn bind_admin(address: SocketAddr) -> Result<TcpListener, Fault> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let context = format!(
            "the admin address {address} cannot be used; choose another with --admin, or stop what holds it"
        );
        Fault::io(context, error)
    })
}

/// The listening sockets that systemd handed over (LISTEN_FDS): those named `iscsi` (FileDescriptorName=)
/// serve iSCSI, those named `mirror` links of peers, all others NBD.
pub fn inherited() -> Result<Vec<Bound>, Fault> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let protocols = names.split(':').map(|name| match name {
        "iscsi" => Protocol::Iscsi,
        "mirror" => Protocol::Mirror,
        _ => Protocol::Nbd,
    });
    let mut protocols = protocols.chain(std::iter::repeat(Protocol::Nbd));
    let mut sockets = ListenFd::from_env();
    let mut bound = Vec::new();
    for index in 0..sockets.len() {
        let protocol = protocols.next().expect("it repeats without end");
        let number = 3 + index as i32;
        let refused = |error: io::Error| {
            let context = format!(
                "descriptor {number} from LISTEN_FDS is not a listening stream socket; correct the .socket unit"
            );
            Fault::caused(Kind::Invalid, context, error)
        };
        let listener = match sockets.take_unix_listener(index) {
            Ok(listener) => listener.map(OwnedFd::from),
            Err(_) => sockets.take_tcp_listener(index).map_err(refused)?.map(OwnedFd::from),
        };
        let Some(listener) = listener else { continue };
        if !getsockopt(&listener, sockopt::AcceptConn).unwrap_or(false) {
            return Err(refused(io::Error::other("it does not listen")));
        }
        let address = local_address(&listener).unwrap_or_else(|| portal_text(&Portal::Inherited(number)));
        bound.push(Bound { protocol, portal: Portal::Inherited(number), address, listener, file: None });
    }
    Ok(bound)
}

fn local_address(listener: &OwnedFd) -> Option<String> {
    let address = socket2::SockRef::from(listener).local_addr().ok()?;
    let unix = || address.as_pathname().map(|path| portal_text(&Portal::Unix(path.to_owned())));
    address.as_socket().map(|address| address.to_string()).or_else(unix)
}

fn bind_tcp(address: SocketAddr, others: &[Portal]) -> io::Result<OwnedFd> {
    let socket = match Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None) {
        // All addresses of a machine without IPv6 are those of IPv4.
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && address.ip() == Ipv6Addr::UNSPECIFIED =>
        {
            return bind_tcp((Ipv4Addr::UNSPECIFIED, address.port()).into(), others);
        }
        socket => socket?,
    };
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        let v4_beside =
            |other: &Portal| *other == Portal::Tcp((Ipv4Addr::UNSPECIFIED, address.port()).into());
        let dual = address.ip() == Ipv6Addr::UNSPECIFIED && !others.iter().any(v4_beside);
        socket.set_only_v6(!dual)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes a socket file that a process left behind, and nothing else.
fn clear_stale(path: &Path) -> Result<(), Fault> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !metadata.file_type().is_socket() {
        let context = format!("{shown} exists and is not a socket; choose another path for the portal");
        return Err(Fault::new(Kind::Conflict, context));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| Fault::io(format!("the stale socket {shown} cannot be removed"), error)),
        _ => Err(Fault::new(
            Kind::Conflict,
            format!("the portal unix:{shown} is in use; stop what listens there, or choose another path"),
        )),
    }
}

fn in_use(protocol: Protocol, portal: &Portal, error: io::Error) -> Fault {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse if protocol == Protocol::Iscsi => {
            "stop what listens there, or choose another with --iscsi"
        }
        io::ErrorKind::AddrInUse if protocol == Protocol::Mirror => {
            "stop what listens there, or choose another with portal in [mirror] (--mirror)"
        }
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another with --nbd",
        io::ErrorKind::AddrNotAvailable if protocol == Protocol::Mirror => {
            "this machine does not have that address; if others reach it by another, name one of its own as portal in \
             [mirror]"
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address; see `ip address`",
        io::ErrorKind::PermissionDenied => "choose a port from 1024, or a folder that may be written",
        _ => "check the address",
    };
    Fault::io(format!("the portal {} cannot be used ({remedy})", portal_text(portal)), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_busy_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("address");
        let error = bind(Protocol::Nbd, &Portal::Tcp(address), &[]).err().expect("refused");
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn both_families_share_a_port() {
        let free = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address").port();
        let v4 = Portal::Tcp((Ipv4Addr::UNSPECIFIED, free).into());
        let v6 = Portal::Tcp((Ipv6Addr::UNSPECIFIED, free).into());
        let _first = bind(Protocol::Nbd, &v4, std::slice::from_ref(&v6)).expect("v4");
        let _second = bind(Protocol::Nbd, &v6, std::slice::from_ref(&v4)).expect("v6");
    }

    #[test]
    fn only_a_stale_socket_file_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("nbd.sock");
        let portal = Portal::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("bound"));
        let bound = bind(Protocol::Nbd, &portal, &[]).expect("the stale file is replaced");
        assert_eq!(bind(Protocol::Nbd, &portal, &[]).err().expect("in use").kind(), Kind::Conflict);
        drop(bound);
        assert!(!path.exists());
        fs::write(&path, "data").expect("written");
        assert!(
            bind(Protocol::Nbd, &portal, &[]).err().expect("refused").to_string().contains("not a socket")
        );
        assert!(path.exists());
    }
}
