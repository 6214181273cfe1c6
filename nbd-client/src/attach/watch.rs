//! Keeping an attached device alive: lost connections are dialed again, and handed to the kernel.
//!
//! What wakes the watch: the driver's own event (a link is dead), a socket of ours that was hung up, a dial that came
//! to its end, a pause that is over.
//!
//! Its one rule: only the very export that was attached is handed over, and only while the device is still the one
//! that we attached.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use uuid::Uuid;

use super::dials::{Dials, Outcome};
use super::driver::{Driver, Events};
use super::elastic::Elastic;
use super::kernel::{Attached, hand_over, open_driver, set_timeout};
use super::news::{End, News};
use super::redial::Redial;
use super::slots::Slot;
use super::sockets;
use super::state::WatchLock;
use crate::client::KernelSocket;
use crate::error::{Error, Kind};

/// How often it is asked, beside all events, whether the device is still ours.
const LOOK: Duration = Duration::from_secs(1);
/// The driver may take a moment to notice that a socket is dead; until then it takes no other.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
const OFFER_FOR: Duration = Duration::from_secs(5);
/// What passes between the end of a detached device's connections and its own.
const DETACH_TAKES: Duration = Duration::from_millis(50);

impl Attached {
    /// Watches until the device is detached or `stop` can be read.
    ///
    /// Only one process can watch a device.
    pub fn watch(self, stop: &impl AsFd, report: &mut dyn FnMut(&News)) -> Result<End, Error> {
        let name = self.device.name();
        let Some(lock) = self.folder.watch(&name)? else {
            return Err(Error::new(Kind::Busy, format!("{} is watched by another process", self.device))
                .remedy("leave it to that one, or end it first"));
        };
        Watch::new(self, lock)?.run(stop, report)
    }
}

struct Watch {
    attached: Attached,
    driver: Driver,
    events: Events,
    redial: Redial,
    dials: Dials,
    /// Dialed, and not yet taken by the driver.
    offers: VecDeque<Offer>,
    /// Of each host, as long as it tells one.
    incarnations: Vec<Option<Uuid>>,
    elastic: Elastic,
    _lock: WatchLock,
}

struct Offer {
    node: usize,
    socket: OwnedFd,
    until: Instant,
}

impl Watch {
    fn new(mut attached: Attached, lock: WatchLock) -> Result<Self, Error> {
        let driver = open_driver()?;
        let failed = |error| Error::caused(Kind::Local, "the kernel's nbd driver tells no news", error);
        let events = driver.events().map_err(failed)?;
        let nodes = attached.endpoints.len();
        let mut redial = Redial::new(nodes, Instant::now());
        for slot in attached.slots.iter_mut().filter(|slot| !slot.connection.live) {
            slot.socket = None;
            redial.lost(slot.node, Instant::now());
        }
        let dials = Dials::new().map_err(|error| Error::caused(Kind::Local, "no pipe", error))?;
        let offers = VecDeque::new();
        let incarnations = attached.incarnations.clone();
        let usual = Duration::from_millis(attached.state.timeout_ms);
        let current = attached.device.request_timeout().unwrap_or(usual);
        let elastic = Elastic::new(nodes, usual, current, Instant::now());
        Ok(Watch { attached, driver, events, redial, dials, offers, incarnations, elastic, _lock: lock })
    }

    fn run(mut self, stop: &impl AsFd, report: &mut dyn FnMut(&News)) -> Result<End, Error> {
        // what was lost before there was anybody to tell
        self.look_for_losses(true, report);
        loop {
            if self.is_detached() {
                self.attached.folder.forget(&self.attached.device.name());
                return Ok(End::Detached);
            }
            if let Some(usual) = self.elastic.all_well(Instant::now()) {
                let _ = self.attached.device.set_request_timeout(usual);
            }
            self.begin_dials();
            let woken = self.wait(stop)?;
            if woken.stop {
                return Ok(End::Stopped);
            }
            self.look_for_losses(woken.link_dead, report);
            while let Some(outcome) = self.dials.next() {
                self.dialed(outcome, report);
            }
            self.make_offers(report);
        }
    }

    fn wait(&mut self, stop: &impl AsFd) -> Result<Woken, Error> {
        let offer = if self.offers.is_empty() { LOOK } else { OFFER_AGAIN };
        let due = self.redial.next_due().map(|due| due.saturating_duration_since(Instant::now()));
        let patience = offer.min(due.unwrap_or(LOOK)).as_millis() as u16;
        let quiet = PollFlags::empty(); // tells of a hang-up all the same
        let mut fds = vec![
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.dials.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.attached.sockets().map(|socket| PollFd::new(socket.as_fd(), quiet)));
        let failed = |error: io::Error| Error::caused(Kind::Local, "waiting for news of the device", error);
        match poll(&mut fds, PollTimeout::from(patience.saturating_add(1))) {
            Err(nix::errno::Errno::EINTR) | Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let stop = fds[0].any().unwrap_or(true);
        let link_dead = self.events.concern(self.attached.device.index()).map_err(failed)?;
        Ok(Woken { stop, link_dead })
    }

    fn is_detached(&self) -> bool {
        self.attached.device.pid() != Some(self.attached.state.pid)
    }

    /// Drops connections that have ended. After the driver's own event also those of which we have no descriptor.
    fn look_for_losses(&mut self, link_dead: bool, report: &mut dyn FnMut(&News)) {
        let mut lost = Vec::new();
        for slot in self.attached.slots.iter_mut().filter(|slot| slot.connection.live) {
            let ended = match &slot.socket {
                Some(socket) => sockets::is_hung_up(socket),
                None => link_dead && sockets::is_established(&slot.connection) != Some(true),
            };
            if ended {
                if sockets::was_given_up(&slot.connection) {
                    self.elastic.gave_up(slot.node);
                }
                slot.end();
                lost.push(slot.node);
            }
        }
        let (left, of) = (self.attached.live(), self.attached.slots.len());
        if lost.is_empty() || (left == 0 && self.comes_to_its_end()) {
            return;
        }
        for node in lost {
            self.redial.lost(node, Instant::now());
            report(&News::Lost { host: self.attached.endpoints[node].to_string(), left, of });
        }
        self.save();
    }

    /// Whether the device is being detached: connections end a little before it does.
    fn comes_to_its_end(&self) -> bool {
        self.attached.device.wait_until_free(DETACH_TAKES)
    }

    fn begin_dials(&mut self) {
        for dial in self.redial.due(Instant::now()) {
            let host = self.attached.endpoints[dial.node].clone();
            if let Err(error) = self.dials.begin(dial, host, self.attached.connect_timeout) {
                tracing::warn!("no thread to dial with: {error}");
                self.redial.failed(dial.node, Instant::now());
            }
        }
    }

    fn dialed(&mut self, (node, outcome): Outcome, report: &mut dyn FnMut(&News)) {
        let host = &self.attached.endpoints[node];
        let admitted = outcome.and_then(|sockets| {
            sockets.iter().try_for_each(|socket| self.attached.common.admits(&socket.export, host))?;
            Ok(sockets)
        });
        match admitted {
            Ok(sockets) => self.arrived(node, sockets, report),
            Err(error) => self.failed(node, error, report),
        }
    }

    fn arrived(&mut self, node: usize, sockets: Vec<KernelSocket>, report: &mut dyn FnMut(&News)) {
        let (now, host, count) = (Instant::now(), self.attached.endpoints[node].to_string(), sockets.len());
        let incarnation = sockets.first().and_then(|socket| socket.export.incarnation);
        let before = std::mem::replace(&mut self.incarnations[node], incarnation);
        let forgetful = before.is_some() && before != incarnation;
        let offer = |dialed: KernelSocket| Offer { node, socket: dialed.socket, until: now + OFFER_FOR };
        self.offers.extend(sockets.into_iter().map(offer));
        self.redial.arrived(node, count);
        report(&News::Back { host: host.clone(), count, forgetful });
        let more = self.elastic.answers(node, now).filter(|_| self.attached.state.elastic);
        if let Some(seconds) = more {
            let Attached { device, state, .. } = &self.attached;
            match set_timeout(&mut self.driver, *device, &state.uri, seconds) {
                Ok(()) => report(&News::Slow { host, seconds }),
                Err(error) => tracing::warn!("{device}: the timeout stays as it is: {error}"),
            }
        }
    }

    fn failed(&mut self, node: usize, error: Error, report: &mut dyn FnMut(&News)) {
        self.elastic.was_lost(node);
        let first = match error.kind() {
            Kind::Unreachable | Kind::Lost => self.redial.failed(node, Instant::now()),
            _ => self.redial.refused(node, Instant::now()),
        };
        if first {
            report(&News::Failed(error));
        }
    }

    fn make_offers(&mut self, report: &mut dyn FnMut(&News)) {
        let mut taken = false;
        for _ in 0..self.offers.len() {
            let offer = self.offers.pop_front().expect("as many as were counted");
            let Attached { device, state, .. } = &self.attached;
            match hand_over(&mut self.driver, *device, &state.uri, &offer.socket) {
                Ok(true) => {
                    self.attached.put(offer.node, offer.socket);
                    taken = true;
                }
                Ok(false) if Instant::now() < offer.until => self.offers.push_back(offer),
                // the driver lacks none: the connection that was given up, unseen, lives
                Ok(false) => self.attached.revive(offer.node),
                Err(_) if self.is_detached() => return,
                Err(error) => {
                    self.redial.lost(offer.node, Instant::now());
                    let text = format!("{device}: the kernel does not take a new connection");
                    self.failed(offer.node, Error::caused(Kind::Local, text, error), report);
                }
            }
        }
        if taken {
            self.save();
        }
    }

    fn save(&mut self) {
        let Attached { folder, state, slots, device, .. } = &mut self.attached;
        state.connections = slots.iter().map(|slot| slot.connection.clone()).collect();
        // what cannot be written is written with the next change
        let _ = folder.save(&device.name(), state);
    }
}

struct Woken {
    stop: bool,
    link_dead: bool,
}

impl Attached {
    fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.slots.iter().filter_map(|slot| slot.socket.as_ref())
    }

    fn live(&self) -> usize {
        self.slots.iter().filter(|slot| slot.connection.live).count()
    }

    /// Puts a socket in the place of one of this host that was lost.
    fn put(&mut self, node: usize, socket: OwnedFd) {
        let place = self.slots.iter_mut().find(|slot| slot.node == node && !slot.connection.live);
        if let Some(slot) = place {
            *slot = Slot::live(node, &self.endpoints[node], socket);
        }
    }

    fn revive(&mut self, node: usize) {
        let place = self.slots.iter_mut().find(|slot| slot.node == node && !slot.connection.live);
        if let Some(slot) = place {
            slot.connection.live = true;
        }
    }
}
