//! Attaching as a file, for machines whose kernel has no nbd driver: a folder with one file in it, fit for a loop
//! device.
//!
//! ```text
//! kernel ─▶ fuser's thread (filesystem.rs) ─▶ channel ─▶ a task a request (perform.rs) ─▶ Client
//! ```
//! Its one rule: the client lives on one thread, and what the kernel wants comes to it through the channel.

mod filesystem;
mod perform;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use fuser::{Config, MountOption, Session};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::news::End;
use super::nodes::Common;
use super::state::{Attachment, StateFolder, fuse_name};
use crate::client::{Client, ConnectOptions};
use crate::error::{Error, Kind};
use crate::runtime::{self, mpsc};
use crate::uri::Uri;

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

/// More than signalfd tells of one signal.
const SIGNAL_BYTES: usize = 128;

fn mount(file: OneFile, point: &Path) -> io::Result<fuser::BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("ringsan-nbd".to_owned()),
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

/// Takes the file away, if nobody uses it.
fn unmount(point: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| {
        let text = format!("{} cannot be unmounted", point.display());
        match error.raw_os_error() {
            Some(nix::libc::EBUSY) => Error::new(Kind::Busy, format!("{text}: it is in use"))
                .remedy("end what uses it (`losetup --list` tells of loop devices)"),
            _ => Error::caused(Kind::Local, text, error),
        }
    };
    match umount2(point, MntFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => unmount_as_user(point).map_err(failed),
        Err(error) => Err(failed(error.into())),
    }
}

fn unmount_as_user(point: &Path) -> io::Result<()> {
    let output = Command::new("fusermount3").arg("-u").arg("--").arg(point).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// Takes the file away that is shown in (or as) `path`, and waits until all is written.
pub fn detach_fuse(path: &Path, folder: &StateFolder) -> Result<(), Error> {
    let path = path.canonicalize().map_err(|error| {
        let error = Error::caused(Kind::Local, format!("{} cannot be detached", path.display()), error);
        error.remedy("`ringsan-nbd status` tells what is attached")
    })?;
    let point = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
    let name = fuse_name(point);
    if folder.load(&name).is_none() {
        let text = format!("{} shows no export", point.display());
        return Err(Error::new(Kind::Local, text).remedy("`ringsan-nbd status` tells what is attached"));
    }
    if folder.is_watched(&name) {
        unmount(point)?;
    }
    for _ in 0..FLUSH_LOOKS {
        if !folder.is_watched(&name) {
            folder.forget(&name);
            return Ok(());
        }
        thread::sleep(FLUSH_LOOK);
    }
    let text = format!("{} is gone, but its process still writes to the server", point.display());
    Err(Error::new(Kind::Busy, text).remedy("wait for it, or see in its log why the server does not answer"))
}

const FLUSH_LOOK: Duration = Duration::from_millis(20);
const FLUSH_LOOKS: u32 = 1500;
