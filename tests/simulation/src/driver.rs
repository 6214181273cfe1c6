//! A core's driver over the simulated world.
//!
//! Its one rule: what a handle's holders tell is heard before the next operation starts.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use reactor::driver::{Counters, Driver, Harvest, Moment, Wait};
use reactor::handle::Keeper;
use reactor::op::{Completion, Op, Token};
use reactor::{Handle, Path};

use crate::agenda::HostId;
use crate::dice::Dice;
use crate::host::Object;
use crate::world::SharedWorld;

/// One life of one machine, as its core sees it.
pub struct SimulatedDriver {
    line: Rc<Line>,
    dice: Dice,
}

/// Between a core's handles and the world.
pub struct Line {
    world: SharedWorld,
    host: HostId,
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
                    world.shutdown(self.host, slot, how != Shutdown::Write, how != Shutdown::Read);
                }
                Told::LetGo(slot) => world.let_go(self.host, slot),
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
    /// For the present life of a machine.
    pub fn new(world: &SharedWorld, host: HostId) -> SimulatedDriver {
        let mut borrowed = world.borrow_mut();
        let dice = borrowed.agenda.dice.child();
        let boot = borrowed.hosts[host].boot;
        let line = Line { world: world.clone(), host, boot, told: RefCell::default() };
        SimulatedDriver { line: Rc::new(line), dice }
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
        self.line.world.borrow_mut().start(self.line.host, token, op);
        None
    }

    fn harvest(&mut self, _: Wait, out: &mut Vec<(Token, Completion)>) -> Harvest {
        self.line.hear();
        if self.line.is_live() {
            let mut landed = self.line.world.borrow_mut().hosts[self.line.host].harvest();
            if landed.len() > 1 && self.dice.percent(50) {
                for place in (1..landed.len()).rev() {
                    landed.swap(place, self.dice.index(place + 1));
                }
            }
            out.append(&mut landed);
        }
        Harvest::default()
    }

    fn now(&self) -> Moment {
        let world = self.line.world.borrow();
        Moment(world.hosts[self.line.host].clock.shows(world.agenda.now))
    }

    fn adopt(&mut self, fd: OwnedFd, path: Path) -> Handle {
        let slot = self.line.world.borrow_mut().hosts[self.line.host].adopt(&fd);
        Handle::new(fd, path, Some(slot), self.line.clone())
    }

    fn socket(&mut self, _: SocketAddr) -> io::Result<OwnedFd> {
        Ok(self.line.world.borrow_mut().hosts[self.line.host].descriptor(Object::Socket))
    }

    fn random(&mut self, out: &mut [u8]) -> io::Result<()> {
        out.fill_with(|| self.dice.roll() as u8);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        if self.line.is_live() { self.line.world.borrow().hosts[self.line.host].flights.len() } else { 0 }
    }

    fn cancel_all(&mut self) {}

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn features(&self) -> Vec<String> {
        Vec::new()
    }
}
