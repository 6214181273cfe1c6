//! One core and volumes of every kind on it, without the rest of a node.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use reactor::cores::{self, CoreSettings, Inbox};
use reactor::executor::Idle;
use reactor::uring::UringSettings;
use reactor::{Core, View};
use ringsan::local::Local;
use ringsan::settings::{Backing, FileCache, VolumeSettings};
use ringsan::store::{self, Store};
use ringsan::volume::Volume;
use uuid::Uuid;

/// Runs `work` on a core of its own and returns what it made.
pub fn on_core<T, F>(work: impl FnOnce(Core) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let uring = UringSettings { arena_bytes: 4 << 20, ..UringSettings::default() };
    let settings = CoreSettings { cpu: 0, idle: Idle::Off, drain: Duration::from_secs(5), uring };
    let (done, result) = mpsc::channel();
    let (_inbox, thread) = cores::start(settings, move |core, _: Inbox<()>| async move {
        done.send(work(core).await).expect("the test waits");
    })
    .expect("this kernel has io_uring");
    let made = result.recv().expect("the work ends");
    thread.join().expect("the core ends");
    made
}

/// A volume of each kind that this machine can make: in memory; in files through the page cache, past it, and in
/// a file system in memory.
pub fn every_backing(folder: &Path, name: &str) -> Vec<Backing> {
    let file = |cache| Backing::File { path: folder.join(format!("{name}-{cache:?}")), cache };
    let mut backings = vec![Backing::Memory, file(FileCache::Buffered), file(FileCache::Auto)];
    if Path::new("/dev/shm").is_dir() {
        let unique = format!("/dev/shm/ringsan-{}-{name}", Uuid::new_v4());
        backings.push(Backing::File { path: unique.into(), cache: FileCache::Buffered });
    }
    backings
}

/// Takes a file in memory away again.
pub struct Cleared(pub Backing);

impl Drop for Cleared {
    fn drop(&mut self) {
        if let Backing::File { path, .. } = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Settings of a volume of `size_bytes`.
pub fn settings(backing: &Backing, size_bytes: u64) -> Arc<VolumeSettings> {
    Arc::new(VolumeSettings {
        name: "vol".into(),
        uuid: Uuid::new_v4(),
        backing: backing.clone(),
        size_bytes: Some(size_bytes),
        description: String::new(),
        read_only: false,
        allow: Vec::new(),
        mirror: None,
    })
}

/// Makes and opens the volume.
pub fn volume(core: &Core, settings: &Arc<VolumeSettings>) -> Rc<Volume> {
    if let Backing::File { path, .. } = &settings.backing
        && !path.exists()
    {
        store::create(settings).expect("made");
    }
    let opened = store::open(settings).expect("opened");
    let store = Store::attach(core, opened).expect("attached");
    let local = Rc::new(Local::new(core, &settings.name, store));
    Volume::over(settings.clone(), local, None)
}

/// `bytes` as a view.
pub fn view(core: &Core, bytes: &[u8]) -> View {
    let mut buffer = core.arena().spill(bytes.len());
    buffer.bytes_mut().copy_from_slice(bytes);
    buffer.into_view(0, bytes.len())
}

/// What the volume holds.
pub async fn contents(core: &Core, volume: &Volume, offset: u64, len: usize) -> Vec<u8> {
    let view = volume.read(offset, len, async |len| core.arena().spill(len)).await.expect("read");
    let mut bytes = vec![0; len];
    view.copy_to(&mut bytes);
    bytes
}
