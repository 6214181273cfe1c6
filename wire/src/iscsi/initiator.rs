//! The initiator's half of a login: for load generators and tests, which bring their own sockets.
//!
//! ```text
//! begin() ─▶ request ─▶ (target) ─▶ response ─▶ step() ─▶ Send request … Done
//! ```
//! Its one rule: it takes nothing that it did not ask for: an answer beyond its offer ends the login.

mod result;

use std::collections::BTreeMap;

use super::chap::{Algorithm, CHALLENGE_BYTES, CHALLENGE_BYTES_MAX, ChapUser, decode_binary, encode_binary};
use super::login::{LOGIN_DATA_BYTES_MAX, LoginStatus};
use super::parameters::{DigestPolicy, Offers, Parameters};
use super::pdu::code::stage::{FULL_FEATURE, OPERATIONAL, SECURITY};
use super::pdu::{LoginRequest, LoginResponse};
use super::text::{Collector, Limits, Pairs, TextError, parse_number, put_pair};

/// What an initiator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias, left out if it is empty.
    pub initiator_alias: String,
    /// `None` for a discovery session.
    pub target_name: Option<String>,
    /// The initiator's part of the session's identity.
    pub isid: [u8; 6],
    /// 0 for a new session.
    pub tsih: u16,
    /// The connection's number.
    pub cid: u16,
    /// The CmdSN of the first command.
    pub cmd_sn: u32,
    /// Whom to prove to be, if that is asked.
    pub chap: Option<ChapUser>,
    /// Whom the target has to prove to be.
    pub target_chap: Option<ChapUser>,
    /// Hash functions in the order of preference.
    pub algorithms: Vec<Algorithm>,
    /// Begin with the operational stage where there is nothing to prove.
    pub skips_security: bool,
    /// Sent as they are in the operational stage.
    pub offers: Offers,
    /// More keys for the operational stage.
    pub keys: Vec<(String, String)>,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            initiator_name: "iqn.2026-11.io.ringsan:initiator".to_owned(),
            initiator_alias: String::new(),
            target_name: None,
            isid: [0x80, 0, 0, 0, 0, 1],
            tsih: 0,
            cid: 1,
            cmd_sn: 1,
            chap: None,
            target_chap: None,
            algorithms: Algorithm::ALL.to_vec(),
            skips_security: false,
            offers: Offers::default(),
            keys: Vec::new(),
        }
    }
}

/// What a login came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The session's number at the target.
    pub tsih: u16,
    /// What holds; `max_recv_data_segment_length` is the target's: the bound of what we send.
    pub parameters: Parameters,
    /// TargetAlias, may be empty.
    pub target_alias: String,
    /// The tag of the portal group, in a normal session.
    pub portal_group: Option<u16>,
    /// The CmdSN of the first command.
    pub cmd_sn: u32,
    /// The last CmdSN that the target takes.
    pub max_cmd_sn: u32,
    /// The next StatSN to expect.
    pub exp_stat_sn: u32,
    /// All that the target said, in the order of its keys.
    pub said: BTreeMap<String, String>,
}

/// Why a login failed on the initiator's side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitiatorError {
    /// The target said no.
    #[error("the target refused the login: {status}{}", address.as_ref().map(|to| format!(", it is at {to}")).unwrap_or_default())]
    Refused {
        /// Its status.
        status: LoginStatus,
        /// Where the target has moved, if it has.
        address: Option<String>,
    },
    /// It did not prove to be who it should.
    #[error("the target did not prove who it is")]
    TargetUnproved,
    /// CHAP is wanted, and there is nothing to prove oneself with.
    #[error("the target wants CHAP, for which no user was given")]
    NoUser,
    /// A text that is none.
    #[error("the target's answer is malformed: {0}")]
    Text(#[from] TextError),
    /// Something that does not follow from what was asked.
    #[error("the target's answer is against the protocol: {0}")]
    Protocol(&'static str),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitiatorStep {
    /// Send this, and wait for the response.
    Send(LoginRequest, Vec<u8>),
    /// The full feature phase begins.
    Done(Box<LoggedIn>),
    /// Hang up.
    Failed(InitiatorError),
}

/// The initiator's half of one login.
#[derive(Debug)]
pub struct InitiatorLogin {
    wishes: Wishes,
    identifier: u8,
    challenge: [u8; CHALLENGE_BYTES],
    stage: u8,
    /// The stage that the last request asked for.
    wanted: Option<u8>,
    collector: Collector,
    said: BTreeMap<String, String>,
    algorithm: Option<Algorithm>,
    is_proved: bool,
    has_offered: bool,
    exp_stat_sn: u32,
}

impl InitiatorLogin {
    /// `random` is for the challenge to the target; never use it twice.
    pub fn new(wishes: Wishes, random: [u8; 64]) -> InitiatorLogin {
        let (challenge, rest) = random.split_first_chunk().expect("64 bytes hold a challenge");
        let skips_security = wishes.skips_security && wishes.chap.is_none();
        InitiatorLogin {
            identifier: rest[0],
            challenge: *challenge,
            stage: if skips_security { OPERATIONAL } else { SECURITY },
            wanted: None,
            collector: Collector::default(),
            said: BTreeMap::new(),
            algorithm: None,
            is_proved: wishes.target_chap.is_none(),
            has_offered: false,
            exp_stat_sn: 0,
            wishes,
        }
    }

    /// The first request.
    pub fn begin(&mut self) -> (LoginRequest, Vec<u8>) {
        let mut out = Vec::new();
        put_pair(&mut out, "InitiatorName", &self.wishes.initiator_name);
        if !self.wishes.initiator_alias.is_empty() {
            put_pair(&mut out, "InitiatorAlias", &self.wishes.initiator_alias);
        }
        match &self.wishes.target_name {
            Some(target_name) => {
                put_pair(&mut out, "SessionType", "Normal");
                put_pair(&mut out, "TargetName", target_name);
            }
            None => put_pair(&mut out, "SessionType", "Discovery"),
        }
        if self.stage == SECURITY {
            put_pair(&mut out, "AuthMethod", if self.wishes.chap.is_some() { "CHAP,None" } else { "None" });
        } else {
            self.offer(&mut out);
        }
        (self.request(true), out)
    }

    /// Takes a response and its whole data segment.
    pub fn step(&mut self, response: &LoginResponse, data: &[u8]) -> InitiatorStep {
        match self.take(response, data) {
            Ok(step) => step,
            Err(error) => InitiatorStep::Failed(error),
        }
    }

    fn take(&mut self, response: &LoginResponse, data: &[u8]) -> Result<InitiatorStep, InitiatorError> {
        if data.len() > LOGIN_DATA_BYTES_MAX {
            return Err(InitiatorError::Protocol("more data than a login PDU holds"));
        }
        let text = self.collector.add(data, response.continues)?;
        let pairs = Pairs::parse(text.as_deref().unwrap_or_default(), Limits::default())?;
        if response.status_class != 0 {
            let status = LoginStatus::new(response.status_class, response.status_detail);
            let address = pairs.get("TargetAddress").map(str::to_owned);
            return Err(InitiatorError::Refused { status, address });
        }
        self.exp_stat_sn = response.stat_sn.wrapping_add(1);
        if text.is_none() {
            // Nothing may change before the text is whole.
            return Ok(InitiatorStep::Send(self.request(false), Vec::new()));
        }
        let mut out = Vec::new();
        let wants_more = self.answer(&pairs, &mut out)?;
        if response.transit {
            self.enter(response.next_stage)?;
            if self.stage == FULL_FEATURE {
                return Ok(InitiatorStep::Done(Box::new(self.logged_in(response)?)));
            }
            self.offer(&mut out);
        }
        Ok(InitiatorStep::Send(self.request(!wants_more), out))
    }

    /// Takes what the target said, and answers it. `true` where the stage cannot end yet.
    fn answer(&mut self, pairs: &Pairs<'_>, out: &mut Vec<u8>) -> Result<bool, InitiatorError> {
        for (key, value) in pairs.iter() {
            if self.said.insert(key.to_owned(), value.to_owned()).is_some() && key != "TargetAddress" {
                return Err(InitiatorError::Protocol("a key was answered twice"));
            }
        }
        if self.stage != SECURITY {
            return Ok(false);
        }
        if let Some(method) = pairs.get("AuthMethod")
            && method == "CHAP"
        {
            self.wishes.chap.as_ref().ok_or(InitiatorError::NoUser)?;
            let numbers: Vec<_> = self.wishes.algorithms.iter().map(|one| one.number().to_string()).collect();
            put_pair(out, "CHAP_A", &numbers.join(","));
            return Ok(true);
        }
        if let Some(number) = pairs.get("CHAP_A") {
            self.prove(number, pairs, out)?;
        }
        if let (Some(name), Some(response)) = (pairs.get("CHAP_N"), pairs.get("CHAP_R")) {
            self.check_target(name, response)?;
        }
        Ok(false)
    }

    fn prove(&mut self, number: &str, pairs: &Pairs<'_>, out: &mut Vec<u8>) -> Result<(), InitiatorError> {
        let chosen = Algorithm::choose(number).filter(|one| self.wishes.algorithms.contains(one));
        let algorithm = chosen.ok_or(InitiatorError::Protocol("CHAP_A was not offered"))?;
        let identifier = pairs.get("CHAP_I").and_then(parse_number).and_then(|one| u8::try_from(one).ok());
        let challenge = pairs.get("CHAP_C").and_then(|value| decode_binary(value, CHALLENGE_BYTES_MAX));
        let (Some(identifier), Some(challenge)) = (identifier, challenge) else {
            return Err(InitiatorError::Protocol("CHAP_I or CHAP_C is missing or malformed"));
        };
        let user = self.wishes.chap.as_ref().ok_or(InitiatorError::NoUser)?;
        let response = algorithm.response(identifier, &user.secret, &challenge);
        put_pair(out, "CHAP_N", &user.name);
        put_pair(out, "CHAP_R", &encode_binary(&response));
        if self.wishes.target_chap.is_some() {
            put_pair(out, "CHAP_I", &self.identifier.to_string());
            put_pair(out, "CHAP_C", &encode_binary(&self.challenge));
        }
        self.algorithm = Some(algorithm);
        Ok(())
    }

    fn check_target(&mut self, name: &str, response: &str) -> Result<(), InitiatorError> {
        use subtle::ConstantTimeEq;
        let (Some(target), Some(algorithm)) = (&self.wishes.target_chap, self.algorithm) else {
            return Err(InitiatorError::Protocol("CHAP_R was not asked for"));
        };
        let expected = algorithm.response(self.identifier, &target.secret, &self.challenge);
        let response = decode_binary(response, algorithm.response_bytes()).unwrap_or_default();
        self.is_proved = target.name == name && bool::from(expected.ct_eq(&response));
        if self.is_proved { Ok(()) } else { Err(InitiatorError::TargetUnproved) }
    }

    fn enter(&mut self, stage: u8) -> Result<(), InitiatorError> {
        if self.wanted != Some(stage) {
            return Err(InitiatorError::Protocol("a stage that was not asked for"));
        }
        if self.stage == SECURITY && !self.is_proved {
            return Err(InitiatorError::TargetUnproved);
        }
        self.stage = stage;
        Ok(())
    }

    /// The request of the current stage; all requests but those for the rest of an answer want the next one.
    fn request(&mut self, transit: bool) -> LoginRequest {
        let next = if self.stage == SECURITY { OPERATIONAL } else { FULL_FEATURE };
        self.wanted = transit.then_some(next);
        LoginRequest {
            transit,
            current_stage: self.stage,
            next_stage: self.wanted.unwrap_or(0),
            isid: self.wishes.isid,
            tsih: self.wishes.tsih,
            cid: self.wishes.cid,
            cmd_sn: self.wishes.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            ..LoginRequest::default()
        }
    }

    /// Everything that is to be negotiated, once.
    fn offer(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_offered, true) {
            return;
        }
        let offers = &self.wishes.offers;
        let yes_no = |value| if value { "Yes" } else { "No" }.to_owned();
        let mut keys = vec![
            ("HeaderDigest", digest_list(offers.header_digest).to_owned()),
            ("DataDigest", digest_list(offers.data_digest).to_owned()),
            ("MaxRecvDataSegmentLength", offers.own_max_recv_data_segment_length.to_string()),
            ("ErrorRecoveryLevel", "0".to_owned()),
            ("DefaultTime2Wait", "2".to_owned()),
            ("DefaultTime2Retain", "0".to_owned()),
        ];
        if self.wishes.target_name.is_some() {
            keys.extend([
                ("InitialR2T", yes_no(offers.initial_r2t)),
                ("ImmediateData", yes_no(offers.immediate_data)),
                ("MaxBurstLength", offers.max_burst_length.to_string()),
                ("FirstBurstLength", offers.first_burst_length.to_string()),
                ("MaxOutstandingR2T", offers.max_outstanding_r2t.to_string()),
                ("MaxConnections", "1".to_owned()),
                ("DataPDUInOrder", "Yes".to_owned()),
                ("DataSequenceInOrder", "Yes".to_owned()),
            ]);
        }
        keys.iter().for_each(|(key, value)| put_pair(out, key, value));
        self.wishes.keys.iter().for_each(|(key, value)| put_pair(out, key, value));
    }
}

fn digest_list(policy: DigestPolicy) -> &'static str {
    match policy {
        DigestPolicy::Off => "None",
        DigestPolicy::Allowed => "CRC32C,None",
        DigestPolicy::Required => "CRC32C",
    }
}
