//! When the machine wants to be woken.
//!
//! Its one rule: the latest wish counts; a sleeper that wakes for an older one looks again.

use std::cell::Cell;
use std::rc::Rc;

use reactor::driver::Moment;
use reactor::io as verbs;
use replication::Event;

use super::Mirror;
use crate::sabotage::Sabotage;

/// The one wish, and the one sleeper that counts.
pub struct Timer {
    wanted: Cell<Moment>,
    armed: Cell<Moment>,
}

const NEVER: Moment = Moment(u64::MAX);

impl Default for Timer {
    fn default() -> Timer {
        Timer { wanted: Cell::new(NEVER), armed: Cell::new(NEVER) }
    }
}

impl Timer {
    /// Wakes the machine at this time, and not at the one asked for before.
    pub fn wake_at(&self, mirror: &Rc<Mirror>, at: Moment) {
        self.wanted.set(at);
        if at < self.armed.get() {
            self.sleep_until(mirror, at);
        }
    }

    fn sleep_until(&self, mirror: &Rc<Mirror>, at: Moment) {
        self.armed.set(at);
        let weak = Rc::downgrade(mirror);
        let core = mirror.core.clone();
        core.clone().spawn(async move {
            verbs::sleep(&core, at - core.now()).await;
            let Some(mirror) = weak.upgrade() else { return };
            let timer = &mirror.timer;
            if timer.armed.get() == at && !mirror.is_closed.get() {
                timer.armed.set(NEVER);
                timer.look(&mirror);
            }
        });
    }

    fn look(&self, mirror: &Rc<Mirror>) {
        let wanted = self.wanted.get();
        if wanted > mirror.core.now() {
            return self.sleep_until(mirror, wanted);
        }
        self.wanted.set(NEVER);
        if !Sabotage::LoseTick.shows() {
            mirror.handle(Event::Tick);
        }
    }
}
