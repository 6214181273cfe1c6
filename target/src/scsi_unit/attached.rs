//! A unit as a session holds it, wherever it lives.

use std::rc::{Rc, Weak};

use wire::scsi::{NexusId, Refusal, SenseKey, additional};

use crate::message::Ask;
use crate::scsi_unit::perform::Done;
use crate::scsi_unit::{LogicalUnit, Management, Nexus, NexusTasks, ScsiAnswer, ScsiAsk};
use crate::serve_core::ServingCore;
use crate::settings::IscsiLun;

/// A unit and a session's hold on it.
#[derive(Clone)]
pub struct AttachedUnit(Rc<Attached>);

struct Attached {
    settings: IscsiLun,
    nexus: NexusId,
    place: Place,
}

enum Place {
    Here(Rc<LogicalUnit>),
    Elsewhere,
    /// It cannot be served; why is in the log.
    Nowhere,
}

impl AttachedUnit {
    /// Begins the session `nexus` with the unit that `settings` name. `tasks` hears of tasks that others have
    /// cleared.
    pub async fn attach(
        here: &Rc<ServingCore>,
        settings: &IscsiLun,
        nexus: Nexus,
        tasks: Weak<dyn NexusTasks>,
    ) -> AttachedUnit {
        let id = nexus.id;
        let place = if settings.core == here.index() {
            let unit = here.units().unit(here, settings.volume).await.map_err(|fault| fault.to_string());
            unit.map(|unit| {
                unit.attach(nexus, tasks);
                Place::Here(unit)
            })
        } else {
            attach_elsewhere(here, settings, nexus, tasks).await.map(|()| Place::Elsewhere)
        };
        let place = place.unwrap_or_else(|reason| {
            tracing::error!(volume = settings.volume_name, "its logical unit cannot be served: {reason}");
            Place::Nowhere
        });
        AttachedUnit(Rc::new(Attached { settings: settings.clone(), nexus: id, place }))
    }

    /// The unit, if it lives on this core and can be served.
    pub fn local(&self) -> Option<&Rc<LogicalUnit>> {
        match &self.0.place {
            Place::Here(unit) => Some(unit),
            _ => None,
        }
    }

    /// What it was configured as when the session began.
    pub fn settings(&self) -> &IscsiLun {
        &self.0.settings
    }

    /// Tells it the LUNs of the session's target (eight bytes each), for REPORT LUNS.
    pub fn set_luns(&self, here: &ServingCore, luns: &[u64]) {
        let Attached { settings, nexus, place } = &*self.0;
        match place {
            Place::Here(unit) => unit.scsi().borrow_mut().set_luns(*nexus, luns),
            Place::Elsewhere => {
                let ask = ScsiAsk::SetLuns { uuid: settings.volume, nexus: *nexus, luns: luns.to_vec() };
                here.tell(settings.core, Ask::Scsi(ask));
            }
            Place::Nowhere => {}
        }
    }

    /// Carries a whole command out. `tag` is for `abort`, and unique among the session's commands of the moment.
    /// `None` when the command was aborted.
    pub async fn execute(
        &self,
        here: &Rc<ServingCore>,
        tag: u32,
        cdb: &[u8],
        data_out: Vec<u8>,
    ) -> Option<Done> {
        let Attached { settings, nexus, place } = &*self.0;
        match place {
            Place::Here(unit) => unit.execute(here, *nexus, tag, cdb, &data_out).await,
            Place::Elsewhere => {
                let (uuid, cdb, nexus) = (settings.volume, cdb.to_vec(), *nexus);
                let ask = |reply| ScsiAsk::Execute { uuid, nexus, tag, cdb, data_out, reply };
                match here.units().ask(here, settings.core, ask).await {
                    ScsiAnswer::Done(done) => done,
                    _ => Some(lost()),
                }
            }
            Place::Nowhere => Some(lost()),
        }
    }

    /// Nobody waits for the command any more that `execute` was given with `tag`.
    pub fn abort(&self, here: &ServingCore, tag: u32) {
        let Attached { settings, nexus, place } = &*self.0;
        match place {
            Place::Here(unit) => unit.abort(*nexus, tag),
            Place::Elsewhere => {
                let ask = ScsiAsk::Abort { uuid: settings.volume, nexus: *nexus, tag };
                here.tell(settings.core, Ask::Scsi(ask));
            }
            Place::Nowhere => {}
        }
    }

    /// Carries out a task management function on the unit. The session has ended its own tasks before.
    pub async fn manage(&self, here: &ServingCore, management: Management) {
        let Attached { settings, nexus, place } = &*self.0;
        match place {
            Place::Here(unit) => unit.manage(*nexus, management),
            Place::Elsewhere => {
                let (uuid, nexus) = (settings.volume, *nexus);
                let ask = |reply| ScsiAsk::Manage { uuid, nexus, management, reply };
                here.units().ask(here, settings.core, ask).await;
            }
            Place::Nowhere => {}
        }
    }

    /// The session is gone.
    pub fn detach(&self, here: &ServingCore) {
        let Attached { settings, nexus, place } = &*self.0;
        match place {
            Place::Here(unit) => unit.detach(*nexus),
            Place::Elsewhere => {
                here.units().forget_away(*nexus, settings.volume);
                let ask = ScsiAsk::Detach { uuid: settings.volume, nexus: *nexus };
                here.tell(settings.core, Ask::Scsi(ask));
            }
            Place::Nowhere => {}
        }
    }
}

async fn attach_elsewhere(
    here: &Rc<ServingCore>,
    settings: &IscsiLun,
    nexus: Nexus,
    tasks: Weak<dyn NexusTasks>,
) -> Result<(), String> {
    here.units().note_away(&nexus, settings.volume, tasks);
    let (uuid, home, id) = (settings.volume, here.index(), nexus.id);
    let ask = |reply| ScsiAsk::Attach { uuid, nexus, home, reply };
    let result = match here.units().ask(here, settings.core, ask).await {
        ScsiAnswer::Attached(result) => result,
        _ => Err("its core has ended".to_owned()),
    };
    if result.is_err() {
        here.units().forget_away(id, uuid);
    }
    result
}

/// What is answered for a unit that is not there.
pub fn lost() -> Done {
    let refusal = Refusal::check(SenseKey::HardwareError, additional::INTERNAL_TARGET_FAILURE);
    Done { result: Err(refusal), data_in: Vec::new(), scsi_bytes: 0, descriptor_sense: false }
}
