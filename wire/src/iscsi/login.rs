//! The target's half of a login (RFC 7143 §6.3): requests in, responses out, until both agree or part.

//!
//! ```text
//! (start) ─▶ security ─▶ operational ─▶ full feature
//!     └──────────────────────▲              ▲
//!              └────────────────────────────┘
//! ```
//! Its one rule: nothing is granted before the first text has said who is there, and nobody leaves the
//! security stage, or goes around it, who has something to prove.

mod failure;
mod identity;
mod security;
mod status;
mod turn;

pub use status::LoginStatus;

use super::chap::ChapUser;
use super::parameters::{Offers, Parameters};
use super::pdu::{LoginRequest, LoginResponse};
use failure::Failure;
use turn::{Talk, Turn};

/// What a login PDU may carry: the default of MaxRecvDataSegmentLength, which holds until the login is over.
pub const LOGIN_DATA_BYTES_MAX: usize = 8192;

/// Who may log in to what, and how they prove themselves.
pub trait Access {
    /// What is asked of an initiator that wants this target, or, with `None`, a discovery session.
    ///
    /// The error is the answer: NOT_FOUND, AUTHORIZATION_FAILURE and the like.
    fn authentication(
        &self,
        initiator_name: &str,
        target_name: Option<&str>,
    ) -> Result<Authentication, LoginStatus>;

    /// The tag of the portal group that the initiator has connected to.
    fn portal_group(&self) -> u16;

    /// Another address that the initiator is sent to instead.
    fn redirection(&self, _initiator_name: &str, _target_name: &str) -> Option<Redirection> {
        None
    }
}

/// Where a target has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// Whether the initiator should remember it.
    pub is_permanent: bool,
    /// TargetAddress: "host[:port]", an IPv6 address in brackets.
    pub address: String,
}

/// How an initiator proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Authentication {
    /// Who may come; where it is empty, nothing has to be proved.
    pub chap_users: Vec<ChapUser>,
    /// What we prove ourselves with, where the initiator asks for it.
    pub own: Option<ChapUser>,
    /// TargetAlias, told if it is not empty.
    pub target_alias: String,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// SendTargets only.
    Discovery,
    /// SCSI.
    Normal {
        /// The target.
        target_name: String,
    },
}

/// What a login came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// What the session is for.
    pub session: SessionKind,
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias, may be empty.
    pub initiator_alias: String,
    /// The initiator's part of the session's identity.
    pub isid: [u8; 6],
    /// As requested: 0 asks for a new session.
    pub tsih: u16,
    /// The connection's number.
    pub cid: u16,
    /// What was negotiated.
    pub parameters: Parameters,
    /// The keys and what they came to, for people.
    pub negotiated: Vec<(String, String)>,
    /// Who proved to be there, if that was asked.
    pub chap_user: Option<String>,
    /// The next CmdSN to expect.
    pub cmd_sn: u32,
    /// The next StatSN to use.
    pub stat_sn: u32,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginStep {
    /// Send this and go on.
    Reply(LoginResponse, Vec<u8>),
    /// Both agree. Set the session's TSIH (and the real MaxCmdSN) in `reply`, send it, and the full feature phase
    /// begins; or send `LoginStatus::refuse` of it.
    Done {
        /// The last login response.
        reply: LoginResponse,
        /// Its data.
        data: Vec<u8>,
        /// What holds from now on.
        agreed: Box<Agreed>,
    },
    /// Send this and hang up.
    Refuse {
        /// With a status class other than success.
        reply: LoginResponse,
        /// Its data.
        data: Vec<u8>,
        /// For the log; knows no secrets.
        reason: String,
    },
    /// Hang up.
    Close(String),
}

/// The target's half of one login.
#[derive(Debug)]
pub struct Login {
    talk: Talk,
    stat_sn: u32,
    is_over: bool,
}

impl Login {
    /// Begins with the first request of a connection. `random` is from a good source, and never used twice.
    pub fn new(offers: Offers, random: [u8; 64]) -> Login {
        Login { talk: Talk::new(offers, random), stat_sn: 0, is_over: false }
    }

    /// Takes one request and its whole data segment.
    pub fn step(&mut self, request: &LoginRequest, data: &[u8], access: &dyn Access) -> LoginStep {
        assert!(!self.is_over, "step after the end of a login");
        let turn = self.talk.take(request, data, access);
        let reply = self.reply(request);
        match turn {
            Ok(turn) => self.go_on(request, reply, turn),
            Err(failure) => {
                self.is_over = true;
                let Failure { status, reason, data } = failure;
                LoginStep::Refuse {
                    reply: status.refuse(&reply),
                    data,
                    reason: format!("{status}: {reason}"),
                }
            }
        }
    }

    /// The response to a request, without what was decided.
    fn reply(&mut self, request: &LoginRequest) -> LoginResponse {
        let cmd_sn = self.talk.cmd_sn().unwrap_or(request.cmd_sn);
        let reply = LoginResponse {
            current_stage: request.current_stage,
            isid: request.isid,
            tsih: request.tsih,
            initiator_task_tag: request.initiator_task_tag,
            stat_sn: self.stat_sn,
            exp_cmd_sn: cmd_sn,
            max_cmd_sn: cmd_sn,
            ..LoginResponse::default()
        };
        self.stat_sn += 1;
        reply
    }

    fn go_on(&mut self, request: &LoginRequest, mut reply: LoginResponse, turn: Turn) -> LoginStep {
        reply.continues = turn.continues;
        if let Some(stage) = turn.entered {
            reply.transit = true;
            reply.next_stage = stage;
        }
        match self.talk.agreed(request, self.stat_sn) {
            None => LoginStep::Reply(reply, turn.data),
            Some(agreed) => {
                self.is_over = true;
                LoginStep::Done { reply, data: turn.data, agreed: Box::new(agreed) }
            }
        }
    }
}
