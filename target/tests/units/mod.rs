//! The cores of a node with volumes and targets, and sessions that speak to their units as cores do among each other.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod cdb;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringsan::message::{Ask, Directory, DirectoryEntry};
use ringsan::scsi_unit::{Done, Management, Nexus, ReplyTo, ScsiAnswer, ScsiAsk};
use ringsan::serve_core::{CoreHandle, Cores};
use ringsan::settings::{
    CoreSettings, IscsiAuthentication, IscsiLun, IscsiSettings, IscsiTarget, NbdSettings, Poll, TlsMode,
    VolumeSettings,
};
use ringsan::store;
use tokio::sync::oneshot;
use uuid::Uuid;
use wire::scsi::{InitiatorPort, NexusId, Refusal, SenseKey, TargetPort};

/// Two cores.
pub struct Node {
    cores: Cores,
    homes: BTreeMap<Uuid, usize>,
    nexuses: AtomicU32,
}

impl Node {
    /// Serves each volume on its core.
    pub fn start(reservations_dir: &Path, volumes: &[(Arc<VolumeSettings>, usize)]) -> Node {
        let settings = CoreSettings {
            cpus: vec![0, 0],
            poll: Poll::Off,
            poll_time: Duration::ZERO,
            arena_bytes: 4 << 20,
            zero_copy_send_bytes: None,
            without: Vec::new(),
        };
        let cores = Cores::start(&settings).expect("this kernel has io_uring");
        let mut exports = BTreeMap::new();
        let mut targets = BTreeMap::new();
        for (volume, core) in volumes {
            if let ringsan::settings::Backing::File { path, .. } = &volume.backing
                && !path.exists()
            {
                store::create(volume).expect("made");
            }
            let opened = store::open(volume).expect("opened");
            let (reply, facts) = oneshot::channel();
            cores.handles()[*core].send(Ask::AddVolume {
                settings: volume.clone(),
                opened,
                mirror: None,
                reply,
            });
            let facts = facts.blocking_recv().expect("answered").expect("served");
            exports
                .insert(volume.name.clone(), DirectoryEntry { settings: volume.clone(), facts, core: *core });
            targets.insert(volume.name.clone(), Arc::new(target(volume, *core)));
        }
        let iscsi = IscsiSettings {
            targets,
            reservations_dir: reservations_dir.to_owned(),
            ..IscsiSettings::closed()
        };
        let directory = Arc::new(Directory {
            nbd: Arc::new(no_nbd()),
            iscsi: Arc::new(iscsi),
            links: Arc::default(),
            exports,
        });
        for core in cores.handles() {
            core.send(Ask::Directory(directory.clone()));
        }
        let homes = volumes.iter().map(|(volume, core)| (volume.uuid, *core)).collect();
        Node { cores, homes, nexuses: AtomicU32::new(1) }
    }

    /// A session of `initiator` whose home is the core `home`; it has heard of everything so far.
    pub fn attach(&self, uuid: Uuid, initiator: &str, home: usize) -> Session {
        let session = self.try_attach(uuid, initiator, home).expect("the unit is served");
        session.hear();
        session
    }

    /// The same, or why the unit is not served; what it has to hear is still to come.
    pub fn try_attach(&self, uuid: Uuid, initiator: &str, home: usize) -> Result<Session, String> {
        let id = NexusId(self.nexuses.fetch_add(1, Ordering::Relaxed));
        let nexus = Nexus {
            id,
            lun: 0,
            initiator: InitiatorPort { name: initiator.to_owned(), isid: [0x80, 0, 0, 0, 0, 1] },
            target: TargetPort {
                target_name: "iqn.2026-11.test:t".into(),
                portal_group: 1,
                relative_port: 1,
            },
        };
        let core = self.cores.handles()[self.homes[&uuid]].clone();
        let session = Session { core, uuid, nexus: id, tags: Cell::new(0) };
        match session.ask(|reply| ScsiAsk::Attach { uuid, nexus, home, reply }) {
            ScsiAnswer::Attached(result) => result.map(|()| session),
            other => panic!("{other:?} is no answer to that"),
        }
    }

    /// Makes the volume larger or smaller.
    pub fn resize(&self, uuid: Uuid, core: usize, size_bytes: u64) {
        let (reply, facts) = oneshot::channel();
        self.cores.handles()[core].send(Ask::ResizeVolume { uuid, size_bytes, reply });
        facts.blocking_recv().expect("answered").expect("resized");
    }

    /// Ends the cores.
    pub fn stop(self) {
        for core in self.cores.handles() {
            let (reply, faults) = oneshot::channel();
            core.send(Ask::Stop { grace: Duration::from_secs(5), reply });
            assert!(faults.blocking_recv().expect("answered").is_empty());
        }
        self.cores.join();
    }
}

/// A session, as another core would hold it.
pub struct Session {
    core: CoreHandle,
    uuid: Uuid,
    nexus: NexusId,
    tags: Cell<u32>,
}

impl Session {
    /// The data in of a command that succeeds.
    pub fn good(&self, cdb: &[u8], data_out: &[u8]) -> Vec<u8> {
        let done = self.execute(cdb, data_out).expect("not aborted");
        match done.result {
            Ok(()) => done.data_in,
            Err(refusal) => panic!("{cdb:02x?} was refused: {refusal:?}"),
        }
    }

    /// How a command is refused.
    pub fn refused(&self, cdb: &[u8], data_out: &[u8]) -> Refusal {
        let done = self.execute(cdb, data_out).expect("not aborted");
        done.result.expect_err("it has to be refused")
    }

    /// Carries a command out; `None` when it was aborted.
    pub fn execute(&self, cdb: &[u8], data_out: &[u8]) -> Option<Done> {
        match self.begin(cdb, data_out).recv().expect("answered") {
            ScsiAnswer::Done(done) => done,
            other => panic!("{other:?} is no answer to that"),
        }
    }

    /// Begins a command.
    pub fn begin(&self, cdb: &[u8], data_out: &[u8]) -> mpsc::Receiver<ScsiAnswer> {
        self.tags.set(self.tags.get() + 1);
        let (uuid, nexus, tag) = (self.uuid, self.nexus, self.tags.get());
        let (cdb, data_out) = (cdb.to_vec(), data_out.to_vec());
        self.send(|reply| ScsiAsk::Execute { uuid, nexus, tag, cdb, data_out, reply })
    }

    /// Takes the unit attentions that are waiting.
    pub fn hear(&self) {
        while let Err(refusal) = self.execute(&[0; 6], &[]).expect("not aborted").result {
            if refusal.sense.is_none_or(|sense| sense.key != SenseKey::UnitAttention) {
                break;
            }
        }
    }

    /// Asks until the unit is ready.
    pub fn ready(&self) {
        while self.execute(&[0; 6], &[]).expect("not aborted").result.is_err() {}
    }

    /// Of the command that was begun last.
    pub fn last_tag(&self) -> u32 {
        self.tags.get()
    }

    /// Aborts a command.
    pub fn abort(&self, tag: u32) {
        let (uuid, nexus) = (self.uuid, self.nexus);
        assert!(self.core.send(Ask::Scsi(ScsiAsk::Abort { uuid, nexus, tag })), "the core runs");
    }

    /// A task management function.
    pub fn manage(&self, management: Management) {
        let (uuid, nexus) = (self.uuid, self.nexus);
        let answer = self.ask(|reply| ScsiAsk::Manage { uuid, nexus, management, reply });
        assert!(matches!(answer, ScsiAnswer::Managed), "{answer:?}");
    }

    /// Ends the session.
    pub fn detach(self) {
        self.core.send(Ask::Scsi(ScsiAsk::Detach { uuid: self.uuid, nexus: self.nexus }));
    }

    fn ask(&self, ask: impl FnOnce(ReplyTo) -> ScsiAsk) -> ScsiAnswer {
        self.send(ask).recv().expect("answered")
    }

    fn send(&self, ask: impl FnOnce(ReplyTo) -> ScsiAsk) -> mpsc::Receiver<ScsiAnswer> {
        let (sender, receiver) = mpsc::channel();
        let reply = ReplyTo::new(move |answer| drop(sender.send(answer)));
        assert!(self.core.send(Ask::Scsi(ask(reply))), "the core runs");
        receiver
    }
}

fn target(volume: &VolumeSettings, core: usize) -> IscsiTarget {
    let lun = IscsiLun {
        volume: volume.uuid,
        volume_name: volume.name.clone(),
        core,
        read_only: false,
        removable: false,
        block_bytes: 512,
    };
    IscsiTarget {
        name: format!("iqn.2026-11.test:{}", volume.name),
        alias: String::new(),
        luns: BTreeMap::from([(0, lun)]),
        authentication: IscsiAuthentication::default(),
        initiators: Vec::new(),
        allow: Vec::new(),
        core,
    }
}

fn no_nbd() -> NbdSettings {
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
