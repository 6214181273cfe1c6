//! Who logs in, and to what: the keys that the first text of a login has to bring.
//!
//! Its one rule: later texts may repeat them, as libiscsi does, but not change them.

use crate::iscsi::text::Pairs;
use crate::nbd::handshake::option::quoted;

use super::failure::Failure;
use super::{LoginStatus, SessionKind};

/// The longest name of an initiator or a target (RFC 7143 §4.2.7.1).
const NAME_BYTES_MAX: usize = 223;

/// What the first text said of the initiator.
#[derive(Debug)]
pub(super) struct Identity {
    pub initiator_name: String,
    pub target_name: Option<String>,
    pub is_discovery: bool,
}

impl Identity {
    pub fn of(pairs: &Pairs<'_>) -> Result<Identity, Failure> {
        let is_discovery = match pairs.get("SessionType") {
            None | Some("Normal") => false,
            Some("Discovery") => true,
            Some(other) => {
                let reason = format!("SessionType={}", quoted(other));
                return Err(Failure::new(LoginStatus::SESSION_TYPE_NOT_SUPPORTED, reason));
            }
        };
        let initiator_name = name(pairs, "InitiatorName")?.ok_or_else(|| missing("InitiatorName"))?;
        let target_name = name(pairs, "TargetName")?;
        if target_name.is_none() && !is_discovery {
            return Err(missing("TargetName"));
        }
        Ok(Identity { initiator_name, target_name, is_discovery })
    }

    /// The target that is to be served; none in a discovery session.
    pub fn session(&self) -> SessionKind {
        match &self.target_name {
            Some(target_name) if !self.is_discovery => {
                SessionKind::Normal { target_name: target_name.clone() }
            }
            _ => SessionKind::Discovery,
        }
    }

    /// Who wants what, for the log.
    pub fn shown(&self) -> String {
        let wanted = self.target_name.as_deref().filter(|_| !self.is_discovery);
        let wanted = wanted.map_or("discovery".to_owned(), quoted);
        format!("{} at {wanted}", quoted(&self.initiator_name))
    }

    /// Whether `key` is one of the identity, which must not have changed.
    pub fn confirms(&self, key: &str, value: &str) -> Result<bool, Failure> {
        let is_same = match key {
            "InitiatorName" => value == self.initiator_name,
            "TargetName" => Some(value) == self.target_name.as_deref(),
            "SessionType" => value == if self.is_discovery { "Discovery" } else { "Normal" },
            _ => return Ok(false),
        };
        if is_same { Ok(true) } else { Err(Failure::protocol(format!("{key} changed during the login"))) }
    }
}

fn missing(key: &str) -> Failure {
    Failure::new(LoginStatus::MISSING_PARAMETER, format!("the first request has no {key}"))
}

/// Liberal with what a name may be: only what would not even print is refused.
fn name(pairs: &Pairs<'_>, key: &str) -> Result<Option<String>, Failure> {
    let Some(name) = pairs.get(key) else { return Ok(None) };
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    if is_name {
        Ok(Some(name.to_owned()))
    } else {
        Err(Failure::protocol(format!("{key}={} is no name", quoted(name))))
    }
}
