//! PERSISTENT RESERVE IN and OUT as values.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::scsi) enum ReserveIn {
    ReadKeys = 0,
    ReadReservation = 1,
    ReportCapabilities = 2,
    ReadFullStatus = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scsi) struct ReserveOut {
    pub action: u8,
    pub scope_and_type: u8,
    pub parameter_bytes: u32,
}
