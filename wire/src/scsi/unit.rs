//! A logical unit: takes command descriptor blocks of its nexuses, and answers all that needs no medium.
//!
//! Its one rule: a command passes the gates of SAM-5 and SPC-4 in their order, or is refused at the first
//! that is shut: pending unit attention, operation code, reservation, fields, medium, protection, range.

mod answers;
mod nexus;

use std::collections::BTreeMap;

use self::nexus::Nexus;
use super::copy::CopyOutcome;
use super::decode::Medium;
use super::mode::Modes;
use super::opcodes::{self, Access, Needs, Opcode};
use super::port::Path;
use super::reservation::{Reservations, Rights};
use super::{
    Command, Geometry, Identity, InitiatorPort, Refusal, SanitizeAction, SavedError, Sense, SenseKey,
    TargetPort, additional,
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
    modes: Modes,
    nexuses: BTreeMap<NexusId, Nexus>,
    reservations: Reservations,
    /// What `Answer::save` asked to keep last.
    saved: Vec<u8>,
    /// Who holds it by RESERVE (SPC-2 5.5).
    reserved_by: Option<NexusId>,
    ejected: bool,
    sanitizing: Sanitizing,
    /// AUSE of the last SANITIZE: EXIT FAILURE MODE may leave its failure behind.
    unrestricted_exit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sanitizing {
    No,
    /// With its progress in 65536ths.
    Running(u16),
    Failed,
}

impl Unit {
    /// A unit that was just switched on. `saved` is what [`Answer::save`] last asked to keep.
    pub fn new(identity: Identity, geometry: Geometry, saved: Option<&[u8]>) -> Result<Unit, SavedError> {
        let reservations = match saved {
            Some(saved) => Reservations::load(saved, &identity.uuid)?,
            None => Reservations::default(),
        };
        Ok(Unit {
            saved: reservations.save(&identity.uuid),
            modes: Modes::default_of(&geometry),
            nexuses: BTreeMap::new(),
            reservations,
            reserved_by: None,
            ejected: false,
            sanitizing: Sanitizing::No,
            unrestricted_exit: false,
            identity,
            geometry,
        })
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
    pub fn attach(&mut self, nexus: NexusId, mut initiator: InitiatorPort, target: TargetPort) {
        // iSCSI names do not tell cases apart (RFC 7143 4.2.7.1).
        initiator.name.make_ascii_lowercase();
        let path = Path { initiator, target };
        let rights = self.reservations.rights(&path);
        let before = self.nexuses.insert(nexus, Nexus::new(path, rights));
        assert!(before.is_none(), "a nexus is attached once");
    }

    /// The session is gone (I_T nexus loss): what it alone held is released.
    pub fn detach(&mut self, nexus: NexusId) {
        self.nexuses.remove(&nexus);
        self.reserved_by.take_if(|holder| *holder == nexus);
    }

    /// The LUNs of the nexus's target, for REPORT LUNS, as the eight bytes of each; `[0]` unless told.
    /// A change raises REPORTED LUNS DATA HAS CHANGED.
    pub fn set_luns(&mut self, nexus: NexusId, luns: &[u64]) {
        self.nexus(nexus).set_luns(luns);
    }

    /// Takes a command: what it asks for, or why not.
    #[inline]
    pub fn begin(&mut self, nexus: NexusId, cdb: &[u8]) -> Result<Command, Refusal> {
        let opcode = opcodes::find(cdb, &self.geometry);
        let is_free = opcode.is_ok_and(|opcode| opcode.access == Access::Free);
        let of_nexus = self.nexuses.get_mut(&nexus).expect("commands come from attached nexuses");
        if !is_free && let Some(pending) = of_nexus.take_pending() {
            return Err(Refusal::with_sense(pending));
        }
        let (opcode, rights) = (opcode?, of_nexus.rights);
        self.check_reservation(nexus, rights, opcode, cdb)?;
        opcode.check_fields(cdb)?;
        self.check_ready(opcode, cdb)?;
        let medium = Medium { geometry: &self.geometry, write_through: self.write_through() };
        let command = (opcode.decode)(cdb, &medium)?;
        if let Command::Sanitize { action, unrestricted_exit, .. } = command {
            self.note_sanitize(action, unrestricted_exit)?;
        }
        Ok(command)
    }

    /// The medium has changed: every nexus hears of it.
    pub fn set_geometry(&mut self, geometry: Geometry) {
        let before = std::mem::replace(&mut self.geometry, geometry);
        if before.write_cache != geometry.write_cache {
            self.modes.write_cache = geometry.write_cache;
            self.tell_all(None, additional::MODE_PARAMETERS_CHANGED);
        }
        if (before.blocks, before.block_bytes) != (geometry.blocks, geometry.block_bytes) {
            self.tell_all(None, additional::CAPACITY_DATA_HAS_CHANGED);
        } else if before != geometry {
            self.tell_all(None, additional::INQUIRY_DATA_HAS_CHANGED);
        }
    }

    /// A reset: commands of every nexus are the caller's to abort.
    pub fn reset(&mut self, cause: Reset) {
        self.modes = Modes::default_of(&self.geometry);
        self.reserved_by = None;
        let code = match cause {
            Reset::LogicalUnit | Reset::TargetWarm => additional::BUS_DEVICE_RESET_FUNCTION_OCCURRED,
            Reset::TargetCold => additional::POWER_ON_RESET_OCCURRED,
        };
        for nexus in self.nexuses.values_mut() {
            nexus.reset(code);
        }
    }

    /// Writes that were acknowledged and not made durable may be lost, as in a disk that lost its power: every nexus is
    /// told what it would be told then. Modes and reservations stay.
    pub fn lost_writes(&mut self) {
        self.tell_all(None, additional::POWER_ON_RESET_OCCURRED);
    }

    /// The news of such a loss, if the nexus has not heard it: no command that makes writes durable may say otherwise.
    pub fn take_loss(&mut self, nexus: NexusId) -> Option<Refusal> {
        let nexus = self.nexuses.get_mut(&nexus)?;
        nexus.take(additional::POWER_ON_RESET_OCCURRED).map(Refusal::with_sense)
    }

    /// CLEAR TASK SET by `by` took commands of the nexuses in `hit`.
    pub fn tasks_cleared(&mut self, by: NexusId, hit: &[NexusId]) {
        for nexus in hit.iter().filter(|nexus| **nexus != by) {
            if let Some(nexus) = self.nexuses.get_mut(nexus) {
                nexus.tell(additional::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR);
            }
        }
    }

    /// Whether sense data go out in the descriptor format (D_SENSE).
    #[inline]
    pub fn wants_descriptor_sense(&self) -> bool {
        self.modes.descriptor_sense
    }

    /// Whether every write is to be durable before it is answered: an initiator switched the cache off.
    /// Commands with an FUA bit have it set then; for the others (WRITE SAME, UNMAP) this is to be asked.
    #[inline]
    pub fn write_through(&self) -> bool {
        self.geometry.write_cache && !self.modes.write_cache
    }

    /// A SANITIZE begins: until it ends, almost every command is refused.
    pub fn sanitize_started(&mut self) {
        self.sanitizing = Sanitizing::Running(0);
    }

    /// How far the SANITIZE has come, in 65536ths.
    pub fn sanitize_progress(&mut self, progress: u16) {
        if let Sanitizing::Running(known) = &mut self.sanitizing {
            *known = progress;
        }
    }

    /// The SANITIZE is over. If it failed, the unit stays shut until another one or an exit succeeds.
    pub fn sanitize_ended(&mut self, succeeded: bool) {
        self.sanitizing = if succeeded { Sanitizing::No } else { Sanitizing::Failed };
    }

    /// An EXTENDED COPY of `nexus` ended: kept for RECEIVE COPY RESULTS if it has a list identifier.
    pub fn copy_ended(&mut self, nexus: NexusId, list_id: Option<u32>, outcome: CopyOutcome) {
        let of_nexus = self.nexuses.get_mut(&nexus);
        if let (Some(of_nexus), Some(list_id)) = (of_nexus, list_id) {
            of_nexus.copies.keep(list_id, outcome);
        }
    }

    /// An error of a command that was answered already: the next command of `nexus` is told.
    pub fn defer(&mut self, nexus: NexusId, sense: Sense) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.deferred = Some(Sense { deferred: true, ..sense });
        }
    }

    fn nexus(&mut self, nexus: NexusId) -> &mut Nexus {
        self.nexuses.get_mut(&nexus).expect("only attached nexuses are spoken of")
    }

    /// A unit attention for every nexus, or every one but `except`.
    fn tell_all(&mut self, except: Option<NexusId>, code: (u8, u8)) {
        for (_, nexus) in self.nexuses.iter_mut().filter(|(id, _)| Some(**id) != except) {
            nexus.tell(code);
        }
    }

    /// SPC-2 5.5.1 and SPC-4 5.12.1.
    #[inline]
    fn check_reservation(
        &self,
        nexus: NexusId,
        rights: Rights,
        opcode: &Opcode,
        cdb: &[u8],
    ) -> Result<(), Refusal> {
        let access = effective_access(opcode.access, cdb);
        let conflicts = match self.reserved_by {
            _ if access == Access::Free => false,
            Some(_) if access == Access::Persistent => true,
            Some(holder) => holder != nexus && access != Access::Release,
            None => match access {
                Access::Read => !rights.read,
                Access::Write => !rights.write,
                Access::Reserve | Access::Release => {
                    self.reservations.is_in_use() && !rights.reserves_in_vain
                }
                _ => false,
            },
        };
        if conflicts { Err(Refusal::RESERVATION_CONFLICT) } else { Ok(()) }
    }

    #[inline]
    fn check_ready(&self, opcode: &Opcode, cdb: &[u8]) -> Result<(), Refusal> {
        if self.sanitizing != Sanitizing::No {
            self.check_sanitizing(opcode, cdb)?;
        }
        if opcode.needs == Needs::Nothing {
            return Ok(());
        }
        if self.ejected {
            return Err(Refusal::check(SenseKey::NotReady, additional::MEDIUM_NOT_PRESENT));
        }
        if opcode.needs == Needs::Writable {
            self.check_writable()?;
        }
        Ok(())
    }

    #[inline]
    fn check_writable(&self) -> Result<(), Refusal> {
        let code = match (self.geometry.read_only, self.modes.write_protect) {
            (false, false) => return Ok(()),
            (true, _) => additional::WRITE_PROTECTED,
            (false, true) => additional::LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED,
        };
        Err(Refusal::check(SenseKey::DataProtect, code))
    }

    /// SBC-3 4.11.2, 4.11.4.
    #[cold]
    fn check_sanitizing(&self, opcode: &Opcode, cdb: &[u8]) -> Result<(), Refusal> {
        let sense = match self.sanitizing {
            _ if opcode.while_sanitizing => return Ok(()),
            Sanitizing::Failed if cdb[0] == 0x48 => return Ok(()),
            _ => self.sanitize_sense(),
        };
        sense.map_or(Ok(()), |sense| Err(Refusal::with_sense(sense)))
    }

    fn sanitize_sense(&self) -> Option<Sense> {
        match self.sanitizing {
            Sanitizing::No => None,
            Sanitizing::Running(progress) => {
                let sense = Sense::new(SenseKey::NotReady, additional::SANITIZE_IN_PROGRESS);
                Some(sense.with_progress(progress))
            }
            Sanitizing::Failed => {
                Some(Sense::new(SenseKey::MediumError, additional::SANITIZE_COMMAND_FAILED))
            }
        }
    }

    fn note_sanitize(&mut self, action: SanitizeAction, unrestricted_exit: bool) -> Result<(), Refusal> {
        if action != SanitizeAction::ExitFailureMode {
            self.unrestricted_exit = unrestricted_exit;
        } else if self.sanitizing == Sanitizing::Failed && !self.unrestricted_exit {
            return Err(Refusal::cdb_field(1, Some(4)));
        }
        Ok(())
    }
}

/// A command to a LUN where there is no unit: data in, or the refusal (SPC-4 6.6.2, 6.33, 6.39).
pub fn begin_without_unit(cdb: &[u8], luns: &[u64]) -> Result<Vec<u8>, Refusal> {
    answers::without_unit(cdb, luns)
}

/// Resolves the commands whose CDB decides.
#[inline]
fn effective_access(access: Access, cdb: &[u8]) -> Access {
    let is_harmless = match access {
        Access::StartStop => cdb.get(4).is_some_and(|byte| byte & 0xf1 == 0x01),
        Access::PreventAllow => cdb.get(4).is_some_and(|byte| byte & 0x03 == 0),
        _ => return access,
    };
    if is_harmless { Access::Status } else { Access::Write }
}
