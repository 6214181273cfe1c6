//! One core of the node: its volumes, its clients, and the inbox through which control speaks to it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::cores::{self, Inbox, Sender};
use reactor::driver::Moment;
use reactor::executor::Idle;
use reactor::sync::one_shot;
use reactor::uring::{Doorbell, UringSettings};
use reactor::{Core, Handle, Path, io as verbs};
use uuid::Uuid;
use wire::nbd::handshake::ExportTable;

use crate::clients::{Client, Clients, DropReason};
use crate::fault::{Fault, Kind};
use crate::heartbeat::Heartbeat;
use crate::listener;
use crate::local::Local;
use crate::message::{Adopted, Ask, Directory, VolumeFacts};
use crate::mirror::{Mirror, OpenMetadata};
use crate::scsi_unit::Units;
use crate::serve_iscsi::{self, Sessions};
use crate::serve_mirror::{self, LinkTroubles};
use crate::serve_nbd::{self, export_table};
use crate::settings::{
    CoreSettings, IscsiSettings, NbdSettings, Poll, Portal, Protocol, TlsMode, VolumeSettings,
};
use crate::snapshot::CoreSnapshot;
use crate::store::{Opened, Store};
use crate::volume::Volume;

/// How long the kernel may take to let go of a core's memory when it ends.
const DRAIN: Duration = Duration::from_secs(10);
/// A link whose peer takes nothing for so long has lost it; the mirror itself gives a peer up sooner.
const LINK_STALL: Duration = Duration::from_secs(30);

/// The control thread's end of one core.
#[derive(Clone)]
pub struct CoreHandle(Sender<Ask>);

impl CoreHandle {
    /// Queues `ask` for the core; `false` when the core has ended (the ask is dropped, its reply with it).
    pub fn send(&self, ask: Ask) -> bool {
        self.0.send(ask).is_ok()
    }
}

/// The running cores and their threads.
pub struct Cores {
    handles: Vec<CoreHandle>,
    threads: Vec<JoinHandle<()>>,
}

impl Cores {
    /// Starts one pinned thread a CPU of `settings`. Fails with what to do about it where the kernel offers no io_uring.
    pub fn start(settings: &CoreSettings) -> Result<Cores, Fault> {
        let peers: Arc<OnceLock<Vec<CoreHandle>>> = Arc::default();
        let places: Arc<Places> = Arc::default();
        let mut cores = Cores { handles: Vec::new(), threads: Vec::new() };
        for (index, &cpu) in settings.cpus.iter().enumerate() {
            let (peers, places, node_settings) = (peers.clone(), places.clone(), settings.clone());
            let started = cores::start(core_settings(settings, cpu), move |core, inbox| {
                let here = ServingCore::new(core, index, cpu, peers, places, &node_settings);
                here.run(inbox)
            });
            let (sender, thread) =
                started.map_err(|error| Fault::io(format!("cannot start the core on CPU {cpu}"), error))?;
            cores.handles.push(CoreHandle(sender));
            cores.threads.push(thread);
        }
        assert!(peers.set(cores.handles.clone()).is_ok(), "set once, here");
        Ok(cores)
    }

    /// In the order of `CoreSettings::cpus`.
    pub fn handles(&self) -> &[CoreHandle] {
        &self.handles
    }

    /// Waits for the threads, after each was asked to stop.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn core_settings(settings: &CoreSettings, cpu: usize) -> cores::CoreSettings {
    let idle = match settings.poll {
        Poll::Adaptive => Idle::Adaptive(settings.poll_time),
        Poll::Busy => Idle::Busy,
        Poll::Off => Idle::Off,
    };
    let uring = UringSettings {
        arena_bytes: settings.arena_bytes,
        without: settings.without.clone(),
        ..UringSettings::default()
    };
    cores::CoreSettings { cpu, idle, drain: DRAIN, uring }
}

/// Clients of the node by their front, over all cores.
#[derive(Default)]
struct Places {
    nbd: Arc<AtomicUsize>,
    iscsi: Arc<AtomicUsize>,
    mirror: Arc<AtomicUsize>,
}

/// What the tasks of one core share: its part of the node.
pub struct ServingCore {
    core: Core,
    index: usize,
    cpu: usize,
    peers: Arc<OnceLock<Vec<CoreHandle>>>,
    places: Arc<Places>,
    zero_copy_bytes: Option<usize>,
    directory: RefCell<Arc<Directory>>,
    /// For clients that may see everything.
    exports: RefCell<Rc<ExportTable>>,
    volumes: RefCell<HashMap<Uuid, Rc<Volume>>>,
    listeners: RefCell<Vec<(Protocol, Portal, Handle)>>,
    clients: Clients,
    iscsi_sessions: Sessions,
    units: Units,
    link_troubles: LinkTroubles,
    heartbeat: Heartbeat,
    /// Clients that hold payload now.
    holders: Cell<usize>,
}

impl ServingCore {
    fn new(
        core: Core,
        index: usize,
        cpu: usize,
        peers: Arc<OnceLock<Vec<CoreHandle>>>,
        places: Arc<Places>,
        settings: &CoreSettings,
    ) -> Rc<ServingCore> {
        let clients = Clients::default();
        clients.set_core(&core);
        Rc::new(ServingCore {
            core,
            index,
            cpu,
            peers,
            places,
            zero_copy_bytes: settings.zero_copy_send_bytes,
            directory: RefCell::new(Arc::new(Directory {
                nbd: Arc::new(closed()),
                iscsi: Arc::new(IscsiSettings::closed()),
                links: Arc::default(),
                exports: Default::default(),
            })),
            exports: RefCell::default(),
            volumes: RefCell::default(),
            listeners: RefCell::default(),
            clients,
            iscsi_sessions: Sessions::default(),
            units: Units::default(),
            link_troubles: LinkTroubles::default(),
            heartbeat: Heartbeat::default(),
            holders: Cell::new(0),
        })
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Its place among the cores.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How many clients of a front the node has, over all cores.
    pub fn places(&self, protocol: Protocol) -> &Arc<AtomicUsize> {
        match protocol {
            Protocol::Nbd => &self.places.nbd,
            Protocol::Iscsi => &self.places.iscsi,
            Protocol::Mirror => &self.places.mirror,
        }
    }

    /// The logical units of this core.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// Whether it beats.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// The volumes of this core that have replicas.
    pub fn mirrored_volumes(&self) -> Vec<Uuid> {
        let volumes = self.volumes.borrow();
        volumes.iter().filter(|(_, volume)| volume.mirror().is_some()).map(|(uuid, _)| *uuid).collect()
    }

    /// What was said of links that were refused.
    pub fn link_troubles(&self) -> &LinkTroubles {
        &self.link_troubles
    }

    /// Another core, or this one, by its place among them.
    pub fn handle(&self, core: usize) -> Option<CoreHandle> {
        self.peers.get().and_then(|peers| peers.get(core)).cloned()
    }

    /// The iSCSI sessions of this core.
    pub fn iscsi_sessions(&self) -> &Sessions {
        &self.iscsi_sessions
    }

    /// Sends of at least so many bytes use SEND_ZC.
    pub fn zero_copy_bytes(&self) -> Option<usize> {
        self.zero_copy_bytes
    }

    /// The exports of this moment.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.borrow().clone()
    }

    /// A setting for NBD clients.
    pub fn directory_nbd<T>(&self, get: impl FnOnce(&NbdSettings) -> T) -> T {
        get(&self.directory.borrow().nbd)
    }

    /// The exports that a client at `address` may see. What is told of a mirrored volume changes with its era.
    pub fn export_table(&self, address: Option<SocketAddr>) -> Rc<ExportTable> {
        let directory = self.directory.borrow();
        let mut settings = directory.exports.values().map(|entry| &entry.settings);
        let is_special = settings
            .any(|settings| settings.mirror.is_some() || address.is_some() && !settings.allow.is_empty());
        if is_special { Rc::new(export_table(&directory, address)) } else { self.exports.borrow().clone() }
    }

    /// When a client that comes now must have negotiated.
    pub fn handshake_deadline(&self) -> Option<Moment> {
        Some(self.core.now() + self.directory_nbd(|nbd| nbd.handshake_timeout))
    }

    /// A volume of this core.
    pub fn volume(&self, uuid: Uuid) -> Option<Rc<Volume>> {
        self.volumes.borrow().get(&uuid).cloned()
    }

    /// Leaves `ask` for another core.
    pub fn tell(&self, core: usize, ask: Ask) {
        let sent = self.handle(core).is_some_and(|peer| peer.send(ask));
        if !sent {
            tracing::warn!(core, "a client could not be handed over: the core has ended");
        }
    }

    /// Clients that hold payload now.
    pub fn holders(&self) -> usize {
        self.holders.get()
    }

    /// One more holds payload.
    pub fn holder_came(&self) {
        self.holders.set(self.holders.get() + 1);
    }

    /// One fewer holds payload.
    pub fn holder_went(&self) {
        self.holders.set(self.holders.get() - 1);
    }

    /// A node of these cores without threads: whoever made them steps each, at the latest when its doorbell is rung.
    pub fn by_hand(
        cores: Vec<(Core, Doorbell)>,
        settings: &CoreSettings,
    ) -> Vec<(Rc<ServingCore>, CoreHandle)> {
        let (peers, places) = (Arc::<OnceLock<Vec<CoreHandle>>>::default(), Arc::<Places>::default());
        let mut made = Vec::new();
        for (index, (core, doorbell)) in cores.into_iter().enumerate() {
            let (sender, inbox) = cores::inbox(&core, doorbell);
            let here = ServingCore::new(core.clone(), index, index, peers.clone(), places.clone(), settings);
            core.spawn(here.clone().run(inbox));
            made.push((here, CoreHandle(sender)));
        }
        let handles = made.iter().map(|(_, handle)| handle.clone()).collect();
        assert!(peers.set(handles).is_ok(), "set once, here");
        made
    }

    /// Begins to look after its clients.
    fn begin(self: &Rc<Self>) {
        let sweeper = self.clone();
        self.core.spawn(async move {
            let stall_timeout = |protocol| match protocol {
                Protocol::Nbd => sweeper.directory_nbd(|nbd| nbd.stall_timeout),
                Protocol::Iscsi => sweeper.directory().iscsi.stall_timeout,
                Protocol::Mirror => LINK_STALL,
            };
            sweeper.clients.sweep(&sweeper.core, stall_timeout).await;
        });
    }

    async fn run(self: Rc<Self>, inbox: Inbox<Ask>) {
        self.begin();
        loop {
            match inbox.next().await {
                Ask::Stop { grace, reply } => {
                    let faults = self.stop(grace).await;
                    let _ = reply.send(faults);
                    return;
                }
                ask => self.obey(ask),
            }
        }
    }

    /// Does what it is asked for; `Ask::Stop` is `stop`.
    fn obey(self: &Rc<Self>, ask: Ask) {
        match ask {
            Ask::AddVolume { settings, opened, mirror, reply } => {
                let is_mirrored = mirror.is_some();
                let added = self.add_volume(settings, opened, mirror);
                if is_mirrored && added.is_ok() {
                    Heartbeat::start(self);
                }
                let _ = reply.send(added);
            }
            Ask::ResizeVolume { uuid, size_bytes, reply } => {
                let here = self.clone();
                self.core.spawn(async move {
                    let _ = reply.send(here.resize_volume(uuid, size_bytes).await);
                });
            }
            Ask::RemoveVolume { uuid, grace, reply } => {
                let here = self.clone();
                self.core.spawn(async move {
                    let _ = reply.send(here.remove_volume(uuid, grace).await);
                });
            }
            Ask::Directory(directory) => self.set_directory(directory),
            Ask::Listen { portal, protocol, listener } => {
                let listener = self.core.adopt(listener, Path::Ring);
                self.listeners.borrow_mut().push((protocol, portal.clone(), listener.clone()));
                self.core.spawn(listener::listen(self.clone(), protocol, portal, listener));
            }
            Ask::Unlisten { portal, protocol, reply } => {
                self.unlisten(|speaks, listening| speaks == protocol && *listening == portal);
                let _ = reply.send(());
            }
            Ask::Adopt(Adopted::Nbd(handover)) => self.core.spawn(serve_nbd::resume(self.clone(), *handover)),
            Ask::Adopt(Adopted::Iscsi(handover)) => {
                self.core.spawn(serve_iscsi::resume(self.clone(), *handover));
            }
            Ask::Adopt(Adopted::Mirror(handover)) => {
                self.core.spawn(serve_mirror::resume(self.clone(), *handover));
            }
            Ask::Mirror { uuid, command, reply } => {
                if let Some(mirror) = self.volume(uuid).and_then(|volume| volume.mirror().cloned()) {
                    mirror.command(command, reply);
                    if command == replication::Command::Discard && !mirror.leads() {
                        self.clients().turn_away(uuid, Protocol::Nbd, DropReason::Yielded);
                    }
                }
            }
            Ask::Scsi(ask) => self.units.obey(self, ask),
            Ask::Snapshot { reply } => {
                let _ = reply.send(self.snapshot());
            }
            Ask::Stop { .. } => unreachable!("the inbox loop stops by itself"),
        }
    }

    fn add_volume(
        &self,
        settings: Arc<VolumeSettings>,
        opened: Opened,
        metadata: Option<Box<OpenMetadata>>,
    ) -> Result<VolumeFacts, Fault> {
        let store = Store::attach(&self.core, opened)?;
        let uuid = settings.uuid;
        let local = Rc::new(Local::new(&self.core, &settings.name, store));
        let links = self.directory.borrow().links.clone();
        let mirror = metadata
            .map(|metadata| Mirror::start(&self.core, &settings, local.clone(), *metadata, links))
            .transpose()?;
        let volume = Volume::over(settings, local, mirror);
        let facts = volume.facts();
        self.volumes.borrow_mut().insert(uuid, volume);
        Ok(facts)
    }

    fn known(&self, uuid: Uuid) -> Result<Rc<Volume>, Fault> {
        self.volume(uuid).ok_or_else(|| Fault::new(Kind::NotFound, format!("no volume {uuid} on this core")))
    }

    async fn resize_volume(&self, uuid: Uuid, size_bytes: u64) -> Result<VolumeFacts, Fault> {
        let facts = self.known(uuid)?.set_size(size_bytes).await;
        self.units.refresh(self);
        facts
    }

    async fn remove_volume(self: &Rc<Self>, uuid: Uuid, grace: Duration) -> Result<(), Fault> {
        let volume = self.known(uuid)?;
        self.volumes.borrow_mut().remove(&uuid);
        self.units.close(uuid);
        self.part(grace, |client| client.is_served(uuid)).await;
        self.within(grace, volume.clone(), |volume| async move { volume.without_clients().await }).await;
        self.flush(volume, grace).await
    }

    fn set_directory(&self, directory: Arc<Directory>) {
        for entry in directory.exports.values().filter(|entry| entry.core == self.index) {
            if let Some(volume) = self.volume(entry.settings.uuid) {
                volume.set_settings(entry.settings.clone());
                if let Some(mirror) = volume.mirror() {
                    mirror.set_link_settings(&directory.links);
                }
            }
        }
        self.exports.replace(Rc::new(export_table(&directory, None)));
        self.directory.replace(directory.clone());
        self.units.refresh(self);
        self.iscsi_sessions.dismiss_strangers(&directory.iscsi);
    }

    fn unlisten(&self, which: impl Fn(Protocol, &Portal) -> bool) {
        self.listeners.borrow_mut().retain(|(protocol, portal, listener)| {
            let ends = which(*protocol, portal);
            if ends {
                // The pending accept returns, and with it the last handle goes.
                listener.shutdown(Shutdown::Both);
            }
            !ends
        });
    }

    /// Stops accepting, finishes or fails what is in flight within `grace`, flushes and closes.
    async fn stop(self: &Rc<Self>, grace: Duration) -> Vec<Fault> {
        self.unlisten(|_, _| true);
        self.part(grace, |_| true).await;
        let volumes: Vec<Rc<Volume>> = self.volumes.take().into_values().collect();
        let mut faults = Vec::new();
        for volume in volumes {
            if let Err(fault) = self.flush(volume, grace).await {
                faults.push(fault);
            }
        }
        faults
    }

    /// Lets clients go: no more requests; what is in flight is answered, within `grace`.
    async fn part(&self, grace: Duration, which: impl Fn(&Client) -> bool) {
        let deadline = self.core.now() + grace;
        let chosen = || {
            let clients = self.clients.now();
            clients.into_iter().filter(|client| which(client)).collect::<Vec<_>>()
        };
        chosen().iter().for_each(|client| client.part());
        while !chosen().is_empty() && self.core.now() < deadline {
            verbs::sleep(&self.core, Duration::from_millis(5)).await;
        }
        chosen().iter().for_each(|client| client.disconnect(DropReason::Stopped));
    }

    /// Runs `work` on a task of its own and waits for it at most for `grace`; `None` when it was not done by then.
    async fn within<W, T: 'static>(
        &self,
        grace: Duration,
        volume: Rc<Volume>,
        work: impl FnOnce(Rc<Volume>) -> W,
    ) -> Option<T>
    where
        W: Future<Output = T> + 'static,
    {
        let (giver, taker) = one_shot();
        let giver = Rc::new(Cell::new(Some(giver)));
        let (on_time, late) = (giver.clone(), giver);
        let work = work(volume);
        self.core.spawn(async move {
            let result = work.await;
            if let Some(giver) = on_time.take() {
                giver.give(result);
            }
        });
        verbs::with_deadline(self.core.now() + grace, taker, move || drop(late.take())).await
    }

    async fn flush(&self, volume: Rc<Volume>, grace: Duration) -> Result<(), Fault> {
        let name = volume.settings().name.clone();
        let flushed = self.within(grace, volume, |volume| async move { volume.close().await }).await;
        flushed.unwrap_or_else(|| {
            let context = format!("volume {name}: its backing did not finish a flush in {grace:?}");
            Err(Fault::new(Kind::Io, context))
        })
    }

    fn snapshot(&self) -> CoreSnapshot {
        let counters = self.core.counters();
        let (clients, dropped) = self.clients.snapshot();
        CoreSnapshot {
            cpu: self.cpu,
            system_calls: counters.system_calls,
            polls: counters.polls,
            sleeps: counters.sleeps,
            operations: counters.operations,
            arena_bytes: self.core.arena().bytes(),
            arena_used_bytes: self.core.arena().used_bytes() + self.core.arena().spilled_bytes(),
            features: self.core.features(),
            volumes: self.volumes.borrow().values().map(|volume| volume.snapshot()).collect(),
            clients,
            dropped,
        }
    }
}

/// Before the first directory arrives nobody is let in.
fn closed() -> NbdSettings {
    NbdSettings {
        tls: TlsMode::Off,
        tls_server: None,
        default_export: None,
        connections_max: 0,
        handshake_timeout: Duration::from_secs(1),
        stall_timeout: Duration::from_secs(1),
        requests_max: 1,
        inflight_bytes_max: 0,
    }
}
