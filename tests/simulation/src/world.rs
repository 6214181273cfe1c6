//! All that is simulated, and what operations of cores do to it.
//!
//! Its one rule: nothing here runs code of the target; cores are stepped by `run`, when nobody holds the world.

use std::cell::RefCell;
use std::rc::Rc;

use nix::libc;
use nix::sys::socket::SockaddrStorage;
use reactor::op::{Op, Token};

use crate::agenda::{Agenda, Event, HostId, Landing, MICROSECOND};
use crate::disk::SECTOR_BYTES;
use crate::host::{Flight, FlightKind, Host, Object};
use crate::network::Network;
use crate::timeline;

/// The world, as everybody holds it.
pub type SharedWorld = Rc<RefCell<World>>;

/// All of it.
pub struct World {
    pub agenda: Agenda,
    pub network: Network,
    pub hosts: Vec<Host>,
}

impl World {
    /// Starts an operation of a machine's core.
    pub fn start(&mut self, host: HostId, token: Token, op: Op) {
        let object = match &op {
            Op::Accept { listener: handle }
            | Op::Connect { socket: handle, .. }
            | Op::Receive { socket: handle, .. }
            | Op::ReceiveInto { socket: handle, .. }
            | Op::Send { socket: handle, .. }
            | Op::Read { file: handle, .. }
            | Op::Write { file: handle, .. }
            | Op::Sync { file: handle, .. }
            | Op::Allocate { file: handle, .. } => {
                let slot = handle.slot().expect("handles are made with one");
                self.hosts[host].objects.get(&slot).copied()
            }
            Op::Nvme { .. } | Op::Blocking(_) => None,
        };
        match object {
            Some(Object::File(file)) => self.start_disk(host, token, op, file),
            object => self.start_network(host, token, op, object),
        }
        self.settle();
    }

    fn start_network(&mut self, host: HostId, token: Token, op: Op, object: Option<Object>) {
        let World { agenda, network, hosts } = self;
        match (&op, object) {
            (Op::Accept { .. }, Some(Object::Listener(port))) => network.accept(agenda, host, port, token),
            (Op::Connect { socket, address }, Some(Object::Socket)) => {
                let (to, port) = place_of(address);
                let connection = network.dial(agenda, host, to, port, token);
                let slot = socket.slot().expect("looked at by the caller");
                hosts[host].objects.insert(slot, Object::Stream(connection, 0));
            }
            (Op::Receive { len_max, .. }, Some(Object::Stream(connection, side))) => {
                let max = if *len_max == 0 { 64 << 10 } else { (*len_max as usize).min(64 << 10) };
                network.receive(agenda, (connection, side), token, max, false);
            }
            (Op::ReceiveInto { buffer, start, wait_all, .. }, Some(Object::Stream(connection, side))) => {
                network.receive(agenda, (connection, side), token, buffer.len() - start, *wait_all);
            }
            (Op::Send { gather, .. }, Some(Object::Stream(connection, side))) => {
                let mut bytes = Vec::with_capacity(gather.remaining());
                gather.copy_to(&mut bytes);
                network.send(agenda, (connection, side), token, bytes);
            }
            (Op::Blocking(_), _) => agenda.land(host, token, Landing::Moved(0)),
            _ => agenda.land(host, token, Landing::Failed(libc::ENOTCONN)),
        }
        let before = hosts[host].flights.insert(token.0, Flight { op, kind: FlightKind::Network });
        assert!(before.is_none(), "a token names one operation at a time");
    }

    fn start_disk(&mut self, host: HostId, token: Token, op: Op, file: usize) {
        let machine = &mut self.hosts[host];
        let flush_point = machine.files[file].flush_point();
        let mood = machine.mood;
        let longest = if matches!(op, Op::Sync { .. }) { mood.flush_max } else { mood.transfer_max };
        machine.flights.insert(token.0, Flight { op, kind: FlightKind::Disk { file, flush_point } });
        let delay = self.agenda.dice.scale(10 * MICROSECOND, longest);
        let boot = machine.boot;
        self.agenda.after(delay, Event::Disk { host, boot, token });
    }

    /// A disk has done what it was asked for, or could not.
    pub fn disk(&mut self, host: HostId, boot: u32, token: Token) {
        let machine = &mut self.hosts[host];
        if machine.boot != boot || !machine.is_live {
            return;
        }
        if machine.mood.is_hung {
            return machine.held.push(token);
        }
        let dice = &mut self.agenda.dice;
        let mood = machine.mood;
        let op = &machine.flights[&token.0].op;
        let (len, changes) = match op {
            Op::Read { len, .. } => (*len, false),
            Op::Write { data, .. } => (data.len(), true),
            _ => (0, true),
        };
        let fails = dice.permyriad(if changes { mood.failing_writes } else { mood.failing_reads });
        let landing = match () {
            () if fails => Landing::Failed(libc::EIO),
            () if mood.is_full && matches!(op, Op::Write { .. } | Op::Allocate { .. }) => {
                Landing::Failed(libc::ENOSPC)
            }
            () if len > SECTOR_BYTES && dice.percent(3) => {
                Landing::Moved((1 + dice.index(len / SECTOR_BYTES)) * SECTOR_BYTES)
            }
            () => Landing::Moved(len),
        };
        match landing {
            Landing::Moved(len) => machine.perform(token, len),
            // What a failed write has left behind is anything.
            _ => machine.spoil(token, dice),
        }
        if let Landing::Failed(error) = landing {
            timeline::line(|| format!("{}: the disk fails with {error}", machine.name));
        }
        self.agenda.land(host, token, landing);
        self.settle();
    }

    /// Tells machines what has come of their operations.
    pub fn settle(&mut self) {
        for (host, token, landing) in std::mem::take(&mut self.agenda.landed) {
            self.hosts[host].landed.push((token, landing));
            self.step_soon(host);
        }
    }

    /// Lets a machine's core run in a moment.
    pub fn step_soon(&mut self, host: HostId) {
        let delay = self.agenda.dice.between(500, 20 * MICROSECOND);
        self.step_at(host, self.agenda.now + delay);
    }

    /// Lets a machine's core run at that time at the latest.
    pub fn step_at(&mut self, host: HostId, time: u64) {
        let machine = &mut self.hosts[host];
        if machine.is_live && !machine.is_frozen && time < machine.next_step {
            machine.next_step = time;
            self.agenda.at(time, Event::Step { host, boot: machine.boot });
        }
    }

    /// Lets a disk go on that was hung.
    pub fn unhang(&mut self, host: HostId) {
        let machine = &mut self.hosts[host];
        machine.mood.is_hung = false;
        let boot = machine.boot;
        for token in std::mem::take(&mut machine.held) {
            let delay = self.agenda.dice.scale(10 * MICROSECOND, 1000 * MICROSECOND);
            self.agenda.after(delay, Event::Disk { host, boot, token });
        }
    }

    /// A handle was shut down.
    pub fn shutdown(&mut self, host: HostId, slot: u32, reading: bool, writing: bool) {
        let World { agenda, network, hosts } = self;
        match hosts[host].objects.get(&slot) {
            Some(Object::Listener(port)) => network.unlisten(agenda, host, *port),
            Some(Object::Stream(connection, side)) => {
                network.shutdown(agenda, (*connection, *side), reading, writing);
            }
            _ => {}
        }
        self.settle();
    }

    /// Nobody holds a handle any more.
    pub fn let_go(&mut self, host: HostId, slot: u32) {
        let World { agenda, network, hosts } = self;
        match hosts[host].objects.remove(&slot) {
            Some(Object::Listener(port)) => network.unlisten(agenda, host, port),
            Some(Object::Stream(connection, side)) => network.close(agenda, connection, side),
            _ => {}
        }
        self.settle();
    }
}

/// Machines have the addresses 10.0.0.1, 10.0.0.2, and so on.
fn place_of(address: &SockaddrStorage) -> (HostId, u16) {
    let address = address.as_sockaddr_in().expect("addresses are of IPv4");
    (usize::from(address.ip().octets()[3]) - 1, address.port())
}
