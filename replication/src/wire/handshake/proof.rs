//! Proofs that one knows the shared key, over all that has been said.
//!
//! Its one rule: a proof names the role of who gives it, so that nobody's own proof can be sent back to it.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// A key has at least so many bytes.
pub const KEY_BYTES_MIN: usize = 32;
/// A proof's length.
pub(super) const PROOF_BYTES: usize = 32;

/// What all nodes of a cluster share, and no log ever shows.
#[derive(Clone)]
pub struct Key(Box<[u8]>);

/// It is too short to be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared key has {0} bytes: it needs at least 32 random ones (`openssl rand -hex 32` makes them)")]
pub struct KeyTooShort(pub usize);

impl Key {
    /// Of these bytes, all of which count.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Key, KeyTooShort> {
        let bytes = bytes.into();
        if bytes.len() < KEY_BYTES_MIN { Err(KeyTooShort(bytes.len())) } else { Ok(Key(bytes)) }
    }

    fn mac(&self, role: Role, transcript: &Transcript) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(role.label());
        mac.update(&transcript.0.clone().finalize());
        mac
    }

    pub(super) fn prove(&self, role: Role, transcript: &Transcript) -> [u8; PROOF_BYTES] {
        self.mac(role, transcript).finalize().into_bytes().into()
    }

    /// In a time that does not tell how much of it was right.
    pub(super) fn verify(&self, role: Role, transcript: &Transcript, proof: &[u8; PROOF_BYTES]) -> bool {
        self.mac(role, transcript).verify_slice(proof).is_ok()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        let digest = |key: &Key| Hmac::<Sha256>::new_from_slice(&key.0).map(Mac::finalize);
        digest(self) == digest(other)
    }
}

impl Eq for Key {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dialer,
    Acceptor,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Role::Dialer => b"ringsan link: dialer\0",
            Role::Acceptor => b"ringsan link: acceptor\0",
        }
    }
}

/// Every packet, in the order of the protocol.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript(Sha256);

impl Transcript {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
