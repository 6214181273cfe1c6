//! The tasks of a session, by index and by the initiator's tag.
//!
//! Its one rule: an aborted task keeps its index until the mover forgets it, but its tag is free at once.

use super::data_out::DataOut;
use super::tag_index::TagIndex;
use super::{Task, TaskId};

/// One task, or room for one.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) task: Task,
    pub(super) data: DataOut,
    /// DataSN and R2TSN: the PDUs of data in and the R2Ts of a task are numbered together (§4.2.2.3).
    pub(super) input_sn: u32,
    /// Whether its number is under way in the window.
    pub(super) holds_number: bool,
    /// Aborted, its number given back, and not forgotten.
    pub(super) is_orphan: bool,
    is_live: bool,
}

/// Every task that has neither ended nor been forgotten.
#[derive(Debug)]
pub(super) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<TaskId>,
    tags: TagIndex,
    orphans: u32,
    immediates: u32,
}

impl Tasks {
    pub(super) fn new() -> Tasks {
        Tasks { slots: Vec::new(), free: Vec::new(), tags: TagIndex::new(), orphans: 0, immediates: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn immediates(&self) -> u32 {
        self.immediates
    }

    /// A new task, its data out still to be begun. Its tag must not be in use.
    #[inline]
    pub(super) fn add(&mut self, task: Task) -> TaskId {
        let tag = task.initiator_task_tag;
        self.immediates += u32::from(task.immediate);
        let id = match self.free.pop() {
            Some(id) => {
                let slot = &mut self.slots[id.0 as usize];
                debug_assert!(!slot.is_live && !slot.is_orphan && !slot.holds_number);
                (slot.task, slot.input_sn, slot.is_live) = (task, 0, true);
                id
            }
            None => self.grow(task),
        };
        self.tags.insert(tag, id);
        id
    }

    #[cold]
    fn grow(&mut self, task: Task) -> TaskId {
        let id = TaskId(u32::try_from(self.slots.len()).expect("a window is far smaller"));
        let (data, input_sn) = (DataOut::default(), 0);
        self.slots.push(Slot { task, data, input_sn, holds_number: false, is_orphan: false, is_live: true });
        id
    }

    #[inline]
    pub(super) fn find(&self, tag: u32) -> Option<TaskId> {
        self.tags.find(tag)
    }

    #[inline]
    pub(super) fn get(&self, task: TaskId) -> &Slot {
        let slot = &self.slots[task.0 as usize];
        assert!(slot.is_live, "the task has not ended");
        slot
    }

    #[inline]
    pub(super) fn get_mut(&mut self, task: TaskId) -> &mut Slot {
        let slot = &mut self.slots[task.0 as usize];
        assert!(slot.is_live, "the task has not ended");
        slot
    }

    /// Whether there is still something to do for it.
    #[inline]
    pub(super) fn is_wanted(&self, task: TaskId) -> bool {
        let slot = &self.slots[task.0 as usize];
        slot.is_live && !slot.task.is_aborted
    }

    /// The tasks that are not aborted and for which `wanted` holds.
    pub(super) fn select(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<TaskId> {
        let ids = (0..).map(TaskId);
        let chosen =
            ids.zip(&self.slots).filter(|(_, slot)| slot.is_live && !slot.task.is_aborted && wanted(slot));
        chosen.map(|(id, _)| id).collect()
    }

    /// Marks it, and frees its tag. True if it gives its number back now rather than when it is forgotten.
    ///
    /// So the window stays open while the I/O of aborted tasks hangs; but there are `orphans_max` of them at most.
    pub(super) fn abort(&mut self, task: TaskId, orphans_max: u32) -> bool {
        let slot = &mut self.slots[task.0 as usize];
        assert!(slot.is_live && !slot.task.is_aborted, "a task is aborted once");
        slot.task.is_aborted = true;
        self.tags.remove(slot.task.initiator_task_tag);
        if !slot.holds_number || self.orphans >= orphans_max {
            return false;
        }
        (slot.holds_number, slot.is_orphan) = (false, true);
        self.orphans += 1;
        true
    }

    /// Takes a task out. True if it gives its number back now.
    #[inline]
    pub(super) fn remove(&mut self, task: TaskId) -> bool {
        let slot = self.get_mut(task);
        slot.is_live = false;
        let holds_number = std::mem::take(&mut slot.holds_number);
        let was_orphan = std::mem::take(&mut slot.is_orphan);
        let Task { initiator_task_tag, is_aborted, immediate, .. } = slot.task;
        self.orphans -= u32::from(was_orphan);
        self.immediates -= u32::from(immediate);
        if !is_aborted {
            self.tags.remove(initiator_task_tag);
        }
        self.free.push(task);
        holds_number
    }

    /// For assertions: how many tasks hold a number.
    pub(super) fn check(&self) -> usize {
        let live = || self.slots.iter().filter(|slot| slot.is_live);
        let named = live().filter(|slot| !slot.task.is_aborted).count();
        assert_eq!((live().count(), named), (self.len(), self.tags.len()));
        assert_eq!(live().filter(|slot| slot.is_orphan).count(), self.orphans as usize);
        assert_eq!(live().filter(|slot| slot.task.immediate).count(), self.immediates as usize);
        live().filter(|slot| slot.holds_number).count()
    }
}
