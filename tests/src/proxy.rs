//! A TCP proxy in front of a server, which can be cut, frozen, healed, or told how many bytes each connection carries:
//! the loss of a node, or of a stretch of wire, as its clients see it.
//!
//! Its one rule: what it is told has happened when the call returns.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::launch::free_address;

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

/// A proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    address: SocketAddr,
    allowance: Box<dyn Fn(u64) -> Allowance + Send + Sync>,
    now: Mutex<Now>,
    changed: Condvar,
}

struct Now {
    server: SocketAddr,
    frozen: bool,
    cut: bool,
    connections: u64,
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// Begins to stand for `server`.
    pub fn start(server: SocketAddr) -> Result<Proxy> {
        Proxy::limited(server, |_| Allowance::ENDLESS)
    }

    /// The same; `allowance` says how long its n-th connection (from 0 on) holds.
    pub fn limited(
        server: SocketAddr,
        allowance: impl Fn(u64) -> Allowance + Send + Sync + 'static,
    ) -> Result<Proxy> {
        let now = Now { server, frozen: false, cut: false, connections: 0, streams: Vec::new() };
        let shared = Shared {
            address: free_address(),
            allowance: Box::new(allowance),
            now: Mutex::new(now),
            changed: Condvar::new(),
        };
        let proxy = Proxy { shared: Arc::new(shared), acceptor: Mutex::new(None) };
        proxy.heal()?;
        Ok(proxy)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The URI of an export behind it.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.shared.address)
    }

    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.shared.now().connections
    }

    /// Stands for another server from the next connection on.
    pub fn point_at(&self, server: SocketAddr) {
        self.shared.now().server = server;
    }

    /// Ends all connections; new ones are welcome.
    pub fn sever(&self) {
        let streams = std::mem::take(&mut self.shared.now().streams);
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Ends all connections, and refuses new ones: the node's process died.
    pub fn cut(&self) {
        self.shared.now().cut = true;
        self.shared.changed.notify_all();
        self.sever();
        let _ = TcpStream::connect(self.shared.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor().take() {
            acceptor.join().expect("the acceptor does not panic");
        }
        // one may have been made meanwhile
        self.sever();
    }

    /// Carries nothing any more, and says nothing: the node hangs, or its cable is out.
    pub fn freeze(&self) {
        self.shared.now().frozen = true;
    }

    /// All is well again; what was cut stays so, but new connections are welcome.
    pub fn heal(&self) -> Result<()> {
        self.shared.now().frozen = false;
        self.shared.changed.notify_all();
        let mut acceptor = self.acceptor();
        if acceptor.is_none() {
            let listener = TcpListener::bind(self.shared.address)?;
            self.shared.now().cut = false;
            let shared = Arc::clone(&self.shared);
            *acceptor = Some(thread::spawn(move || shared.accept(&listener)));
        }
        Ok(())
    }

    fn acceptor(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it is frozen; whether to go on.
    fn thawed(&self) -> bool {
        let mut now = self.now();
        while now.frozen && !now.cut {
            now = self.changed.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        !now.cut
    }

    fn accept(self: Arc<Shared>, listener: &TcpListener) {
        while self.thawed() {
            let Ok((client, _)) = listener.accept() else { return };
            if !self.thawed() {
                return;
            }
            // a server that is gone is one that ends the connection
            let _ = self.join(client);
        }
    }

    fn join(self: &Arc<Shared>, client: TcpStream) -> Result<()> {
        let address = self.now().server;
        let server = TcpStream::connect(address)?;
        let mut now = self.now();
        let Allowance { up, down } = (self.allowance)(now.connections);
        now.connections += 1;
        for (from, to, left) in [(&client, &server, up), (&server, &client, down)] {
            from.set_nodelay(true)?;
            now.streams.push(from.try_clone()?);
            let (from, to, shared) = (from.try_clone()?, to.try_clone()?, Arc::clone(self));
            thread::spawn(move || shared.carry(from, to, left));
        }
        Ok(())
    }

    /// Carries `left` bytes, then cuts both ends; an end of the stream is passed on.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, mut left: u64) {
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match from.read(&mut buffer[..most]) {
                Ok(0) => {
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(count) if self.thawed() && to.write_all(&buffer[..count]).is_ok() => left -= count as u64,
                _ => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
