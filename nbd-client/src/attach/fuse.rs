//! Attaching as a file, for machines whose kernel has no nbd driver: a folder with one file in it, fit for a loop
//! device.
//!
//! ```text
//! kernel ─▶ fuser's thread (filesystem.rs) ─▶ channel ─▶ a task a request (perform.rs) ─▶ Client
//! another process (detach.rs): unmounts, and waits for this one
//! ```
//! Its one rule: the client lives on one thread, and what the kernel wants comes to it through the channel.

mod detach;
mod filesystem;
mod perform;

pub use detach::detach_fuse;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use fuser::{Config, MountOption, Session};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::news::End;
use super::nodes::Common;
use super::state::{Attachment, StateFolder, fuse_name};
use crate::client::{Client, ConnectOptions};
use crate::error::{Error, Kind};
use crate::runtime::{self, mpsc};
use crate::uri::Uri;

use detach::unmount;
use filesystem::{OneFile, Wanted};
use perform::perform;

/// What is to be shown as a file, and how.
#[derive(Clone, Debug)]
pub struct FuseWish {
    /// To whom.
    pub uri: Uri,
    /// The same as it was written, for people.
    pub uri_text: String,
    /// The folder in which the file appears.
    pub folder: PathBuf,
    /// Nothing is to be written.
    pub read_only: bool,
    /// How to connect.
    pub options: ConnectOptions,
}

/// Shows the file until its folder is unmounted, or `stop` can be read while nobody uses it; `ready` is told the file's path.
pub fn serve(
    wish: &FuseWish,
    folder: &StateFolder,
    stop: &(impl AsFd + Sync),
    ready: &mut dyn FnMut(&Path),
) -> Result<End, Error> {
    let point = wish.folder.canonicalize().map_err(|error| cannot_mount(&wish.folder, error))?;
    if !point.is_dir() {
        return Err(cannot_mount(&point, io::ErrorKind::NotADirectory.into()));
    }
    let name = fuse_name(&point);
    let Some(_lock) = folder.watch(&name)? else {
        return Err(Error::new(Kind::Busy, format!("{} shows an export already", point.display()))
            .remedy(format!("use another folder, or run `ringsan-nbd detach {}`", point.display())));
    };
    let (over, watched) = io::pipe().map_err(|error| Error::caused(Kind::Local, "no pipe", error))?;
    let (wants, wanted) = mpsc::unbounded_channel();
    let end = thread::scope(|scope| {
        let stopped = wants.clone();
        scope.spawn(move || await_stop(stop, over, &stopped));
        let _watched = watched; // its end wakes the thread above
        runtime::block_on(serve_client(wish, &point, folder, (wants, wanted), ready))
    });
    folder.forget(&name);
    end
}

type Channel = (mpsc::UnboundedSender<Wanted>, mpsc::UnboundedReceiver<Wanted>);

async fn serve_client(
    wish: &FuseWish,
    point: &Path,
    folder: &StateFolder,
    (wants, mut wanted): Channel,
    ready: &mut dyn FnMut(&Path),
) -> Result<End, Error> {
    let client = Client::connect(&wish.uri, &wish.options).await?;
    let export = client.export().clone();
    let read_only = wish.read_only || export.is_read_only();
    let file = OneFile::new(&export, read_only, wants);
    let path = point.join(file.name());
    let session = mount(file, point).map_err(|error| cannot_mount(point, error))?;
    let state = Attachment {
        device: path.clone(),
        uri: wish.uri_text.clone(),
        pid: std::process::id(),
        export: Common::of(&export),
        read_only,
        connections_each: wish.options.connections,
        timeout_ms: 0,
        elastic: false,
        persist: true,
        connections: Vec::new(),
    };
    let mut end = End::Detached;
    if let Err(error) = folder.save(&fuse_name(point), &state) {
        drop(session); // unmounts
        return Err(error);
    }
    ready(&path);
    while let Some(want) = wanted.recv().await {
        match want {
            Wanted::End => break,
            Wanted::Stop => match unmount(point) {
                Ok(()) => end = End::Stopped,
                Err(error) => tracing::warn!("{error}"),
            },
            want => drop(runtime::spawn(perform(client.clone(), want))),
        }
    }
    // fuser takes an unmounted folder for mounted, and would unmount what somebody else has mounted there since
    std::mem::forget(session);
    client.flush().await?;
    client.disconnect().await?;
    Ok(end)
}

/// Asks for the end whenever `stop` can be read, until the file has ended. (It does not end while it is in use.)
fn await_stop(stop: &impl AsFd, over: io::PipeReader, wants: &mpsc::UnboundedSender<Wanted>) {
    loop {
        let mut fds =
            [PollFd::new(stop.as_fd(), PollFlags::POLLIN), PollFd::new(over.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any() == Some(true) || polled.is_err_and(|error| error != Errno::EINTR) {
            return;
        }
        if fds[0].any() == Some(true) {
            let _ = nix::unistd::read(stop, &mut [0; SIGNAL_BYTES]);
            let _ = wants.send(Wanted::Stop);
        }
    }
}

/// What the kernel names as the mount's source.
const SOURCE: &str = "ringsan-nbd";

/// More than signalfd tells of one signal.
const SIGNAL_BYTES: usize = 128;

fn mount(file: OneFile, point: &Path) -> io::Result<fuser::BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(SOURCE.to_owned()),
        MountOption::Subtype("ringsan-nbd".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        MountOption::NoSuid,
        MountOption::NoDev,
        if file.is_read_only() { MountOption::RO } else { MountOption::RW },
    ];
    Session::new(file, point, &config)?.spawn()
}

fn cannot_mount(point: &Path, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "make the folder, and see that /dev/fuse is there (`modprobe fuse`)",
        io::ErrorKind::PermissionDenied => "be root, or install fusermount3",
        _ => "name an empty folder of yours",
    };
    Error::caused(Kind::Local, format!("{}: no file can be shown there", point.display()), error)
        .remedy(remedy)
}
