//! One node: the target's own serving core on a simulated machine.
//!
//! Its one rule: what the control thread would do is done here at once, between two turns of the core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::{Arena, Core, Path};
use replication::{Command, OnPeerLoss, Refusal, Status};
use ringsan::message::{Ask, Directory, DirectoryEntry, VolumeFacts};
use ringsan::mirror::{OpenMetadata, open_content};
use ringsan::serve_core::ServingCore;
use ringsan::settings::{
    Backing, CoreSettings, Era, FileCache, IscsiSettings, LinkAuthentication, LinkSettings, MirrorSettings,
    NbdSettings, Poll, Portal, Protocol, TlsMode, VolumeSettings,
};
use ringsan::store::Opened;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::agenda::HostId;
use crate::driver::{Line, SimulatedDriver};
use crate::host::Object;
use crate::world::SharedWorld;

/// Where links are dialed.
pub const LINK_PORT: u16 = 9811;
/// Where clients come.
pub const NBD_PORT: u16 = 10809;
/// The volume's name.
pub const VOLUME: &str = "db";
/// Of the volume, then of its metadata.
const DATA_FILE: usize = 0;
const METADATA_FILE: usize = 1;

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The names of the nodes.
    pub names: Vec<&'static str>,
    /// The volume's size.
    pub size_bytes: u64,
    /// The smallest write of its backing.
    pub block_bytes: u32,
    /// What a lost peer does to writes.
    pub on_peer_loss: OnPeerLoss,
    /// How long a peer may be silent.
    pub peer_timeout: Duration,
    /// What links prove.
    pub key: Option<Arc<[u8]>>,
    /// Bytes of a core's arena.
    pub arena_bytes: usize,
    /// Of NBD clients.
    pub inflight_bytes_max: usize,
}

/// One node.
pub struct Node {
    world: SharedWorld,
    shared: Rc<Shared>,
    host: HostId,
    /// Counts the boots of its system.
    system_boot: u32,
    /// The boot since which the copy has been whole, as the state directory has it.
    noted_boot: Option<u32>,
    /// The volume's, as negotiation tells it, and as it was when it was last looked at.
    era: Era,
    era_seen: u64,
    life: Option<Life>,
}

/// From a start of its process to the end.
struct Life {
    core: Core,
    line: Rc<Line>,
    arena: Rc<Arena>,
    serving: Rc<ServingCore>,
    stopped: Option<Rc<Cell<Option<usize>>>>,
    replies: RefCell<Vec<oneshot::Receiver<Result<(), Refusal>>>>,
}

impl Node {
    /// A node that has never run; its machine has an empty disk.
    pub fn new(world: &SharedWorld, shared: &Rc<Shared>, host: HostId) -> Node {
        let image = crate::disk::Image::new(shared.size_bytes as usize);
        world.borrow_mut().hosts[host].files = vec![image, crate::disk::Image::default()];
        let (world, shared) = (world.clone(), shared.clone());
        let era = Era::default();
        Node { world, shared, host, system_boot: 1, noted_boot: None, era, era_seen: 0, life: None }
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Its core.
    pub fn core(&self) -> Option<(Core, Rc<Line>)> {
        self.life.as_ref().map(|life| (life.core.clone(), life.line.clone()))
    }

    /// Starts its process. An error is why it refuses to serve.
    pub fn start(&mut self) -> Result<(), String> {
        assert!(self.life.is_none(), "it runs");
        {
            let mut world = self.world.borrow_mut();
            let host = &mut world.hosts[self.host];
            host.boot += 1;
            host.is_live = true;
        }
        let driver = SimulatedDriver::new(&self.world, self.host);
        let line = driver.line();
        let arena = Arena::new(self.shared.arena_bytes).map_err(|error| error.to_string())?;
        let core = Core::new(Box::new(driver), arena.clone());
        let serving = ServingCore::alone(core.clone(), &core_settings());
        let life = Life { core, line, arena, serving, stopped: None, replies: RefCell::default() };
        self.life = Some(life);
        let is_new = self.world.borrow().hosts[self.host].files[METADATA_FILE].is_empty();
        let result = self.serve();
        if is_new {
            self.noted_boot = Some(self.system_boot);
        }
        self.world.borrow_mut().step_soon(self.host);
        result
    }

    fn serve(&self) -> Result<(), String> {
        let life = self.life.as_ref().expect("just begun");
        let settings = Arc::new(self.volume_settings());
        let facts = self.facts();
        life.serving.obey(Ask::Directory(Arc::new(self.directory(None))));
        let metadata = self.open_metadata(&settings)?;
        let mut world = self.world.borrow_mut();
        let host = &mut world.hosts[self.host];
        let data = host.descriptor(Object::File(DATA_FILE));
        let link_listener = host.descriptor(Object::Listener(LINK_PORT));
        let nbd_listener = host.descriptor(Object::Listener(NBD_PORT));
        world.network.listen(self.host, LINK_PORT);
        world.network.listen(self.host, NBD_PORT);
        drop(world);
        let opened = Opened::of_file(PathBuf::from("db.img"), data, Path::Ring, facts.clone());
        let (reply, mut answer) = oneshot::channel();
        let mirror = Some(Box::new(metadata));
        life.serving.obey(Ask::AddVolume { settings: settings.clone(), opened, mirror, reply });
        let added = answer.try_recv().map_err(|_| "no answer to AddVolume".to_owned())?;
        added.map_err(|fault| fault.to_string())?;
        let entry = DirectoryEntry { settings, facts, core: 0 };
        life.serving.obey(Ask::Directory(Arc::new(self.directory(Some(entry)))));
        for (protocol, port, listener) in
            [(Protocol::Mirror, LINK_PORT, link_listener), (Protocol::Nbd, NBD_PORT, nbd_listener)]
        {
            let portal = Portal::Tcp(([0, 0, 0, 0], port).into());
            life.serving.obey(Ask::Listen { portal, protocol, listener });
        }
        Ok(())
    }

    fn open_metadata(&self, settings: &Arc<VolumeSettings>) -> Result<OpenMetadata, String> {
        let world = &self.world;
        let length = world.borrow().hosts[self.host].files[METADATA_FILE].len() as u64;
        let read = |offset: u64, chunk: &mut [u8]| {
            let borrowed = world.borrow();
            let bytes =
                &borrowed.hosts[self.host].files[METADATA_FILE].bytes()[offset as usize..][..chunk.len()];
            chunk.copy_from_slice(bytes);
            Ok(bytes.iter().any(|byte| *byte != 0))
        };
        let make = |head: &[u8], length: u64| {
            let image = &mut world.borrow_mut().hosts[self.host].files[METADATA_FILE];
            image.make(length as usize);
            image.write_through(0, head);
            Ok(())
        };
        let content = open_content(settings, self.shared.size_bytes, length, read, make);
        let content = content.map_err(|fault| fault.to_string())?;
        Ok(content.in_file(world.borrow_mut().hosts[self.host].descriptor(Object::File(METADATA_FILE))))
    }

    /// Begins to stop in good order. `stopped` tells when it has.
    pub fn stop(&mut self, grace: Duration) {
        let Some(life) = &mut self.life else { return };
        let stopped = Rc::new(Cell::new(None));
        life.stopped = Some(stopped.clone());
        let serving = life.serving.clone();
        life.core.spawn(async move {
            let faults = serving.stop(grace).await;
            stopped.set(Some(faults.len()));
        });
        life.line.hear();
        self.world.borrow_mut().step_soon(self.host);
    }

    /// Whether it has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.stopped.is_some())
    }

    /// Whether it has stopped in good order.
    pub fn has_stopped(&self) -> bool {
        let stopped = self.life.as_ref().and_then(|life| life.stopped.as_ref());
        stopped.is_some_and(|stopped| stopped.get().is_some())
    }

    /// Ends its process at once. An error says what it did not give back.
    pub fn end(&mut self) -> Result<(), String> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let flights = {
            let mut world = self.world.borrow_mut();
            let world = &mut *world;
            world.settle();
            let flights = world.hosts[self.host].end_life(&mut world.agenda.dice);
            world.network.process_ended(&mut world.agenda, self.host);
            world.agenda.landed.retain(|(host, ..)| *host != self.host);
            world.settle();
            flights
        };
        let Life { core, line, arena, serving, .. } = life;
        core.end();
        drop((core, line, serving, flights));
        let receive_arena = self.world.borrow().hosts[self.host].receive_arena.clone();
        let held = [&arena, &receive_arena].map(|arena| arena.used_bytes() + arena.spilled_bytes());
        match held {
            [0, 0] => Ok(()),
            held => Err(format!("the node ended and {held:?} bytes of buffers were not given back")),
        }
    }

    /// Its machine loses power: the process ends, and what no flush has reached may be gone.
    pub fn lose_power(&mut self) -> Result<(), String> {
        {
            let mut world = self.world.borrow_mut();
            let world = &mut *world;
            world.network.power_lost(&mut world.agenda, self.host);
        }
        let result = self.end();
        self.system_boot += 1;
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        let host = &mut world.hosts[self.host];
        host.is_on = false;
        for file in &mut host.files {
            file.lose_power(&mut world.agenda.dice);
        }
        result
    }

    /// Its machine has power again.
    pub fn power_back(&mut self) {
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        world.hosts[self.host].is_on = true;
        world.network.power_back(&mut world.agenda, self.host);
    }

    /// What its mirror says of itself.
    pub fn status(&self) -> Option<Status> {
        let life = self.life.as_ref()?;
        let mirror = life.serving.volume(volume_uuid())?.mirror()?.snapshot();
        Some(mirror.status)
    }

    /// Whether its era is another than when this was last asked.
    pub fn has_new_era(&mut self) -> bool {
        let era = self.era.get();
        std::mem::replace(&mut self.era_seen, era) != era
    }

    /// It leads, so its copy is whole, whatever it has lost before; the control thread notes that now and then.
    pub fn note_boot(&mut self) {
        self.noted_boot = Some(self.system_boot);
    }

    /// What it advises.
    pub fn explain(&self) -> Vec<String> {
        let explain = || {
            let life = self.life.as_ref()?;
            Some(life.serving.volume(volume_uuid())?.mirror()?.snapshot().explanation)
        };
        explain().unwrap_or_default()
    }

    /// An operator's command; its answer is among `answers` later.
    pub fn command(&self, command: Command) {
        let Some(life) = &self.life else { return };
        let (reply, answer) = oneshot::channel();
        life.replies.borrow_mut().push(answer);
        life.serving.obey(Ask::Mirror { uuid: volume_uuid(), command, reply });
        life.line.hear();
        self.world.borrow_mut().step_soon(self.host);
    }

    /// Answers to commands that have come.
    pub fn answers(&self) -> Vec<Result<(), Refusal>> {
        let Some(life) = &self.life else { return Vec::new() };
        let mut answers = Vec::new();
        life.replies.borrow_mut().retain_mut(|reply| match reply.try_recv() {
            Ok(answer) => {
                answers.push(answer);
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        answers
    }

    /// What its backing holds, flushed or not.
    pub fn backing(&self) -> Vec<u8> {
        self.world.borrow().hosts[self.host].files[DATA_FILE].bytes().to_vec()
    }

    fn facts(&self) -> VolumeFacts {
        VolumeFacts {
            size_bytes: self.shared.size_bytes,
            block_bytes: self.shared.block_bytes,
            preferred_bytes: 4096,
            io_path: "simulated".into(),
            io_path_reason: String::new(),
            can_discard: true,
            can_fast_zero: true,
        }
    }

    fn volume_settings(&self) -> VolumeSettings {
        let addresses = (0..self.shared.names.len())
            .map(|host| (host != self.host).then(|| format!("10.0.0.{}:{LINK_PORT}", host + 1)));
        let blank =
            self.world.borrow().hosts[self.host].files[DATA_FILE].bytes().iter().all(|byte| *byte == 0);
        let mirror = MirrorSettings {
            replicas: self.shared.names.iter().map(|name| (*name).to_owned()).collect(),
            own: self.host,
            addresses: addresses.collect(),
            on_peer_loss: self.shared.on_peer_loss,
            peer_timeout: self.shared.peer_timeout,
            node: Uuid::from_u128(0x1000 + self.host as u128),
            metadata: PathBuf::from("db.meta"),
            era: self.era.clone(),
            blank,
            cache_kept: self.noted_boot == Some(self.system_boot),
        };
        VolumeSettings {
            name: VOLUME.into(),
            uuid: volume_uuid(),
            backing: Backing::File { path: PathBuf::from("db.img"), cache: FileCache::Direct },
            size_bytes: Some(self.shared.size_bytes),
            description: String::new(),
            read_only: false,
            allow: Vec::new(),
            mirror: Some(Arc::new(mirror)),
        }
    }

    fn directory(&self, entry: Option<DirectoryEntry>) -> Directory {
        let authentication = LinkAuthentication { key: self.shared.key.clone(), tls: None };
        let node_name = self.shared.names[self.host].to_owned();
        Directory {
            nbd: Arc::new(self.nbd_settings()),
            iscsi: Arc::new(IscsiSettings::closed()),
            links: Arc::new(LinkSettings { node_name, authentication, listening: None }),
            exports: entry.into_iter().map(|entry| (VOLUME.to_owned(), entry)).collect::<BTreeMap<_, _>>(),
        }
    }

    fn nbd_settings(&self) -> NbdSettings {
        NbdSettings {
            tls: TlsMode::Off,
            tls_server: None,
            default_export: None,
            connections_max: 64,
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            requests_max: 16,
            inflight_bytes_max: self.shared.inflight_bytes_max,
        }
    }
}

fn core_settings() -> CoreSettings {
    CoreSettings {
        cpus: vec![0],
        poll: Poll::Off,
        poll_time: Duration::ZERO,
        arena_bytes: 1 << 20,
        zero_copy_send_bytes: None,
        without: Vec::new(),
    }
}

fn volume_uuid() -> Uuid {
    Uuid::from_u128(0xdb)
}
