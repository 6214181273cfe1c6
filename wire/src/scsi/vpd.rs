//! Vital product data pages (SPC-4 7.8, SBC-3 6.6).
//!
//! Its one rule: what a page promises is what `decode` and `unmap` enforce, from the same geometry.

use super::copy::{self, Designator};
use super::inquiry::{VENDOR, port_group};
use super::{Geometry, Identity, TargetPort};

const SUPPORTED: [u8; 9] = [0x00, 0x80, 0x83, 0x86, 0x87, 0x8f, 0xb0, 0xb1, 0xb2];

/// Whom the page is about, and through which port it is seen.
pub(super) struct Subject<'a> {
    pub identity: &'a Identity,
    pub geometry: &'a Geometry,
    pub port: &'a TargetPort,
}

/// The page, whole; `None` if there is none with this code.
pub(super) fn page(code: u8, subject: &Subject<'_>) -> Option<Vec<u8>> {
    let geometry = subject.geometry;
    let body = match code {
        0x00 => SUPPORTED.to_vec(),
        0x80 => subject.identity.serial().into_bytes(),
        0x83 => identification(subject),
        0x86 => extended_inquiry(geometry),
        // Every page and subpage is shared by all nexuses.
        0x87 => vec![0x3f, 0xff, 0, 0],
        0x8f => copy::third_party_copy_page(),
        0xb0 => block_limits(geometry),
        0xb1 => characteristics(geometry),
        0xb2 => provisioning(geometry),
        _ => return None,
    };
    let mut page = vec![0, code];
    page.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    page.extend(body);
    Some(page)
}

impl Identity {
    /// The names by which EXTENDED COPY may mean this unit: those of its identification page.
    pub fn designators(&self) -> Vec<Designator> {
        let t10 = [VENDOR.as_slice(), self.serial().as_bytes()].concat();
        vec![
            Designator { code_set: 1, kind: 3, bytes: self.naa().to_vec() },
            Designator { code_set: 1, kind: 2, bytes: self.eui().to_vec() },
            Designator { code_set: 2, kind: 1, bytes: t10 },
        ]
    }

    /// NAA 3h, locally assigned: sixty bits of the UUID.
    fn naa(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.uuid;
        [0x30 | a & 0x0f, b, c, d, e, f, g, h]
    }

    /// EUI-64-based, 16 bytes: the UUID, marked as locally administered where an IEEE company would stand.
    fn eui(&self) -> [u8; 16] {
        let mut eui = self.uuid;
        eui[8] = eui[8] & !0x01 | 0x02;
        eui
    }

    /// PRODUCT SERIAL NUMBER.
    fn serial(&self) -> String {
        hex(&self.uuid)
    }
}

/// Association, in the byte where the designator's type stands.
const OF_UNIT: u8 = 0x00;
const OF_PORT: u8 = 0x10;

/// VPD 83h. The unit's names come first: initiators read no further than they must.
fn identification(subject: &Subject<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for Designator { code_set, kind, bytes } in subject.identity.designators() {
        put_designator(&mut body, code_set, OF_UNIT | kind, &bytes);
    }
    let name = format!("naa.{}", hex(&subject.identity.naa()));
    put_designator(&mut body, 3, OF_UNIT | 8, &padded(&name));
    put_designator(&mut body, 1, PIV | OF_PORT | 4, &number(subject.port.relative_port));
    put_designator(&mut body, 1, PIV | OF_PORT | 5, &number(port_group(subject.port)));
    let port = format!("{},t,0x{:04x}", subject.port.target_name, subject.port.portal_group);
    put_designator(&mut body, 3, PIV | OF_PORT | 8, &padded(&port));
    body
}

/// The protocol identifier is valid; it is iSCSI's.
const PIV: u8 = 0x80;
const ISCSI: u8 = 0x50;

fn put_designator(body: &mut Vec<u8>, code_set: u8, kind: u8, designator: &[u8]) {
    let protocol = if kind & PIV != 0 { ISCSI } else { 0 };
    let length = u8::try_from(designator.len()).expect("iSCSI names have at most 223 bytes");
    body.extend_from_slice(&[protocol | code_set, kind, 0, length]);
    body.extend_from_slice(designator);
}

fn number(value: u16) -> [u8; 4] {
    u32::from(value).to_be_bytes()
}

/// SCSI name strings end with zeroes, to a multiple of four.
fn padded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize((text.len() + 1).next_multiple_of(4), 0);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// VPD 86h.
fn extended_inquiry(geometry: &Geometry) -> Vec<u8> {
    let mut body = vec![0; 60];
    // SIMPSUP; V_SUP.
    body[1] = 0x01;
    body[2] = u8::from(geometry.write_cache);
    body
}

/// VPD B0h.
fn block_limits(geometry: &Geometry) -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = geometry.compare_and_write_blocks_max;
    // OPTIMAL TRANSFER LENGTH GRANULARITY: a physical block.
    body[2..4].copy_from_slice(&(1_u16 << (geometry.physical_block_exponent & 0x0f)).to_be_bytes());
    body[4..8].copy_from_slice(&geometry.transfer_blocks_max.to_be_bytes());
    body[8..12].copy_from_slice(&geometry.optimal_blocks.to_be_bytes());
    if geometry.can_discard {
        body[16..20].copy_from_slice(&geometry.unmap_blocks_max.to_be_bytes());
        body[20..24].copy_from_slice(&geometry.unmap_descriptors_max.to_be_bytes());
        body[24..28].copy_from_slice(&geometry.unmap_granularity_blocks.to_be_bytes());
        // UGAVALID, and an alignment of 0.
        body[28] = 0x80;
    }
    body[32..40].copy_from_slice(&geometry.write_same_blocks_max.to_be_bytes());
    body
}

/// VPD B1h.
fn characteristics(geometry: &Geometry) -> Vec<u8> {
    let mut body = vec![0; 60];
    // MEDIUM ROTATION RATE: none.
    body[1] = 1;
    // WABEREQ 01b: after BLOCK ERASE reads succeed without a write before.
    body[3] = if geometry.can_discard { 0x40 } else { 0 };
    body
}

/// VPD B2h.
fn provisioning(geometry: &Geometry) -> Vec<u8> {
    if !geometry.can_discard {
        return vec![0; 4];
    }
    const LBPU_LBPWS_LBPWS10: u8 = 0xe0;
    const LBPRZ: u8 = 0x04;
    const THIN: u8 = 2;
    let zeroes = if geometry.zero_after_unmap { LBPRZ } else { 0 };
    vec![0, LBPU_LBPWS_LBPWS10 | zeroes, THIN, 0]
}
