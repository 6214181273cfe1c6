//! One node: the target's own serving core on a simulated machine.
//!
//! Its one rule: what the control thread would do is done here at once, between two turns of the core.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::uring::Doorbell;
use reactor::{Arena, Core, Path};
use replication::{Command, OnPeerLoss, Refusal, Status};
use ringsan::fault::Fault;
use ringsan::message::{Ask, Directory, DirectoryEntry, VolumeFacts};
use ringsan::mirror::{OpenMetadata, open_content};
use ringsan::serve_core::{CoreHandle, ServingCore};
use ringsan::settings::{
    Backing, CoreSettings, Era, FileCache, IscsiAuthentication, IscsiLun, IscsiSettings, IscsiTarget,
    LinkAuthentication, LinkSettings, MirrorSettings, NbdSettings, Poll, Portal, Protocol, TlsMode,
    VolumeSettings,
};
use ringsan::store::{Opened, open};
use ringsan::volume::Volume;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::agenda::HostId;
use crate::certificates::link_tls;
use crate::disk::SECTOR_BYTES;
use crate::driver::{Line, SimulatedDriver};
use crate::host::Object;
use crate::world::SharedWorld;

/// Where links are dialed.
pub const LINK_PORT: u16 = 9811;
/// Where clients come.
pub const NBD_PORT: u16 = 10809;
/// Where iSCSI clients come.
pub const ISCSI_PORT: u16 = 3260;
/// The volume's target.
pub const TARGET: &str = "iqn.2026-11.io.ringsan:db";
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
    /// Links are under TLS.
    pub tls: bool,
    /// Which nodes have their copy in memory.
    pub in_memory: Vec<bool>,
    /// Cores of each node.
    pub cores: usize,
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
    cores: Vec<LiveCore>,
    /// Cores that were asked to stop and have not.
    stopping: RefCell<Option<Vec<oneshot::Receiver<Vec<Fault>>>>>,
    replies: RefCell<Vec<oneshot::Receiver<Result<(), Refusal>>>>,
}

/// One of its cores.
struct LiveCore {
    core: Core,
    line: Rc<Line>,
    arena: Rc<Arena>,
    serving: Rc<ServingCore>,
    handle: CoreHandle,
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

    /// One of its cores, by its place among them.
    pub fn core(&self, place: usize) -> Option<(Core, Rc<Line>)> {
        let live = &self.life.as_ref()?.cores[place];
        Some((live.core.clone(), live.line.clone()))
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
        let cores = self.make_cores().map_err(|error| error.to_string())?;
        self.life = Some(Life { cores, stopping: RefCell::default(), replies: RefCell::default() });
        let is_new = self.world.borrow().hosts[self.host].files[METADATA_FILE].is_empty();
        let result = self.serve();
        if is_new {
            self.noted_boot = Some(self.system_boot);
        }
        self.world.borrow_mut().wake(self.host);
        result
    }

    fn make_cores(&self) -> io::Result<Vec<LiveCore>> {
        let places = self.world.borrow().hosts[self.host].cores.clone();
        let (mut bare, mut rest) = (Vec::new(), Vec::new());
        for place in places {
            let doorbell = Doorbell::new()?;
            let driver = SimulatedDriver::new(&self.world, place, &doorbell);
            let line = driver.line();
            let arena = Arena::new(self.shared.arena_bytes)?;
            let core = Core::new(Box::new(driver), arena.clone());
            bare.push((core.clone(), doorbell));
            rest.push((core, line, arena));
        }
        let serving = ServingCore::by_hand(bare, &core_settings());
        let live = |((core, line, arena), (serving, handle))| LiveCore { core, line, arena, serving, handle };
        Ok(rest.into_iter().zip(serving).map(live).collect())
    }

    /// The core where the volume lives: not the first, if there are several, where most clients come.
    fn home(&self) -> usize {
        self.shared.cores - 1
    }

    fn home_core(&self) -> Option<&LiveCore> {
        Some(&self.life.as_ref()?.cores[self.home()])
    }

    fn volume(&self) -> Option<Rc<Volume>> {
        self.home_core()?.serving.volume(volume_uuid())
    }

    /// Leaves something for a core.
    fn tell(&self, core: usize, ask: Ask) {
        let life = self.life.as_ref().expect("it runs");
        life.cores[core].handle.send(ask);
        self.world.borrow_mut().answer_doorbells(self.host);
    }

    fn tell_directory(&self, entry: Option<DirectoryEntry>) {
        let directory = Arc::new(self.directory(entry));
        for core in 0..self.shared.cores {
            self.tell(core, Ask::Directory(directory.clone()));
        }
    }

    fn serve(&self) -> Result<(), String> {
        let settings = Arc::new(self.volume_settings());
        self.tell_directory(None);
        let metadata = self.open_metadata(&settings)?;
        let opened = match settings.backing {
            Backing::Memory => open(&settings).map_err(|fault| fault.to_string())?,
            _ => {
                let data = self.descriptor(Object::File(DATA_FILE));
                Opened::of_file(PathBuf::from("db.img"), data, Path::Ring, self.facts())
            }
        };
        let facts = opened.facts();
        let (reply, mut answer) = oneshot::channel();
        let mirror = Some(Box::new(metadata));
        self.tell(self.home(), Ask::AddVolume { settings: settings.clone(), opened, mirror, reply });
        let home = self.home_core().expect("it runs");
        home.core.step();
        home.line.hear();
        let added = answer.try_recv().map_err(|_| "no answer to AddVolume".to_owned())?;
        added.map_err(|fault| fault.to_string())?;
        self.tell_directory(Some(DirectoryEntry { settings, facts, core: self.home() }));
        let portals =
            [(Protocol::Mirror, LINK_PORT), (Protocol::Nbd, NBD_PORT), (Protocol::Iscsi, ISCSI_PORT)];
        for (place, (protocol, port)) in portals.into_iter().enumerate() {
            let core = place % self.shared.cores;
            let listener = self.descriptor(Object::Listener(port));
            let portal = Portal::Tcp(([0, 0, 0, 0], port).into());
            {
                let mut world = self.world.borrow_mut();
                let listening = world.hosts[self.host].cores.start + core;
                world.network.listen(self.host, listening, port);
            }
            self.tell(core, Ask::Listen { portal, protocol, listener });
        }
        Ok(())
    }

    fn descriptor(&self, object: Object) -> OwnedFd {
        self.world.borrow_mut().hosts[self.host].descriptor(object)
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
        Ok(content.in_file(self.descriptor(Object::File(METADATA_FILE))))
    }

    /// Begins to stop in good order. `has_stopped` tells when it has.
    pub fn stop(&mut self, grace: Duration) {
        let Some(life) = &self.life else { return };
        let mut replies = Vec::new();
        for core in 0..self.shared.cores {
            let (reply, answer) = oneshot::channel();
            replies.push(answer);
            self.tell(core, Ask::Stop { grace, reply });
        }
        life.stopping.replace(Some(replies));
    }

    /// Whether it has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.stopping.borrow().is_some())
    }

    /// Whether it has stopped in good order.
    pub fn has_stopped(&self) -> bool {
        let Some(life) = &self.life else { return false };
        let mut stopping = life.stopping.borrow_mut();
        let Some(replies) = &mut *stopping else { return false };
        replies.retain_mut(|reply| matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        replies.is_empty()
    }

    /// Ends its process at once. An error says what it did not give back.
    pub fn end(&mut self) -> Result<(), String> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let flights = self.world.borrow_mut().end_life(self.host);
        let arenas: Vec<Rc<Arena>> = life.cores.iter().map(|live| live.arena.clone()).collect();
        life.cores.iter().for_each(|live| live.core.end());
        drop((life, flights));
        let world = self.world.borrow();
        let cores = world.hosts[self.host].cores.clone();
        let received = world.processors[cores].iter().map(|processor| processor.receive_arena.clone());
        let held = |arena: Rc<Arena>| arena.used_bytes() + arena.spilled_bytes();
        match arenas.into_iter().chain(received).map(held).sum() {
            0 => Ok(()),
            held => Err(format!("the node ended and {held} bytes of buffers were not given back")),
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
        Some(self.volume()?.mirror()?.snapshot().status)
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

    /// How many payloads its machine holds.
    pub fn payloads(&self) -> usize {
        self.volume().and_then(|volume| Some(volume.mirror()?.payloads())).unwrap_or(0)
    }

    /// What it advises.
    pub fn explain(&self) -> Vec<String> {
        let snapshot = self.volume().and_then(|volume| Some(volume.mirror()?.snapshot()));
        snapshot.map(|snapshot| snapshot.explanation).unwrap_or_default()
    }

    /// An operator's command; its answer is among `answers` later.
    pub fn command(&self, command: Command) {
        let Some(life) = &self.life else { return };
        let (reply, answer) = oneshot::channel();
        life.replies.borrow_mut().push(answer);
        self.tell(self.home(), Ask::Mirror { uuid: volume_uuid(), command, reply });
    }

    /// Whether commands have not been answered.
    pub fn owes_answers(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.replies.borrow().is_empty())
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

    /// Whether its copy ends with its process.
    pub fn is_in_memory(&self) -> bool {
        self.shared.in_memory[self.host]
    }

    /// What its backing holds, flushed or not.
    pub fn backing(&self) -> Vec<u8> {
        if !self.is_in_memory() {
            return self.file_bytes();
        }
        let mirror = self.volume().and_then(|volume| volume.mirror().cloned());
        let mirror = mirror.expect("it serves the volume as long as it runs");
        let home = self.home_core().expect("just asked");
        let (core, len) = (home.core.clone(), self.shared.size_bytes as usize);
        let bytes = Rc::new(RefCell::new(vec![0; len]));
        let to = bytes.clone();
        home.core.spawn(async move {
            let view = mirror.local().read(0, len, async |len| core.arena().take_now(len)).await;
            view.expect("memory is always there").copy_to(&mut to.borrow_mut());
        });
        bytes.take()
    }

    fn file_bytes(&self) -> Vec<u8> {
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
        let is_in_memory = self.is_in_memory();
        let blank = is_in_memory || self.file_bytes().iter().all(|byte| *byte == 0);
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
            cache_kept: !is_in_memory && self.noted_boot == Some(self.system_boot),
        };
        VolumeSettings {
            name: VOLUME.into(),
            uuid: volume_uuid(),
            backing: match is_in_memory {
                true => Backing::Memory,
                false => Backing::File { path: PathBuf::from("db.img"), cache: FileCache::Direct },
            },
            size_bytes: Some(self.shared.size_bytes),
            description: String::new(),
            read_only: false,
            allow: Vec::new(),
            mirror: Some(Arc::new(mirror)),
        }
    }

    fn directory(&self, entry: Option<DirectoryEntry>) -> Directory {
        let tls = self.shared.tls.then(|| link_tls(self.host));
        let authentication = LinkAuthentication { key: self.shared.key.clone(), tls };
        let node_name = self.shared.names[self.host].to_owned();
        Directory {
            nbd: Arc::new(self.nbd_settings()),
            iscsi: Arc::new(self.iscsi_settings(entry.as_ref())),
            links: Arc::new(LinkSettings { node_name, authentication, listening: None }),
            exports: entry.into_iter().map(|entry| (VOLUME.to_owned(), entry)).collect::<BTreeMap<_, _>>(),
        }
    }

    fn iscsi_settings(&self, entry: Option<&DirectoryEntry>) -> IscsiSettings {
        let target = |entry: &DirectoryEntry| {
            let lun = IscsiLun {
                volume: entry.settings.uuid,
                volume_name: VOLUME.into(),
                core: entry.core,
                read_only: false,
                removable: false,
                block_bytes: SECTOR_BYTES as u32,
            };
            let target = IscsiTarget {
                name: TARGET.into(),
                alias: String::new(),
                luns: BTreeMap::from([(0, lun)]),
                authentication: IscsiAuthentication::default(),
                initiators: Vec::new(),
                allow: Vec::new(),
                core: entry.core,
            };
            (TARGET.to_owned(), Arc::new(target))
        };
        IscsiSettings {
            targets: entry.into_iter().map(target).collect(),
            connections_max: 64,
            login_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            queue_depth: 16,
            inflight_bytes_max: self.shared.inflight_bytes_max,
            ..IscsiSettings::closed()
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
