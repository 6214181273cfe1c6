//! REGISTER AND MOVE: the holder registers another path and hands the reservation over (SPC-4 5.12.8).

use super::command::MoveParameters;
use super::{Notices, REGISTRANTS_MAX, Registrant, Reservations};
use crate::scsi::port::{InitiatorPort, Path, TargetPort};
use crate::scsi::{Refusal, additional};

impl Reservations {
    pub(super) fn register_and_move(
        &mut self,
        path: &Path,
        asked: &MoveParameters,
        known: &[&Path],
        notices: &mut Notices,
    ) -> Result<(), Refusal> {
        let own = self.registered(path, asked.key)?;
        match self.held {
            Some(kind) if kind.is_held_by_all() => return Err(Refusal::RESERVATION_CONFLICT),
            Some(_) if self.registrants[own].holds => {}
            _ => return Err(Refusal::cdb_field(1, Some(4))),
        }
        if asked.service_action_key == 0 {
            return Err(Refusal::parameter_field(8, None));
        }
        let isid = asked.initiator_port.isid.ok_or(Refusal::parameter_field(24, Some(7)))?;
        let initiator = InitiatorPort { name: asked.initiator_port.name.clone(), isid };
        let target =
            target_port(asked.relative_port, path, known).ok_or(Refusal::parameter_field(18, None))?;
        let to = Path { initiator, target };
        if self.registrants[own].is(&to) {
            return Err(Refusal::parameter_field(24, None));
        }
        if self.index_of(&to).is_none() && self.registrants.len() >= REGISTRANTS_MAX {
            return Err(Refusal::illegal(additional::INSUFFICIENT_REGISTRATION_RESOURCES));
        }
        self.move_to(own, to, asked, notices);
        Ok(())
    }

    fn move_to(&mut self, own: usize, to: Path, asked: &MoveParameters, notices: &mut Notices) {
        let new = self.index_of(&to).unwrap_or_else(|| {
            let Path { initiator, target } = to;
            self.registrants.push(Registrant { initiator, target: Some(target), key: 0, holds: false });
            self.registrants.len() - 1
        });
        self.registrants[new].key = asked.service_action_key;
        self.registrants[own].holds = false;
        self.registrants[new].holds = true;
        if asked.unregister {
            self.remove(own, notices);
        }
        self.persists = asked.persists;
        self.advance();
    }
}

/// The target port with this identifier, as far as `path` can reach: its own, or another nexus's of its target.
fn target_port(relative_port: u16, path: &Path, known: &[&Path]) -> Option<TargetPort> {
    let mut ports = std::iter::once(&path.target).chain(known.iter().map(|path| &path.target));
    let is_meant = |port: &&TargetPort| {
        port.relative_port == relative_port && port.target_name == path.target.target_name
    };
    ports.find(is_meant).cloned()
}
