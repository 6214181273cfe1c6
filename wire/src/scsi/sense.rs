//! Status and sense data (SPC-4 4.5): what a command that was not carried out is told.
//!
//! Its one rule: whatever is encoded, in either format, decodes to the same value. The fixed format
//! has 32 bits for INFORMATION; a larger value is left out of it, as SPC-4 4.5.3 asks.

/// How a command ended (SAM-5 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Status {
    Good = 0x00,
    CheckCondition = 0x02,
    ConditionMet = 0x04,
    Busy = 0x08,
    ReservationConflict = 0x18,
    TaskSetFull = 0x28,
    AcaActive = 0x30,
    TaskAborted = 0x40,
}

/// What kind of trouble it is (SPC-4 4.5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum SenseKey {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    BlankCheck = 0x8,
    CopyAborted = 0xa,
    AbortedCommand = 0xb,
    VolumeOverflow = 0xd,
    Miscompare = 0xe,
    Completed = 0xf,
}

impl SenseKey {
    fn from_u8(value: u8) -> Option<SenseKey> {
        use SenseKey as Key;
        let known = [
            Key::NoSense,
            Key::RecoveredError,
            Key::NotReady,
            Key::MediumError,
            Key::HardwareError,
            Key::IllegalRequest,
            Key::UnitAttention,
            Key::DataProtect,
            Key::BlankCheck,
            Key::CopyAborted,
            Key::AbortedCommand,
            Key::VolumeOverflow,
            Key::Miscompare,
            Key::Completed,
        ];
        known.into_iter().find(|key| *key as u8 == value)
    }
}

/// Additional sense codes and their qualifiers (SPC-4 annex F.2), as far as we speak them.
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod additional {
    pub const NONE: (u8, u8) = (0x00, 0x00);
    pub const OPERATION_IN_PROGRESS: (u8, u8) = (0x00, 0x16);
    pub const NOT_READY_INITIALIZING_COMMAND_REQUIRED: (u8, u8) = (0x04, 0x02);
    pub const SANITIZE_IN_PROGRESS: (u8, u8) = (0x04, 0x1b);
    pub const WRITE_ERROR: (u8, u8) = (0x0c, 0x00);
    pub const UNEXPECTED_UNSOLICITED_DATA: (u8, u8) = (0x0c, 0x0c);
    pub const NOT_ENOUGH_UNSOLICITED_DATA: (u8, u8) = (0x0c, 0x0d);
    pub const THIRD_PARTY_DEVICE_FAILURE: (u8, u8) = (0x0d, 0x01);
    pub const COPY_TARGET_NOT_REACHABLE: (u8, u8) = (0x0d, 0x02);
    pub const INCORRECT_COPY_TARGET_TYPE: (u8, u8) = (0x0d, 0x03);
    pub const UNRECOVERED_READ_ERROR: (u8, u8) = (0x11, 0x00);
    pub const PARAMETER_LIST_LENGTH_ERROR: (u8, u8) = (0x1a, 0x00);
    pub const MISCOMPARE_DURING_VERIFY: (u8, u8) = (0x1d, 0x00);
    pub const INVALID_COMMAND_OPERATION_CODE: (u8, u8) = (0x20, 0x00);
    pub const LBA_OUT_OF_RANGE: (u8, u8) = (0x21, 0x00);
    pub const INVALID_FIELD_IN_CDB: (u8, u8) = (0x24, 0x00);
    pub const LOGICAL_UNIT_NOT_SUPPORTED: (u8, u8) = (0x25, 0x00);
    pub const INVALID_FIELD_IN_PARAMETER_LIST: (u8, u8) = (0x26, 0x00);
    pub const INVALID_RELEASE_OF_PERSISTENT_RESERVATION: (u8, u8) = (0x26, 0x04);
    pub const TOO_MANY_TARGET_DESCRIPTORS: (u8, u8) = (0x26, 0x06);
    pub const UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE: (u8, u8) = (0x26, 0x07);
    pub const TOO_MANY_SEGMENT_DESCRIPTORS: (u8, u8) = (0x26, 0x08);
    pub const UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE: (u8, u8) = (0x26, 0x09);
    pub const WRITE_PROTECTED: (u8, u8) = (0x27, 0x00);
    pub const LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED: (u8, u8) = (0x27, 0x02);
    pub const SPACE_ALLOCATION_FAILED_WRITE_PROTECT: (u8, u8) = (0x27, 0x07);
    pub const MEDIUM_MAY_HAVE_CHANGED: (u8, u8) = (0x28, 0x00);
    pub const POWER_ON_RESET_OCCURRED: (u8, u8) = (0x29, 0x00);
    pub const BUS_DEVICE_RESET_FUNCTION_OCCURRED: (u8, u8) = (0x29, 0x03);
    pub const I_T_NEXUS_LOSS_OCCURRED: (u8, u8) = (0x29, 0x07);
    pub const MODE_PARAMETERS_CHANGED: (u8, u8) = (0x2a, 0x01);
    pub const RESERVATIONS_PREEMPTED: (u8, u8) = (0x2a, 0x03);
    pub const RESERVATIONS_RELEASED: (u8, u8) = (0x2a, 0x04);
    pub const REGISTRATIONS_PREEMPTED: (u8, u8) = (0x2a, 0x05);
    pub const CAPACITY_DATA_HAS_CHANGED: (u8, u8) = (0x2a, 0x09);
    pub const COMMAND_SEQUENCE_ERROR: (u8, u8) = (0x2c, 0x00);
    pub const COMMANDS_CLEARED_BY_ANOTHER_INITIATOR: (u8, u8) = (0x2f, 0x00);
    pub const SANITIZE_COMMAND_FAILED: (u8, u8) = (0x31, 0x03);
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: (u8, u8) = (0x39, 0x00);
    pub const MEDIUM_NOT_PRESENT: (u8, u8) = (0x3a, 0x00);
    pub const MEDIUM_NOT_PRESENT_TRAY_OPEN: (u8, u8) = (0x3a, 0x02);
    pub const INQUIRY_DATA_HAS_CHANGED: (u8, u8) = (0x3f, 0x03);
    pub const REPORTED_LUNS_DATA_HAS_CHANGED: (u8, u8) = (0x3f, 0x0e);
    pub const INTERNAL_TARGET_FAILURE: (u8, u8) = (0x44, 0x00);
    pub const PROTOCOL_SERVICE_CRC_ERROR: (u8, u8) = (0x47, 0x05);
    pub const DATA_PHASE_ERROR: (u8, u8) = (0x4b, 0x00);
    pub const MEDIUM_REMOVAL_PREVENTED: (u8, u8) = (0x53, 0x02);
    pub const INSUFFICIENT_RESOURCES: (u8, u8) = (0x55, 0x03);
    pub const INSUFFICIENT_REGISTRATION_RESOURCES: (u8, u8) = (0x55, 0x04);
}

/// Where the field lies that was refused (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB; otherwise in the parameter list.
    pub in_cdb: bool,
    /// The first byte of the field.
    pub byte: u16,
    /// The most significant bit of the field in that byte, if it does not fill the byte.
    pub bit: Option<u8>,
}

/// Sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// What kind of trouble it is.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// INFORMATION: which block, or at which offset the data differ.
    pub information: Option<u64>,
    /// The refused field.
    pub field: Option<FieldPointer>,
    /// This is about an earlier command that was answered GOOD.
    pub deferred: bool,
    /// How far a long operation has come, in 65536ths. Not together with `field`.
    pub progress: Option<u16>,
}

/// The size of sense data in the fixed format.
const FIXED_BYTES: usize = 18;

impl Sense {
    /// Sense data that says no more than its codes.
    pub const fn new(key: SenseKey, (asc, ascq): (u8, u8)) -> Sense {
        Sense { key, asc, ascq, information: None, field: None, deferred: false, progress: None }
    }

    /// The same, with INFORMATION.
    pub const fn with_information(mut self, information: u64) -> Sense {
        self.information = Some(information);
        self
    }

    /// The same, pointing at a field.
    pub const fn with_field(mut self, field: FieldPointer) -> Sense {
        self.field = Some(field);
        self
    }

    /// The same, with a progress indication.
    pub const fn with_progress(mut self, progress: u16) -> Sense {
        self.progress = Some(progress);
        self
    }

    /// The additional sense code and its qualifier.
    pub const fn additional(&self) -> (u8, u8) {
        (self.asc, self.ascq)
    }

    /// Appends the sense data, in the descriptor format (SPC-4 4.5.2) or the fixed one (4.5.3).
    pub fn encode(&self, descriptor: bool, out: &mut Vec<u8>) {
        if descriptor { self.encode_descriptors(out) } else { self.encode_fixed(out) }
    }

    /// What `encode` wrote, in either format.
    pub fn decode(bytes: &[u8]) -> Option<Sense> {
        match bytes.first()? & 0x7f {
            0x70 | 0x71 => Sense::decode_fixed(bytes.first_chunk()?),
            0x72 | 0x73 => Sense::decode_descriptors(bytes),
            _ => None,
        }
    }

    fn encode_fixed(&self, out: &mut Vec<u8>) {
        let mut sense = [0; FIXED_BYTES];
        sense[0] = 0x70 | u8::from(self.deferred);
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            sense[0] |= 0x80;
            sense[3..7].copy_from_slice(&information.to_be_bytes());
        }
        sense[2] = self.key as u8;
        sense[7] = (FIXED_BYTES - 8) as u8;
        sense[12] = self.asc;
        sense[13] = self.ascq;
        sense[15..18].copy_from_slice(&self.specific());
        out.extend_from_slice(&sense);
    }

    fn decode_fixed(sense: &[u8; FIXED_BYTES]) -> Option<Sense> {
        let [first, _, key, i0, i1, i2, i3, ..] = *sense;
        let mut value = Sense::new(SenseKey::from_u8(key & 0xf)?, (sense[12], sense[13]));
        value.deferred = first & 1 != 0;
        value.information = (first & 0x80 != 0).then(|| u32::from_be_bytes([i0, i1, i2, i3]).into());
        value.set_specific([sense[15], sense[16], sense[17]]);
        Some(value)
    }

    fn encode_descriptors(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let code = 0x72 | u8::from(self.deferred);
        out.extend_from_slice(&[code, self.key as u8, self.asc, self.ascq, 0, 0, 0, 0]);
        if let Some(information) = self.information {
            out.extend_from_slice(&[0x00, 0x0a, 0x80, 0]);
            out.extend_from_slice(&information.to_be_bytes());
        }
        let specific = self.specific();
        if specific[0] != 0 {
            out.extend_from_slice(&[0x02, 0x06, 0, 0]);
            out.extend_from_slice(&specific);
            out.push(0);
        }
        out[start + 7] = (out.len() - start - 8) as u8;
    }

    fn decode_descriptors(bytes: &[u8]) -> Option<Sense> {
        let (&[first, key, asc, ascq, _, _, _, additional_bytes], rest) = bytes.split_first_chunk()?;
        let mut value = Sense::new(SenseKey::from_u8(key & 0xf)?, (asc, ascq));
        value.deferred = first & 1 != 0;
        let mut rest = rest.get(..usize::from(additional_bytes))?;
        while let Some((&[kind, length], after)) = rest.split_first_chunk() {
            let (body, after) = after.split_at_checked(usize::from(length))?;
            match (kind, body) {
                (0x00, [0x80, _, information @ ..]) => {
                    value.information = Some(u64::from_be_bytes(*information.first_chunk()?));
                }
                (0x02, [_, _, a, b, c, ..]) => value.set_specific([*a, *b, *c]),
                _ => {}
            }
            rest = after;
        }
        Some(value)
    }

    /// The sense-key-specific bytes (SPC-4 4.5.2.4); all zero if there is nothing to say.
    fn specific(&self) -> [u8; 3] {
        if let Some(FieldPointer { in_cdb, byte, bit }) = self.field {
            let flags = 0x80 | u8::from(in_cdb) << 6 | bit.map_or(0, |bit| 0x08 | bit & 7);
            let [high, low] = byte.to_be_bytes();
            return [flags, high, low];
        }
        let Some(progress) = self.progress else { return [0; 3] };
        let [high, low] = progress.to_be_bytes();
        [0x80, high, low]
    }

    fn set_specific(&mut self, [flags, high, low]: [u8; 3]) {
        if flags & 0x80 == 0 {
            return;
        }
        let value = u16::from_be_bytes([high, low]);
        if self.key == SenseKey::IllegalRequest {
            let bit = (flags & 0x08 != 0).then_some(flags & 7);
            self.field = Some(FieldPointer { in_cdb: flags & 0x40 != 0, byte: value, bit });
        } else {
            self.progress = Some(value);
        }
    }
}

/// A command that is not carried out, and what its initiator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status; never [`Status::Good`].
    pub status: Status,
    /// Sense data, with CHECK CONDITION.
    pub sense: Option<Sense>,
}

impl Refusal {
    /// A reservation of another initiator stands in the way.
    pub const RESERVATION_CONFLICT: Refusal = Refusal { status: Status::ReservationConflict, sense: None };

    /// CHECK CONDITION with codes alone.
    pub const fn check(key: SenseKey, additional: (u8, u8)) -> Refusal {
        Refusal::with_sense(Sense::new(key, additional))
    }

    /// CHECK CONDITION.
    pub const fn with_sense(sense: Sense) -> Refusal {
        Refusal { status: Status::CheckCondition, sense: Some(sense) }
    }

    /// ILLEGAL REQUEST.
    pub const fn illegal(additional: (u8, u8)) -> Refusal {
        Refusal::check(SenseKey::IllegalRequest, additional)
    }

    /// INVALID FIELD IN CDB. `bit` is the field's most significant one, `None` if it begins with its byte.
    pub const fn cdb_field(byte: u16, bit: Option<u8>) -> Refusal {
        let field = FieldPointer { in_cdb: true, byte, bit };
        let sense = Sense::new(SenseKey::IllegalRequest, additional::INVALID_FIELD_IN_CDB);
        Refusal::with_sense(sense.with_field(field))
    }

    /// INVALID FIELD IN PARAMETER LIST.
    pub const fn parameter_field(byte: u16, bit: Option<u8>) -> Refusal {
        let field = FieldPointer { in_cdb: false, byte, bit };
        let sense = Sense::new(SenseKey::IllegalRequest, additional::INVALID_FIELD_IN_PARAMETER_LIST);
        Refusal::with_sense(sense.with_field(field))
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE, with the first block that is not there.
    pub const fn lba_out_of_range(lba: u64) -> Refusal {
        let sense = Sense::new(SenseKey::IllegalRequest, additional::LBA_OUT_OF_RANGE);
        Refusal::with_sense(sense.with_information(lba))
    }

    /// MISCOMPARE; `offset_bytes` counts into the data that were sent (SBC-3 5.2, 5.34).
    pub const fn miscompare(offset_bytes: u64) -> Refusal {
        let sense = Sense::new(SenseKey::Miscompare, additional::MISCOMPARE_DURING_VERIFY);
        Refusal::with_sense(sense.with_information(offset_bytes))
    }
}
