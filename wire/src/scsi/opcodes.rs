//! Every command that we know, once: its usage mask, what must hold before it runs, and its decoder.
//!
//! Its one rule: nothing about an operation code is written elsewhere. `Unit::begin` checks against this
//! table, and REPORT SUPPORTED OPERATION CODES (SPC-4 6.35) is printed from it.

mod table;

use self::table::OPCODES;
use super::command::ReportOpcodes;
use super::decode::Medium;
use super::{Command, Geometry, Refusal, additional};

/// One operation code, or one service action of it.
pub(super) struct Opcode {
    /// CDB USAGE DATA (SPC-4 6.35.3): the operation code, the service action in its place, and a bit set
    /// wherever we look; whoever sets another one is refused.
    usage: &'static [u8],
    has_service_action: bool,
    /// Which reservations stand in its way.
    pub access: Access,
    /// What it asks of the medium.
    pub needs: Needs,
    /// It runs while the medium is sanitized (SBC-3 4.11.2).
    pub while_sanitizing: bool,
    offered: Offered,
    recommended_seconds: u32,
    pub decode: fn(&[u8], &Medium<'_>) -> Result<Command, Refusal>,
}

/// How a command fares under another nexus's reservation (SPC-4 5.12.1, SBC-3 4.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Always allowed, and past a pending unit attention too.
    Free,
    /// Conflicts with RESERVE only.
    Status,
    /// Conflicts with exclusive access.
    Read,
    /// Conflicts with write exclusive and exclusive access.
    Write,
    /// START STOP UNIT: starting is `Status`, all else is `Write`.
    StartStop,
    /// PREVENT ALLOW MEDIUM REMOVAL: allowing is `Status`, preventing is `Write`.
    PreventAllow,
    /// RESERVE and RELEASE (SPC-2 5.5.1).
    Reserve,
    /// RELEASE, which may come from anyone.
    Release,
    /// PERSISTENT RESERVE IN and OUT: their service actions judge for themselves.
    Persistent,
}

/// What must be true of the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// It is there.
    Medium,
    /// It is there, and may be written.
    Writable,
}

/// Which units have the command at all.
#[derive(Clone, Copy)]
enum Offered {
    Always,
    /// Those that can let go of blocks.
    Discard,
}

const READ_SECONDS: u32 = 30;
const SLOW_SECONDS: u32 = 120;

impl Opcode {
    const fn new(
        usage: &'static [u8],
        access: Access,
        needs: Needs,
        decode: fn(&[u8], &Medium<'_>) -> Result<Command, Refusal>,
    ) -> Opcode {
        Opcode {
            usage,
            has_service_action: false,
            access,
            needs,
            while_sanitizing: matches!(access, Access::Free),
            offered: Offered::Always,
            recommended_seconds: READ_SECONDS,
            decode,
        }
    }

    /// Byte 1 of the usage names a service action.
    const fn action(mut self) -> Opcode {
        self.has_service_action = true;
        self
    }

    const fn with_discard(mut self) -> Opcode {
        self.offered = Offered::Discard;
        self
    }

    const fn slow(mut self) -> Opcode {
        self.recommended_seconds = SLOW_SECONDS;
        self
    }

    const fn while_sanitizing(mut self) -> Opcode {
        self.while_sanitizing = true;
        self
    }

    fn service_action(&self) -> Option<u8> {
        self.has_service_action.then(|| self.usage[1] & 0x1f)
    }

    fn is_offered(&self, geometry: &Geometry) -> bool {
        match self.offered {
            Offered::Always => true,
            Offered::Discard => geometry.can_discard,
        }
    }

    /// Refuses a CDB that is too short, or has a bit set that this command does not know.
    #[inline]
    pub fn check_fields(&self, cdb: &[u8]) -> Result<(), Refusal> {
        if cdb.len() < self.usage.len() {
            return Err(Refusal::cdb_field(cdb.len() as u16, None));
        }
        for (at, (byte, usage)) in cdb.iter().zip(self.usage).enumerate().skip(1) {
            let known = if at == 1 && self.has_service_action { usage | 0x1f } else { *usage };
            let unknown = byte & !known;
            if unknown != 0 {
                return Err(Refusal::cdb_field(at as u16, Some(7 - unknown.leading_zeros() as u8)));
            }
        }
        Ok(())
    }
}

/// The entry for `cdb`.
#[inline]
pub(super) fn find(cdb: &[u8], geometry: &Geometry) -> Result<&'static Opcode, Refusal> {
    let of_opcode =
        entries(*cdb.first().ok_or(Refusal::illegal(additional::INVALID_COMMAND_OPERATION_CODE))?);
    let is_known = of_opcode.iter().any(|entry| entry.is_offered(geometry));
    let action = cdb.get(1).map_or(0, |byte| byte & 0x1f);
    let asked = of_opcode.iter().find(|entry| entry.service_action().is_none_or(|known| known == action));
    match asked.filter(|entry| entry.is_offered(geometry)) {
        Some(entry) => Ok(entry),
        None if is_known => Err(Refusal::cdb_field(1, Some(4))),
        None => Err(Refusal::illegal(additional::INVALID_COMMAND_OPERATION_CODE)),
    }
}

/// REPORT SUPPORTED OPERATION CODES.
pub(super) fn report(asked: &ReportOpcodes, geometry: &Geometry) -> Result<Vec<u8>, Refusal> {
    match asked.reporting {
        0 => Ok(report_all(asked.with_timeouts, geometry)),
        1..=3 => report_one(asked, geometry),
        _ => Err(Refusal::cdb_field(2, Some(2))),
    }
}

fn report_all(with_timeouts: bool, geometry: &Geometry) -> Vec<u8> {
    let mut data = vec![0; 4];
    for entry in OPCODES.iter().filter(|entry| entry.is_offered(geometry)) {
        let flags = u8::from(with_timeouts) << 1 | u8::from(entry.has_service_action);
        let action = entry.service_action().unwrap_or(0);
        data.extend_from_slice(&[entry.usage[0], 0, 0, action, 0, flags, 0, entry.usage.len() as u8]);
        if with_timeouts {
            entry.put_timeouts(&mut data);
        }
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

fn report_one(asked: &ReportOpcodes, geometry: &Geometry) -> Result<Vec<u8>, Refusal> {
    let of_opcode = entries(asked.opcode);
    let has_actions = of_opcode.first().is_some_and(|entry| entry.has_service_action);
    match asked.reporting {
        // Which of the two it is must be known to whoever asks (SPC-4 table 256).
        1 if has_actions => return Err(Refusal::cdb_field(2, Some(2))),
        2 if !has_actions && !of_opcode.is_empty() => return Err(Refusal::cdb_field(2, Some(2))),
        _ => {}
    }
    let is_asked = |entry: &&Opcode| match entry.service_action() {
        Some(action) => u16::from(action) == asked.service_action,
        None => asked.reporting == 1 || asked.service_action == 0,
    };
    let found = of_opcode.iter().filter(|entry| entry.is_offered(geometry)).find(is_asked);
    // 001b: not supported.
    let Some(entry) = found else { return Ok(vec![0, 1, 0, 0]) };
    let flags = u8::from(asked.with_timeouts) << 7 | 3;
    let mut data = vec![0, flags, 0, entry.usage.len() as u8];
    data.extend_from_slice(entry.usage);
    if asked.with_timeouts {
        entry.put_timeouts(&mut data);
    }
    Ok(data)
}

impl Opcode {
    /// The command timeouts descriptor (SPC-4 6.35.4).
    fn put_timeouts(&self, data: &mut Vec<u8>) {
        data.extend_from_slice(&[0, 10, 0, 0, 0, 0, 0, 0]);
        data.extend_from_slice(&self.recommended_seconds.to_be_bytes());
    }
}

/// The entries of one operation code, which stand together.
#[inline]
fn entries(opcode: u8) -> &'static [Opcode] {
    let (first, count) = PLACES[usize::from(opcode)];
    &OPCODES[usize::from(first)..usize::from(first) + usize::from(count)]
}

/// For each operation code: its first entry, and how many it has.
static PLACES: [(u8, u8); 256] = places();

const fn places() -> [(u8, u8); 256] {
    let mut places = [(0, 0); 256];
    let mut at = 0;
    while at < OPCODES.len() {
        let place = &mut places[OPCODES[at].usage[0] as usize];
        if place.1 == 0 {
            place.0 = at as u8;
        }
        assert!(place.0 + place.1 == at as u8, "the entries of an operation code stand together");
        place.1 += 1;
        at += 1;
    }
    places
}
