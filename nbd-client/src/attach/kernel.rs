//! Attaching through the kernel's nbd driver: one device, and sockets to one server or to several.
//!
//! ```text
//! driver there? ─▶ device free? ─▶ dial all hosts ─▶ same export everywhere? ─▶ CONNECT ─▶ state written
//! ```
//! Its one rule: an error on the way leaves nothing behind; what was connected already is disconnected again.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;
use uuid::Uuid;
use wire::nbd::transmission::TransmissionFlags;

use super::device::Device;
use super::driver::Driver;
use super::netlink::{Attribute, Command, Message};
use super::nodes::{Common, Roster, dial_all};
use super::plan::{self, Plan};
use super::slots::{self, Slot};
use super::state::{Attachment, StateFolder};
use crate::client::KernelSocket;
use crate::error::{Error, Kind};
use crate::uri::{Endpoint, Uri};

/// What is to be attached, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    /// To whom.
    pub uri: Uri,
    /// The same as it was written, for people and for the driver.
    pub uri_text: String,
    /// Where; `None` for any free device.
    pub device: Option<Device>,
    /// Connections to each host.
    pub connections_each: usize,
    /// A request that takes longer counts as lost, and its connection too; `None` for 30 s, or 0.9 s with several
    /// hosts, and more, while the device is watched, as long as a server is only slow.
    pub timeout: Option<Duration>,
    /// How long I/O waits for a connection to come back when none is left; `None` for 2 minutes if lost connections
    /// are dialed again, else not at all.
    pub dead_timeout: Option<Duration>,
    /// The device's block size; `None` for the least that the servers take.
    pub block_size: Option<u32>,
    /// Nothing is to be written.
    pub read_only: bool,
    /// Lost connections are to be dialed again (`Attached::watch`).
    pub persist: bool,
    /// Time for a connection to be made and negotiated.
    pub connect_timeout: Duration,
}

/// A device that is attached.
#[derive(Debug)]
pub struct Attached {
    pub(super) device: Device,
    pub(super) folder: StateFolder,
    pub(super) state: Attachment,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) connect_timeout: Duration,
    pub(super) common: Common,
    pub(super) slots: Vec<Slot>,
    /// Of each server, where it tells one.
    pub(super) incarnations: Vec<Option<Uuid>>,
    /// What a person should know, one line each.
    pub warnings: Vec<String>,
}

impl Attached {
    /// Takes over a device that is attached as wished, but no longer watched by the process that attached it; `None`
    /// if there is no such device.
    pub fn adopt(wish: &Wish, folder: &StateFolder) -> Option<Attached> {
        let device = wish.device?;
        let state = folder.load(&device.name())?;
        let same = state.uri == wish.uri_text && device.pid() == Some(state.pid);
        if !same || !wish.persist || folder.is_watched(&device.name()) {
            return None;
        }
        let endpoints = wish.uri.endpoints().to_vec();
        let slots = slots::of_another_process(&endpoints, &state.connections);
        Some(Attached {
            device,
            folder: folder.clone(),
            connect_timeout: wish.connect_timeout,
            common: state.export.clone(),
            incarnations: vec![None; endpoints.len()],
            warnings: Vec::new(),
            endpoints,
            slots,
            state,
        })
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What `status` will say of it.
    pub fn attachment(&self) -> &Attachment {
        &self.state
    }
}

/// Attaches a device.
pub fn attach(wish: &Wish, folder: StateFolder) -> Result<Attached, Error> {
    let mut driver = open_driver()?;
    if let Some(device) = wish.device.filter(|device| device.pid().is_some()) {
        return Err(in_use(device));
    }
    let endpoints = wish.uri.endpoints();
    let roster = dial_all(endpoints, wish.connections_each, wish.connect_timeout)?;
    let plan = Plan::new(wish, &roster)?;
    let warnings = plan::warnings(wish, &roster);
    let Roster { common, sockets, .. } = roster;
    let incarnation = |node: &Vec<KernelSocket>| node.first().and_then(|dialed| dialed.export.incarnation);
    let incarnations = sockets.iter().map(incarnation).collect();
    let slots = slots::interleave(endpoints, sockets, wish.connections_each, wish.persist)?;
    let connected = Connected::new(&mut driver, wish, &plan, &slots)?;
    let device = connected.device;
    let mut attached = Attached {
        device,
        folder,
        state: state(wish, &plan, device, &slots, &common),
        endpoints: endpoints.to_vec(),
        connect_timeout: wish.connect_timeout,
        common,
        slots,
        incarnations,
        warnings,
    };
    plan.fine_tune(device, &mut attached.warnings);
    attached.folder.save(&device.name(), &attached.state)?;
    connected.keep();
    Ok(attached)
}

fn state(wish: &Wish, plan: &Plan, device: Device, slots: &[Slot], common: &Common) -> Attachment {
    Attachment {
        device: device.path(),
        uri: wish.uri_text.clone(),
        pid: device.pid().unwrap_or_default(),
        export: common.clone(),
        read_only: plan.flags.contains(TransmissionFlags::READ_ONLY),
        connections_each: wish.connections_each,
        timeout_ms: plan.timeout.as_millis() as u64,
        elastic: wish.timeout.is_none(),
        persist: wish.persist,
        connections: slots.iter().map(|slot| slot.connection.clone()).collect(),
    }
}

/// A device that the driver has connected, and disconnects again unless it is kept.
struct Connected<'a> {
    driver: &'a mut Driver,
    device: Device,
    kept: bool,
}

impl<'a> Connected<'a> {
    fn new(driver: &'a mut Driver, wish: &Wish, plan: &Plan, slots: &[Slot]) -> Result<Connected<'a>, Error> {
        let mut attributes = plan.attributes();
        attributes.extend(wish.device.map(|device| Attribute::Index(device.index())));
        let sockets = slots.iter().filter_map(|slot| slot.socket.as_ref());
        attributes.push(Attribute::Sockets(sockets.map(AsRawFd::as_raw_fd).collect()));
        attributes.push(Attribute::Backend(wish.uri_text.clone()));
        let answer = driver
            .ask(Message { command: Command::Connect, attributes })
            .map_err(|error| connect_failed(wish.device, error))?;
        let index = answer.and_then(|answer| answer.index());
        let index =
            index.or(wish.device.map(Device::index)).expect("the driver names the device that it chose");
        Ok(Connected { driver, device: Device::new(index), kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = disconnect(self.driver, self.device);
        }
    }
}

pub(super) fn open_driver() -> Result<Driver, Error> {
    Driver::open().map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT => Error::new(Kind::NoDriver, "the kernel has no nbd driver, or does not load it")
            .remedy("run `modprobe nbd`, or attach with --fuse DIR where there is none"),
        _ => Error::caused(Kind::Local, "the kernel's nbd driver cannot be asked", error),
    })
}

fn connect_failed(device: Option<Device>, error: io::Error) -> Error {
    let name = device.map_or("a device".to_owned(), |device| device.to_string());
    match (Errno::from_raw(error.raw_os_error().unwrap_or(0)), device) {
        (Errno::EPERM, _) => not_root(&name),
        (Errno::EBUSY, Some(device)) => in_use(device),
        _ => Error::caused(Kind::Local, format!("the kernel does not attach {name}"), error)
            .remedy("`dmesg` may say why"),
    }
}

fn not_root(what: &str) -> Error {
    Error::new(Kind::Local, format!("{what}: only root may attach and detach devices"))
        .remedy("use sudo, or attach with --fuse DIR")
}

fn in_use(device: Device) -> Error {
    let by = device.backend().map_or(String::new(), |backend| format!(", attached to {backend}"));
    Error::new(Kind::Busy, format!("{device} is in use{by}")).remedy(format!(
        "name another device, or none for any free one, or run `ringsan-nbd detach {device}`"
    ))
}

/// Hands a socket to a device whose connection was lost. Whether the driver took it: it does so only once it has
/// noticed the loss.
pub(super) fn hand_over(
    driver: &mut Driver,
    device: Device,
    backend: &str,
    socket: &impl AsFd,
) -> io::Result<bool> {
    let attributes = vec![
        Attribute::Index(device.index()),
        Attribute::Sockets(vec![socket.as_fd().as_raw_fd()]),
        Attribute::Backend(backend.to_owned()),
    ];
    driver.ask(Message { command: Command::Reconfigure, attributes })?;
    // the driver does not say; but it gives each socket that it takes the request timeout
    Ok(SockRef::from(socket).write_timeout()?.is_some())
}

/// Changes how long a request may take. Unlike sysfs, the driver does that while requests wait.
pub(super) fn set_timeout(
    driver: &mut Driver,
    device: Device,
    backend: &str,
    seconds: u64,
) -> io::Result<()> {
    let attributes = vec![
        Attribute::Index(device.index()),
        Attribute::Timeout(seconds),
        Attribute::Backend(backend.to_owned()),
    ];
    driver.ask(Message { command: Command::Reconfigure, attributes }).map(drop)
}

/// Detaches a device; without `force`, only if nobody uses it, and after a flush.
pub fn detach(device: Device, folder: &StateFolder, force: bool) -> Result<(), Error> {
    let mut driver = open_driver()?;
    if device.pid().is_none() {
        folder.forget(&device.name());
        return Err(Error::new(Kind::Local, format!("{device} is not attached"))
            .remedy("`ringsan-nbd status` tells what is"));
    }
    if !force {
        device.settle()?;
    }
    disconnect(&mut driver, device).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EPERM) => not_root(&device.to_string()),
        _ => Error::caused(Kind::Local, format!("the kernel does not detach {device}"), error),
    })?;
    folder.forget(&device.name());
    if device.wait_until_free(Duration::from_secs(10)) {
        return Ok(());
    }
    Err(Error::new(Kind::Busy, format!("{device} is disconnected, but still open"))
        .remedy("it is free again as soon as nobody has it open"))
}

fn disconnect(driver: &mut Driver, device: Device) -> io::Result<()> {
    let attributes = vec![Attribute::Index(device.index())];
    driver.ask(Message { command: Command::Disconnect, attributes }).map(drop)
}
