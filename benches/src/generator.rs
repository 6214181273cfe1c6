//! The load generator: one thread that keeps the connections of a load full.
//!
//! One turn looks at each connection once: takes the replies that have come, then sends what has become due.
//! Rule: it is never the bottleneck; what it costs is reported beside what the server costs.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::address::Address;
use crate::connection::Connection;
use crate::load::{Load, Waiting};
use crate::tally::{Figures, Tally};

const INBOX_BYTES: usize = 256 << 10;
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// When a run ends. What is in flight then is still awaited.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After so many requests.
    Requests(u64),
}

/// The connections of one load to one server.
pub struct Generator {
    connections: Vec<Connection>,
    waiting: Waiting,
    inbox: Vec<u8>,
    size_bytes: u64,
}

impl Generator {
    /// Opens all connections of `load` to `address`.
    pub fn open(address: &Address, load: &Load) -> Result<Generator> {
        let mut connections = Vec::with_capacity(load.connections);
        let mut size_bytes = 0;
        for index in 0..load.connections {
            let (connection, size) = Connection::open(address, load, index)?;
            connections.push(connection);
            size_bytes = size;
        }
        Ok(Generator { connections, waiting: load.waiting, inbox: vec![0; INBOX_BYTES], size_bytes })
    }

    /// The size of the volume.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Runs the load until `until`, then waits for what is in flight.
    pub fn run(&mut self, until: Until) -> Result<Figures> {
        let began = Instant::now();
        let mut tally = Tally::new();
        let mut progress = began;
        let mut budget = Budget::new(until);
        loop {
            let moved = self.turn(began, &mut budget, &mut tally)?;
            let now = Instant::now();
            budget.tick(now - began);
            if moved {
                progress = now;
            } else if budget.is_spent() && self.inflight() == 0 {
                break;
            } else if now - progress > SILENCE_MAX {
                bail!("no reply for {SILENCE_MAX:?} with {} requests in flight", self.inflight());
            } else {
                self.wait()?;
            }
        }
        Ok(tally.figures(progress - began))
    }

    /// Asks for nothing for so long, but answers the server, as one that looks whether its clients are there.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        let mut nothing = Budget::new(Until::Requests(0));
        while began.elapsed() < time {
            if !self.turn(began, &mut nothing, &mut Tally::new())? {
                self.sleep()?;
            }
        }
        Ok(())
    }

    #[inline]
    fn turn(&mut self, began: Instant, budget: &mut Budget, tally: &mut Tally) -> Result<bool> {
        let mut moved = false;
        for connection in &mut self.connections {
            let received = connection.receive(&mut self.inbox, began, tally)?;
            let asked = connection.ask(began, budget.requests)?;
            budget.requests -= asked;
            moved |= received || asked > 0;
        }
        Ok(moved)
    }

    fn inflight(&self) -> usize {
        self.connections.iter().map(Connection::inflight).sum()
    }

    fn wait(&self) -> Result<()> {
        if self.waiting == Waiting::Spin {
            std::hint::spin_loop();
            return Ok(());
        }
        self.sleep()
    }

    fn sleep(&self) -> Result<()> {
        let awaited = |connection: &Connection| match connection.is_backed_up() {
            true => PollFlags::POLLIN | PollFlags::POLLOUT,
            false => PollFlags::POLLIN,
        };
        let sockets = self.connections.iter();
        let mut sockets: Vec<PollFd> =
            sockets.map(|connection| PollFd::new(connection.socket().as_fd(), awaited(connection))).collect();
        poll(&mut sockets, PollTimeout::from(100u8))?;
        Ok(())
    }
}

/// The requests that may still be sent.
struct Budget {
    requests: u64,
    ends: Option<Duration>,
}

impl Budget {
    fn new(until: Until) -> Budget {
        match until {
            Until::Elapsed(time) => Budget { requests: u64::MAX, ends: Some(time) },
            Until::Requests(requests) => Budget { requests, ends: None },
        }
    }

    fn tick(&mut self, elapsed: Duration) {
        if self.ends.is_some_and(|ends| elapsed >= ends) {
            self.requests = 0;
        }
    }

    fn is_spent(&self) -> bool {
        self.requests == 0
    }
}
