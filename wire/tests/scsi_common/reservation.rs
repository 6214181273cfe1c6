//! PERSISTENT RESERVE IN and OUT, put in a line.

use wire::scsi::{Answer, InitiatorPort, NexusId, Unit};

use super::{be32, be64, get, send};

pub const REGISTER: u8 = 0;
pub const RESERVE: u8 = 1;
pub const RELEASE: u8 = 2;
pub const CLEAR: u8 = 3;
pub const PREEMPT: u8 = 4;
pub const PREEMPT_AND_ABORT: u8 = 5;
pub const REGISTER_AND_IGNORE: u8 = 6;
pub const REGISTER_AND_MOVE: u8 = 7;

pub const WRITE_EXCLUSIVE: u8 = 1;
pub const EXCLUSIVE_ACCESS: u8 = 3;
pub const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
pub const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
pub const WRITE_EXCLUSIVE_ALL: u8 = 7;
pub const EXCLUSIVE_ACCESS_ALL: u8 = 8;
pub const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];

pub const APTPL: u8 = 0x01;
pub const ALL_TG_PT: u8 = 0x04;
pub const SPEC_I_PT: u8 = 0x08;

/// A service action with its parameter list, whatever they are.
pub fn out(unit: &mut Unit, nexus: NexusId, action: u8, kind: u8, list: &[u8]) -> Answer {
    let [_, a, b, c] = (list.len() as u32).to_be_bytes();
    send(unit, nexus, &[0x5f, action, kind, 0, 0, 0, a, b, c, 0], list)
}

/// A service action with keys and flags alone.
pub fn change(unit: &mut Unit, nexus: NexusId, action: u8, kind: u8, keys: (u64, u64), flags: u8) -> Answer {
    out(unit, nexus, action, kind, &parameters(keys, flags))
}

pub fn parameters((key, service_action_key): (u64, u64), flags: u8) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), service_action_key.to_be_bytes()].concat();
    list.extend_from_slice(&[0, 0, 0, 0, flags, 0, 0, 0]);
    list
}

/// REGISTER AND IGNORE EXISTING KEY.
pub fn register(unit: &mut Unit, nexus: NexusId, key: u64) {
    change(unit, nexus, REGISTER_AND_IGNORE, 0, (0, key), 0).result.expect("it ignores what was");
}

pub fn reserve(unit: &mut Unit, nexus: NexusId, key: u64, kind: u8) {
    change(unit, nexus, RESERVE, kind, (key, 0), 0).result.expect("it is free");
}

/// PRGENERATION and the registered keys.
pub fn keys(unit: &mut Unit, nexus: NexusId) -> (u32, Vec<u64>) {
    let data = report(unit, nexus, 0);
    (be32(&data, 0), data[8..].chunks(8).map(|key| be64(key, 0)).collect())
}

/// TYPE and key of the reservation.
pub fn reservation(unit: &mut Unit, nexus: NexusId) -> Option<(u8, u64)> {
    let data = report(unit, nexus, 1);
    (data.len() > 8).then(|| (data[21], be64(&data, 8)))
}

/// PERSISTENT RESERVE IN.
pub fn report(unit: &mut Unit, nexus: NexusId, action: u8) -> Vec<u8> {
    get(unit, nexus, &[0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0])
}

pub fn transport_id(port: &InitiatorPort) -> Vec<u8> {
    let isid: String = port.isid.iter().map(|byte| format!("{byte:02x}")).collect();
    iscsi_id(0x45, &format!("{},i,0x{isid}", port.name))
}

pub fn iscsi_id(format: u8, text: &str) -> Vec<u8> {
    let length = (text.len() + 1).next_multiple_of(4).max(20);
    let mut id = vec![format, 0, 0, length as u8];
    id.extend_from_slice(text.as_bytes());
    id.resize(4 + length, 0);
    id
}
