//! A hand-driven initiator for the target's login machine, which reads the answers on its own terms.

use wire::iscsi::chap::{ChapUser, Secret};
use wire::iscsi::login::{Access, Agreed, Authentication, Login, LoginStatus, LoginStep, Redirection};
use wire::iscsi::parameters::Offers;
use wire::iscsi::pdu::{LoginRequest, LoginResponse};

pub const INITIATOR: &str = "iqn.2005-03.org.example:host";
pub const TARGET: &str = "iqn.2026-11.io.ringsan:disk0";
pub const RANDOM: [u8; 64] = [0x5a; 64];

/// One target, one portal group, and whoever `authentication` names.
#[derive(Clone, Debug, Default)]
pub struct Door {
    pub authentication: Authentication,
    pub moved_to: Option<Redirection>,
}

impl Access for Door {
    fn authentication(&self, initiator: &str, target: Option<&str>) -> Result<Authentication, LoginStatus> {
        match target {
            _ if initiator.ends_with("stranger") => Err(LoginStatus::AUTHORIZATION_FAILURE),
            None | Some(TARGET) => Ok(self.authentication.clone()),
            Some(_) => Err(LoginStatus::NOT_FOUND),
        }
    }

    fn portal_group(&self) -> u16 {
        7
    }

    fn redirection(&self, _initiator: &str, _target: &str) -> Option<Redirection> {
        self.moved_to.clone()
    }
}

pub fn user(name: &str, secret: &str) -> ChapUser {
    ChapUser { name: name.to_owned(), secret: Secret::new(secret.as_bytes()) }
}

/// `alice` has to prove herself; `target` is what we prove to be.
pub fn guarded() -> Door {
    let authentication = Authentication {
        chap_users: vec![user("bob", "bobs long secret"), user("alice", "correct horse battery")],
        own: Some(user("target", "the targets own secret")),
        target_alias: String::new(),
    };
    Door { authentication, moved_to: None }
}

/// The text of pairs.
pub fn text(pairs: &[(&str, &str)]) -> Vec<u8> {
    pairs.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect()
}

pub fn names() -> Vec<(&'static str, &'static str)> {
    vec![("InitiatorName", INITIATOR), ("SessionType", "Normal"), ("TargetName", TARGET)]
}

/// The names and more.
pub fn names_and(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [names(), more.to_vec()].concat()
}

/// An answer as pairs.
pub fn pairs(data: &[u8]) -> Vec<(String, String)> {
    let text = str::from_utf8(data).expect("answers are text");
    let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').expect("answers are pairs"));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What the target made of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Reply(LoginResponse, Vec<(String, String)>),
    Done(LoginResponse, Vec<(String, String)>, Box<Agreed>),
    Refuse(LoginStatus, Vec<(String, String)>, String),
}

impl Said {
    pub fn get(&self, wanted: &str) -> Option<&str> {
        let (Said::Reply(_, pairs) | Said::Done(_, pairs, _) | Said::Refuse(_, pairs, _)) = self;
        pairs.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str())
    }

    pub fn keys(&self) -> Vec<&str> {
        let (Said::Reply(_, pairs) | Said::Done(_, pairs, _) | Said::Refuse(_, pairs, _)) = self;
        pairs.iter().map(|(key, _)| key.as_str()).collect()
    }

    #[track_caller]
    pub fn status(&self) -> (u8, u8) {
        match self {
            Said::Refuse(status, ..) => (status.class, status.detail),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[track_caller]
    pub fn agreed(self) -> Agreed {
        match self {
            Said::Done(_, _, agreed) => *agreed,
            other => panic!("not agreed: {other:?}"),
        }
    }

    /// The stage that was entered, if any.
    #[track_caller]
    pub fn entered(&self) -> Option<u8> {
        match self {
            Said::Reply(reply, _) | Said::Done(reply, ..) => reply.transit.then_some(reply.next_stage),
            refused => panic!("{refused:?}"),
        }
    }
}

/// A session with the target's machine.
pub struct Talk {
    pub login: Login,
    pub door: Door,
    pub template: LoginRequest,
}

impl Talk {
    pub fn new(door: Door) -> Talk {
        Talk::with_offers(door, Offers::default())
    }

    pub fn with_offers(door: Door, offers: Offers) -> Talk {
        let template = LoginRequest {
            isid: [0x80, 1, 2, 3, 4, 5],
            initiator_task_tag: 99,
            cid: 3,
            cmd_sn: 1000,
            ..LoginRequest::default()
        };
        Talk { login: Login::new(offers, RANDOM), door, template }
    }

    /// A request that wants from one stage into another.
    pub fn send(&mut self, from: u8, to: u8, pairs: &[(&str, &str)]) -> Said {
        let request = LoginRequest { transit: true, current_stage: from, next_stage: to, ..self.template };
        self.raw(&request, &text(pairs))
    }

    /// A request that stays in its stage.
    pub fn stay(&mut self, stage: u8, pairs: &[(&str, &str)]) -> Said {
        let request = LoginRequest { current_stage: stage, ..self.template };
        self.raw(&request, &text(pairs))
    }

    pub fn raw(&mut self, request: &LoginRequest, data: &[u8]) -> Said {
        match self.login.step(request, data, &self.door) {
            LoginStep::Reply(reply, data) => {
                assert_eq!((reply.status_class, reply.status_detail), (0, 0));
                Said::Reply(reply, pairs(&data))
            }
            LoginStep::Done { reply, data, agreed } => Said::Done(reply, pairs(&data), agreed),
            LoginStep::Refuse { reply, data, reason } => {
                let status = LoginStatus::new(reply.status_class, reply.status_detail);
                assert_ne!(status.class, 0);
                Said::Refuse(status, pairs(&data), reason)
            }
            LoginStep::Close(reason) => panic!("{reason}"),
        }
    }
}
