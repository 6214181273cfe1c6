//! All that is simulated, and what operations of cores do to it.
//!
//! Its one rule: nothing here runs code of the target; cores are stepped by `run`, when nobody holds the world.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use nix::libc;
use nix::sys::socket::SockaddrStorage;
use reactor::op::{Completion, Op, Token};

use crate::agenda::{Agenda, CoreId, Event, HostId, Landing, MICROSECOND};
use crate::disk::SECTOR_BYTES;
use crate::host::{Host, Object, inode};
use crate::network::Network;
use crate::processor::{Flight, FlightKind, Processor};
use crate::timeline;

/// The world, as everybody holds it.
pub type SharedWorld = Rc<RefCell<World>>;

/// All of it.
pub struct World {
    pub agenda: Agenda,
    pub network: Network,
    pub hosts: Vec<Host>,
    /// Of all machines.
    pub processors: Vec<Processor>,
}

impl World {
    /// The machine of a core.
    pub fn host_of(&mut self, core: CoreId) -> &mut Host {
        &mut self.hosts[self.processors[core].host]
    }

    /// Starts an operation of a core.
    pub fn start(&mut self, core: CoreId, token: Token, op: Op) {
        let handle = match &op {
            Op::Accept { listener: handle }
            | Op::Connect { socket: handle, .. }
            | Op::Receive { socket: handle, .. }
            | Op::ReceiveInto { socket: handle, .. }
            | Op::Send { socket: handle, .. }
            | Op::Read { file: handle, .. }
            | Op::Write { file: handle, .. }
            | Op::Sync { file: handle, .. }
            | Op::Allocate { file: handle, .. } => Some(handle),
            Op::Nvme { .. } | Op::Blocking(_) => None,
        };
        let slot = handle.map(|handle| handle.slot().expect("handles are made with one"));
        match slot.and_then(|slot| self.object(core, slot)) {
            Some(Object::File(file)) => self.start_disk(core, token, op, file),
            object => self.start_network(core, token, op, object),
        }
        self.settle();
    }

    fn object(&self, core: CoreId, slot: u32) -> Option<Object> {
        let processor = &self.processors[core];
        self.hosts[processor.host].object(*processor.descriptors.get(&slot)?)
    }

    fn start_network(&mut self, core: CoreId, token: Token, op: Op, object: Option<Object>) {
        let World { agenda, network, hosts, processors } = self;
        let host = processors[core].host;
        match (&op, object) {
            (Op::Accept { .. }, Some(Object::Listener(port))) => {
                network.accept(agenda, (host, port), core, token);
            }
            (Op::Connect { socket, address }, Some(Object::Socket)) => {
                let connection = network.dial(agenda, (host, core), place_of(address), token);
                hosts[host].becomes(inode(socket.as_fd()), Object::Stream(connection, 0));
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
            (Op::Blocking(_), _) => agenda.land(core, token, Landing::Moved(0)),
            _ => agenda.land(core, token, Landing::Failed(libc::ENOTCONN)),
        }
        let flight = Flight { op, kind: FlightKind::Network };
        let before = processors[core].flights.insert(token.0, flight);
        assert!(before.is_none(), "a token names one operation at a time");
    }

    fn start_disk(&mut self, core: CoreId, token: Token, op: Op, file: usize) {
        let machine = self.host_of(core);
        let flush_point = machine.files[file].flush_point();
        let (mood, boot) = (machine.mood, machine.boot);
        let longest = if matches!(op, Op::Sync { .. }) { mood.flush_max } else { mood.transfer_max };
        let flight = Flight { op, kind: FlightKind::Disk { file, flush_point } };
        self.processors[core].flights.insert(token.0, flight);
        let delay = self.agenda.dice.scale(10 * MICROSECOND, longest);
        self.agenda.after(delay, Event::Disk { core, boot, token });
    }

    /// A disk has done what it was asked for, or could not.
    pub fn disk(&mut self, core: CoreId, boot: u32, token: Token) {
        let processor = &mut self.processors[core];
        let machine = &mut self.hosts[processor.host];
        if machine.boot != boot || !machine.is_live {
            return;
        }
        if machine.mood.is_hung {
            return machine.held.push((core, token));
        }
        let dice = &mut self.agenda.dice;
        let mood = machine.mood;
        let flight = processor.flights.get_mut(&token.0).expect("it is under way");
        let (len, changes) = match &flight.op {
            Op::Read { len, .. } => (*len, false),
            Op::Write { data, .. } => (data.len(), true),
            _ => (0, true),
        };
        let fails = dice.permyriad(if changes { mood.failing_writes } else { mood.failing_reads });
        let landing = match () {
            () if fails => Landing::Failed(libc::EIO),
            () if mood.is_full && matches!(flight.op, Op::Write { .. } | Op::Allocate { .. }) => {
                Landing::Failed(libc::ENOSPC)
            }
            () if len > SECTOR_BYTES && dice.percent(3) => {
                Landing::Moved((1 + dice.index(len / SECTOR_BYTES)) * SECTOR_BYTES)
            }
            () => Landing::Moved(len),
        };
        match landing {
            Landing::Moved(len) => machine.perform(flight, len),
            // What a failed write has left behind is anything.
            _ => machine.spoil(flight, dice),
        }
        if let Landing::Failed(error) = landing {
            timeline::line(|| format!("{}: the disk fails with {error}", machine.name));
        }
        self.agenda.land(core, token, landing);
        self.settle();
    }

    /// What has come of a core's operations.
    pub fn harvest(&mut self, core: CoreId) -> Vec<(Token, Completion)> {
        let processor = &mut self.processors[core];
        processor.harvest(&mut self.hosts[processor.host])
    }

    /// A core takes a descriptor in: what its handle is known by.
    pub fn adopt(&mut self, core: CoreId, fd: BorrowedFd<'_>) -> u32 {
        let inode = inode(fd);
        let machine = self.host_of(core);
        machine.adopted(inode);
        if let Some(Object::Stream(connection, side)) = machine.object(inode) {
            self.network.moves(connection, side, core);
        }
        self.processors[core].adopt(inode)
    }

    /// Tells cores what has come of their operations.
    pub fn settle(&mut self) {
        for (core, token, landing) in std::mem::take(&mut self.agenda.landed) {
            self.processors[core].landed.push((token, landing));
            self.step_soon(core);
        }
    }

    /// Lets a core run in a moment.
    pub fn step_soon(&mut self, core: CoreId) {
        let delay = self.agenda.dice.between(500, 20 * MICROSECOND);
        self.step_at(core, self.agenda.now + delay);
    }

    /// Lets a core run at that time at the latest.
    pub fn step_at(&mut self, core: CoreId, time: u64) {
        let processor = &mut self.processors[core];
        let machine = &self.hosts[processor.host];
        if machine.is_live && !machine.is_frozen && time < processor.next_step {
            processor.next_step = time;
            self.agenda.at(time, Event::Step { core, boot: machine.boot });
        }
    }

    /// Lets all cores of a machine run in a moment.
    pub fn wake(&mut self, host: HostId) {
        for core in self.hosts[host].cores.clone() {
            self.step_soon(core);
        }
    }

    /// Lets the cores of a machine run that somebody has rung at, and closes what was lost between them.
    pub fn answer_doorbells(&mut self, host: HostId) {
        for core in self.hosts[host].cores.clone() {
            if self.processors[core].is_rung() {
                self.step_soon(core);
            }
        }
        for object in self.hosts[host].lost_in_transit() {
            self.close(host, object);
        }
    }

    /// Lets a disk go on that was hung.
    pub fn unhang(&mut self, host: HostId) {
        let machine = &mut self.hosts[host];
        machine.mood.is_hung = false;
        let boot = machine.boot;
        for (core, token) in std::mem::take(&mut machine.held) {
            let delay = self.agenda.dice.scale(10 * MICROSECOND, 1000 * MICROSECOND);
            self.agenda.after(delay, Event::Disk { core, boot, token });
        }
    }

    /// A handle was shut down.
    pub fn shutdown(&mut self, core: CoreId, slot: u32, reading: bool, writing: bool) {
        let host = self.processors[core].host;
        match self.object(core, slot) {
            Some(Object::Listener(port)) => self.network.unlisten(&mut self.agenda, host, port),
            Some(Object::Stream(connection, side)) => {
                self.network.shutdown(&mut self.agenda, (connection, side), reading, writing);
            }
            _ => {}
        }
        self.settle();
    }

    /// Nobody holds a handle of this core any more.
    pub fn let_go(&mut self, core: CoreId, slot: u32) {
        let host = self.processors[core].host;
        let Some(inode) = self.processors[core].descriptors.remove(&slot) else { return };
        if let Some(object) = self.hosts[host].let_go(inode) {
            self.close(host, object);
        }
    }

    fn close(&mut self, host: HostId, object: Object) {
        match object {
            Object::Listener(port) => self.network.unlisten(&mut self.agenda, host, port),
            Object::Stream(connection, side) => self.network.close(&mut self.agenda, connection, side),
            Object::Socket | Object::File(_) => {}
        }
        self.settle();
    }

    /// The program of a machine has ended: what it had under way is left, to be dropped by somebody else.
    pub fn end_life(&mut self, host: HostId) -> Vec<Flight> {
        self.settle();
        let machine = &mut self.hosts[host];
        let mut flights = Vec::new();
        for core in machine.cores.clone() {
            flights.extend(self.processors[core].end_life().into_values());
        }
        for flight in &flights {
            machine.spoil(flight, &mut self.agenda.dice);
        }
        machine.end_life();
        self.network.process_ended(&mut self.agenda, host);
        self.agenda.landed.retain(|(core, ..)| self.processors[*core].host != host);
        self.settle();
        flights
    }
}

/// Machines have the addresses 10.0.0.1, 10.0.0.2, and so on.
fn place_of(address: &SockaddrStorage) -> (HostId, u16) {
    let address = address.as_sockaddr_in().expect("addresses are of IPv4");
    (usize::from(address.ip().octets()[3]) - 1, address.port())
}
