//! Persistent reservations (SPC-4 5.12): who is registered, who holds the unit, and what others may do.
//!
//! Its one rule: `restore` asserts after each change that a reservation has a holder, that it is one
//! registrant unless all are, and that no path is registered twice.

pub(super) mod command;
mod move_holder;
mod preempt;
mod report;
pub(super) mod saved;

use self::command::{MoveParameters, Parameters};
pub(super) use self::command::{ReserveIn, ReserveOut};
use super::port::{InitiatorPort, Path, TargetPort, TransportId};
use super::{Refusal, additional};

/// More would be a mistake of somebody's; beyond it there are INSUFFICIENT REGISTRATION RESOURCES.
const REGISTRANTS_MAX: usize = 1024;

/// The registrations of a unit, and its reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reservations {
    /// In the order they came.
    registrants: Vec<Registrant>,
    held: Option<Kind>,
    generation: u32,
    /// APTPL: all this outlives the process.
    persists: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registrant {
    initiator: InitiatorPort,
    /// `None` stands for every target port (ALL_TG_PT).
    target: Option<TargetPort>,
    key: u64,
    /// It holds the reservation. Where all registrants do, this is set for none.
    holds: bool,
}

/// TYPE (SPC-4 table 218).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

/// What a path may do under the persistent reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub read: bool,
    pub write: bool,
    /// RESERVE and RELEASE are answered GOOD without effect (CRH, SPC-4 5.12.3).
    pub reserves_in_vain: bool,
}

/// Whom a service action concerned, besides the one who sent it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notices {
    /// Unit attentions to establish.
    pub attentions: Vec<(Registrant, (u8, u8))>,
    /// Whose commands are to be aborted.
    pub aborted: Vec<Registrant>,
}

impl Kind {
    fn from_u8(value: u8) -> Option<Kind> {
        Some(match value {
            1 => Kind::WriteExclusive,
            3 => Kind::ExclusiveAccess,
            5 => Kind::WriteExclusiveRegistrantsOnly,
            6 => Kind::ExclusiveAccessRegistrantsOnly,
            7 => Kind::WriteExclusiveAllRegistrants,
            8 => Kind::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    fn is_held_by_all(self) -> bool {
        matches!(self, Kind::WriteExclusiveAllRegistrants | Kind::ExclusiveAccessAllRegistrants)
    }

    /// Registrants that do not hold it may read and write.
    fn admits_registrants(self) -> bool {
        !matches!(self, Kind::WriteExclusive | Kind::ExclusiveAccess)
    }

    fn lets_read(self) -> bool {
        use Kind::{WriteExclusive, WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly};
        matches!(self, WriteExclusive | WriteExclusiveRegistrantsOnly | WriteExclusiveAllRegistrants)
    }
}

impl Registrant {
    pub fn is(&self, path: &Path) -> bool {
        self.initiator == path.initiator && self.target.as_ref().is_none_or(|target| *target == path.target)
    }
}

impl Reservations {
    /// What a nexus on `path` may do.
    pub fn rights(&self, path: &Path) -> Rights {
        let Some(kind) = self.held else {
            return Rights { read: true, write: true, reserves_in_vain: false };
        };
        let own = self.index_of(path).map(|own| &self.registrants[own]);
        let entitled = own.is_some_and(|own| kind.admits_registrants() || own.holds);
        Rights { read: entitled || kind.lets_read(), write: entitled, reserves_in_vain: entitled }
    }

    /// Somebody is registered, so RESERVE and RELEASE conflict (SPC-2 5.5.1).
    pub fn is_in_use(&self) -> bool {
        !self.registrants.is_empty()
    }

    /// PERSISTENT RESERVE OUT. `known` are the paths of all nexuses that there are.
    pub fn change(
        &mut self,
        path: &Path,
        command: &ReserveOut,
        data: &[u8],
        known: &[&Path],
    ) -> Result<Notices, Refusal> {
        let mut notices = Notices::default();
        if command.action == 7 {
            self.register_and_move(path, &MoveParameters::parse(data)?, known, &mut notices)?;
        } else {
            let parameters = Parameters::parse(data, command.action == 0)?;
            match command.action {
                0 => self.register(path, &parameters, known, &mut notices)?,
                1 => self.reserve(path, &parameters, command)?,
                2 => self.release(path, &parameters, command, &mut notices)?,
                3 => self.clear(path, &parameters, &mut notices)?,
                4 | 5 => self.preempt(path, &parameters, command, &mut notices)?,
                6 => self.register_and_ignore(path, &parameters, &mut notices)?,
                _ => return Err(Refusal::cdb_field(1, Some(4))),
            }
        }
        self.assert_invariants();
        notices.forget(path);
        Ok(notices)
    }

    fn register(
        &mut self,
        path: &Path,
        asked: &Parameters,
        known: &[&Path],
        notices: &mut Notices,
    ) -> Result<(), Refusal> {
        let own = self.index_of(path);
        if own.map_or(0, |own| self.registrants[own].key) != asked.key {
            return Err(Refusal::RESERVATION_CONFLICT);
        }
        let others = match &asked.initiator_ports {
            Some(_) if own.is_some() => return Err(Refusal::parameter_field(20, Some(3))),
            Some(_) if asked.service_action_key == 0 => Vec::new(),
            Some(ids) => self.ports_to_register(path, ids, asked.all_target_ports, known)?,
            None => Vec::new(),
        };
        if self.registrants.len() + others.len() >= REGISTRANTS_MAX {
            return Err(Refusal::illegal(additional::INSUFFICIENT_REGISTRATION_RESOURCES));
        }
        self.register_own(path, asked, notices)?;
        for initiator in others {
            let target = (!asked.all_target_ports).then(|| path.target.clone());
            let key = asked.service_action_key;
            self.registrants.push(Registrant { initiator, target, key, holds: false });
        }
        Ok(())
    }

    fn register_and_ignore(
        &mut self,
        path: &Path,
        asked: &Parameters,
        notices: &mut Notices,
    ) -> Result<(), Refusal> {
        self.register_own(path, asked, notices)
    }

    /// What REGISTER does to the path that sends it (SPC-4 5.12.7).
    fn register_own(
        &mut self,
        path: &Path,
        asked: &Parameters,
        notices: &mut Notices,
    ) -> Result<(), Refusal> {
        match (self.index_of(path), asked.service_action_key) {
            (None, 0) => return Ok(()),
            (Some(own), 0) => self.remove(own, notices),
            (Some(own), key) => self.registrants[own].key = key,
            (None, _) if self.registrants.len() >= REGISTRANTS_MAX => {
                return Err(Refusal::illegal(additional::INSUFFICIENT_REGISTRATION_RESOURCES));
            }
            (None, key) => {
                let (initiator, target) = (path.initiator.clone(), Some(path.target.clone()));
                self.registrants.push(Registrant { initiator, target, key, holds: false });
            }
        }
        if asked.all_target_ports && asked.service_action_key != 0 {
            self.spread_over_target_ports(path);
        }
        self.persists = asked.persists;
        self.advance();
        Ok(())
    }

    /// ALL_TG_PT: one registration takes the place of all that the initiator port has.
    fn spread_over_target_ports(&mut self, path: &Path) {
        let own = self.index_of(path).expect("it was registered just now");
        let key = self.registrants[own].key;
        let holds = self.registrants.iter().any(|other| other.initiator == path.initiator && other.holds);
        self.registrants.retain(|other| other.initiator != path.initiator);
        self.registrants.push(Registrant { initiator: path.initiator.clone(), target: None, key, holds });
    }

    /// The initiator ports of SPEC_I_PT: all or none are registered, and none may be registered already.
    fn ports_to_register(
        &self,
        path: &Path,
        ids: &[TransportId],
        all_target_ports: bool,
        known: &[&Path],
    ) -> Result<Vec<InitiatorPort>, Refusal> {
        let mut ports: Vec<InitiatorPort> = Vec::new();
        for id in ids {
            let found: Vec<InitiatorPort> = match id.isid {
                Some(isid) => vec![InitiatorPort { name: id.name.clone(), isid }],
                None => {
                    known.iter().map(|path| &path.initiator).filter(|port| id.names(port)).cloned().collect()
                }
            };
            if found.is_empty() {
                return Err(Refusal::parameter_field(28, None));
            }
            for port in found {
                if port == path.initiator || self.is_taken(&port, path, all_target_ports) {
                    return Err(Refusal::parameter_field(28, None));
                }
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
        Ok(ports)
    }

    /// Whether `port` is registered where it is to be: at the target port of `path`, or at any.
    fn is_taken(&self, port: &InitiatorPort, path: &Path, all_target_ports: bool) -> bool {
        let of_port = self.registrants.iter().filter(|registrant| registrant.initiator == *port);
        let at = Path { initiator: port.clone(), target: path.target.clone() };
        of_port.into_iter().any(|registrant| all_target_ports || registrant.is(&at))
    }

    fn reserve(&mut self, path: &Path, asked: &Parameters, command: &ReserveOut) -> Result<(), Refusal> {
        let own = self.registered(path, asked.key)?;
        let kind = command.reservation()?;
        match self.held {
            None => self.establish(own, kind),
            Some(held) if held == kind && self.is_holder(own) => {}
            Some(_) => return Err(Refusal::RESERVATION_CONFLICT),
        }
        Ok(())
    }

    fn release(
        &mut self,
        path: &Path,
        asked: &Parameters,
        command: &ReserveOut,
        notices: &mut Notices,
    ) -> Result<(), Refusal> {
        let own = self.registered(path, asked.key)?;
        let Some(held) = self.held.filter(|_| self.is_holder(own)) else { return Ok(()) };
        if command.reservation() != Ok(held) {
            return Err(Refusal::illegal(additional::INVALID_RELEASE_OF_PERSISTENT_RESERVATION));
        }
        self.let_go(notices);
        Ok(())
    }

    fn clear(&mut self, path: &Path, asked: &Parameters, notices: &mut Notices) -> Result<(), Refusal> {
        self.registered(path, asked.key)?;
        self.held = None;
        for registrant in std::mem::take(&mut self.registrants) {
            notices.attentions.push((registrant, additional::RESERVATIONS_PREEMPTED));
        }
        self.advance();
        Ok(())
    }

    /// The index of the registrant on `path`, if `key` is its key.
    fn registered(&self, path: &Path, key: u64) -> Result<usize, Refusal> {
        let own = self.index_of(path).filter(|own| self.registrants[*own].key == key);
        own.ok_or(Refusal::RESERVATION_CONFLICT)
    }

    fn index_of(&self, path: &Path) -> Option<usize> {
        self.registrants.iter().position(|registrant| registrant.is(path))
    }

    fn is_holder(&self, own: usize) -> bool {
        self.registrants[own].holds || self.held.is_some_and(Kind::is_held_by_all)
    }

    fn establish(&mut self, own: usize, kind: Kind) {
        self.held = Some(kind);
        for (at, registrant) in self.registrants.iter_mut().enumerate() {
            registrant.holds = at == own && !kind.is_held_by_all();
        }
    }

    /// Ends the reservation; registrants that it admitted hear of it (SPC-4 5.12.11.2.2).
    fn let_go(&mut self, notices: &mut Notices) {
        let Some(kind) = self.held.take() else { return };
        for registrant in &mut self.registrants {
            registrant.holds = false;
        }
        if kind.admits_registrants() {
            let released = additional::RESERVATIONS_RELEASED;
            notices.attentions.extend(self.registrants.iter().map(|each| (each.clone(), released)));
        }
    }

    /// Takes a registration away, and the reservation with it if it held it or was the last of all holders.
    fn remove(&mut self, at: usize, notices: &mut Notices) {
        let removed = self.registrants.remove(at);
        let none_left = self.registrants.is_empty();
        if removed.holds || (none_left && self.held.is_some_and(Kind::is_held_by_all)) {
            self.let_go(notices);
        }
    }

    /// PRGENERATION counts changes of registrations (SPC-4 6.15.2).
    fn advance(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn assert_invariants(&self) {
        let holders = self.registrants.iter().filter(|registrant| registrant.holds).count();
        let expected = usize::from(self.held.is_some_and(|kind| !kind.is_held_by_all()));
        assert_eq!(holders, expected, "a reservation has one holder, unless all registrants hold it");
        assert!(self.held.is_none() || self.is_in_use(), "a reservation needs registrants");
        assert!(self.registrants.iter().all(|registrant| registrant.key != 0), "zero is no key");
    }
}

impl ReserveOut {
    /// SCOPE and TYPE, where they matter. The only scope is the logical unit.
    fn reservation(&self) -> Result<Kind, Refusal> {
        if self.scope != 0 {
            return Err(Refusal::cdb_field(2, Some(7)));
        }
        Kind::from_u8(self.kind).ok_or(Refusal::cdb_field(2, Some(3)))
    }
}

impl Notices {
    /// Nothing is to be said to the one who sent the command.
    fn forget(&mut self, path: &Path) {
        self.attentions.retain(|(registrant, _)| !registrant.is(path));
        self.aborted.retain(|registrant| !registrant.is(path));
    }
}
