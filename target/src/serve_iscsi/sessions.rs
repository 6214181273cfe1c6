//! The sessions of one core by initiator port and target: who comes again takes the place of who was there.
//!
//! RFC 7143, sections 4.4.3.1 and 6.3.5: an initiator name and ISID have one session with a target portal group.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use wire::iscsi::login::{Agreed, LoginStatus, SessionKind};
use wire::iscsi::pdu::LoginResponse;
use wire::scsi::NexusId;

use crate::clients::DropReason;
use crate::serve_core::ServingCore;
use crate::serve_iscsi::connection::Connection;
use crate::settings::IscsiSettings;

/// Initiator name, ISID, target name.
type Key = (String, [u8; 6], String);

/// The sessions of one core.
#[derive(Default)]
pub struct Sessions {
    all: RefCell<BTreeMap<Key, Weak<Connection>>>,
    last_tsih: Cell<u16>,
    last_nexus: Cell<u32>,
}

impl Sessions {
    /// A number for an I_T nexus that no other nexus of the node has; `core` is this core's index.
    pub fn next_nexus(&self, core: usize) -> NexusId {
        loop {
            self.last_nexus.set(self.last_nexus.get().wrapping_add(1) & 0x00ff_ffff);
            let nexus = NexusId((core as u32) << 24 | self.last_nexus.get());
            // The numbers come round, and a session may be as old as that.
            let all = self.all.borrow();
            let mut others = all.values().filter_map(Weak::upgrade);
            if !others.any(|other| other.nexus == nexus) {
                return nexus;
            }
        }
    }

    /// A session has begun; of two that logged in at the same time the later one stays.
    pub fn add(&self, connection: &Rc<Connection>) {
        if let Some(key) = key(&connection.agreed) {
            let other = self.all.borrow_mut().insert(key, Rc::downgrade(connection));
            if let Some(other) = other.and_then(|other| other.upgrade()) {
                other.end(DropReason::Reinstated);
            }
        }
    }

    /// A session has ended; another may have its place already.
    pub fn remove(&self, connection: &Connection) {
        if let Some(key) = key(&connection.agreed) {
            let mut all = self.all.borrow_mut();
            let is_it = |other: &Weak<Connection>| std::ptr::eq(other.as_ptr(), connection);
            if all.get(&key).is_some_and(is_it) {
                all.remove(&key);
            }
        }
    }

    /// The sessions with `target_name`.
    pub fn of_target(&self, target_name: &str) -> Vec<Rc<Connection>> {
        let all = self.all.borrow();
        let of_target = all.iter().filter(|((_, _, target), _)| target == target_name);
        of_target.filter_map(|(_, connection)| connection.upgrade()).collect()
    }

    /// Lets go of the sessions that `settings` no longer have a place for.
    pub fn dismiss_strangers(&self, settings: &IscsiSettings) {
        let all: Vec<_> = self.all.borrow().values().filter_map(Weak::upgrade).collect();
        all.iter().filter(|connection| !connection.may_stay(settings)).for_each(Connection::dismiss);
    }

    fn find(&self, key: &Key) -> Option<Rc<Connection>> {
        self.all.borrow().get(key).and_then(Weak::upgrade)
    }

    fn next_tsih(&self) -> u16 {
        self.last_tsih.set(self.last_tsih.get().checked_add(1).unwrap_or(1));
        self.last_tsih.get()
    }
}

/// Lets the session in, in the place of an older one of the same initiator port, and completes `reply`. A refusal
/// leaves its status in `reply`.
pub fn enter(here: &ServingCore, agreed: &Agreed, reply: &mut LoginResponse) -> Result<(), &'static str> {
    let sessions = here.iscsi_sessions();
    let Some(key) = key(agreed) else {
        reply.tsih = sessions.next_tsih();
        return Ok(());
    };
    let old = sessions.find(&key);
    if agreed.tsih != 0 {
        let old = old.filter(|old| old.tsih == agreed.tsih);
        let (status, why) = match old {
            None => (LoginStatus::SESSION_DOES_NOT_EXIST, "it names a session that does not exist"),
            // The same connection again (section 6.3.4); its session ends with it at ErrorRecoveryLevel 0.
            Some(old) if old.agreed.cid == agreed.cid => {
                old.end(DropReason::Reinstated);
                reply.tsih = agreed.tsih;
                return Ok(());
            }
            Some(_) => (LoginStatus::TOO_MANY_CONNECTIONS, "a session has one connection (MaxConnections)"),
        };
        refuse(reply, status);
        return Err(why);
    }
    if let Some(old) = old {
        old.end(DropReason::Reinstated);
    }
    reply.tsih = sessions.next_tsih();
    Ok(())
}

fn refuse(reply: &mut LoginResponse, status: LoginStatus) {
    reply.status_class = status.class;
    reply.status_detail = status.detail;
    reply.transit = false;
    reply.next_stage = 0;
}

fn key(agreed: &Agreed) -> Option<Key> {
    match &agreed.session {
        SessionKind::Discovery => None,
        SessionKind::Normal { target_name } => {
            Some((agreed.initiator_name.to_ascii_lowercase(), agreed.isid, target_name.clone()))
        }
    }
}
