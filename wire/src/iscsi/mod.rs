//! The iSCSI protocol (RFC 7143): its PDUs, login, and the full feature phase of a session.

pub mod chap;
pub mod initiator;
pub mod login;
pub mod parameters;
pub mod pdu;
pub mod session;
pub mod text;
