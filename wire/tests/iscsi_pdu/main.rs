//! iSCSI PDUs: where their fields lie, and that they come back as they were written.

mod layout;
mod round_trip;
