//! An initiator's login.
