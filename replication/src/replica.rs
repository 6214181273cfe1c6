//! One node's machine for one volume.

use crate::config::ReplicaConfig;
use crate::effect::Effect;
use crate::event::Event;
use crate::fault::OpenError;
use crate::id::Time;
use crate::status::Status;
use crate::superblock::Stored;

/// One node's machine for one volume.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
}

impl Replica {
    /// Begins with what was stored. No effects yet: the first `Tick` (due at once) brings them.
    pub fn open(config: ReplicaConfig, _stored: Stored, _now: Time) -> Result<Replica, OpenError> {
        config.check()?;
        Ok(Replica { config })
    }

    /// Takes an event and answers with effects.
    pub fn step(&mut self, _event: Event, _now: Time, _effects: &mut Vec<Effect>) {}

    /// What it is doing.
    pub fn status(&self) -> Status {
        unimplemented!("comes with the roles of {}", self.config.own)
    }

    /// Cause and next step in words, for every state that is not `in sync`; empty if all is well.
    pub fn explain(&self) -> Vec<String> {
        Vec::new()
    }
}
