//! What is attached now: sysfs and locks, with what the state files know besides.
//!
//! Its one rule: a state file of something that is gone is removed, never shown.

use std::path::PathBuf;

use serde::Serialize;
use uuid::Uuid;

use super::device::Device;
use super::sockets::is_established;
use super::state::{Attachment, Connection, StateFolder};

/// Something that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The device, or the file that FUSE shows.
    pub device: PathBuf,
    /// To whom; of another program's device what that program says, if anything.
    pub uri: Option<String>,
    /// Whether this tool attached it.
    pub ours: bool,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// The volume's identity, where the server tells one.
    pub uuid: Option<Uuid>,
    /// The process that attached it.
    pub pid: u32,
    /// Whether a process watches it: dials lost connections again, or is the file.
    pub watched: bool,
    /// Whether it was attached to be watched.
    pub persist: bool,
    /// Each connection; of another program's device, and of files, nothing is known.
    pub connections: Vec<ConnectionReport>,
}

/// One connection of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionReport {
    /// The host, as the URI names it.
    pub host: String,
    /// Whether it lives; `None` if nobody can tell.
    pub live: Option<bool>,
    /// Since when it has been so, as far as somebody watched: seconds since 1970.
    pub since: u64,
    /// Our end.
    pub local: String,
    /// The other end.
    pub remote: String,
}

/// Everything that is attached.
pub fn status(folder: &StateFolder) -> Vec<Report> {
    let mut states = folder.all();
    let mut reports: Vec<Report> = Vec::new();
    for device in Device::all_attached() {
        let known = states.iter().position(|(name, _)| *name == device.name());
        let state = known.map(|place| states.swap_remove(place).1);
        let ours = state.filter(|state| device.pid() == Some(state.pid));
        reports.push(match ours {
            Some(state) => report(state, folder.is_watched(&device.name())),
            None => foreign(device),
        });
    }
    for (name, state) in states {
        match folder.is_watched(&name) {
            true if name.parse::<Device>().is_err() => reports.push(report(state, true)),
            // a device that is gone; its watch will see that itself
            true => {}
            false => folder.forget(&name),
        }
    }
    reports.sort_by(|a, b| a.device.cmp(&b.device));
    reports
}

fn report(state: Attachment, watched: bool) -> Report {
    Report {
        device: state.device,
        uri: Some(state.uri),
        ours: true,
        size_bytes: state.export.size_bytes,
        read_only: state.read_only,
        uuid: state.export.uuid,
        pid: state.pid,
        watched,
        persist: state.persist,
        connections: state.connections.into_iter().map(|it| connection(it, watched)).collect(),
    }
}

fn connection(connection: Connection, watched: bool) -> ConnectionReport {
    let live = match is_established(&connection) {
        _ if !connection.live => Some(false),
        // a unix socket: its watch would have written that it ended
        None => watched.then_some(true),
        known => known,
    };
    let Connection { host, local, remote, since, .. } = connection;
    ConnectionReport { host, live, since, local, remote }
}

fn foreign(device: Device) -> Report {
    Report {
        device: device.path(),
        uri: device.backend(),
        ours: false,
        size_bytes: device.size_bytes().unwrap_or(0),
        read_only: device.is_read_only(),
        uuid: None,
        pid: device.pid().unwrap_or(0),
        watched: false,
        persist: false,
        connections: Vec::new(),
    }
}
