//! A core's driver over the simulated world.
//!
//! Its one rule: what a handle's holders tell is heard before the next operation starts.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use reactor::driver::{Counters, Driver, Harvest, Moment, Wait};
use reactor::handle::Keeper;
use reactor::op::{Completion, Op, Token};
use reactor::uring::Doorbell;
use reactor::{Handle, Path};

use crate::agenda::{CoreId, HostId};
use crate::dice::Dice;
use crate::host::{Object, inode};
use crate::world::SharedWorld;

/// One life of one machine, as its core sees it.
pub struct SimulatedDriver {
    line: Rc<Line>,
    dice: Dice,
    doorbell: Doorbell,
}

/// Between a core's handles and the world.
pub struct Line {
    world: SharedWorld,
    host: HostId,
    core: CoreId,
    boot: u32,
    told: RefCell<Vec<Told>>,
}

/// What the holders of handles have told.
enum Told {
    Shutdown(u32, Shutdown),
    LetGo(u32),
}

impl Keeper for Line {
    fn shutdown(&self, _: BorrowedFd<'_>, slot: Option<u32>, how: Shutdown) {
        self.told.borrow_mut().extend(slot.map(|slot| Told::Shutdown(slot, how)));
    }

    fn returned(&self, slot: u32) {
        self.told.borrow_mut().push(Told::LetGo(slot));
    }
}

impl Line {
    /// Does what was told.
    pub fn hear(&self) {
        let told = std::mem::take(&mut *self.told.borrow_mut());
        if told.is_empty() || !self.is_live() {
            return;
        }
        let mut world = self.world.borrow_mut();
        for told in told {
            match told {
                Told::Shutdown(slot, how) => {
                    world.shutdown(self.core, slot, how != Shutdown::Write, how != Shutdown::Read);
                }
                Told::LetGo(slot) => world.let_go(self.core, slot),
            }
        }
    }

    fn is_live(&self) -> bool {
        let world = self.world.borrow();
        let host = &world.hosts[self.host];
        host.is_live && host.boot == self.boot
    }
}

impl SimulatedDriver {
    /// For a core in the present life of its machine, with this doorbell.
    pub fn new(world: &SharedWorld, core: CoreId, doorbell: &Doorbell) -> SimulatedDriver {
        let mut borrowed = world.borrow_mut();
        let dice = borrowed.agenda.dice.child();
        borrowed.processors[core].doorbell = Some(doorbell.clone());
        let host = borrowed.processors[core].host;
        let boot = borrowed.hosts[host].boot;
        let line = Line { world: world.clone(), host, core, boot, told: RefCell::default() };
        SimulatedDriver { line: Rc::new(line), dice, doorbell: doorbell.clone() }
    }

    /// Its line.
    pub fn line(&self) -> Rc<Line> {
        self.line.clone()
    }
}

impl Driver for SimulatedDriver {
    fn start(&mut self, token: Token, op: Op) -> Option<Completion> {
        self.line.hear();
        if !self.line.is_live() {
            // The machine has died under its program: nobody will ever hear of this again.
            return Some(Completion { result: Err(io::Error::from_raw_os_error(nix::libc::ECANCELED)), op });
        }
        self.line.world.borrow_mut().start(self.line.core, token, op);
        None
    }

    fn harvest(&mut self, _: Wait, out: &mut Vec<(Token, Completion)>) -> Harvest {
        self.line.hear();
        let rung = self.doorbell.is_rung();
        self.doorbell.heard();
        if self.line.is_live() {
            let mut landed = self.line.world.borrow_mut().harvest(self.line.core);
            if landed.len() > 1 && self.dice.percent(50) {
                for place in (1..landed.len()).rev() {
                    landed.swap(place, self.dice.index(place + 1));
                }
            }
            out.append(&mut landed);
        }
        Harvest { rung }
    }

    fn now(&self) -> Moment {
        let world = self.line.world.borrow();
        Moment(world.hosts[self.line.host].clock.shows(world.agenda.now))
    }

    fn adopt(&mut self, fd: OwnedFd, path: Path) -> Handle {
        let slot = self.line.world.borrow_mut().adopt(self.line.core, fd.as_fd());
        Handle::new(fd, path, Some(slot), self.line.clone())
    }

    fn socket(&mut self, _: SocketAddr) -> io::Result<OwnedFd> {
        Ok(self.line.world.borrow_mut().hosts[self.line.host].descriptor(Object::Socket))
    }

    fn peer(&self, socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        let world = self.line.world.borrow();
        let object = world.hosts[self.line.host].object(inode(socket))?;
        let Object::Stream(connection, side) = object else { return None };
        let (host, port) = world.network.end(connection, 1 - side)?;
        Some(([10, 0, 0, host as u8 + 1], port).into())
    }

    fn random(&mut self, out: &mut [u8]) -> io::Result<()> {
        out.fill_with(|| self.dice.roll() as u8);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        if self.line.is_live() {
            self.line.world.borrow().processors[self.line.core].flights.len()
        } else {
            0
        }
    }

    fn cancel_all(&mut self) {}

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn features(&self) -> Vec<String> {
        Vec::new()
    }
}
