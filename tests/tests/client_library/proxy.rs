//! A stretch of wire that can be cut: forwards TCP connections, each for as many bytes as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;

/// How many bytes a connection carries before it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// To the server.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

impl Allowance {
    /// It is never cut.
    pub const ENDLESS: Allowance = Allowance { up: u64::MAX, down: u64::MAX };
}

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    allowance: Box<dyn Fn(u64) -> Allowance + Send + Sync>,
    connections: AtomicU64,
    refusing: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Forwards to `upstream`; `allowance` says how long its n-th connection (from 0 on) holds.
    pub fn start(
        upstream: SocketAddr,
        allowance: impl Fn(u64) -> Allowance + Send + Sync + 'static,
    ) -> Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            allowance: Box::new(allowance),
            connections: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // One that cannot be served is a cut like any other.
                let _ = accepting.forward(client);
            }
        });
        Ok(Proxy { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections go to `upstream`.
    pub fn turn_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().expect("nobody panics with it") = upstream;
    }

    /// The URI of an export behind it.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.address)
    }

    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts all that are open.
    pub fn cut(&self) {
        for socket in self.shared.open.lock().expect("nobody panics with it").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// From now on new connections are cut at once, or not.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::SeqCst);
    }
}

impl Shared {
    fn forward(&self, client: TcpStream) -> Result<()> {
        if self.refusing.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Allowance { up, down } = (self.allowance)(self.connections.fetch_add(1, Ordering::SeqCst));
        let upstream = *self.upstream.lock().expect("nobody panics with it");
        let server = TcpStream::connect(upstream)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.open.lock().expect("nobody panics with it").extend([client.try_clone()?, server.try_clone()?]);
        let (client2, server2) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || pump(client, server, up));
        thread::spawn(move || pump(server2, client2, down));
        Ok(())
    }
}

/// Carries `left` bytes, then cuts both ends; an end of the stream is passed on.
fn pump(mut from: TcpStream, mut to: TcpStream, mut left: u64) {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match from.read(&mut buffer[..most]) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => left -= count as u64,
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            _ => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
