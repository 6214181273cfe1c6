//! ringsan itself: the binary of this workspace, freshly built, or the one that $RINGSAN names.

use std::fs;

use anyhow::{Context, Result};

use super::{Place, Program, command};
use crate::backing::{Backing, BackingKind};
use crate::binary;
use crate::floor::VOLUME;
use crate::protocol::Protocol;
use crate::server::{Launch, free_port};

/// More than any of our loads opens.
const CONNECTIONS_MAX: usize = 2000;

pub const NBD: Program = Program {
    name: "ringsan",
    protocol: Protocol::Nbd,
    serves: |_| true,
    launch: |place| serve(&[(VOLUME, place.backing)], place, Protocol::Nbd, &[place.cpu]),
    version: |_| Ok(command(&binary::ringsan()?.to_string_lossy(), ["--version".into()])),
    starts_empty: |kind| kind == BackingKind::Memory,
};

pub const ISCSI: Program = Program {
    protocol: Protocol::Iscsi,
    launch: |place| serve(&[(VOLUME, place.backing)], place, Protocol::Iscsi, &[place.cpu]),
    ..NBD
};

/// Serves `volumes` by `protocol` at the portal of `place` with one core on each of `cpus`.
pub fn serve(
    volumes: &[(&str, &Backing)],
    place: &Place,
    protocol: Protocol,
    cpus: &[usize],
) -> Result<Launch> {
    // It serves the other protocol, too: where nobody looks for it.
    let other = free_port()?;
    let (nbd, iscsi) = if protocol == Protocol::Nbd { (place.portal, other) } else { (other, place.portal) };
    let config = place.scratch.join(format!("ringsan-{}.toml", place.portal.port()));
    let state = place.scratch.join(format!("ringsan-{}.state", place.portal.port()));
    let mut text = format!(
        "[node]\nadmin = \"{}\"\nstate_dir = {state:?}\ndata_dir = {state:?}\n\
         [cores]\ncpus = {cpus:?}\n\
         [nbd]\nportals = [\"{nbd}\"]\nconnections_max = {CONNECTIONS_MAX}\n\
         [iscsi]\nportals = [\"{iscsi}\"]\nconnections_max = {CONNECTIONS_MAX}\n",
        free_port()?,
    );
    volumes.iter().for_each(|(name, backing)| text.push_str(&volume(name, backing)));
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let config = config.display().to_string();
    Ok(command(&binary::ringsan()?.to_string_lossy(), ["serve".into(), "--config".into(), config]).into())
}

fn volume(name: &str, backing: &Backing) -> String {
    let size_bytes = backing.size_bytes;
    let place = match backing.kind {
        BackingKind::Memory => format!("backing = \"memory\"\nsize = {size_bytes}\n"),
        BackingKind::Tmpfs => format!("backing = {:?}\n", backing.path),
        BackingKind::Cache => format!("backing = {:?}\ncache = \"buffered\"\n", backing.path),
        BackingKind::Direct => format!("backing = {:?}\ncache = \"direct\"\n", backing.path),
    };
    format!("[[volume]]\nname = {name:?}\n{place}")
}
