//! Why a login is refused: for the initiator as a status, for the log as a sentence.

use super::LoginStatus;

/// A login that ends here.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: LoginStatus,
    pub reason: String,
    /// The data of the response: a redirection's address.
    pub data: Vec<u8>,
}

impl Failure {
    pub fn new(status: LoginStatus, reason: impl Into<String>) -> Failure {
        Failure { status, reason: reason.into(), data: Vec::new() }
    }

    /// What the initiator did is against the protocol.
    pub fn protocol(reason: impl Into<String>) -> Failure {
        Failure::new(LoginStatus::INITIATOR_ERROR, reason)
    }

    pub fn authentication(reason: impl Into<String>) -> Failure {
        Failure::new(LoginStatus::AUTHENTICATION_FAILURE, reason)
    }
}
