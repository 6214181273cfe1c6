//! The security stage: AuthMethod, and CHAP as the one method there is (RFC 7143 §12.1).
//!
//! ```text
//! AuthMethod=CHAP,None ─▶ AuthMethod=CHAP           or  AuthMethod=None, and that was it
//! CHAP_A=7,5           ─▶ CHAP_A=7 CHAP_I CHAP_C
//! CHAP_N CHAP_R        ─▶ the end of the stage      one-way
//! … CHAP_I CHAP_C      ─▶ CHAP_N CHAP_R             mutual
//! ```
//! Its one rule: who has to prove something gets no further by saying nothing.

use crate::iscsi::chap::{
    Algorithm, CHALLENGE_BYTES, CHALLENGE_BYTES_MAX, Challenge, ChapUser, Secret, decode_binary,
    encode_binary,
};
use crate::iscsi::text::{Pairs, parse_number, put_pair};
use crate::nbd::handshake::option::quoted;

use super::{Authentication, failure::Failure};

/// Whether a key belongs to this stage alone.
pub(super) fn is_security_key(key: &str) -> bool {
    matches!(key, "AuthMethod" | "CHAP_A" | "CHAP_N" | "CHAP_R" | "CHAP_I" | "CHAP_C")
}

/// What is random in one login, and used once.
#[derive(Clone, Debug)]
pub(super) struct Nonce {
    identifier: u8,
    challenge: [u8; CHALLENGE_BYTES],
    /// Stands for the secret of users that do not exist.
    decoy: Secret,
}

impl Nonce {
    pub fn new(random: [u8; 64]) -> Nonce {
        let (challenge, rest) = random.split_first_chunk().expect("64 bytes hold a challenge");
        let (identifier, decoy) = rest.split_first().expect("64 bytes hold more than a challenge");
        Nonce { identifier: *identifier, challenge: *challenge, decoy: Secret::new(decoy) }
    }
}

/// What an initiator has proved so far.
#[derive(Debug)]
pub(super) struct Security {
    authentication: Authentication,
    progress: Progress,
    nonce: Nonce,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// No method yet; `is_proposed`: we asked for CHAP, since the initiator named none.
    Method { is_proposed: bool },
    /// CHAP, but with which hash?
    Algorithm,
    /// Our question is out.
    Response(Challenge),
    /// Nothing had to be proved.
    Open,
    /// It is this user.
    Proved(String),
}

impl Security {
    pub fn new(authentication: Authentication, nonce: Nonce) -> Security {
        Security { authentication, progress: Progress::Method { is_proposed: false }, nonce }
    }

    /// Whether the initiator has to prove anything.
    pub fn is_required(&self) -> bool {
        !self.authentication.chap_users.is_empty()
    }

    /// Whether the stage may end.
    pub fn is_over(&self) -> bool {
        match self.progress {
            Progress::Open | Progress::Proved(_) => true,
            Progress::Method { .. } => !self.is_required(),
            Progress::Algorithm | Progress::Response(_) => false,
        }
    }

    /// Who proved to be there.
    pub fn chap_user(&self) -> Option<&str> {
        match &self.progress {
            Progress::Proved(name) => Some(name),
            _ => None,
        }
    }

    /// Takes the security keys of one text, and appends the answers.
    pub fn step(&mut self, pairs: &Pairs<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        if let Progress::Method { is_proposed } = self.progress {
            self.progress = self.choose_method(pairs, is_proposed, out)?;
            // Who offers nothing but CHAP may name its hash functions at once.
            if self.progress != Progress::Algorithm || pairs.get("CHAP_A").is_none() {
                return Ok(());
            }
        }
        self.progress = match std::mem::replace(&mut self.progress, Progress::Algorithm) {
            Progress::Algorithm => self.choose_algorithm(pairs, out)?,
            Progress::Response(challenge) => self.verify(&challenge, pairs, out)?,
            over => match pairs.iter().find(|(key, _)| is_security_key(key)) {
                None => over,
                Some((key, _)) => return Err(Failure::protocol(format!("{key} after the authentication"))),
            },
        };
        Ok(())
    }

    fn choose_method(
        &self,
        pairs: &Pairs<'_>,
        is_proposed: bool,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Failure> {
        let Some(offered) = pairs.get("AuthMethod") else {
            return if !self.is_required() {
                Ok(Progress::Method { is_proposed })
            } else if is_proposed {
                Err(Failure::authentication("the initiator did not take up CHAP, which is required"))
            } else {
                put_pair(out, "AuthMethod", "CHAP");
                Ok(Progress::Method { is_proposed: true })
            };
        };
        let (method, progress) = match self.is_required() {
            true => ("CHAP", Progress::Algorithm),
            false => ("None", Progress::Open),
        };
        if !offered.split(',').any(|item| item == method) {
            let reason = format!("AuthMethod={}, where {method} is needed", quoted(offered));
            return Err(Failure::authentication(reason));
        }
        if !is_proposed {
            put_pair(out, "AuthMethod", method);
        }
        Ok(progress)
    }

    fn choose_algorithm(&self, pairs: &Pairs<'_>, out: &mut Vec<u8>) -> Result<Progress, Failure> {
        let Some(list) = pairs.get("CHAP_A") else {
            return Err(Failure::authentication("CHAP was agreed on, but no CHAP_A came"));
        };
        let Some(algorithm) = Algorithm::choose(list) else {
            return Err(Failure::authentication(format!("CHAP_A={} has no known algorithm", quoted(list))));
        };
        put_pair(out, "CHAP_A", &algorithm.number().to_string());
        let Nonce { identifier, challenge: bytes, .. } = self.nonce;
        put_pair(out, "CHAP_I", &identifier.to_string());
        put_pair(out, "CHAP_C", &encode_binary(&bytes));
        Ok(Progress::Response(Challenge { algorithm, identifier, bytes }))
    }

    fn verify(
        &self,
        challenge: &Challenge,
        pairs: &Pairs<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Failure> {
        let (Some(name), Some(response)) = (pairs.get("CHAP_N"), pairs.get("CHAP_R")) else {
            return Err(Failure::authentication("CHAP_N or CHAP_R did not come"));
        };
        // What cannot be a response is compared all the same.
        let response_bytes_max = challenge.algorithm.response_bytes();
        let response = decode_binary(response, response_bytes_max).unwrap_or_default();
        let users = &self.authentication.chap_users;
        let Some(user) = challenge.verify(users, name, &response, &self.nonce.decoy) else {
            return Err(Failure::authentication(format!("wrong name or secret, as user {}", quoted(name))));
        };
        match (pairs.get("CHAP_I"), pairs.get("CHAP_C")) {
            (None, None) => {}
            (Some(identifier), Some(theirs)) => self.prove(challenge, user, identifier, theirs, out)?,
            _ => return Err(Failure::protocol("CHAP_I without CHAP_C, or the other way round")),
        }
        Ok(Progress::Proved(user.name.clone()))
    }

    /// Answers the initiator's own question, unless it is ours sent back.
    fn prove(
        &self,
        challenge: &Challenge,
        user: &ChapUser,
        identifier: &str,
        theirs: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let identifier = parse_number(identifier).and_then(|number| u8::try_from(number).ok());
        let theirs = decode_binary(theirs, CHALLENGE_BYTES_MAX);
        let (Some(identifier), Some(theirs)) = (identifier, theirs) else {
            return Err(Failure::protocol("CHAP_I or CHAP_C is malformed"));
        };
        if challenge.is_reflected_by(&theirs) {
            return Err(Failure::authentication("the initiator sent our challenge back"));
        }
        let Some(own) = &self.authentication.own else {
            return Err(Failure::authentication("the initiator wants mutual CHAP, which is not set up here"));
        };
        // With one secret for both directions, another connection's challenge could be reflected (§9.2.1).
        if own.secret == user.secret {
            return Err(Failure::authentication("mutual CHAP with the same secret in both directions"));
        }
        let response = challenge.algorithm.response(identifier, &own.secret, &theirs);
        put_pair(out, "CHAP_N", &own.name);
        put_pair(out, "CHAP_R", &encode_binary(&response));
        Ok(())
    }
}
