//! Clients that write and read all the time, on whichever node answers, and check every byte against what is possible.
//!
//! Its one rule: a write whose answer was lost, or was an error, may have happened, or may happen yet.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Cluster, LOOK_AGAIN, PATIENCE, VOLUME};
use crate::history::{BLOCK, Before, History};
use crate::iscsi::{self, Login};
use crate::nbd::{CMD_READ, Client};
use crate::scratch::Random;

/// Blocks of the volume, from its first on, that are written: few, so that requests meet.
const BLOCKS: usize = 4096;
/// So few that nearly all meet.
const BLOCKS_HOT: usize = 64;
/// Requests of one client at once.
const DEPTH: u64 = 8;
const REQUEST_BLOCKS_MAX: u64 = 32;

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<()>>>,
}

/// What they have seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Requests answered without an error.
    pub answered: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests whose connection ended before their answer.
    pub lost: u64,
    /// The longest that a request waited for its answer.
    pub longest: Duration,
}

struct Shared {
    blocks: usize,
    history: Mutex<History>,
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

/// A request under way.
enum Request {
    Write(u64),
    Read(Before, usize),
}

impl Load {
    /// One client for each of `nodes`, which goes to the others when it is turned away.
    pub fn start(cluster: &Cluster, nodes: &[usize]) -> Load {
        Load::start_on(cluster, nodes, true, BLOCKS)
    }

    /// The same, with nearly every request waiting for another one's bytes.
    pub fn start_hot(cluster: &Cluster, nodes: &[usize]) -> Load {
        Load::start_on(cluster, nodes, true, BLOCKS_HOT)
    }

    /// One client for each of `nodes`, which goes to no other.
    pub fn start_faithful(cluster: &Cluster, nodes: &[usize]) -> Load {
        Load::start_on(cluster, nodes, false, BLOCKS)
    }

    fn start_on(cluster: &Cluster, nodes: &[usize], roams: bool, blocks: usize) -> Load {
        let history = Mutex::new(History::new(blocks));
        let shared =
            Arc::new(Shared { blocks, history, seen: Mutex::default(), stop: AtomicBool::new(false) });
        let client = |(number, node): (usize, &usize)| {
            let mut addresses = vec![cluster.node(*node).address()];
            if roams {
                addresses.extend(cluster.nodes().iter().map(|node| node.address()));
                addresses.dedup();
            }
            let (shared, random) = (Arc::clone(&shared), Random(number as u64));
            cluster.network().middle().run(|| thread::spawn(move || shared.run(&addresses, random)))
        };
        let clients = nodes.iter().enumerate().map(client).collect();
        Load { shared, clients }
    }

    /// One iSCSI initiator more for each of `nodes`, which goes to no other.
    pub fn with_initiators(mut self, cluster: &Cluster, nodes: &[usize]) -> Load {
        for (number, node) in nodes.iter().enumerate() {
            let address = cluster.node(*node).iscsi_address();
            let login =
                Login::to(&iscsi::target_name(VOLUME)).initiator(&format!("iqn.2026-11.test:load{number}"));
            let (shared, random) = (Arc::clone(&self.shared), Random(1000 + number as u64));
            let task = move || thread::spawn(move || shared.run_initiator(address, &login, random));
            self.clients.push(cluster.network().middle().run(task));
        }
        self
    }

    /// What has been seen since the last time that this was asked.
    pub fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.shared.seen())
    }

    /// Waits until so many more requests have been answered.
    pub fn await_progress(&self, count: u64) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let wanted = self.shared.seen().answered + count;
        while self.shared.seen().answered < wanted {
            ensure!(!self.clients.iter().all(JoinHandle::is_finished), "all clients have ended");
            ensure!(Instant::now() < end, "{count} more requests are not answered after {PATIENCE:?}");
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Ends the clients; an error if one of them has read what cannot be. What they have seen, and what the volume
    /// may hold now.
    pub fn end(mut self) -> Result<(Seen, Expected)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in std::mem::take(&mut self.clients) {
            client.join().expect("a client does not panic").context("under load")?;
        }
        Ok((*self.shared.seen(), Expected(Arc::clone(&self.shared))))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// What a volume may hold.
pub struct Expected(Arc<Shared>);

impl Expected {
    /// Reads all that was written by this client; an error if something cannot be.
    pub fn check(&self, client: &mut Client) -> Result<()> {
        let before = self.0.history().before(0, self.0.blocks);
        let data = client.read(0, (self.0.blocks * BLOCK) as u32)?;
        self.0.history().check(&before, &data)
    }
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&self, addresses: &[SocketAddr], mut random: Random) -> Result<()> {
        for address in addresses.iter().cycle() {
            // a server that is gone, or has just come, turns clients away
            if let Ok(mut client) = Client::attach(*address, VOLUME) {
                while !self.is_stopped() && self.batch(&mut client, &mut random)? {}
            }
            if self.is_stopped() {
                break;
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn run_initiator(&self, address: SocketAddr, login: &Login, mut random: Random) -> Result<()> {
        while !self.is_stopped() {
            if let Ok(mut client) = login.attach(address) {
                while !self.is_stopped() && self.command(&mut client, &mut random)? {}
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// One SCSI command; whether the session goes on.
    fn command(&self, client: &mut iscsi::Client, random: &mut Random) -> Result<bool> {
        let begun = Instant::now();
        let (first, blocks) = self.place(random);
        let is_answered = if random.below(3) == 0 {
            let before = self.history().before(first, blocks);
            let read = client.read(first as u32, blocks as u16);
            read.map_or(Ok(false), |data| self.history().check(&before, &data).map(|()| true))?
        } else {
            let (id, data) = self.history().write(first, blocks);
            let is_written = client.write(first as u32, &data).is_ok();
            if is_written {
                self.history().acknowledged(id);
            }
            is_written
        };
        let mut seen = self.seen();
        seen.longest = seen.longest.max(begun.elapsed());
        if is_answered {
            seen.answered += 1
        } else {
            seen.lost += 1
        }
        Ok(is_answered)
    }

    /// Sends some requests and takes their answers; whether the connection lasts.
    fn batch(&self, client: &mut Client, random: &mut Random) -> Result<bool> {
        let begun = Instant::now();
        let mut requests = Vec::new();
        for cookie in 0..DEPTH {
            let Some(request) = self.send(client, random, cookie) else {
                return Ok(self.lose(requests.len()));
            };
            requests.push(Some(request));
        }
        for left in (1..=requests.len()).rev() {
            let Ok((error, cookie)) = client.reply() else { return Ok(self.lose(left)) };
            let request =
                requests.get_mut(cookie as usize).and_then(Option::take).context("one answer to each")?;
            if !self.take(client, request, error)? {
                return Ok(self.lose(left));
            }
            let mut seen = self.seen();
            seen.longest = seen.longest.max(begun.elapsed());
            if error == 0 { seen.answered += 1 } else { seen.errors += 1 }
        }
        Ok(true)
    }

    fn send(&self, client: &mut Client, random: &mut Random, cookie: u64) -> Option<Request> {
        let (first, blocks) = self.place(random);
        let offset = (first * BLOCK) as u64;
        if random.below(3) == 0 {
            let before = self.history().before(first, blocks);
            let length = blocks * BLOCK;
            client.request(CMD_READ, 0, cookie, offset, length as u32).ok()?;
            return Some(Request::Read(before, length));
        }
        let (id, data) = self.history().write(first, blocks);
        client.request_write(0, cookie, offset, &data).ok()?;
        Some(Request::Write(id))
    }

    /// Judges an answer; whether the connection lasts.
    fn take(&self, client: &mut Client, request: Request, error: u32) -> Result<bool> {
        match request {
            Request::Write(id) if error == 0 => self.history().acknowledged(id),
            Request::Read(before, length) if error == 0 => {
                let Ok(data) = client.receive(length) else { return Ok(false) };
                self.history().check(&before, &data)?;
            }
            Request::Write(_) | Request::Read(..) => {}
        }
        Ok(true)
    }

    /// Some blocks.
    fn place(&self, random: &mut Random) -> (usize, usize) {
        let blocks = 1 + random.below(REQUEST_BLOCKS_MAX) as usize;
        (random.below((self.blocks - blocks) as u64) as usize, blocks)
    }

    fn lose(&self, count: usize) -> bool {
        self.seen().lost.add_assign(count as u64);
        false
    }
}
