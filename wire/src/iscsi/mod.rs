//! The iSCSI protocol (RFC 7143): its PDUs, login, and the full feature phase of a session.
