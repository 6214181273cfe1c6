//! tgt, the user-space target of Debian: its threads with pread and pwrite, and its libaio, which is always past
//! the page cache. It has no memory of its own, and no way to map a file.
//!
//! It is told what to serve after it has started, over a socket of its own, so that it can run beside another.

use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{Place, Program, command};
use crate::backing::BackingKind;
use crate::protocol::Protocol;
use crate::server::{Launch, TARGET};

/// Unit 0 is tgt's own, for control.
const LUN: u16 = 1;
/// What ringsan offers, too; left to itself, tgt takes large writes in pieces of 8 KiB.
const PARAMETERS: [(&str, &str); 3] =
    [("InitialR2T", "No"), ("FirstBurstLength", "262144"), ("MaxRecvDataSegmentLength", "262144")];
/// Any number does: the socket is private.
const CONTROL: &str = "--control-port=1";

pub const RDWR: Program = Program {
    name: "tgt",
    protocol: Protocol::Iscsi,
    serves: |_| true,
    launch: |place| launch(place, "rdwr"),
    version: |_| Ok(command("tgtd", ["--version".into()])),
    starts_empty: |_| false,
};

pub const AIO: Program = Program {
    name: "tgt-aio",
    serves: |kind| kind != BackingKind::Cache,
    launch: |place| launch(place, "aio"),
    ..RDWR
};

fn launch(place: &Place, backing_type: &str) -> Result<Launch> {
    let mut server = command("tgtd", ["--foreground".into(), CONTROL.into()]);
    server.arg("--iscsi").arg(format!("portal={}", place.portal));
    let file = place.backing.path.display().to_string();
    let mut unit = administration(place, "logicalunit", "new");
    unit.args(["--lun", &LUN.to_string(), "--bstype", backing_type, "--backing-store", &file]);
    if place.backing.kind == BackingKind::Direct && backing_type == "rdwr" {
        unit.args(["--bsoflags", "direct"]);
    }
    let mut target = administration(place, "target", "new");
    target.args(["--targetname", TARGET]);
    let mut access = administration(place, "target", "bind");
    access.args(["--initiator-address", "ALL"]);
    let mut setup = vec![target, unit, access];
    setup.extend(PARAMETERS.map(|(key, value)| {
        let mut parameter = administration(place, "target", "update");
        parameter.args(["--name", key, "--value", value]);
        parameter
    }));
    // With a target to serve it does not listen to SIGTERM.
    Ok(Launch { setup, lun: LUN, stop: Signal::SIGKILL, ..private(place, server).into() })
}

fn administration(place: &Place, mode: &str, operation: &str) -> Command {
    let arguments = [CONTROL, "--lld=iscsi", "--tid=1"].map(String::from);
    let mut command = command("tgtadm", arguments);
    command.args(["--mode", mode, "--op", operation]);
    private(place, command)
}

fn private(place: &Place, mut command: Command) -> Command {
    let socket = place.scratch.join(format!("tgt-{}", place.portal.port()));
    command.env("TGT_IPC_SOCKET", socket);
    command
}
