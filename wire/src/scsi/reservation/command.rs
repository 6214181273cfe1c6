//! PERSISTENT RESERVE IN and OUT as values (SPC-4 6.15, 6.16).

use crate::scsi::port::TransportId;
use crate::scsi::{Refusal, additional};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scsi) enum ReserveIn {
    ReadKeys,
    ReadReservation,
    ReportCapabilities,
    ReadFullStatus,
}

/// The CDB of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scsi) struct ReserveOut {
    pub action: u8,
    pub scope: u8,
    /// TYPE.
    pub kind: u8,
    pub parameter_bytes: u32,
}

/// The parameter list of all service actions but REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub key: u64,
    pub service_action_key: u64,
    /// SPEC_I_PT: further initiator ports to register; `None` if the bit is clear.
    pub initiator_ports: Option<Vec<TransportId>>,
    pub all_target_ports: bool,
    /// APTPL.
    pub persists: bool,
}

/// The parameter list of REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MoveParameters {
    pub key: u64,
    pub service_action_key: u64,
    pub unregister: bool,
    pub persists: bool,
    pub relative_port: u16,
    pub initiator_port: TransportId,
}

/// The size of a parameter list without TransportIDs.
const BASIC_BYTES: usize = 24;

const LENGTH_ERROR: Refusal = Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR);

impl Parameters {
    pub fn parse(data: &[u8], is_register: bool) -> Result<Parameters, Refusal> {
        let (basic, rest) = data.split_first_chunk::<BASIC_BYTES>().ok_or(LENGTH_ERROR)?;
        let specifies_ports = basic[20] & 0x08 != 0;
        if specifies_ports && !is_register {
            return Err(Refusal::parameter_field(20, Some(3)));
        }
        if !specifies_ports && !rest.is_empty() {
            return Err(LENGTH_ERROR);
        }
        let (key, service_action_key) = keys(basic);
        Ok(Parameters {
            key,
            service_action_key,
            initiator_ports: if specifies_ports { Some(transport_ids(rest)?) } else { None },
            all_target_ports: basic[20] & 0x04 != 0,
            persists: basic[20] & 0x01 != 0,
        })
    }
}

impl MoveParameters {
    pub fn parse(data: &[u8]) -> Result<MoveParameters, Refusal> {
        let (basic, rest) = data.split_first_chunk::<BASIC_BYTES>().ok_or(LENGTH_ERROR)?;
        let announced = u32::from_be_bytes([basic[20], basic[21], basic[22], basic[23]]);
        if usize::try_from(announced) != Ok(rest.len()) {
            return Err(LENGTH_ERROR);
        }
        let (initiator_port, rest) = TransportId::parse(rest).ok_or(Refusal::parameter_field(24, None))?;
        if !rest.is_empty() {
            return Err(LENGTH_ERROR);
        }
        let (key, service_action_key) = keys(basic);
        Ok(MoveParameters {
            key,
            service_action_key,
            unregister: basic[17] & 0x02 != 0,
            persists: basic[17] & 0x01 != 0,
            relative_port: u16::from_be_bytes([basic[18], basic[19]]),
            initiator_port,
        })
    }
}

fn keys(basic: &[u8; BASIC_BYTES]) -> (u64, u64) {
    let [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, s4, s5, s6, s7, ..] = *basic;
    (
        u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
        u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
    )
}

/// The additional parameter data: a length, and TransportIDs that fill it.
fn transport_ids(data: &[u8]) -> Result<Vec<TransportId>, Refusal> {
    let (announced, mut rest) = data.split_first_chunk().ok_or(LENGTH_ERROR)?;
    if usize::try_from(u32::from_be_bytes(*announced)) != Ok(rest.len()) {
        return Err(LENGTH_ERROR);
    }
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let at = u16::try_from(data.len() - rest.len() + BASIC_BYTES).unwrap_or(u16::MAX);
        let (id, after) = TransportId::parse(rest).ok_or(Refusal::parameter_field(at, None))?;
        ids.push(id);
        rest = after;
    }
    Ok(ids)
}
