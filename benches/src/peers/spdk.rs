//! SPDK's iscsi_tgt, when --spdk names its binary: its own memory, libaio, and io_uring.
//!
//! All that it is to serve stands in the JSON that it starts with. It takes ordinary memory, so that no huge pages
//! have to be set aside, and polls without end: it is held back while others are measured.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Place, Program, command};
use crate::backing::BackingKind;
use crate::protocol::Protocol;
use crate::server::{Launch, TARGET};

const MIB: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 512;
/// For its own buffers; a volume in memory comes on top.
const OWN_MIB: u64 = 1024;
/// The most that it takes without being told otherwise; our deepest load has 32 in flight.
const QUEUE_DEPTH: u32 = 64;

pub const MALLOC: Program = Program {
    name: "spdk-malloc",
    protocol: Protocol::Iscsi,
    serves: |kind| kind == BackingKind::Memory,
    launch: |place| {
        let blocks = place.backing.size_bytes / BLOCK_BYTES;
        launch(place, "bdev_malloc_create", json!({ "num_blocks": blocks }))
    },
    version: |binaries| match &binaries.spdk {
        Some(path) => Ok(command(&path.to_string_lossy(), ["--version".into()])),
        None => bail!("name its iscsi_tgt with --spdk PATH"),
    },
    starts_empty: |_| true,
};

pub const AIO: Program = Program {
    name: "spdk-aio",
    serves: is_file,
    launch: |place| launch(place, "bdev_aio_create", json!({ "filename": place.backing.path })),
    starts_empty: |_| false,
    ..MALLOC
};

pub const URING: Program = Program {
    name: "spdk-uring",
    launch: |place| launch(place, "bdev_uring_create", json!({ "filename": place.backing.path })),
    ..AIO
};

/// It opens files past the page cache wherever it can, so there is no buffered file.
fn is_file(kind: BackingKind) -> bool {
    matches!(kind, BackingKind::Tmpfs | BackingKind::Direct)
}

fn launch(place: &Place, create: &str, device: Value) -> Result<Launch> {
    let binary = place.binaries.spdk.as_ref().context("name its iscsi_tgt with --spdk PATH")?;
    let at = |suffix| place.scratch.join(format!("spdk-{}.{suffix}", place.portal.port()));
    let config = at("json");
    fs::write(&config, serde_json::to_vec_pretty(&configuration(place, create, device))?)
        .with_context(|| format!("cannot write {}", config.display()))?;
    let memory_mib =
        OWN_MIB + if create == "bdev_malloc_create" { place.backing.size_bytes / MIB } else { 0 };
    let command = command(
        &binary.to_string_lossy(),
        [
            format!("--config={}", config.display()),
            format!("--cpumask=[{}]", place.cpu),
            format!("--rpc-socket={}", at("sock").display()),
            "--no-huge".into(),
            format!("--mem-size={memory_mib}"),
            "--no-pci".into(),
        ],
    );
    Ok(Launch { spins: true, ..command.into() })
}

fn configuration(place: &Place, create: &str, mut device: Value) -> Value {
    device["name"] = "Disk".into();
    device["block_size"] = BLOCK_BYTES.into();
    let (host, port) = (place.portal.ip().to_string(), place.portal.port().to_string());
    let method = |method: &str, params: Value| json!({ "method": method, "params": params });
    let target = json!({
        "name": TARGET,
        "alias_name": "disk",
        "pg_ig_maps": [{ "pg_tag": 1, "ig_tag": 1 }],
        "luns": [{ "bdev_name": "Disk", "lun_id": 0 }],
        "queue_depth": QUEUE_DEPTH,
        "disable_chap": true,
    });
    json!({ "subsystems": [
        { "subsystem": "bdev", "config": [method(create, device)] },
        { "subsystem": "iscsi", "config": [
            method("iscsi_create_portal_group", json!({ "tag": 1, "portals": [{ "host": host, "port": port }] })),
            method("iscsi_create_initiator_group", json!({
                "tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"],
            })),
            method("iscsi_create_target_node", target),
        ] },
    ] })
}
