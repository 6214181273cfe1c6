//! What the unit answers by itself, one method a command.

use super::{Answer, NexusId, Unit};
use crate::scsi::command::{StartStop, UnitAction};
use crate::scsi::decode::Medium;
use crate::scsi::inquiry::{self, AccessState};
use crate::scsi::reservation::{Notices, ReserveOut};
use crate::scsi::vpd::{self, Subject};
use crate::scsi::{Command, Geometry, Refusal, Sense, SenseKey, UnitCommand, additional, mode, opcodes};

type Data = Result<Vec<u8>, Refusal>;

impl Unit {
    /// Answers a command that `begin` gave out, with all its data out.
    pub fn answer(&mut self, nexus: NexusId, command: &UnitCommand, data_out: &[u8]) -> Answer {
        let UnitCommand(action) = command;
        if (data_out.len() as u64) < action.parameter_bytes() {
            return Err(Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR)).into();
        }
        let data_out = &data_out[..action.parameter_bytes() as usize];
        match action {
            UnitAction::ModeSelect { long, .. } => self.mode_select(nexus, *long, data_out),
            UnitAction::StartStop(asked) => self.start_stop(nexus, asked),
            UnitAction::ReserveOut(command) => self.reserve_out(nexus, command, data_out),
            UnitAction::Reserve => self.reserve(nexus),
            UnitAction::Release => self.release(nexus),
            UnitAction::PreventAllow { prevent } => {
                self.nexus(nexus).prevents_removal = *prevent;
                Answer::from(Ok(Vec::new()))
            }
            _ => Answer::from(self.tell(nexus, action)),
        }
    }

    /// The commands that only ask.
    fn tell(&mut self, nexus: NexusId, action: &UnitAction) -> Data {
        let geometry = &self.geometry;
        match action {
            UnitAction::Inquiry { vpd_page: None, allocation_bytes } => {
                Ok(cut(inquiry::standard(geometry), *allocation_bytes))
            }
            UnitAction::Inquiry { vpd_page: Some(page), allocation_bytes } => {
                Ok(cut(self.vital_product_data(nexus, *page)?, *allocation_bytes))
            }
            UnitAction::ReportLuns { select, allocation_bytes } => {
                Ok(cut(self.report_luns(nexus, *select), *allocation_bytes))
            }
            UnitAction::RequestSense { descriptor, allocation_bytes } => {
                Ok(cut(self.request_sense(nexus, *descriptor), *allocation_bytes))
            }
            UnitAction::ReadCapacity10 => Ok(inquiry::read_capacity_10(geometry)),
            UnitAction::ReadCapacity16 { allocation_bytes } => {
                Ok(cut(inquiry::read_capacity_16(geometry), *allocation_bytes))
            }
            UnitAction::ModeSense(asked) => {
                Ok(cut(mode::sense(asked, &self.modes, geometry)?, asked.allocation_bytes))
            }
            UnitAction::ReportOpcodes(asked) => {
                Ok(cut(opcodes::report(asked, geometry)?, asked.allocation_bytes))
            }
            UnitAction::ReportTaskManagement { extended, allocation_bytes } => {
                Ok(cut(inquiry::task_management(*extended), *allocation_bytes))
            }
            UnitAction::ReportTargetPortGroups { extended, allocation_bytes } => {
                let port = &self.nexuses[&nexus].path.target;
                let data = inquiry::target_port_groups(*extended, AccessState::ActiveOptimized, port);
                Ok(cut(data, *allocation_bytes))
            }
            UnitAction::ReserveIn { action, allocation_bytes } => {
                Ok(cut(self.reservations.report(*action), *allocation_bytes))
            }
            UnitAction::ReadDefectData { long, flags, allocation_bytes } => {
                Ok(cut(inquiry::no_defects(*long, *flags), *allocation_bytes))
            }
            UnitAction::ReceiveCopyResults(asked) => {
                Ok(cut(self.nexuses[&nexus].copies.report(asked)?, asked.allocation_bytes))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn vital_product_data(&self, nexus: NexusId, page: u8) -> Data {
        let port = &self.nexuses[&nexus].path.target;
        let subject = Subject { identity: &self.identity, geometry: &self.geometry, port };
        vpd::page(page, &subject).ok_or(Refusal::cdb_field(2, None))
    }

    fn report_luns(&mut self, nexus: NexusId, select: u8) -> Vec<u8> {
        let of_nexus = self.nexus(nexus);
        of_nexus.luns_were_told();
        inquiry::report_luns(select, &of_nexus.luns)
    }

    /// SPC-4 6.39: what is pending, or else what there is to say of the unit's state.
    fn request_sense(&mut self, nexus: NexusId, descriptor: bool) -> Vec<u8> {
        let pending = self.nexus(nexus).take_pending();
        let not_present = Sense::new(SenseKey::NotReady, additional::MEDIUM_NOT_PRESENT);
        let sense = pending
            .or(self.sanitize_sense())
            .or(self.ejected.then_some(not_present))
            .unwrap_or(Sense::new(SenseKey::NoSense, additional::NONE));
        let mut data = Vec::new();
        sense.encode(descriptor, &mut data);
        data
    }

    fn mode_select(&mut self, nexus: NexusId, long: bool, data: &[u8]) -> Answer {
        let selected = match mode::select(long, data, &self.modes, &self.geometry) {
            Ok(selected) => selected,
            Err(refusal) => return Err(refusal).into(),
        };
        let before = std::mem::replace(&mut self.modes, selected);
        if before != selected {
            self.tell_all(Some(nexus), additional::MODE_PARAMETERS_CHANGED);
        }
        // What the cache holds was promised to survive nothing; from now on everything must.
        let flush = before.write_cache && !selected.write_cache;
        Answer { flush, ..Ok(Vec::new()).into() }
    }

    /// SBC-3 5.25. Power conditions are accepted and change nothing: there is nothing to spin down.
    fn start_stop(&mut self, nexus: NexusId, asked: &StartStop) -> Answer {
        if asked.power_condition != 0 {
            return Ok(Vec::new()).into();
        }
        let flush = !asked.start && !asked.no_flush && self.geometry.write_cache && !self.ejected;
        if asked.load_eject
            && let Err(refusal) = self.load_or_eject(nexus, asked.start)
        {
            return Err(refusal).into();
        }
        Answer { flush, ..Ok(Vec::new()).into() }
    }

    fn load_or_eject(&mut self, nexus: NexusId, load: bool) -> Result<(), Refusal> {
        if !self.geometry.removable {
            return Err(Refusal::cdb_field(4, Some(1)));
        }
        if self.ejected != load {
            return Ok(());
        }
        // Neither way: a tray that is out stays out, too.
        if self.nexuses.values().any(|nexus| nexus.prevents_removal) {
            return Err(Refusal::illegal(additional::MEDIUM_REMOVAL_PREVENTED));
        }
        if load {
            self.tell_all(Some(nexus), additional::MEDIUM_MAY_HAVE_CHANGED);
        }
        self.ejected = !load;
        Ok(())
    }

    /// SPC-2 5.5: one nexus at a time; without effect for those whom a persistent reservation admits.
    fn reserve(&mut self, nexus: NexusId) -> Answer {
        if !self.reservations.is_in_use() {
            self.reserved_by = Some(nexus);
        }
        Ok(Vec::new()).into()
    }

    fn release(&mut self, nexus: NexusId) -> Answer {
        self.reserved_by.take_if(|holder| *holder == nexus);
        Ok(Vec::new()).into()
    }

    fn reserve_out(&mut self, nexus: NexusId, command: &ReserveOut, data: &[u8]) -> Answer {
        let known: Vec<_> = self.nexuses.values().map(|nexus| &nexus.path).collect();
        let path = &self.nexuses[&nexus].path;
        let notices = match self.reservations.change(path, command, data, &known) {
            Ok(notices) => notices,
            Err(refusal) => return Err(refusal).into(),
        };
        let abort = self.notify(&notices);
        let to_save = self.reservations.save(&self.identity.uuid);
        let save = (to_save != self.saved).then(|| to_save.clone());
        self.saved = to_save;
        Answer { save, abort, ..Ok(Vec::new()).into() }
    }

    /// Raises what others are to hear of, and brings everybody's rights up to date.
    fn notify(&mut self, notices: &Notices) -> Vec<NexusId> {
        let mut abort = Vec::new();
        for (id, nexus) in &mut self.nexuses {
            nexus.rights = self.reservations.rights(&nexus.path);
            for (registrant, code) in &notices.attentions {
                if registrant.is(&nexus.path) {
                    nexus.tell(*code);
                }
            }
            if notices.aborted.iter().any(|registrant| registrant.is(&nexus.path)) {
                abort.push(*id);
            }
        }
        abort
    }
}

impl From<Data> for Answer {
    fn from(result: Data) -> Answer {
        Answer { result, save: None, abort: Vec::new(), flush: false }
    }
}

pub(super) fn without_unit(cdb: &[u8], luns: &[u64]) -> Data {
    let absent = Refusal::illegal(additional::LOGICAL_UNIT_NOT_SUPPORTED);
    let opcode = opcodes::find(cdb, &NO_MEDIUM).map_err(|_| absent)?;
    if opcode.access != opcodes::Access::Free {
        return Err(absent);
    }
    opcode.check_fields(cdb)?;
    let medium = Medium { geometry: &NO_MEDIUM, write_through: false };
    let Command::Unit(UnitCommand(action)) = (opcode.decode)(cdb, &medium)? else { return Err(absent) };
    match action {
        UnitAction::Inquiry { vpd_page: None, allocation_bytes } => {
            Ok(cut(inquiry::absent(), allocation_bytes))
        }
        UnitAction::ReportLuns { select, allocation_bytes } => {
            Ok(cut(inquiry::report_luns(select, luns), allocation_bytes))
        }
        UnitAction::RequestSense { descriptor, allocation_bytes } => {
            let mut data = Vec::new();
            let sense = Sense::new(SenseKey::IllegalRequest, additional::LOGICAL_UNIT_NOT_SUPPORTED);
            sense.encode(descriptor, &mut data);
            Ok(cut(data, allocation_bytes))
        }
        _ => Err(Refusal::cdb_field(1, Some(0))),
    }
}

const NO_MEDIUM: Geometry = Geometry {
    block_bytes: 512,
    blocks: 0,
    physical_block_exponent: 0,
    optimal_blocks: 0,
    transfer_blocks_max: 0,
    unmap_blocks_max: 0,
    unmap_descriptors_max: 0,
    unmap_granularity_blocks: 1,
    write_same_blocks_max: 0,
    compare_and_write_blocks_max: 0,
    can_discard: false,
    zero_after_unmap: false,
    read_only: true,
    write_cache: false,
    removable: false,
};

/// The data in that the allocation length has room for.
fn cut(mut data: Vec<u8>, allocation_bytes: impl Into<u32>) -> Vec<u8> {
    data.truncate(allocation_bytes.into() as usize);
    data
}
