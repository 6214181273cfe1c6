//! Logical units on their core: what a SCSI unit asks for is done on its volume here, for all sessions alike.
//!
//! One unit a volume, on the volume's core. `wire::scsi::Unit` decides, this carries out. A session on another core
//! reaches it by message (`AttachedUnit`). Its one rule: what was begun on the medium goes on to its end, also when
//! nobody waits for it any more, and holds its range against later commands until then (`Errand`).

mod attached;
mod compare;
mod copy;
mod errand;
mod geometry;
mod message;
mod payload;
mod perform;
mod ranges;
mod sanitize;
mod saved;
mod units;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::{Rc, Weak};

use reactor::Core;
use reactor::sync::Gate;
use wire::scsi::{Identity, InitiatorPort, NexusId, TargetPort, Unit};

use crate::fault::{Fault, Kind};
use crate::range_lock::{RangeGuard, RangeLock};
use crate::settings::IscsiLun;
use crate::volume::Volume;

pub use attached::{AttachedUnit, lost};
pub use errand::Errand;
pub use geometry::TRANSFER_BYTES_MAX;
pub use message::{Management, ReplyTo, ScsiAnswer, ScsiAsk};
pub use payload::{bytes_of, views_of};
pub use perform::{DataIn, Done, Outcome, check_length, counted_as, succeeded};
pub use units::Units;

use sanitize::Sanitizing;
use saved::SavedFile;

/// Bytes of the medium that the answers of one unit's commands hold at once, of those that are read whole.
const HELD_BYTES_MAX: usize = 64 << 20;
/// The grain in which they are counted.
const HELD_GRAIN_BYTES: usize = 64 << 10;
/// Copies that a unit carries out at once.
const COPIES_MAX: usize = 8;

/// A session's hold on a unit.
#[derive(Clone, Debug)]
pub struct Nexus {
    /// A number that no other nexus of this node has.
    pub id: NexusId,
    /// The unit's number in the session's target.
    pub lun: u16,
    /// The initiator's end.
    pub initiator: InitiatorPort,
    /// Our end.
    pub target: TargetPort,
}

/// A session, as a unit sees it.
pub trait NexusTasks {
    /// Another nexus has cleared the session's tasks on `lun` (PREEMPT AND ABORT, CLEAR TASK SET, a reset): they
    /// end without a response. Tells whether there were any.
    fn abort_tasks(&self, lun: u16) -> bool;
}

/// An attached session.
struct Session {
    nexus: Nexus,
    tasks: Weak<dyn NexusTasks>,
}

/// A range that an aborted command may still write to; later commands wait until it is dropped.
pub type Fence = RangeGuard;

/// One logical unit.
pub struct LogicalUnit {
    core: Core,
    volume: Rc<Volume>,
    lun: RefCell<IscsiLun>,
    scsi: RefCell<Unit>,
    nexuses: RefCell<BTreeMap<NexusId, Session>>,
    /// What hears for the sessions of other cores.
    away: RefCell<BTreeMap<NexusId, Rc<dyn NexusTasks>>>,
    /// Commands by nexus and tag that came by `execute`.
    running: RefCell<BTreeMap<(NexusId, u32), Rc<Errand>>>,
    fences: Rc<RangeLock>,
    held: Rc<Gate>,
    copies: Rc<Gate>,
    reservations: SavedFile,
    /// There while a SANITIZE is under way, and after one that failed.
    sanitize_mark: SavedFile,
    sanitizing: Cell<Sanitizing>,
    /// The volume's, as sessions know it; 0 as long as nobody does.
    era: Cell<u64>,
    closed: Cell<bool>,
}

impl LogicalUnit {
    /// The unit of `volume`, with the reservations that `reservations_dir` keeps for it. If they cannot be read there
    /// is no unit: who relies on a reservation must not find the door open.
    pub async fn open(
        core: &Core,
        volume: Rc<Volume>,
        lun: &IscsiLun,
        reservations_dir: &Path,
    ) -> Result<Rc<LogicalUnit>, Fault> {
        let settings = volume.settings();
        let reservations = SavedFile::new(core, reservations_dir.join(settings.uuid.to_string()));
        let sanitize_mark =
            SavedFile::new(core, reservations_dir.join(format!("{}.sanitize", settings.uuid)));
        let saved = reservations.load().await?;
        let identity = Identity { uuid: *settings.uuid.as_bytes(), volume_name: settings.name.clone() };
        let scsi = Unit::new(identity, geometry::of(&volume, lun), saved.as_deref()).map_err(|error| {
            let context = format!(
                "volume {}: its reservations in {} cannot be read; restore the file, or delete it if no initiator \
                 relies on them",
                settings.name,
                reservations.path().display(),
            );
            Fault::caused(Kind::Invalid, context, error)
        })?;
        let unit = Rc::new(LogicalUnit {
            core: core.clone(),
            volume,
            lun: RefCell::new(lun.clone()),
            scsi: RefCell::new(scsi),
            nexuses: RefCell::default(),
            away: RefCell::default(),
            running: RefCell::default(),
            fences: Rc::default(),
            held: Gate::new(HELD_BYTES_MAX / HELD_GRAIN_BYTES),
            copies: Gate::new(COPIES_MAX),
            reservations,
            sanitize_mark,
            sanitizing: Cell::default(),
            era: Cell::new(0),
            closed: Cell::new(false),
        });
        unit.recall_sanitize().await?;
        Ok(unit)
    }

    /// The machine that decides.
    pub fn scsi(&self) -> &RefCell<Unit> {
        &self.scsi
    }

    /// The medium.
    pub fn volume(&self) -> &Rc<Volume> {
        &self.volume
    }

    /// Bytes of a logical block.
    #[inline]
    pub fn block_bytes(&self) -> u32 {
        self.scsi.borrow().geometry().block_bytes
    }

    /// A session begins. `tasks` hears of tasks that others have cleared.
    pub fn attach(&self, nexus: Nexus, tasks: Weak<dyn NexusTasks>) {
        self.scsi.borrow_mut().attach(nexus.id, nexus.initiator.clone(), nexus.target.clone());
        self.nexuses.borrow_mut().insert(nexus.id, Session { nexus, tasks });
    }

    /// The same for a session that lives on another core.
    fn attach_away(&self, nexus: Nexus, tasks: Rc<dyn NexusTasks>) {
        self.away.borrow_mut().insert(nexus.id, tasks.clone());
        self.attach(nexus, Rc::downgrade(&tasks));
    }

    /// Whether the session is there; `scsi` takes nothing from one that is not.
    pub fn has(&self, nexus: NexusId) -> bool {
        self.nexuses.borrow().contains_key(&nexus)
    }

    /// The session is gone.
    pub fn detach(&self, nexus: NexusId) {
        self.away.borrow_mut().remove(&nexus);
        if self.nexuses.borrow_mut().remove(&nexus).is_some() {
            self.abort_running(nexus);
            self.scsi.borrow_mut().detach(nexus);
        }
    }

    /// Takes over what may have changed: the volume's size, its settings, those of the unit. Initiators are told.
    pub fn refresh(&self, lun: Option<&IscsiLun>) {
        if let Some(lun) = lun {
            self.lun.replace(lun.clone());
        }
        let geometry = geometry::of(&self.volume, &self.lun.borrow());
        let scsi = &mut *self.scsi.borrow_mut();
        if *scsi.geometry() != geometry {
            scsi.set_geometry(geometry);
        }
    }

    /// Has the sessions told when acknowledged writes of theirs may be lost with the leader that had them.
    #[inline]
    pub fn notice_loss(&self) {
        let now = self.volume.era();
        if now != self.era.get() && now != 0 && self.era.replace(now) != 0 {
            self.scsi.borrow_mut().lost_writes();
        }
    }

    /// Carries out a task management function of `by`. Its own tasks have been ended by its session already; those
    /// of the others, which ABORT TASK SET leaves alone, are aborted here.
    pub fn manage(&self, by: NexusId, management: Management) {
        self.abort_running(by);
        match management {
            Management::AbortTaskSet => {}
            Management::ClearTaskSet => {
                let hit = self.abort_others(by);
                self.scsi.borrow_mut().tasks_cleared(by, &hit);
            }
            Management::Reset(cause) => {
                self.abort_others(by);
                self.scsi.borrow_mut().reset(cause);
            }
        }
    }

    /// Aborts the tasks of all nexuses but `by`; those that had any.
    fn abort_others(&self, by: NexusId) -> Vec<NexusId> {
        let others: Vec<NexusId> =
            self.nexuses.borrow().keys().copied().filter(|&nexus| nexus != by).collect();
        others.into_iter().filter(|&nexus| self.abort_tasks(nexus)).collect()
    }

    /// Aborts the command that `execute` was given with `tag`.
    pub fn abort(&self, nexus: NexusId, tag: u32) {
        let errand = self.running.borrow().get(&(nexus, tag)).cloned();
        if let Some(errand) = errand {
            errand.abort();
        }
    }

    /// A command of `nexus` begins. Hold on to it until its I/O is over, and tell it when the command is aborted.
    pub fn errand(&self, nexus: NexusId) -> Rc<Errand> {
        Errand::new(nexus, &self.fences)
    }

    /// Holds back later commands from `offset..offset + len` bytes while an aborted command may still write there.
    pub fn fence(&self, offset: u64, len: u64) -> Fence {
        self.fences.hold(offset..offset + len)
    }

    /// Whether a command has to ask for `passage` before it touches the medium.
    #[inline]
    pub fn is_fenced(&self) -> bool {
        self.fences.is_contended()
    }

    /// Waits until no aborted command may still write to `offset..offset + len` bytes.
    pub async fn passage(&self, offset: u64, len: u64) {
        self.fences.passed(offset..offset + len).await;
    }

    /// Aborts all tasks of a session on this unit; whether there were any.
    fn abort_tasks(&self, nexus: NexusId) -> bool {
        let had_running = self.abort_running(nexus);
        let sessions = self.nexuses.borrow();
        let session =
            sessions.get(&nexus).and_then(|session| Some((session.tasks.upgrade()?, session.nexus.lun)));
        drop(sessions);
        session.is_some_and(|(tasks, lun)| tasks.abort_tasks(lun)) | had_running
    }

    fn abort_running(&self, nexus: NexusId) -> bool {
        let running = self.running.borrow();
        let errands: Vec<_> =
            running.range((nexus, 0)..=(nexus, u32::MAX)).map(|(_, errand)| errand.clone()).collect();
        drop(running);
        errands.iter().for_each(|errand| errand.abort());
        !errands.is_empty()
    }

    /// The name of the volume, for people.
    fn name(&self) -> String {
        self.volume.settings().name.clone()
    }
}
