//! The mirror of a volume on its core: the mover around `replication::Replica`.
//!
//! ```text
//! fronts ─▶ requests ─┐                  ┌─▶ local bytes, metadata
//! peers  ─▶ link ─────┼▶ Replica::step ──┼─▶ links to peers
//! timer, operators ───┘                  └─▶ requests, operators, log
//! ```
//! Its one rule: events go in one at a time, and all that one has asked for is begun before the next goes in.

mod commands;
mod dial;
mod effects;
mod link;
mod links;
mod metadata;
mod payloads;
mod requests;
mod stages;
mod timer;
mod words;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use reactor::Core;
use replication::wire::handshake::VolumeFacts;
use replication::{
    Effect, Event, Incarnation, Limits, Message, NodeId, Operation, Replica, ReplicaConfig, ReplicaId,
    RoleState, Time, Timing, VolumeId,
};

use crate::fault::{Fault, Kind};
use crate::local::Local;
use crate::settings::{LinkSettings, MirrorSettings, VolumeSettings};
use crate::snapshot::MirrorSnapshot;

pub use link::serve_link;
pub use metadata::{MetadataContent, OpenMetadata, open_content, open_metadata};

use commands::Commands;
use links::Links;
use metadata::Metadata;
use payloads::Payloads;
use requests::Requests;
use stages::Stages;
use timer::Timer;

/// How bitmaps are cut: what a resync sends at least.
const REGION_BYTES: u64 = 64 << 10;
/// The most that a link may make this node hold in memory.
const LINK_BYTES_MAX: usize = 256 << 20;

/// One mirrored volume's replica on its core.
pub struct Mirror {
    this: Weak<Mirror>,
    core: Core,
    name: String,
    own: ReplicaId,
    settings: RefCell<Arc<MirrorSettings>>,
    link_settings: RefCell<Arc<LinkSettings>>,
    local: Rc<Local>,
    metadata: Rc<Metadata>,
    machine: RefCell<Replica>,
    events: RefCell<VecDeque<Event>>,
    is_stepping: Cell<bool>,
    /// Kept between events for its memory.
    effects: RefCell<Vec<Effect>>,
    payloads: Payloads,
    requests: Requests,
    commands: Commands,
    links: Links,
    timer: Timer,
    stages: Stages,
    is_closed: Cell<bool>,
}

impl Mirror {
    /// The replica of the volume of these settings, whose bytes are in `local`. Serves, and dials its peers, from
    /// now on.
    pub fn start(
        core: &Core,
        settings: &VolumeSettings,
        local: Rc<Local>,
        metadata: OpenMetadata,
        links: Arc<LinkSettings>,
    ) -> Result<Rc<Mirror>, Fault> {
        let mirror = settings.mirror.clone().expect("called for mirrored volumes only");
        let (metadata, stored) = metadata.attach(core);
        let config = config_of(core, &mirror, local.size_bytes())?;
        let now = Time(core.now().0);
        let machine = Replica::open(config, stored, now).map_err(|error| {
            let context =
                format!("the replica of volume {}, in {}", settings.name, mirror.metadata.display());
            Fault::caused(Kind::Conflict, context, error)
        })?;
        let mirror = Rc::new_cyclic(|this| Mirror {
            this: this.clone(),
            core: core.clone(),
            name: settings.name.clone(),
            own: ReplicaId(mirror.own as u8),
            links: Links::new(&mirror.replicas),
            settings: RefCell::new(mirror),
            link_settings: RefCell::new(links),
            local,
            metadata,
            machine: RefCell::new(machine),
            events: RefCell::default(),
            is_stepping: Cell::new(false),
            effects: RefCell::default(),
            payloads: Payloads::default(),
            requests: Requests::default(),
            commands: Commands::default(),
            timer: Timer::default(),
            stages: Stages::default(),
            is_closed: Cell::new(false),
        });
        mirror.handle(Event::Tick);
        dial::start(&mirror);
        Ok(mirror)
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bytes on this node.
    pub fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// Its settings of this moment.
    pub fn settings(&self) -> Arc<MirrorSettings> {
        self.settings.borrow().clone()
    }

    /// New ones, as far as they can change while it runs: where peers are, and what becomes of those that are lost.
    pub fn set_settings(&self, settings: &Arc<MirrorSettings>) {
        settings.era.set(self.machine.borrow().era());
        let before = self.settings.replace(settings.clone());
        self.links.changed.wake_all();
        let (on_peer_loss, peer_timeout) = (settings.on_peer_loss, settings.peer_timeout);
        if (before.on_peer_loss, before.peer_timeout) != (on_peer_loss, peer_timeout) {
            let timing = timing_of(peer_timeout.as_nanos() as u64);
            self.handle(Event::Reconfigured { on_peer_loss, timing });
        }
    }

    /// How links authenticate from now on.
    pub fn set_link_settings(&self, links: &Arc<LinkSettings>) {
        self.link_settings.replace(links.clone());
    }

    /// Whether reads are served from the bytes of this node.
    pub fn serves_here(&self) -> bool {
        self.machine.borrow().serves_here()
    }

    /// Whether this node leads, or is about to.
    pub fn leads(&self) -> bool {
        self.machine.borrow().leads()
    }

    /// Changes when acknowledged, unflushed writes may be lost; 0 while unknown.
    pub fn era(&self) -> u64 {
        self.machine.borrow().era()
    }

    /// Whether its disk has failed: then it links with nobody.
    pub fn has_failed(&self) -> bool {
        matches!(self.machine.borrow().status().role, RoleState::Failed(_))
    }

    /// Tells how it is.
    pub fn snapshot(&self) -> MirrorSnapshot {
        let machine = self.machine.borrow();
        MirrorSnapshot {
            status: machine.status(),
            explanation: machine.explain(),
            stages: self.stages.snapshot(),
            links: self.links.snapshot(self.own),
            verification: self.commands.verification(),
        }
    }

    /// The volume as a handshake compares it.
    pub fn facts(&self) -> VolumeFacts {
        VolumeFacts {
            volume: self.name.clone(),
            replicas: self.settings.borrow().replicas.clone(),
            own: self.own,
            size_bytes: self.local.size_bytes(),
            region_bytes: REGION_BYTES,
        }
    }

    /// The node that is linked as this replica.
    pub fn node_linked(&self, replica: ReplicaId) -> Option<NodeId> {
        let is_known = replica.index() < self.settings.borrow().replicas.len();
        if is_known { self.links.node_of(replica) } else { None }
    }

    /// How many payloads the machine holds.
    pub fn payloads(&self) -> usize {
        self.payloads.count()
    }

    /// Ends all links: nothing is served or applied any more.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.links.close();
        self.requests.fail_all();
    }

    /// Gives the machine an event, and does all that it asks for.
    fn handle(&self, event: Event) {
        if self.is_stepping.replace(true) {
            self.events.borrow_mut().push_back(event);
            return;
        }
        let mut effects = self.effects.take();
        let mut next = Some(event);
        while let Some(event) = next {
            if !self.is_closed.get() {
                let now = self.time_of(&event);
                self.machine.borrow_mut().step(event, now, &mut effects);
                for effect in effects.drain(..) {
                    self.carry_out(effect, now);
                }
            }
            next = self.events.borrow_mut().pop_front();
        }
        self.effects.replace(effects);
        self.settings.borrow().era.set(self.machine.borrow().era());
        self.is_stepping.set(false);
    }

    /// What only moves a write on is as old as this turn of the core: no clock need be read.
    fn time_of(&self, event: &Event) -> Time {
        let now = match event {
            Event::Submit { operation: Operation::Write { .. }, .. }
            | Event::LocalDone { .. }
            | Event::Received { message: Message::Write { .. } | Message::Written { .. }, .. } => {
                self.core.turn_started()
            }
            _ => self.core.now(),
        };
        Time(now.0)
    }

    fn this(&self) -> Rc<Mirror> {
        self.this.upgrade().expect("whoever calls holds it")
    }
}

fn config_of(core: &Core, mirror: &MirrorSettings, size_bytes: u64) -> Result<ReplicaConfig, Fault> {
    let mut drawn = [0; 24];
    core.random(&mut drawn)
        .map_err(|error| Fault::caused(Kind::Resources, "no random numbers from the kernel", error))?;
    let (volume, incarnation) = drawn.split_at(16);
    let node = NodeId(*mirror.node.as_bytes());
    let own = ReplicaId(mirror.own as u8);
    let mut config = ReplicaConfig::new(own, mirror.replicas.clone(), node, size_bytes);
    config.new_volume = VolumeId(volume.try_into().expect("16 bytes"));
    config.incarnation = Incarnation(u64::from_le_bytes(incarnation.try_into().expect("8 bytes")));
    config.blank = mirror.blank;
    config.cache_kept = mirror.cache_kept;
    config.on_peer_loss = mirror.on_peer_loss;
    config.limits = Limits::default();
    config.geometry.region_bytes = REGION_BYTES;
    config.timing = timing_of(mirror.peer_timeout.as_nanos() as u64);
    Ok(config)
}

/// Leases and pings follow the time that a peer may be silent.
fn timing_of(peer_timeout: u64) -> Timing {
    let default = Timing::default();
    Timing {
        peer_timeout,
        flush_timeout: default.flush_timeout.max(peer_timeout),
        lease: peer_timeout,
        lease_margin: peer_timeout / 5,
        ping: (peer_timeout / 5).max(1),
        ..default
    }
}
