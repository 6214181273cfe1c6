//! PREEMPT, and PREEMPT AND ABORT (SPC-4 5.12.11.2.4, 5.12.11.2.5).

use super::command::Parameters;
use super::{Kind, Notices, Registrant, Reservations, ReserveOut};
use crate::scsi::port::Path;
use crate::scsi::{Refusal, additional};

impl Reservations {
    pub(super) fn preempt(
        &mut self,
        path: &Path,
        asked: &Parameters,
        command: &ReserveOut,
        notices: &mut Notices,
    ) -> Result<(), Refusal> {
        let own = self.registered(path, asked.key)?;
        let victims = asked.service_action_key;
        let taken = match self.held {
            Some(kind) if kind.is_held_by_all() => {
                if victims == 0 {
                    self.take_over(own, |_| true, command)?
                } else {
                    self.drop_keyed(victims, notices)?
                }
            }
            Some(_) if self.holder_key() == Some(victims) => {
                self.take_over(own, |other| other.key == victims, command)?
            }
            _ if victims == 0 => return Err(Refusal::parameter_field(8, None)),
            _ => self.drop_keyed(victims, notices)?,
        };
        let Taken { removed, released } = taken;
        if released {
            let released = additional::RESERVATIONS_RELEASED;
            notices.attentions.extend(self.registrants.iter().map(|each| (each.clone(), released)));
        }
        for registrant in removed {
            if command.action == 5 {
                notices.aborted.push(registrant.clone());
            }
            notices.attentions.push((registrant, additional::REGISTRATIONS_PREEMPTED));
        }
        self.advance();
        Ok(())
    }

    /// Becomes the holder in place of those whom `is_victim` names.
    fn take_over(
        &mut self,
        own: usize,
        is_victim: impl Fn(&Registrant) -> bool,
        command: &ReserveOut,
    ) -> Result<Taken, Refusal> {
        let kind = command.reservation()?;
        let released = self.held != Some(kind);
        let preempting = self.registrants[own].clone();
        let (removed, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.registrants)
            .into_iter()
            .partition(|other| *other != preempting && is_victim(other));
        self.registrants = kept;
        let own = self.registrants.iter().position(|other| *other == preempting);
        self.establish(own.expect("it was kept"), kind);
        Ok(Taken { removed, released })
    }

    /// Removes the registrations with a key that does not hold the reservation alone.
    fn drop_keyed(&mut self, key: u64, notices: &mut Notices) -> Result<Taken, Refusal> {
        let removed: Vec<Registrant> =
            self.registrants.iter().filter(|other| other.key == key).cloned().collect();
        if removed.is_empty() {
            return Err(Refusal::RESERVATION_CONFLICT);
        }
        self.registrants.retain(|other| other.key != key);
        if self.registrants.is_empty() && self.held.is_some_and(Kind::is_held_by_all) {
            self.let_go(notices);
        }
        Ok(Taken { removed, released: false })
    }

    fn holder_key(&self) -> Option<u64> {
        self.registrants.iter().find(|registrant| registrant.holds).map(|holder| holder.key)
    }
}

/// What a preemption did.
struct Taken {
    removed: Vec<Registrant>,
    /// The reservation that was there before ended, and one of another type took its place.
    released: bool,
}
