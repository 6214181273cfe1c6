//! What the tasks of one session share: its stream, its machine, its logical units, its limits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use reactor::driver::Moment;
use wire::iscsi::login::{Agreed, SessionKind};
use wire::iscsi::pdu::Lun;
use wire::iscsi::session::{Session, SessionSettings, TaskId};
use wire::scsi::{InitiatorPort, NexusId, TargetPort};

use crate::budget::Budget;
use crate::channel::Channel;
use crate::clients::{Client, ClientSession, DropReason};
use crate::fault::{Fault, Kind};
use crate::outbox::{Outbox, Receipt};
use crate::scsi_unit::{AttachedUnit, Nexus, NexusTasks};
use crate::serve_core::ServingCore;
use crate::serve_iscsi::access::NodeAccess;
use crate::serve_iscsi::order::Order;
use crate::serve_iscsi::task::Task;
use crate::settings::{IscsiSettings, IscsiTarget};
use crate::snapshot::{LunSnapshot, Operation, SessionSnapshot};

/// Data of one text request, over all its continuations (RFC 7143, section 6.2: "at least 64 KiB" is plenty).
const TEXT_BYTES_MAX: u32 = 64 << 10;

/// One session in its full feature phase.
pub struct Connection {
    pub here: Rc<ServingCore>,
    pub client: Rc<Client>,
    pub channel: Channel,
    pub agreed: Agreed,
    pub tsih: u16,
    pub access: NodeAccess,
    pub session: RefCell<Session>,
    pub outbox: Rc<Outbox>,
    pub budget: Rc<Budget>,
    /// By `TaskId`.
    pub tasks: RefCell<Vec<Option<Rc<Task>>>>,
    /// `None` in a discovery session.
    pub target: Option<Arc<IscsiTarget>>,
    pub order: Order,
    units: RefCell<Vec<AttachedLun>>,
    pub nexus: NexusId,
    /// When something last came from the initiator.
    pub heard: Cell<Moment>,
    /// A command holds much data in memory until it is whole.
    pub collecting: Cell<bool>,
    /// The initiator takes nothing any more.
    pub is_lost: Cell<bool>,
    ended: Cell<bool>,
}

/// A logical unit of the session's target.
struct AttachedLun {
    unit: AttachedUnit,
    counters: Cell<LunSnapshot>,
}

impl Connection {
    /// Begins a session: its nexus with every logical unit of the target.
    pub async fn new(
        here: Rc<ServingCore>,
        client: Rc<Client>,
        channel: Channel,
        agreed: &Agreed,
        tsih: u16,
    ) -> Result<Rc<Connection>, Fault> {
        let directory = here.directory();
        let target = match &agreed.session {
            SessionKind::Discovery => None,
            SessionKind::Normal { target_name } => {
                let target = directory.iscsi.targets.get(target_name).cloned();
                let gone =
                    || Fault::new(Kind::NotFound, format!("target {target_name} has just been removed"));
                Some(target.ok_or_else(gone)?)
            }
        };
        let settings = SessionSettings {
            queue_depth: directory.iscsi.queue_depth,
            is_discovery: target.is_none(),
            collect_bytes_max: TEXT_BYTES_MAX,
        };
        let outbox = Rc::<Outbox>::default();
        let budget =
            Budget::new(here.clone(), client.clone(), |here| here.directory().iscsi.inflight_bytes_max);
        let connection = Rc::new(Connection {
            access: NodeAccess::new(directory, client.address()),
            session: RefCell::new(Session::new(agreed, settings)),
            nexus: here.iscsi_sessions().next_nexus(here.index()),
            heard: Cell::new(here.core().now()),
            agreed: agreed.clone(),
            budget: Rc::new(budget),
            tasks: RefCell::default(),
            order: Order::default(),
            units: RefCell::default(),
            collecting: Cell::new(false),
            is_lost: Cell::new(false),
            ended: Cell::new(false),
            here,
            client,
            channel,
            tsih,
            outbox,
            target,
        });
        connection.attach().await;
        Ok(connection)
    }

    async fn attach(self: &Rc<Self>) {
        let luns = self.target.iter().flat_map(|target| target.luns.iter());
        let luns: Vec<_> = luns.map(|(&lun, settings)| (lun, settings.clone())).collect();
        self.client.serves(luns.iter().map(|(_, settings)| settings.volume).collect(), &self.outbox);
        self.client.named(self.target_name(), self.channel.is_tls());
        for (lun, settings) in &luns {
            let tasks: Rc<dyn NexusTasks> = self.clone();
            let nexus = Nexus {
                id: self.nexus,
                lun: *lun,
                initiator: self.initiator_port(),
                target: self.target_port(),
            };
            let unit = AttachedUnit::attach(&self.here, settings, nexus, Rc::downgrade(&tasks)).await;
            let counters = Cell::new(LunSnapshot { lun: *lun, ..LunSnapshot::default() });
            self.units.borrow_mut().push(AttachedLun { unit, counters });
        }
        let numbers: Vec<u64> = luns.iter().map(|(lun, _)| Lun::from_number(*lun).0).collect();
        self.all_units().iter().for_each(|unit| unit.set_luns(&self.here, &numbers));
        let session: Rc<dyn ClientSession> = self.clone();
        self.client.has_session(Rc::downgrade(&session));
        self.here.iscsi_sessions().add(self);
    }

    fn initiator_port(&self) -> InitiatorPort {
        InitiatorPort { name: self.agreed.initiator_name.clone(), isid: self.agreed.isid }
    }

    fn target_port(&self) -> TargetPort {
        TargetPort {
            target_name: self.target_name().to_owned(),
            portal_group: self.here.directory().iscsi.portal_group,
            relative_port: 1,
        }
    }

    /// The logical unit behind `lun` and its number, if there is one.
    pub fn unit(&self, lun: Lun) -> Option<(u16, AttachedUnit)> {
        let number = lun.number()?;
        let units = self.units.borrow();
        units.iter().find(|attached| attached.lun() == number).map(|attached| (number, attached.unit.clone()))
    }

    /// The target's name; empty in a discovery session.
    pub fn target_name(&self) -> &str {
        self.target.as_ref().map_or("", |target| &target.name)
    }

    /// Every logical unit of the target.
    pub fn all_units(&self) -> Vec<AttachedUnit> {
        self.units.borrow().iter().map(|attached| attached.unit.clone()).collect()
    }

    /// The LUNs of the target.
    pub fn luns(&self) -> Vec<u16> {
        self.units.borrow().iter().map(AttachedLun::lun).collect()
    }

    /// Whether data out can mostly be lent from receive buffers.
    pub fn lends(&self) -> bool {
        let units = self.units.borrow();
        units.iter().any(|attached| attached.unit.local().is_some_and(|unit| unit.volume().is_immediate()))
    }

    /// Whether any of its volumes is mirrored.
    pub fn has_mirrors(&self) -> bool {
        let units = self.units.borrow();
        units
            .iter()
            .any(|attached| attached.unit.local().is_some_and(|unit| unit.volume().mirror().is_some()))
    }

    /// Whether the session may go on under `settings`.
    pub fn may_stay(&self, settings: &IscsiSettings) -> bool {
        let address = self.client.address().map(|address| address.ip());
        match (&self.target, address) {
            (Some(target), Some(address)) => settings.may_stay(target, &self.agreed.initiator_name, address),
            _ => true,
        }
    }

    /// The task of this number.
    pub fn task(&self, id: TaskId) -> Option<Rc<Task>> {
        self.tasks.borrow().get(id.0 as usize).cloned().flatten()
    }

    /// Books what has been sent.
    pub fn settle(&self, receipt: &Receipt, sent_at: Moment) {
        self.budget.release(receipt.held_bytes);
        if !receipt.ends_request {
            return;
        }
        self.budget.answered();
        let units = self.units.borrow();
        let of_receipt = |attached: &&AttachedLun| Some(attached.lun()) == receipt.unit;
        if let Some(attached) = units.iter().find(of_receipt) {
            attached.count(receipt);
            if let Some(unit) = attached.unit.local() {
                unit.volume().record(receipt.operation, receipt.bytes, receipt.ok, sent_at - receipt.arrived);
            }
        }
    }

    /// Ends the session: its tasks are aborted, its nexus is gone, its place is free. What a backing still holds comes
    /// back by itself.
    pub fn end(&self, reason: DropReason) {
        self.leave();
        self.client.disconnect(reason);
    }

    /// The same without closing the connection.
    pub fn leave(&self) {
        if self.ended.replace(true) {
            return;
        }
        self.here.iscsi_sessions().remove(self);
        let aborted = self.session.borrow_mut().abort_all();
        self.abort(&aborted);
        for attached in self.units.borrow().iter() {
            attached.unit.detach(&self.here);
        }
    }

    /// Whether `leave` was called.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Tells tasks that the session machine has aborted.
    pub fn abort(&self, ids: &[TaskId]) {
        for &id in ids {
            match self.task(id).filter(|task| task.place() > 0) {
                Some(task) => task.abort(&self.here),
                // Its turn had not come, so nothing runs that would forget it.
                None => {
                    self.session.borrow_mut().forget(id);
                    self.remove(id);
                }
            }
        }
        self.wake_waiting();
    }
}

impl AttachedLun {
    fn lun(&self) -> u16 {
        self.counters.get().lun
    }

    fn count(&self, receipt: &Receipt) {
        let mut counters = self.counters.get();
        counters.commands += 1;
        match receipt.operation {
            Operation::Read => counters.read_bytes += receipt.bytes,
            Operation::Write => counters.written_bytes += receipt.bytes,
            _ => {}
        }
        self.counters.set(counters);
    }
}

impl NexusTasks for Connection {
    fn abort_tasks(&self, lun: u16) -> bool {
        let aborted = self.session.borrow_mut().abort_lun(Lun::from_number(lun));
        self.abort(&aborted);
        !aborted.is_empty()
    }
}

impl ClientSession for Connection {
    fn snapshot(&self) -> SessionSnapshot {
        let agreed = &self.agreed;
        SessionSnapshot {
            initiator: agreed.initiator_name.clone(),
            initiator_alias: agreed.initiator_alias.clone(),
            target: self.target_name().to_owned(),
            tsih: self.tsih,
            isid: agreed.isid.iter().map(|byte| format!("{byte:02x}")).collect(),
            chap_user: agreed.chap_user.clone(),
            negotiated: agreed.negotiated.clone(),
            luns: self.units.borrow().iter().map(|attached| attached.counters.get()).collect(),
        }
    }

    fn say_goodbye(&self) {
        self.part();
    }
}
