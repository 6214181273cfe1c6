//! Persistent reservations (SPC-4 5.12).

pub(super) mod command;
pub(super) mod saved;
