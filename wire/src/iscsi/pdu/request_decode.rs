//! Reading what an initiator sends.
//!
//! Its one rule: reserved fields are ignored (§4.1.2); a value outside what the standard defines is refused.

use super::code::opcode;
use super::field::{Bhs, CONTINUE, FINAL, IMMEDIATE, u16_at, u32_at, u64_at};
use super::request::ahs_type;
use super::{
    BHS_BYTES, Cdb, CommandRequest, DataOut, LoginRequest, LogoutRequest, Lun, NopOut, RejectReason, Request,
    SnackRequest, TaskAttribute, TaskManagementRequest, TextRequest,
};

impl Request {
    /// Reads a header and the additional header segment that it announces.
    ///
    /// The error is what a Reject PDU would say.
    #[inline]
    pub fn decode(bhs: &[u8; BHS_BYTES], ahs: &[u8]) -> Result<Request, RejectReason> {
        Ok(match bhs[0] & opcode::MASK {
            opcode::SCSI_COMMAND => Request::Command(command(bhs, ahs)?),
            opcode::DATA_OUT => Request::DataOut(data_out(bhs)),
            opcode::NOP_OUT => Request::NopOut(nop_out(bhs)),
            opcode::TASK_MANAGEMENT_REQUEST => Request::TaskManagement(task_management(bhs)),
            opcode::LOGIN_REQUEST => Request::Login(login(bhs)),
            opcode::TEXT_REQUEST => Request::Text(text(bhs)),
            opcode::LOGOUT_REQUEST => Request::Logout(logout(bhs)),
            opcode::SNACK_REQUEST => Request::Snack(snack(bhs)),
            _ => return Err(RejectReason::CommandNotSupported),
        })
    }
}

#[inline]
fn is_immediate(bhs: &Bhs) -> bool {
    bhs[0] & IMMEDIATE != 0
}

#[inline]
fn is_final(bhs: &Bhs) -> bool {
    bhs[1] & FINAL != 0
}

#[inline]
fn lun(bhs: &Bhs) -> Lun {
    Lun(u64_at(bhs, 8))
}

#[inline]
fn command(bhs: &Bhs, ahs: &[u8]) -> Result<CommandRequest, RejectReason> {
    let (_, cdb) = bhs.split_last_chunk::<16>().expect("a header has 48 bytes");
    let mut request = CommandRequest {
        immediate: is_immediate(bhs),
        is_final: is_final(bhs),
        read: bhs[1] & 0x40 != 0,
        write: bhs[1] & 0x20 != 0,
        attribute: attribute(bhs[1] & 7)?,
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        expected_data_transfer_length: u32_at(bhs, 20),
        cmd_sn: u32_at(bhs, 24),
        exp_stat_sn: u32_at(bhs, 28),
        cdb: Cdb::from_header(*cdb),
        read_data_transfer_length: None,
    };
    if !ahs.is_empty() {
        additional(ahs, &mut request).ok_or(RejectReason::InvalidPduField)?;
    }
    Ok(request)
}

fn attribute(value: u8) -> Result<TaskAttribute, RejectReason> {
    Ok(match value {
        0 => TaskAttribute::Untagged,
        1 => TaskAttribute::Simple,
        2 => TaskAttribute::Ordered,
        3 => TaskAttribute::HeadOfQueue,
        4 => TaskAttribute::Aca,
        _ => return Err(RejectReason::InvalidPduField),
    })
}

/// Reads the list of additional headers; each kind may stand there once.
#[cold]
fn additional(mut ahs: &[u8], request: &mut CommandRequest) -> Option<()> {
    let mut is_extended = false;
    while let Some((&[high, low, kind], rest)) = ahs.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (content, _) = rest.split_at_checked(length)?;
        let (_reserved, content) = content.split_first()?;
        match kind {
            ahs_type::EXTENDED_CDB if !is_extended => {
                request.cdb = Cdb::extended(&request.cdb, content)?;
                is_extended = true;
            }
            ahs_type::BIDIRECTIONAL if request.read_data_transfer_length.is_none() => {
                request.read_data_transfer_length = Some(u32::from_be_bytes(content.try_into().ok()?));
            }
            _ => return None,
        }
        ahs = ahs.get((3 + length).next_multiple_of(4)..)?;
    }
    ahs.is_empty().then_some(())
}

fn nop_out(bhs: &Bhs) -> NopOut {
    NopOut {
        immediate: is_immediate(bhs),
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        cmd_sn: u32_at(bhs, 24),
        exp_stat_sn: u32_at(bhs, 28),
    }
}

fn task_management(bhs: &Bhs) -> TaskManagementRequest {
    TaskManagementRequest {
        immediate: is_immediate(bhs),
        function: bhs[1] & 0x7f,
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        referenced_task_tag: u32_at(bhs, 20),
        cmd_sn: u32_at(bhs, 24),
        exp_stat_sn: u32_at(bhs, 28),
        ref_cmd_sn: u32_at(bhs, 32),
        exp_data_sn: u32_at(bhs, 36),
    }
}

fn login(bhs: &Bhs) -> LoginRequest {
    LoginRequest {
        transit: is_final(bhs),
        continues: bhs[1] & CONTINUE != 0,
        current_stage: bhs[1] >> 2 & 3,
        next_stage: bhs[1] & 3,
        version_max: bhs[2],
        version_min: bhs[3],
        isid: isid(bhs),
        tsih: u16_at(bhs, 14),
        initiator_task_tag: u32_at(bhs, 16),
        cid: u16_at(bhs, 20),
        cmd_sn: u32_at(bhs, 24),
        exp_stat_sn: u32_at(bhs, 28),
    }
}

pub(super) fn isid(bhs: &Bhs) -> [u8; 6] {
    [bhs[8], bhs[9], bhs[10], bhs[11], bhs[12], bhs[13]]
}

fn text(bhs: &Bhs) -> TextRequest {
    TextRequest {
        immediate: is_immediate(bhs),
        is_final: is_final(bhs),
        continues: bhs[1] & CONTINUE != 0,
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        cmd_sn: u32_at(bhs, 24),
        exp_stat_sn: u32_at(bhs, 28),
    }
}

#[inline]
fn data_out(bhs: &Bhs) -> DataOut {
    DataOut {
        is_final: is_final(bhs),
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        exp_stat_sn: u32_at(bhs, 28),
        data_sn: u32_at(bhs, 36),
        buffer_offset: u32_at(bhs, 40),
    }
}

fn logout(bhs: &Bhs) -> LogoutRequest {
    LogoutRequest {
        immediate: is_immediate(bhs),
        reason: bhs[1] & 0x7f,
        initiator_task_tag: u32_at(bhs, 16),
        cid: u16_at(bhs, 20),
        cmd_sn: u32_at(bhs, 24),
        exp_stat_sn: u32_at(bhs, 28),
    }
}

fn snack(bhs: &Bhs) -> SnackRequest {
    SnackRequest {
        kind: bhs[1] & 0x0f,
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        exp_stat_sn: u32_at(bhs, 28),
        begin_run: u32_at(bhs, 40),
        run_length: u32_at(bhs, 44),
    }
}
