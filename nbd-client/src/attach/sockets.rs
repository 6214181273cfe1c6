//! Whether a connection lives: asked of its socket, or of the machine's table when the socket is another process's.
//!
//! Its one rule: `None` is an answer.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;

use super::state::Connection;

/// Makes the kernel throw away what the server's machine has not confirmed, instead of trying to deliver it for as
/// long as the driver keeps the socket: the driver sends it again over another one, after which it must not arrive.
pub(super) fn stop_delivering(socket: &impl AsFd) {
    // a unix socket has nothing on the way
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(Duration::from_millis(1)));
}

/// States of the kernel's table.
const ESTABLISHED: &str = "01";
/// FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSING: what comes after this end was the first to close.
const CLOSED_HERE: [&str; 4] = ["04", "05", "06", "0B"];

/// Whether both directions have ended. The driver ends them when it has given a connection up.
pub(super) fn is_hung_up(socket: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whether a TCP connection is established; `None` for a unix socket, or without such a table.
pub(super) fn is_established(connection: &Connection) -> Option<bool> {
    Some(state(connection)?.as_deref() == Some(ESTABLISHED))
}

/// Whether this end was the first to close a TCP connection: then the driver has given up waiting for a reply.
pub(super) fn was_given_up(connection: &Connection) -> bool {
    state(connection).flatten().is_some_and(|state| CLOSED_HERE.contains(&state.as_str()))
}

/// The state in the kernel's table, if it is there.
fn state(connection: &Connection) -> Option<Option<String>> {
    let pair: (SocketAddr, SocketAddr) = (connection.local.parse().ok()?, connection.remote.parse().ok()?);
    let table = fs::read_to_string(if pair.0.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" }).ok()?;
    let mut rows = table.lines().skip(1).filter_map(row);
    Some(rows.find(|row| (row.0, row.1) == pair).map(|row| row.2.to_owned()))
}

/// `  0: 0100007F:1F90 0100007F:C350 01 …`
fn row(line: &str) -> Option<(SocketAddr, SocketAddr, &str)> {
    let mut fields = line.split_whitespace().skip(1);
    Some((address(fields.next()?)?, address(fields.next()?)?, fields.next()?))
}

/// Words of an address are in the machine's order, and the port is a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = (0..ip.len()).step_by(8).map(|at| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok());
    let bytes: Vec<u8> =
        words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn connection(stream: &TcpStream) -> Connection {
        let local = stream.local_addr().expect("connected").to_string();
        let remote = stream.peer_addr().expect("connected").to_string();
        Connection { host: String::new(), local, remote, live: true, since: 0 }
    }

    #[test]
    fn a_connection_is_established_until_its_other_end_is_gone() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
            let (theirs, _) = listener.accept().expect("connected");
            assert_eq!(is_established(&connection(&ours)), Some(true), "{address}");
            drop(theirs);
            assert_eq!(is_established(&connection(&ours)), Some(false), "{address}");
        }
    }

    #[test]
    fn who_closes_first_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        for ours_first in [true, false] {
            let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
            let (theirs, _) = listener.accept().expect("connected");
            let connection = connection(&ours);
            assert!(!was_given_up(&connection));
            let [first, second] = if ours_first { [&ours, &theirs] } else { [&theirs, &ours] };
            for end in [first, second] {
                end.shutdown(std::net::Shutdown::Both).expect("still open");
            }
            assert_eq!(was_given_up(&connection), ours_first);
        }
    }

    #[test]
    fn of_unix_sockets_nothing_is_known() {
        let unix = "unix".to_owned();
        let connection =
            Connection { host: unix.clone(), local: unix.clone(), remote: unix, live: true, since: 0 };
        assert_eq!(is_established(&connection), None);
    }

    #[test]
    fn a_socket_is_hung_up_when_its_other_end_is_gone() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        assert!(!is_hung_up(&ours));
        drop(theirs);
        assert!(is_hung_up(&ours));
    }
}
