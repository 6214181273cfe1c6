//! Connections cut in the middle of reads, writes and flushes: the bytes are right all the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use nbd_client::{Client, ConnectOptions, Kind, Uri, Zero, runtime};
use tests::proxy::{Allowance, Proxy};
use tests::scratch::{Random, random};
use tests::skip::{lacks, skip};
use tests::{Launch, MIB, Scratch};

use crate::servers::Server;

/// Less than this is gone before the negotiation is done.
const NEGOTIATION_BYTES: u64 = 2000;
/// What one task works on alone.
const PART_BYTES: u64 = 64 << 10;

#[test]
fn cut_connections_to_ringsan_cost_nothing_but_time() -> Result<()> {
    for connections in [1, 3] {
        survives_cuts(&Server::ringsan()?, connections)?;
    }
    Ok(())
}

#[test]
fn cut_connections_to_nbdkit_cost_nothing_but_time() -> Result<()> {
    if lacks(&["nbdkit"]) || skip("nbdkit aborts when a connection is reset with replies in flight") {
        return Ok(());
    }
    survives_cuts(&Server::nbdkit()?, 2)
}

#[test]
fn cut_connections_to_qemu_nbd_cost_nothing_but_time() -> Result<()> {
    if lacks(&["qemu-nbd"]) {
        return Ok(());
    }
    survives_cuts(&Server::qemu_nbd()?, 2)
}

/// Every connection holds for a MiB at most, so that cuts fall everywhere.
fn survives_cuts(server: &Server, connections: usize) -> Result<()> {
    let proxy = Proxy::limited(server.address(), |number| {
        let mut dice = Random(number);
        let (up, down) = (dice.below(MIB), dice.below(MIB));
        if number < 60 {
            Allowance { up: NEGOTIATION_BYTES + up, down: NEGOTIATION_BYTES + down }
        } else {
            Allowance::ENDLESS
        }
    })?;
    let uri: Uri = proxy.uri("disk").parse()?;
    let options = ConnectOptions { connections, ..ConnectOptions::default() };
    runtime::block_on(async {
        let client = Client::connect(&uri, &options).await?;
        let tasks: Vec<_> = (0..16).map(|part| runtime::spawn(churn(client.clone(), part))).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, anyhow::Error>(client.disconnect().await?)
    })?;
    ensure!(proxy.connections() > 10, "only {} connections", proxy.connections());
    Ok(())
}

async fn churn(client: Client, part: u64) -> Result<()> {
    let mut dice = Random(part);
    let mut known = vec![0; PART_BYTES as usize];
    client.write(part * PART_BYTES, known.clone(), false).await.0?;
    for step in 0..60 {
        let (at, length) = (dice.below(PART_BYTES / 512 - 64) * 512, 512 << dice.below(7));
        let range = at as usize..(at + length) as usize;
        match dice.below(4) {
            0 => client.flush().await?,
            1 => {
                client.zero(part * PART_BYTES + at, length, Zero::default()).await?;
                known[range].fill(0);
            }
            2 => {
                let (result, bytes) =
                    client.write(part * PART_BYTES + at, random(dice.next(), length as usize), false).await;
                result?;
                known[range].copy_from_slice(&bytes);
            }
            _ => {}
        }
        let (result, bytes) = client.read(part * PART_BYTES, vec![0xee; PART_BYTES as usize]).await;
        result?;
        ensure!(bytes == known, "part {part}, step {step}: other bytes");
    }
    Ok(())
}

#[test]
fn a_flush_fails_where_connections_share_no_cache() -> Result<()> {
    if lacks(&["nbdkit"]) {
        return Ok(());
    }
    // nbdkit's `multi-conn` filter takes the promise away.
    let server = Server::nbdkit_without_multi_conn()?;
    let proxy = Proxy::start(server.address())?;
    let uri: Uri = proxy.uri("disk").parse()?;
    runtime::block_on(async {
        let client = Client::connect(&uri, &ConnectOptions::default()).await?;
        ensure!(!client.export().can_multi_conn());
        client.write(0, vec![1; 4096], false).await.0?;
        proxy.sever();
        let error = client.flush().await.expect_err("the write may be lost");
        assert_eq!(error.kind(), Kind::Unflushed);
        client.write(0, vec![1; 4096], false).await.0?;
        client.flush().await?;
        proxy.sever();
        client.flush().await?;
        Ok(client.disconnect().await?)
    })
}

#[test]
fn a_flush_fails_when_the_server_forgot_what_it_acknowledged() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=64M").start()?;
    let uri: Uri = target.uri("disk").parse()?;
    let outcome = runtime::block_on(async {
        let client = Client::connect(&uri, &ConnectOptions::default()).await?;
        client.write(0, vec![1; 4096], false).await.0?;
        let target = target.kill()?.start()?;
        let error = client.flush().await.expect_err("the write is lost");
        assert_eq!(error.kind(), Kind::Unflushed);
        client.write(0, vec![1; 4096], false).await.0?;
        client.flush().await?;
        client.disconnect().await?;
        Ok::<_, anyhow::Error>(target)
    });
    outcome?.stop()?;
    Ok(())
}

#[test]
fn a_flush_holds_when_the_kernel_kept_what_a_killed_server_acknowledged() -> Result<()> {
    let scratch = Scratch::new()?;
    let volume = format!("disk={},size=64M,cache=buffered", scratch.join("disk.img").display());
    let target = Launch::new(&scratch).volume(volume).start()?;
    let uri: Uri = target.uri("disk").parse()?;
    let outcome = runtime::block_on(async {
        let client = Client::connect(&uri, &ConnectOptions::default()).await?;
        client.write(0, vec![1; 4096], false).await.0?;
        let target = target.kill()?.start()?;
        client.flush().await?;
        let (result, bytes) = client.read(0, vec![0; 4096]).await;
        result?;
        assert_eq!(bytes, [1; 4096]);
        client.disconnect().await?;
        Ok::<_, anyhow::Error>(target)
    });
    outcome?.stop()?;
    Ok(())
}

#[test]
fn a_server_that_serves_another_volume_now_is_refused() -> Result<()> {
    for (volume, word) in [("disk=memory,size=64M", "another volume"), ("disk=memory,size=32M", "32")] {
        let (scratch, other) = (Scratch::new()?, Scratch::new()?);
        let target = Launch::new(&scratch).volume("disk=memory,size=64M").start()?;
        let proxy = Proxy::start(target.address())?;
        let impostor = Launch::new(&other).volume(volume).start()?;
        let uri: Uri = proxy.uri("disk").parse()?;
        runtime::block_on(async {
            let client = Client::connect(&uri, &ConnectOptions::default()).await?;
            client.read(0, vec![0; 512]).await.0?;
            proxy.point_at(impostor.address());
            proxy.sever();
            let error = client.read(0, vec![0; 512]).await.0.expect_err("it is another export");
            assert_eq!(error.kind(), Kind::Changed, "{error}");
            ensure!(error.to_string().contains(word), "{error}");
            let again = client.write(0, vec![0; 512], false).await.0.expect_err("it stays so");
            assert_eq!(again.kind(), Kind::Changed);
            Ok::<_, anyhow::Error>(())
        })?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_reached_again_is_given_up_in_time_and_comes_back_later() -> Result<()> {
    let server = Server::ringsan()?;
    let proxy = Proxy::start(server.address())?;
    let uri: Uri = proxy.uri("disk").parse()?;
    runtime::block_on(async {
        let options =
            ConnectOptions { reconnect_for: Duration::from_millis(300), ..ConnectOptions::default() };
        let client = Client::connect(&uri, &options).await?;
        proxy.cut();
        let (result, buffer) = client.read(0, vec![0; 512]).await;
        assert_eq!(result.map_err(|error| error.kind()), Err(Kind::Lost));
        assert_eq!(buffer.len(), 512, "the buffer comes back");
        proxy.heal()?;
        let patient = async { while client.read(0, vec![0; 512]).await.0.is_err() {} };
        runtime::timeout(Duration::from_secs(30), patient).await?;
        Ok(client.disconnect().await?)
    })
}

#[test]
fn without_reconnection_a_cut_is_an_error_at_once() -> Result<()> {
    let server = Server::ringsan()?;
    let proxy = Proxy::start(server.address())?;
    let uri: Uri = proxy.uri("disk").parse()?;
    runtime::block_on(async {
        let options = ConnectOptions { reconnect_for: Duration::ZERO, ..ConnectOptions::default() };
        let client = Client::connect(&uri, &options).await?;
        client.read(0, vec![0; 512]).await.0?;
        proxy.sever();
        let result = client.read(0, vec![0; 512]).await.0;
        assert_eq!(result.map_err(|error| error.kind()), Err(Kind::Lost));
        Ok(())
    })
}

#[test]
fn the_next_server_takes_over() -> Result<()> {
    let server = Server::ringsan()?;
    let roads = [0, 1, 2].map(|_| Proxy::start(server.address()));
    let [first, second, third] = roads;
    let (first, second, third) = (first?, second?, third?);
    let hosts = [&first, &second, &third].map(|road| road.address().to_string()).join(",");
    let uri: Uri = format!("nbd://{hosts}/disk").parse()?;
    runtime::block_on(async {
        let client = Client::connect(&uri, &ConnectOptions::default()).await?;
        client.write(0, vec![1; 4096], false).await.0?;
        for road in [&first, &second] {
            road.cut();
            let (result, bytes) = client.read(0, vec![0; 4096]).await;
            result?;
            assert_eq!(bytes, [1; 4096]);
        }
        // one when all are compared, one when it is their turn
        ensure!(third.connections() == 2 && second.connections() == 2);
        Ok(client.disconnect().await?)
    })
}
