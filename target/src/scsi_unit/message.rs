//! What a session's core and a unit's core say to each other, when they are not the same.

use uuid::Uuid;
use wire::scsi::{NexusId, Reset};

use crate::scsi_unit::Nexus;
use crate::scsi_unit::perform::Done;

/// From core to core.
pub enum ScsiAsk {
    /// A session begins.
    Attach {
        /// The volume.
        uuid: Uuid,
        /// The session.
        nexus: Nexus,
        /// Its core, which hears of tasks that others have cleared.
        home: usize,
        /// `Attached`.
        reply: ReplyTo,
    },
    /// The session is gone.
    Detach {
        /// The volume.
        uuid: Uuid,
        /// The session.
        nexus: NexusId,
    },
    /// The LUNs of the session's target, for REPORT LUNS.
    SetLuns {
        /// The volume.
        uuid: Uuid,
        /// The session.
        nexus: NexusId,
        /// All of them, as their eight bytes.
        luns: Vec<u64>,
    },
    /// A command, with all its data out.
    Execute {
        /// The volume.
        uuid: Uuid,
        /// The session.
        nexus: NexusId,
        /// What `Abort` may call it.
        tag: u32,
        /// The command descriptor block.
        cdb: Vec<u8>,
        /// The data.
        data_out: Vec<u8>,
        /// `Done`.
        reply: ReplyTo,
    },
    /// Nobody waits for the command any more.
    Abort {
        /// The volume.
        uuid: Uuid,
        /// The session.
        nexus: NexusId,
        /// The command.
        tag: u32,
    },
    /// A task management function.
    Manage {
        /// The volume.
        uuid: Uuid,
        /// The session.
        nexus: NexusId,
        /// Which.
        management: Management,
        /// `Managed`.
        reply: ReplyTo,
    },
    /// The answer to what this core asked under `number`.
    Answered {
        /// As in its `ReplyTo`.
        number: u64,
        /// The answer.
        answer: ScsiAnswer,
    },
    /// Another nexus has cleared a session's tasks on a unit.
    AbortTasks {
        /// The session, which lives here.
        nexus: NexusId,
        /// The unit.
        uuid: Uuid,
    },
}

/// An answer from core to core.
#[derive(Debug)]
pub enum ScsiAnswer {
    /// Whether the unit is there, or why it is not.
    Attached(Result<(), String>),
    /// How the command ended; `None` when it was aborted.
    Done(Option<Done>),
    /// The task management function is done.
    Managed,
    /// The unit or its core is gone.
    Lost,
}

/// What a task management function does to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Management {
    /// ABORT TASK SET: the session has ended its tasks, and they leave the unit.
    AbortTaskSet,
    /// CLEAR TASK SET.
    ClearTaskSet,
    /// LOGICAL UNIT RESET, or a target reset that reaches this unit.
    Reset(Reset),
}

/// Where an answer goes. Dropped without one it says `Lost`.
pub struct ReplyTo(Option<Box<dyn FnOnce(ScsiAnswer) + Send>>);

impl ReplyTo {
    /// An answer for `tell`.
    pub fn new(tell: impl FnOnce(ScsiAnswer) + Send + 'static) -> ReplyTo {
        ReplyTo(Some(Box::new(tell)))
    }

    /// Gives it.
    pub fn give(mut self, answer: ScsiAnswer) {
        let tell = self.0.take().expect("given once, here");
        tell(answer);
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(ScsiAnswer::Lost);
        }
    }
}
