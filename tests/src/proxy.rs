//! A TCP proxy in front of a server, which can be cut, frozen, and healed: the loss of a node as its clients see it.
//!
//! Its one rule: what it is told has happened when the call returns.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::launch::free_address;

/// A proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    now: Mutex<Now>,
    changed: Condvar,
}

struct Now {
    server: SocketAddr,
    frozen: bool,
    cut: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// Begins to stand for `server`.
    pub fn start(server: SocketAddr) -> Result<Proxy> {
        let now = Mutex::new(Now { server, frozen: false, cut: false, streams: Vec::new() });
        let shared = Shared { address: free_address(), now, changed: Condvar::new() };
        let mut proxy = Proxy { shared: Arc::new(shared), acceptor: None };
        proxy.listen()?;
        Ok(proxy)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Stands for another server from the next connection on.
    pub fn point_at(&self, server: SocketAddr) {
        self.shared.now().server = server;
    }

    /// Ends all connections, and refuses new ones: the node's process died.
    pub fn cut(&mut self) {
        let streams = {
            let mut now = self.shared.now();
            now.cut = true;
            std::mem::take(&mut now.streams)
        };
        self.shared.changed.notify_all();
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        let _ = TcpStream::connect(self.shared.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor does not panic");
        }
    }

    /// Carries nothing any more, and says nothing: the node hangs, or its cable is out.
    pub fn freeze(&mut self) {
        self.shared.now().frozen = true;
    }

    /// All is well again; what was cut stays so, but new connections are welcome.
    pub fn heal(&mut self) -> Result<()> {
        self.shared.now().frozen = false;
        self.shared.changed.notify_all();
        if self.acceptor.is_none() { self.listen() } else { Ok(()) }
    }

    fn listen(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.shared.address)?;
        self.shared.now().cut = false;
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(thread::spawn(move || shared.accept(&listener)));
        Ok(())
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
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.set_nodelay(true)?;
            now.streams.push(from.try_clone()?);
            let (from, to, shared) = (from.try_clone()?, to.try_clone()?, Arc::clone(self));
            thread::spawn(move || shared.carry(from, to));
        }
        Ok(())
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !self.thawed() || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
