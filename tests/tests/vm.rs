//! A guest machine: its kernel attaches over NBD and iSCSI, and its emulated NVMe drive is a backing. Correctness
//! only; an emulated machine says nothing about speed. `tests/run vm` prepares it and runs these.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::guest::{Calls, Guest};
use tests::launch::free_address;
use tests::proxy::Proxy;
use tests::skip::skip;
use tests::{Launch, MIB, Scratch, Target, iscsi};

#[test]
fn the_kernel_attaches_with_one_connection() -> Result<()> {
    attach(1, "disk=memory,size=256M")
}

#[test]
fn the_kernel_attaches_with_four_connections() -> Result<()> {
    attach(4, "disk=disk.img,size=256M")
}

#[test]
fn nvme_passthrough_is_polled() -> Result<()> {
    nvme("auto", "/dev/ng0n1", "256M")
}

#[test]
fn nvme_passthrough_with_4096_byte_sectors_is_polled() -> Result<()> {
    nvme("auto", "/dev/ng0n1", "256M,logical_block_size=4096,physical_block_size=4096")
}

#[test]
fn an_nvme_drive_as_block_device_is_polled() -> Result<()> {
    nvme("auto", "/dev/nvme0n1", "256M")
}

#[test]
fn nvme_passthrough_works_on_the_oldest_kernel_tested() -> Result<()> {
    nvme("6.1", "/dev/ng0n1", "256M")
}

#[test]
fn the_kernels_iscsi_initiator_is_content() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).two_cores().iscsi();
    let (portal, prefix) = (format!("10.0.2.2:{}", launch.iscsi_address().port()), iscsi::target_name(""));
    let calls = Calls::new(&scratch, &["resize", "restart", "crash"])?;
    let Some(guest) = Guest::new(&calls.options(), "iscsi.sh") else { return Ok(()) };
    let users = "users = [{ name = \"alice\", secret = \"a-secret-of-alice\" }]";
    let mutual = format!("{users}\nmutual = {{ name = \"target\", secret = \"the-targets-secret\" }}");
    let tables = iscsi::target_table("chap", users, &[("chap", "")])
        + &iscsi::target_table("mutual", &mutual, &[("mutual", "")]);
    let target = launch
        .iscsi_setting(&format!("advertise = [\"{portal}\"]"))
        .volume("chap=memory,size=64M")
        .volume("mutual=memory,size=64M")
        .tables(&tables)
        .start()?;
    let file = scratch.join("disk.img").display().to_string();
    target.control(&["volume", "create", "disk", "--backing", &file, "--size", "128M"])?.ok()?;
    let words = [&portal, prefix.trim_end_matches(':'), &(128 * MIB).to_string(), &(160 * MIB).to_string()];
    let mut target = Some(target);
    calls.run(guest, words, |call| {
        let running = target.take().context("the target is gone since the last call")?;
        target = Some(match call {
            "resize" => {
                running.control(&["volume", "resize", "disk", "160M"])?.ok()?;
                running
            }
            "restart" => running.stop()?.start()?,
            _ => running.kill()?.start()?,
        });
        Ok(())
    })?;
    target.context("the target is gone since the last call")?.stop()?;
    Ok(())
}

#[test]
fn ringsan_nbd_attaches_with_one_connection() -> Result<()> {
    attach_by_ringsan_nbd(1)
}

#[test]
fn ringsan_nbd_attaches_with_three_connections() -> Result<()> {
    attach_by_ringsan_nbd(3)
}

#[test]
fn a_device_outlives_the_loss_of_either_of_its_two_nodes() -> Result<()> {
    // Its guest measures stalls, which a machine that runs everything else as well cannot promise.
    if std::env::var("RINGSAN_VM").is_ok_and(|only| only != "alone") && skip("measures stalls: tests/run vm")
    {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).two_cores().volume("disk=memory,size=128M").start()?;
    let other_scratch = Scratch::new()?;
    let other = Launch::new(&other_scratch).volume("disk=memory,size=64M").start()?;
    let proxies = [Proxy::start(target.address())?, Proxy::start(target.address())?];
    let [a, b] = proxies.each_ref().map(|proxy| proxy.address().port().to_string());
    let calls = Calls::new(
        &scratch,
        &["cut_a", "cut_b", "freeze_a", "freeze_b", "heal_a", "heal_b", "swap_b", "restore_b"],
    )?;
    let client = client_for_guest()?;
    let options = [calls.options(), vec!["--bin", &client]].concat();
    let Some(guest) = Guest::new(&options, "failover.sh") else { return Ok(()) };
    let said = calls.run(guest, ["10.0.2.2", &a, &b, "disk"], |call| {
        let (what, which) = call.split_once('_').context("a call names a proxy")?;
        let proxy = &proxies[usize::from(which == "b")];
        match what {
            "cut" => proxy.cut(),
            "freeze" => proxy.freeze(),
            "swap" | "restore" => {
                proxy.cut();
                proxy.point_at(if what == "swap" { other.address() } else { target.address() });
                proxy.heal()?;
            }
            _ => proxy.heal()?,
        }
        Ok(())
    })?;
    said.lines().filter(|line| line.starts_with("   ")).for_each(|line| println!("{line}"));
    other.stop()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_device_outlives_the_death_of_either_node_of_a_mirrored_volume() -> Result<()> {
    if std::env::var("RINGSAN_VM").is_ok_and(|only| only != "alone") && skip("measures stalls: tests/run vm")
    {
        return Ok(());
    }
    let folders = [Scratch::new()?, Scratch::new()?];
    let portals = [free_address(), free_address()];
    let mut running = Vec::new();
    for (folder, name) in folders.iter().zip(["a", "b"]) {
        running.push(Some(replica(folder, name, portals)?.start()?));
    }
    let ports = running.iter().flatten().map(|node| node.address().port().to_string()).collect::<Vec<_>>();
    await_in_sync(&running)?;
    let calls = Calls::new(&folders[0], &["kill_a", "kill_b", "start_a", "start_b", "lead_b"])?;
    let client = client_for_guest()?;
    let options = [calls.options(), vec!["--bin", &client]].concat();
    let Some(guest) = Guest::new(&options, "mirrored.sh") else { return Ok(()) };
    let mut ended = [None, None];
    let said = calls.run(guest, ["10.0.2.2", &ports[0], &ports[1], "disk"], |call| {
        let (what, which) = call.split_once('_').context("a call names a node")?;
        let node = usize::from(which == "b");
        match what {
            "kill" => ended[node] = Some(running[node].take().context("it runs")?.kill()?),
            "start" => {
                running[node] = Some(ended[node].take().context("it was killed")?.start()?);
                await_in_sync(&running)?;
            }
            _ => {
                running[1 - node].as_ref().context("it runs")?.control(&["demote", "disk"])?.ok()?;
                let heir = running[node].as_ref().context("it runs")?;
                while heir.control(&["promote", "disk"])?.ok().is_err() {}
                await_in_sync(&running)?;
            }
        }
        Ok(())
    })?;
    said.lines().filter(|line| line.starts_with("   ")).for_each(|line| println!("{line}"));
    running.into_iter().flatten().try_for_each(|node| node.stop().map(drop))
}

/// A node that holds one replica of the volume `disk`, with its files in `folder`.
fn replica(folder: &Scratch, name: &str, portals: [SocketAddr; 2]) -> Result<Launch> {
    let key = folder.text("mirror.key", "a-key-that-both-nodes-have-long-enough-for-anybody\n")?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let [a, b] = portals;
    let tables = format!(
        "[node]\nname = {name:?}\n[peers]\na = \"{a}\"\nb = \"{b}\"\n[mirror]\nkey_file = \"mirror.key\"\n[[volume]]\n\
         name = \"disk\"\nbacking = \"disk.img\"\nsize = \"128M\"\nreplicas = [\"a\", \"b\"]\n"
    );
    Ok(Launch::new(folder).tables(&tables))
}

/// Until each says that both are in sync.
fn await_in_sync(nodes: &[Option<Target>]) -> Result<()> {
    nodes.iter().flatten().try_for_each(|node| {
        let both = |status: &Value| {
            let volumes = status["volumes"].as_array().into_iter().flatten();
            volumes.filter_map(|volume| volume["mirror"]["in_sync"].as_array()).any(|set| set.len() == 2)
        };
        node.await_status("both in sync", both)
    })
}

fn attach_by_ringsan_nbd(connections: u32) -> Result<()> {
    let client = client_for_guest()?;
    let Some(guest) = Guest::new(&["--bin", &client], "client.sh") else { return Ok(()) };
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).two_cores().volume("disk=memory,size=128M").start()?;
    let (port, bytes) = (target.address().port().to_string(), (128 * MIB).to_string());
    guest.run(["10.0.2.2", &port, "disk", &bytes, &connections.to_string()])?;
    target.stop()?;
    Ok(())
}

fn client_for_guest() -> Result<String> {
    Ok(format!("{}:/usr/local/bin/ringsan-nbd", tests::launch::client_binary()?.display()))
}

fn attach(connections: u32, volume: &str) -> Result<()> {
    let Some(guest) = Guest::new(&[], "attach.sh") else { return Ok(()) };
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).two_cores().volume(volume).start()?;
    let (port, bytes) = (target.address().port().to_string(), (256 * MIB).to_string());
    guest.run(["10.0.2.2", &port, "disk", &bytes, &connections.to_string()])?;
    target.stop()?;
    Ok(())
}

fn nvme(kernel: &str, backing: &str, drive: &str) -> Result<()> {
    let binary = format!("{}:/usr/local/bin/ringsan", tests::launch::binary()?.display());
    let options =
        ["--kernel", kernel, "--nvme", drive, "--poll-queues", "1", "--modules", "nvme", "--bin", &binary];
    let Some(guest) = Guest::new(&options, "nvme.sh") else { return Ok(()) };
    guest.run([backing, "IOPOLL"])?;
    Ok(())
}
