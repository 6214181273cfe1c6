//! Reading what a target sends: for initiators.
//!
//! Its one rule: reserved fields are ignored; what contradicts itself is refused.

use super::code::opcode;
use super::field::{Bhs, CONTINUE, FINAL, u16_at, u32_at, u64_at};
use super::request_decode::isid;
use super::{
    AsyncMessage, BHS_BYTES, CommandResponse, DataIn, LoginResponse, LogoutResponse, Lun, NopIn, R2t, Reject,
    RejectReason, Residual, Response, TaskManagementResponse, TextResponse,
};

impl Response {
    /// Reads a header. No response has an additional header segment: `ahs` must be empty.
    #[inline]
    pub fn decode(bhs: &[u8; BHS_BYTES], ahs: &[u8]) -> Result<Response, RejectReason> {
        if !ahs.is_empty() {
            return Err(RejectReason::InvalidPduField);
        }
        Ok(match bhs[0] & opcode::MASK {
            opcode::DATA_IN => Response::DataIn(data_in(bhs)?),
            opcode::SCSI_RESPONSE => Response::Command(command(bhs)?),
            opcode::R2T => Response::R2t(r2t(bhs)),
            opcode::NOP_IN => Response::NopIn(nop_in(bhs)),
            opcode::TASK_MANAGEMENT_RESPONSE => Response::TaskManagement(task_management(bhs)),
            opcode::LOGIN_RESPONSE => Response::Login(login(bhs)),
            opcode::TEXT_RESPONSE => Response::Text(text(bhs)),
            opcode::LOGOUT_RESPONSE => Response::Logout(logout(bhs)),
            opcode::ASYNC_MESSAGE => Response::Async(async_message(bhs)),
            opcode::REJECT => Response::Reject(reject(bhs)?),
            _ => return Err(RejectReason::CommandNotSupported),
        })
    }
}

#[inline]
fn is_final(bhs: &Bhs) -> bool {
    bhs[1] & FINAL != 0
}

#[inline]
fn lun(bhs: &Bhs) -> Lun {
    Lun(u64_at(bhs, 8))
}

/// The O and U bits exclude each other (§11.4.1).
#[inline]
fn residual(bhs: &Bhs) -> Result<Residual, RejectReason> {
    let count = u32_at(bhs, 44);
    match bhs[1] & 0x06 {
        0x00 => Ok(Residual::None),
        0x02 => Ok(Residual::Underflow(count)),
        0x04 => Ok(Residual::Overflow(count)),
        _ => Err(RejectReason::InvalidPduField),
    }
}

fn nop_in(bhs: &Bhs) -> NopIn {
    NopIn {
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
    }
}

#[inline]
fn command(bhs: &Bhs) -> Result<CommandResponse, RejectReason> {
    Ok(CommandResponse {
        response: bhs[2],
        status: bhs[3],
        residual: residual(bhs)?,
        initiator_task_tag: u32_at(bhs, 16),
        snack_tag: u32_at(bhs, 20),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        exp_data_sn: u32_at(bhs, 36),
    })
}

fn task_management(bhs: &Bhs) -> TaskManagementResponse {
    TaskManagementResponse {
        response: bhs[2],
        initiator_task_tag: u32_at(bhs, 16),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
    }
}

fn login(bhs: &Bhs) -> LoginResponse {
    LoginResponse {
        transit: is_final(bhs),
        continues: bhs[1] & CONTINUE != 0,
        current_stage: bhs[1] >> 2 & 3,
        next_stage: bhs[1] & 3,
        version_max: bhs[2],
        version_active: bhs[3],
        isid: isid(bhs),
        tsih: u16_at(bhs, 14),
        initiator_task_tag: u32_at(bhs, 16),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        status_class: bhs[36],
        status_detail: bhs[37],
    }
}

fn text(bhs: &Bhs) -> TextResponse {
    TextResponse {
        is_final: is_final(bhs),
        continues: bhs[1] & CONTINUE != 0,
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
    }
}

#[inline]
fn data_in(bhs: &Bhs) -> Result<DataIn, RejectReason> {
    Ok(DataIn {
        is_final: is_final(bhs),
        acknowledge: bhs[1] & 0x40 != 0,
        status: (bhs[1] & 1 != 0).then_some(bhs[3]),
        residual: residual(bhs)?,
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        data_sn: u32_at(bhs, 36),
        buffer_offset: u32_at(bhs, 40),
    })
}

fn logout(bhs: &Bhs) -> LogoutResponse {
    LogoutResponse {
        response: bhs[2],
        initiator_task_tag: u32_at(bhs, 16),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        time2wait: u16_at(bhs, 40),
        time2retain: u16_at(bhs, 42),
    }
}

fn async_message(bhs: &Bhs) -> AsyncMessage {
    AsyncMessage {
        lun: lun(bhs),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        event: bhs[36],
        vendor_code: bhs[37],
        parameters: [u16_at(bhs, 38), u16_at(bhs, 40), u16_at(bhs, 42)],
    }
}

fn r2t(bhs: &Bhs) -> R2t {
    R2t {
        lun: lun(bhs),
        initiator_task_tag: u32_at(bhs, 16),
        target_transfer_tag: u32_at(bhs, 20),
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        r2t_sn: u32_at(bhs, 36),
        buffer_offset: u32_at(bhs, 40),
        desired_data_transfer_length: u32_at(bhs, 44),
    }
}

fn reject(bhs: &Bhs) -> Result<Reject, RejectReason> {
    Ok(Reject {
        reason: RejectReason::from_u8(bhs[2]).ok_or(RejectReason::InvalidPduField)?,
        stat_sn: u32_at(bhs, 24),
        exp_cmd_sn: u32_at(bhs, 28),
        max_cmd_sn: u32_at(bhs, 32),
        data_sn_or_r2t_sn: u32_at(bhs, 36),
    })
}
