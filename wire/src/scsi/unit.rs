//! A logical unit: takes command descriptor blocks of its nexuses, and answers all that needs no medium.
//!
//! Its one rule: a command passes the gates of SPC-4 and SAM-5 in their order, or is refused at the first
//! that is shut: pending unit attention, reservation, operation code, fields, medium, protection, range.

use std::collections::BTreeMap;

use super::copy::CopyOutcome;
use super::{
    Command, Geometry, Identity, InitiatorPort, Refusal, SavedError, Sense, TargetPort, UnitCommand,
};

/// A session's hold on the unit (an I_T nexus); the caller numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub u32);

/// What reset the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// LOGICAL UNIT RESET.
    LogicalUnit,
    /// TARGET WARM RESET.
    TargetWarm,
    /// TARGET COLD RESET.
    TargetCold,
}

/// What the unit says to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    /// The data in, already cut to the allocation length, or the refusal.
    pub result: Result<Vec<u8>, Refusal>,
    /// Reservations to make durable (in place of what was saved before) before the answer goes out.
    pub save: Option<Vec<u8>>,
    /// Nexuses whose commands on this unit are to be aborted, without a response to them.
    pub abort: Vec<NexusId>,
    /// The volatile cache is to be flushed before the answer goes out.
    pub flush: bool,
}

/// A logical unit.
#[derive(Debug)]
pub struct Unit {
    identity: Identity,
    geometry: Geometry,
    nexuses: BTreeMap<NexusId, ()>,
}

impl Unit {
    /// A unit that was just switched on. `saved` is what [`Answer::save`] last asked to keep.
    pub fn new(identity: Identity, geometry: Geometry, saved: Option<&[u8]>) -> Result<Unit, SavedError> {
        let _ = saved;
        Ok(Unit { identity, geometry, nexuses: BTreeMap::new() })
    }

    /// The medium as it is now.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A session begins. Its first command meets the unit attention POWER ON OCCURRED.
    pub fn attach(&mut self, nexus: NexusId, initiator: InitiatorPort, target: TargetPort) {
        let _ = (initiator, target);
        self.nexuses.insert(nexus, ());
    }

    /// The session is gone (I_T nexus loss): what it alone held is released.
    pub fn detach(&mut self, nexus: NexusId) {
        self.nexuses.remove(&nexus);
    }

    /// The LUNs of the nexus's target, for REPORT LUNS, as the eight bytes of each; `[0]` unless told.
    /// A change raises REPORTED LUNS DATA HAS CHANGED.
    pub fn set_luns(&mut self, nexus: NexusId, luns: &[u64]) {
        let _ = (nexus, luns);
        unimplemented!()
    }

    /// Takes a command: what it asks for, or why not.
    pub fn begin(&mut self, nexus: NexusId, cdb: &[u8]) -> Result<Command, Refusal> {
        let _ = (nexus, cdb);
        unimplemented!()
    }

    /// Answers a command that `begin` gave out, with all its data out.
    pub fn answer(&mut self, nexus: NexusId, command: &UnitCommand, data_out: &[u8]) -> Answer {
        let _ = (nexus, command, data_out);
        unimplemented!()
    }

    /// The medium has changed: every nexus hears of it.
    pub fn set_geometry(&mut self, geometry: Geometry) {
        self.geometry = geometry;
    }

    /// A reset: commands of every nexus are the caller's to abort.
    pub fn reset(&mut self, cause: Reset) {
        let _ = cause;
        unimplemented!()
    }

    /// CLEAR TASK SET by `by` took commands of the nexuses in `hit`.
    pub fn tasks_cleared(&mut self, by: NexusId, hit: &[NexusId]) {
        let _ = (by, hit);
        unimplemented!()
    }

    /// Whether sense data go out in the descriptor format (D_SENSE).
    #[inline]
    pub fn wants_descriptor_sense(&self) -> bool {
        false
    }

    /// A SANITIZE begins: until it ends, almost every command is refused.
    pub fn sanitize_started(&mut self) {
        unimplemented!()
    }

    /// How far the SANITIZE has come, in 65536ths.
    pub fn sanitize_progress(&mut self, progress: u16) {
        let _ = progress;
        unimplemented!()
    }

    /// The SANITIZE is over. If it failed, the unit stays shut until another one or an exit succeeds.
    pub fn sanitize_ended(&mut self, succeeded: bool) {
        let _ = succeeded;
        unimplemented!()
    }

    /// An EXTENDED COPY of `nexus` ended: kept for RECEIVE COPY RESULTS if it has a list identifier.
    pub fn copy_ended(&mut self, nexus: NexusId, list_id: Option<u32>, outcome: CopyOutcome) {
        let _ = (nexus, list_id, outcome);
        unimplemented!()
    }

    /// An error of a command that was answered already: the next command of `nexus` is told.
    pub fn defer(&mut self, nexus: NexusId, sense: Sense) {
        let _ = (nexus, sense);
        unimplemented!()
    }
}

/// A command to a LUN where there is no unit: data in, or the refusal (SPC-4 5.9.? and SAM-5 5.12).
pub fn begin_without_unit(cdb: &[u8], luns: &[u64]) -> Result<Vec<u8>, Refusal> {
    let _ = (cdb, luns);
    unimplemented!()
}
