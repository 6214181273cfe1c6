//! Standard INQUIRY data (SPC-4 6.6.2), and the short answers that describe the unit.

use super::{Geometry, TargetPort};

/// T10 VENDOR IDENTIFICATION.
pub(super) const VENDOR: &[u8; 8] = b"RINGSAN ";
const PRODUCT: &[u8; 16] = b"VOLUME          ";
const REVISION: &[u8; 4] = b"0001";

/// SAM-5, SPC-4, SBC-3, iSCSI (SPC-4 table 142).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

const LENGTH: usize = 96;

pub(super) fn standard(geometry: &Geometry) -> Vec<u8> {
    let mut data = identified(0x00);
    data[1] = if geometry.removable { 0x80 } else { 0 };
    // TPGS: access states change without being told to. 3PC: third-party copy.
    data[5] = 0x10 | 0x08;
    // MULTIP; CMDQUE.
    data[6] = 0x10;
    data[7] = 0x02;
    data
}

/// For a LUN where there is no unit (SPC-4 6.6.2: qualifier 011b, type 1Fh).
pub(super) fn absent() -> Vec<u8> {
    identified(0x7f)
}

fn identified(peripheral: u8) -> Vec<u8> {
    let mut data = vec![0; LENGTH];
    data[0] = peripheral;
    // VERSION: SPC-4. RESPONSE DATA FORMAT, and LUNs in the hierarchical structure.
    data[2] = 0x06;
    data[3] = 0x12;
    data[4] = (LENGTH - 5) as u8;
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].copy_from_slice(REVISION);
    for (place, version) in data[58..].chunks_exact_mut(2).zip(VERSION_DESCRIPTORS) {
        place.copy_from_slice(&version.to_be_bytes());
    }
    data
}

/// READ CAPACITY (10): all ones for an address that needs more than 32 bits.
pub(super) fn read_capacity_10(geometry: &Geometry) -> Vec<u8> {
    let last = u32::try_from(geometry.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    [last.to_be_bytes(), geometry.block_bytes.to_be_bytes()].concat()
}

/// READ CAPACITY (16) (SBC-3 5.16).
pub(super) fn read_capacity_16(geometry: &Geometry) -> Vec<u8> {
    let mut data = geometry.blocks.saturating_sub(1).to_be_bytes().to_vec();
    data.extend_from_slice(&geometry.block_bytes.to_be_bytes());
    let lbpme = u8::from(geometry.can_discard) << 7;
    let lbprz = u8::from(geometry.can_discard && geometry.zero_after_unmap) << 6;
    data.extend_from_slice(&[0, geometry.physical_block_exponent & 0x0f, lbpme | lbprz, 0]);
    data.resize(32, 0);
    data
}

/// REPORT LUNS (SPC-4 6.33). No unit is well-known.
pub(super) fn report_luns(select: u8, luns: &[u64]) -> Vec<u8> {
    let luns = if select == 1 { &[] } else { luns };
    let length = u32::try_from(luns.len() * 8).unwrap_or(u32::MAX);
    let mut data = length.to_be_bytes().to_vec();
    data.extend_from_slice(&[0; 4]);
    data.extend(luns.iter().flat_map(|lun| lun.to_be_bytes()));
    data
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36): abort task, abort task set, clear task set,
/// logical unit reset.
pub(super) fn task_management(extended: bool) -> Vec<u8> {
    const ATS_ATSS_CTSS_LURS: u8 = 0xd8;
    if extended {
        let mut data = vec![ATS_ATSS_CTSS_LURS, 0, 0, 12];
        data.resize(16, 0);
        return data;
    }
    vec![ATS_ATSS_CTSS_LURS, 0, 0, 0]
}

/// How a group of target ports reaches the unit (SPC-4 table 281).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum AccessState {
    ActiveOptimized = 0,
}

/// REPORT TARGET PORT GROUPS (SPC-4 6.37), for one group.
pub(super) fn target_port_groups(extended: bool, state: AccessState, port: &TargetPort) -> Vec<u8> {
    // The only state that can be: AO_SUP.
    const SUPPORTED: u8 = 0x01;
    let group = port_group(port).to_be_bytes();
    let relative_port = port.relative_port.to_be_bytes();
    let mut body = if extended { vec![0x10, 0, 0, 0] } else { Vec::new() };
    body.extend_from_slice(&[state as u8, SUPPORTED, group[0], group[1], 0, 0, 0, 1]);
    body.extend_from_slice(&[0, 0, relative_port[0], relative_port[1]]);
    let mut data = (body.len() as u32).to_be_bytes().to_vec();
    data.extend(body);
    data
}

/// TARGET PORT GROUP: the portal group's tag stands for it.
pub(super) fn port_group(port: &TargetPort) -> u16 {
    port.portal_group
}

/// READ DEFECT DATA (10) and (12) (SBC-3 5.17, 5.18): there are no defects, in whatever format.
pub(super) fn no_defects(long: bool, flags: u8) -> Vec<u8> {
    if long { vec![0, flags & 0x1f, 0, 0, 0, 0, 0, 0] } else { vec![0, flags & 0x1f, 0, 0] }
}
