//! A stretch of wire between two nodes that carries a bit wrong when told so.
//!
//! Its one rule: but for that bit, it carries all that it takes, in order.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::Result;

use super::Namespace;

/// The wire. It lasts as long as the test.
pub struct Corrupter(Arc<AtomicU32>);

impl Corrupter {
    /// Stands for `server` at `address`, on the machine of `namespace`.
    pub fn start(namespace: &Namespace, address: SocketAddr, server: SocketAddr) -> Result<Corrupter> {
        let flips = Arc::new(AtomicU32::new(0));
        let shared = Arc::clone(&flips);
        namespace.run(|| -> Result<()> {
            let listener = TcpListener::bind(address)?;
            thread::spawn(move || {
                for near in listener.incoming().flatten() {
                    // a server that is gone is one that ends the connection
                    let _ = join(near, server, &shared);
                }
            });
            Ok(())
        })?;
        Ok(Corrupter(flips))
    }

    /// Carries so many bits wrong, each of them in the middle of one piece of what comes from now on.
    pub fn flip(&self, count: u32) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many of them have not come yet.
    pub fn left(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn join(near: TcpStream, server: SocketAddr, flips: &Arc<AtomicU32>) -> Result<()> {
    let far = TcpStream::connect(server)?;
    for (from, to) in [(&near, &far), (&far, &near)] {
        from.set_nodelay(true)?;
        let (from, to, flips) = (from.try_clone()?, to.try_clone()?, Arc::clone(flips));
        thread::spawn(move || carry(from, to, &flips));
    }
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream, flips: &AtomicU32) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let is_due = flips.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if is_due.is_ok() {
            buffer[length / 2] ^= 1;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
