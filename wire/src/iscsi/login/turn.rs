//! One exchange of a login: which keys a request may bring, what is answered, and which stage comes next.
//!
//! Its one rule: everything is checked before anything is answered, and whatever is wrong ends the login.

use std::collections::BTreeSet;

use crate::iscsi::parameters::{Key, Negotiation, NegotiationError, Offers};
use crate::iscsi::pdu::LoginRequest;
use crate::iscsi::pdu::code::stage::{FULL_FEATURE, OPERATIONAL, SECURITY};
use crate::iscsi::text::{Collector, Limits, NOT_UNDERSTOOD, Pairs, REJECT, TextError, put_pair};

use super::identity::Identity;
use super::security::{Nonce, Security, is_security_key};
use super::{Access, Agreed, Failure, LOGIN_DATA_BYTES_MAX, LoginStatus, Redirection, SessionKind};

/// More than any initiator needs, with continuation and mutual CHAP.
const REQUESTS_MAX: u32 = 100;
/// The same for keys.
const KEYS_MAX: usize = 256;

/// What a request came to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub data: Vec<u8>,
    /// The data goes on in the next response.
    pub continues: bool,
    /// The stage that both are in from now on.
    pub entered: Option<u8>,
}

/// All that is known of one login.
#[derive(Debug)]
pub(super) struct Talk {
    offers: Offers,
    nonce: Nonce,
    requests: u32,
    first: Option<LoginRequest>,
    stage: u8,
    collector: Collector,
    /// Answers that did not fit into the last response.
    unsent: Vec<u8>,
    /// The keys of this stage so far; a repeated one is an error.
    seen: BTreeSet<String>,
    known: Option<Known>,
}

/// What is known from the first text on.
#[derive(Debug)]
struct Known {
    identity: Identity,
    initiator_alias: String,
    security: Security,
    negotiation: Negotiation,
}

impl Talk {
    pub fn new(offers: Offers, random: [u8; 64]) -> Talk {
        Talk {
            offers,
            nonce: Nonce::new(random),
            requests: 0,
            first: None,
            stage: SECURITY,
            collector: Collector::default(),
            unsent: Vec::new(),
            seen: BTreeSet::new(),
            known: None,
        }
    }

    /// The CmdSN that the login began with.
    pub fn cmd_sn(&self) -> Option<u32> {
        self.first.map(|first| first.cmd_sn)
    }

    pub fn take(
        &mut self,
        request: &LoginRequest,
        data: &[u8],
        access: &dyn Access,
    ) -> Result<Turn, Failure> {
        self.check(request, data)?;
        let Some(text) = self.collector.add(data, request.continues)? else {
            return if self.unsent.is_empty() { Ok(Turn::default()) } else { Err(no_text_due()) };
        };
        let mut out = std::mem::take(&mut self.unsent);
        if out.is_empty() {
            let pairs = Pairs::parse(&text, Limits::default())?;
            let answered = self.answer(&pairs, access, &mut out);
            answered.map_err(|failure| self.told_of(failure))?;
        } else if !text.is_empty() {
            return Err(no_text_due());
        }
        let entered = if request.transit { self.grant(request.next_stage, &mut out)? } else { None };
        Ok(self.send(out, entered))
    }

    /// What both agreed on, once they have entered the full feature phase.
    pub fn agreed(&mut self, request: &LoginRequest, stat_sn: u32) -> Option<Agreed> {
        if self.stage != FULL_FEATURE {
            return None;
        }
        let known = self.known.take().expect("nobody gets here without a name");
        let first = self.first.expect("nobody gets here without a request");
        let session = known.identity.session();
        let chap_user = known.security.chap_user().map(str::to_owned);
        let method = if chap_user.is_some() { "CHAP" } else { "None" };
        let method = ("AuthMethod".to_owned(), method.to_owned());
        Some(Agreed {
            session,
            initiator_name: known.identity.initiator_name,
            initiator_alias: known.initiator_alias,
            isid: request.isid,
            tsih: request.tsih,
            cid: request.cid,
            parameters: known.negotiation.parameters(),
            negotiated: std::iter::once(method).chain(known.negotiation.results()).collect(),
            chap_user,
            cmd_sn: first.cmd_sn,
            stat_sn,
        })
    }

    /// What a request says of itself, against the standard and against the ones before it.
    fn check(&mut self, request: &LoginRequest, data: &[u8]) -> Result<(), Failure> {
        self.requests += 1;
        if self.requests > REQUESTS_MAX {
            return Err(Failure::protocol("the login does not come to an end"));
        }
        if request.version_min > 0 {
            let reason = format!("version {:#04x} at least is wanted", request.version_min);
            return Err(Failure::new(LoginStatus::UNSUPPORTED_VERSION, reason));
        }
        if data.len() > LOGIN_DATA_BYTES_MAX {
            return Err(Failure::protocol(format!("{} bytes of data in a login request", data.len())));
        }
        if request.continues && request.transit {
            return Err(Failure::protocol("a request that goes on wants to leave its stage"));
        }
        match self.first {
            None => self.begin(request)?,
            Some(first) => check_same_login(&first, request)?,
        }
        if request.current_stage != self.stage {
            let reason = format!("a request of stage {} in stage {}", request.current_stage, self.stage);
            return Err(Failure::protocol(reason));
        }
        Ok(())
    }

    fn begin(&mut self, request: &LoginRequest) -> Result<(), Failure> {
        if !matches!(request.current_stage, SECURITY | OPERATIONAL) {
            return Err(Failure::protocol(format!("a login that begins in stage {}", request.current_stage)));
        }
        self.first = Some(*request);
        self.stage = request.current_stage;
        Ok(())
    }

    /// The same with who it was, once that is known.
    fn told_of(&self, failure: Failure) -> Failure {
        let Some(known) = &self.known else { return failure };
        Failure { reason: format!("{} ({})", failure.reason, known.identity.shown()), ..failure }
    }

    fn answer(&mut self, pairs: &Pairs<'_>, access: &dyn Access, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.known.is_none() {
            self.known = Some(self.meet(pairs, access, out)?);
        }
        let (stage, known) = (self.stage, self.known.as_mut().expect("the first text made it known"));
        for (key, value) in pairs.iter() {
            if known.identity.confirms(key, value)? {
                continue;
            }
            if !self.seen.insert(key.to_owned()) {
                return Err(Failure::protocol(format!("{key} is negotiated twice")));
            }
            known.take(stage, key, value, out)?;
        }
        if self.seen.len() > KEYS_MAX {
            return Err(Failure::protocol(format!("more than {KEYS_MAX} keys")));
        }
        known.negotiation.end_of_text(stage == OPERATIONAL, out)?;
        if stage == SECURITY {
            known.security.step(pairs, out)?;
        }
        Ok(())
    }

    /// The first text: who is it, may they come, and what do they have to prove?
    fn meet(&self, pairs: &Pairs<'_>, access: &dyn Access, out: &mut Vec<u8>) -> Result<Known, Failure> {
        let identity = Identity::of(pairs)?;
        let session = identity.session();
        let target_name = match &session {
            SessionKind::Normal { target_name } => Some(target_name.as_str()),
            SessionKind::Discovery => None,
        };
        let refused = |status: LoginStatus| {
            let why = if status == LoginStatus::NOT_FOUND { "no such target" } else { "not let in" };
            Failure::new(status, format!("{why} ({})", identity.shown()))
        };
        let authentication = access.authentication(&identity.initiator_name, target_name).map_err(refused)?;
        let moved = target_name.and_then(|target| access.redirection(&identity.initiator_name, target));
        if let Some(redirection) = moved {
            return Err(redirect(&redirection));
        }
        if self.stage != SECURITY && !authentication.chap_users.is_empty() {
            let reason = "the security stage was left out, but CHAP is required";
            return Err(Failure::authentication(format!("{reason} ({})", identity.shown())));
        }
        if identity.target_name.is_some() {
            put_pair(out, "TargetPortalGroupTag", &access.portal_group().to_string());
        }
        if target_name.is_some() && !authentication.target_alias.is_empty() {
            put_pair(out, "TargetAlias", &authentication.target_alias);
        }
        Ok(Known {
            negotiation: Negotiation::new(self.offers.clone(), identity.is_discovery),
            security: Security::new(authentication, self.nonce.clone()),
            initiator_alias: String::new(),
            identity,
        })
    }

    /// The stage that comes next, if the one that the initiator asks for may.
    fn grant(&mut self, wanted: u8, out: &mut Vec<u8>) -> Result<Option<u8>, Failure> {
        if wanted <= self.stage || !matches!(wanted, OPERATIONAL | FULL_FEATURE) {
            return Err(Failure::protocol(format!("stage {wanted} cannot follow stage {}", self.stage)));
        }
        let known = self.known.as_mut().expect("the first text made it known");
        if self.stage == SECURITY {
            let goes_around = wanted == FULL_FEATURE && known.negotiation.has_wishes();
            let next = if goes_around { OPERATIONAL } else { wanted };
            return Ok(known.security.is_over().then_some(next));
        }
        Ok(if known.negotiation.propose(out)? { None } else { Some(wanted) })
    }

    /// Cuts what is too long for one response. The stage changes only with the last piece.
    fn send(&mut self, mut out: Vec<u8>, entered: Option<u8>) -> Turn {
        if out.len() > LOGIN_DATA_BYTES_MAX {
            self.unsent = out.split_off(LOGIN_DATA_BYTES_MAX);
            return Turn { data: out, continues: true, entered: None };
        }
        if let Some(stage) = entered {
            self.stage = stage;
            self.seen.clear();
        }
        Turn { data: out, continues: false, entered }
    }
}

impl Known {
    /// Takes a key that is not of the identity.
    fn take(&mut self, stage: u8, key: &str, value: &str, out: &mut Vec<u8>) -> Result<(), Failure> {
        // Operational keys are taken in the security stage too, since initiators send them there; a later
        // stage may then bring them again.
        if let Some(key) = Key::from_name(key) {
            return Ok(self.negotiation.take(key, value, out)?);
        }
        match key {
            "InitiatorAlias" => self.initiator_alias = value.chars().filter(|c| !c.is_control()).collect(),
            "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" => put_pair(out, key, REJECT),
            "SendTargets" => return Err(Failure::protocol("SendTargets during the login")),
            _ if is_security_key(key) && stage == SECURITY => {}
            _ if is_security_key(key) => {
                return Err(Failure::protocol(format!("{key} after the security stage")));
            }
            _ => put_pair(out, key, NOT_UNDERSTOOD),
        }
        Ok(())
    }
}

/// One login is of one connection (RFC 7143 §11.12).
fn check_same_login(first: &LoginRequest, request: &LoginRequest) -> Result<(), Failure> {
    if (first.isid, first.tsih, first.cid) == (request.isid, request.tsih, request.cid) {
        Ok(())
    } else {
        Err(Failure::protocol("ISID, TSIH or CID changed during the login"))
    }
}

/// TargetAddress stands there without a portal group tag (§13.8).
fn redirect(redirection: &Redirection) -> Failure {
    let status = match redirection.is_permanent {
        true => LoginStatus::TARGET_MOVED_PERMANENTLY,
        false => LoginStatus::TARGET_MOVED_TEMPORARILY,
    };
    let mut failure = Failure::new(status, format!("the target has moved to {}", redirection.address));
    put_pair(&mut failure.data, "TargetAddress", &redirection.address);
    failure
}

fn no_text_due() -> Failure {
    Failure::protocol("data before the answer to the last text was whole")
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Failure {
        Failure::protocol(error.to_string())
    }
}

impl From<NegotiationError> for Failure {
    fn from(error: NegotiationError) -> Failure {
        Failure::protocol(error.to_string())
    }
}
