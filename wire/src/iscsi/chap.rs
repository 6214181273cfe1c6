//! CHAP (RFC 1994) as iSCSI uses it (RFC 7143 §12.1.3): one side asks, the other proves that it knows a secret.
//!
//! ```text
//! response = hash(identifier 1 | secret | challenge)
//! ```
//! Its one rule: a secret is compared with nothing but through `verify`, whose path and time do not tell an
//! unknown user from a wrong secret.

mod binary;

pub use binary::{decode_binary, encode_binary};

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use sha3::Sha3_256;
use subtle::{Choice, ConstantTimeEq};

/// The longest challenge that a peer may send (§12.1.3).
pub const CHALLENGE_BYTES_MAX: usize = 1024;
/// What our own challenges have.
pub const CHALLENGE_BYTES: usize = 32;

/// A secret, which no log ever shows.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Of any length; whether it is long enough is for the configuration to say.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret(bytes.into())
    }

    /// Its length, for the configuration to check.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is no secret at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A name and what it proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapUser {
    /// CHAP_N.
    pub name: String,
    /// What only both sides know.
    pub secret: Secret,
}

/// The hash functions that IANA lists for PPP authentication and iSCSI knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registry's own")]
pub enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    /// All of them, the strongest first.
    pub const ALL: [Algorithm; 4] = [Algorithm::Sha3_256, Algorithm::Sha256, Algorithm::Sha1, Algorithm::Md5];

    /// The first of an initiator's list that is known; the list is in the order of its preference.
    pub fn choose(list: &str) -> Option<Algorithm> {
        list.split(',').find_map(|item| {
            let number = crate::iscsi::text::parse_number(item)?;
            Algorithm::ALL.into_iter().find(|algorithm| u64::from(algorithm.number()) == number)
        })
    }

    /// As in CHAP_A.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The length of a response.
    pub fn response_bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3_256 => 32,
        }
    }

    /// What proves that one knows the secret.
    pub fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        match self {
            Algorithm::Md5 => hash::<Md5>(identifier, secret, challenge),
            Algorithm::Sha1 => hash::<Sha1>(identifier, secret, challenge),
            Algorithm::Sha256 => hash::<Sha256>(identifier, secret, challenge),
            Algorithm::Sha3_256 => hash::<Sha3_256>(identifier, secret, challenge),
        }
    }
}

fn hash<H: Digest>(identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
    H::new().chain_update([identifier]).chain_update(&secret.0).chain_update(challenge).finalize().to_vec()
}

/// A question, to be asked once.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The hash function agreed on.
    pub algorithm: Algorithm,
    /// CHAP_I.
    pub identifier: u8,
    /// CHAP_C.
    pub bytes: [u8; CHALLENGE_BYTES],
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Challenge({:?})", self.algorithm)
    }
}

impl Challenge {
    /// The user that `response` proves to be there.
    ///
    /// `decoy` stands for the secret of a user that does not exist; nobody may know it.
    pub fn verify<'a>(
        &self,
        users: &'a [ChapUser],
        name: &str,
        response: &[u8],
        decoy: &Secret,
    ) -> Option<&'a ChapUser> {
        let (mut secret, mut user) = (decoy, None);
        for candidate in users {
            // No early end: the place of a name in the list is nobody's business.
            if bool::from(candidate.name.as_bytes().ct_eq(name.as_bytes())) {
                (secret, user) = (&candidate.secret, Some(candidate));
            }
        }
        let expected = self.algorithm.response(self.identifier, secret, &self.bytes);
        let is_right = expected.ct_eq(response) & Choice::from(u8::from(user.is_some()));
        user.filter(|_| is_right.into())
    }

    /// Whether a challenge of the peer is this one sent back, to have us answer it (RFC 1994 §2, RFC 7143 §9.2.1).
    pub fn is_reflected_by(&self, challenge: &[u8]) -> bool {
        self.bytes == challenge
    }
}
