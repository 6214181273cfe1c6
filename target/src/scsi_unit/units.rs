//! The logical units of one core, and its talk with other cores about units.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use reactor::sync::{Gate, Giver, one_shot};
use uuid::Uuid;
use wire::scsi::NexusId;

use crate::fault::{Fault, Kind};
use crate::message::Ask;
use crate::scsi_unit::{LogicalUnit, Nexus, NexusTasks, ReplyTo, ScsiAnswer, ScsiAsk};
use crate::serve_core::{CoreHandle, ServingCore};

/// What one core knows of units.
pub struct Units {
    open: RefCell<BTreeMap<Uuid, Rc<LogicalUnit>>>,
    /// Units are opened one at a time, so that none is opened twice.
    opening: Rc<Gate>,
    /// Sessions of this core with units of other cores.
    away: RefCell<BTreeMap<(NexusId, Uuid), Departed>>,
    /// What this core has asked others.
    asked: RefCell<BTreeMap<u64, Giver<ScsiAnswer>>>,
    numbers: Cell<u64>,
}

impl Default for Units {
    fn default() -> Units {
        Units {
            open: RefCell::default(),
            opening: Gate::new(1),
            away: RefCell::default(),
            asked: RefCell::default(),
            numbers: Cell::new(0),
        }
    }
}

/// A session of this core with a unit of another.
#[derive(Clone)]
struct Departed {
    lun: u16,
    tasks: Weak<dyn NexusTasks>,
}

/// A session on another core, as a unit here sees it.
struct Away {
    home: CoreHandle,
    nexus: NexusId,
    uuid: Uuid,
}

impl NexusTasks for Away {
    fn abort_tasks(&self, _: u16) -> bool {
        // Whether it had any is known here: they are running on this core.
        self.home.send(Ask::Scsi(ScsiAsk::AbortTasks { nexus: self.nexus, uuid: self.uuid }));
        false
    }
}

impl Units {
    /// The unit of a volume of this core, opened when it is first asked for.
    pub async fn unit(&self, here: &Rc<ServingCore>, uuid: Uuid) -> Result<Rc<LogicalUnit>, Fault> {
        if let Some(unit) = self.get(uuid) {
            return Ok(unit);
        }
        let _turn = self.opening.enter(1).await;
        if let Some(unit) = self.get(uuid) {
            return Ok(unit);
        }
        let gone = |what| Fault::new(Kind::NotFound, format!("volume {uuid} {what}"));
        let volume = here.volume(uuid).ok_or_else(|| gone("has just been removed"))?;
        let iscsi = here.directory().iscsi.clone();
        let lun = iscsi.lun_of(uuid).ok_or_else(|| gone("is no logical unit of any iSCSI target"))?;
        let unit = LogicalUnit::open(here.core(), volume, lun, &iscsi.reservations_dir).await?;
        // It may have been removed while its files were read.
        here.volume(uuid).ok_or_else(|| gone("has just been removed"))?;
        self.open.borrow_mut().insert(uuid, unit.clone());
        Ok(unit)
    }

    /// The unit, if it is open.
    pub fn get(&self, uuid: Uuid) -> Option<Rc<LogicalUnit>> {
        self.open.borrow().get(&uuid).cloned()
    }

    /// Its volume is going away. To be called when the volume is taken from the core's volumes.
    pub fn close(&self, uuid: Uuid) {
        let unit = self.open.borrow_mut().remove(&uuid);
        if let Some(unit) = unit {
            unit.closed.set(true);
        }
    }

    /// Takes over new sizes and settings. To be called after a volume was resized, and after a new directory came.
    pub fn refresh(&self, here: &ServingCore) {
        let iscsi = here.directory().iscsi.clone();
        for (uuid, unit) in self.open.borrow().iter() {
            unit.refresh(iscsi.lun_of(*uuid));
        }
    }

    /// Does what another core asks: for `Ask::Scsi`.
    pub fn obey(&self, here: &Rc<ServingCore>, ask: ScsiAsk) {
        match ask {
            ScsiAsk::Attach { uuid, nexus, home, reply } => {
                let here = here.clone();
                here.core().clone().spawn(async move {
                    reply.give(ScsiAnswer::Attached(attach_away(&here, uuid, nexus, home).await));
                });
            }
            ScsiAsk::Detach { uuid, nexus } => self.with(uuid, |unit| unit.detach(nexus)),
            ScsiAsk::SetLuns { uuid, nexus, luns } => {
                self.with(uuid, |unit| {
                    if unit.has(nexus) {
                        unit.scsi().borrow_mut().set_luns(nexus, &luns);
                    }
                });
            }
            ScsiAsk::Execute { uuid, nexus, tag, cdb, data_out, reply } => {
                let Some(unit) = self.get(uuid) else { return };
                let here = here.clone();
                here.core().clone().spawn(async move {
                    let done = unit.execute(&here, nexus, tag, &cdb, &data_out).await;
                    reply.give(ScsiAnswer::Done(done));
                });
            }
            ScsiAsk::Abort { uuid, nexus, tag } => self.with(uuid, |unit| unit.abort(nexus, tag)),
            ScsiAsk::Manage { uuid, nexus, management, reply } => {
                self.with(uuid, |unit| unit.manage(nexus, management));
                reply.give(ScsiAnswer::Managed);
            }
            ScsiAsk::Answered { number, answer } => {
                let giver = self.asked.borrow_mut().remove(&number);
                if let Some(giver) = giver {
                    giver.give(answer);
                }
            }
            ScsiAsk::AbortTasks { nexus, uuid } => {
                let session = self.away.borrow().get(&(nexus, uuid)).cloned();
                if let Some(Departed { lun, tasks }) = session
                    && let Some(tasks) = tasks.upgrade()
                {
                    tasks.abort_tasks(lun);
                }
            }
        }
    }

    /// Asks another core, and waits for its answer.
    pub(super) async fn ask(
        &self,
        here: &ServingCore,
        core: usize,
        ask: impl FnOnce(ReplyTo) -> ScsiAsk,
    ) -> ScsiAnswer {
        let number = self.next_number();
        let (giver, taker) = one_shot();
        self.asked.borrow_mut().insert(number, giver);
        let home = here.handle(here.index());
        let reply = ReplyTo::new(move |answer| {
            if let Some(home) = home {
                home.send(Ask::Scsi(ScsiAsk::Answered { number, answer }));
            }
        });
        here.tell(core, Ask::Scsi(ask(reply)));
        let answer = taker.await;
        answer.unwrap_or(ScsiAnswer::Lost)
    }

    /// Remembers a session of this core with a unit of another.
    pub(super) fn note_away(&self, nexus: &Nexus, uuid: Uuid, tasks: Weak<dyn NexusTasks>) {
        self.away.borrow_mut().insert((nexus.id, uuid), Departed { lun: nexus.lun, tasks });
    }

    /// Forgets it.
    pub(super) fn forget_away(&self, nexus: NexusId, uuid: Uuid) {
        self.away.borrow_mut().remove(&(nexus, uuid));
    }

    /// A number that was not there before.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    fn with(&self, uuid: Uuid, act: impl FnOnce(&LogicalUnit)) {
        if let Some(unit) = self.get(uuid) {
            act(&unit);
        }
    }
}

async fn attach_away(here: &Rc<ServingCore>, uuid: Uuid, nexus: Nexus, home: usize) -> Result<(), String> {
    let unit = here.units().unit(here, uuid).await.map_err(|fault| fault.to_string())?;
    let home = here.handle(home).ok_or("its core has ended")?;
    let away: Rc<dyn NexusTasks> = Rc::new(Away { home, nexus: nexus.id, uuid });
    unit.attach_away(nexus, away);
    Ok(())
}
