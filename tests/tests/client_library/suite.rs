//! What every server and the client must do together.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Result, ensure};
use nbd_client::{
    Client, ConnectOptions, Endpoint, Kind, TransmissionFlags as Has, Uri, Zero, describe, list, runtime,
};
use tests::MIB;
use tests::scratch::{Random, random};
use tests::skip::skip;

use crate::servers::{SIZE_BYTES, Server};

/// What one task works on alone.
const PART_BYTES: u64 = MIB;
const TASKS: u64 = 40;

/// All of it, with one client.
pub fn run(server: &Server, options: &ConnectOptions) -> Result<()> {
    let uri: Uri = server.uri("disk").parse()?;
    runtime::block_on(async {
        let client = Client::connect(&uri, options).await?;
        facts(&client, options)?;
        many_at_once(&client).await?;
        long_transfers(&client).await?;
        durability(server, &client).await?;
        zeroes(server, &client).await?;
        holes(server, &client).await?;
        allocation(server, &client).await?;
        abandoned_requests_disturb_nobody(&client).await?;
        outside(&client).await?;
        Ok(client.disconnect().await?)
    })
}

/// What a server has no export for, and what is known without attaching.
pub fn refusals(server: &Server) -> Result<()> {
    let options = ConnectOptions::default();
    let uri: Uri = server.uri("disk").parse()?;
    let endpoint = &uri.endpoints()[0];
    runtime::block_on(async {
        let export = describe(endpoint, &options).await?;
        assert_eq!(export.size_bytes, SIZE_BYTES, "{}", server.name);
        assert_eq!(export.uuid.is_some(), server.name == "ringsan");
        if server.name == "nbdkit" {
            let _ = skip("nbdkit's memory serves any export name");
            return Ok(());
        }
        let listed = list(endpoint, &options).await?;
        ensure!(listed.iter().any(|export| export.name == "disk"), "{}: {listed:?}", server.name);
        let unknown = Endpoint { export: "nope".to_owned(), ..endpoint.clone() };
        let error =
            Client::connect(&Uri::from(unknown), &options).await.err().expect("there is no such export");
        assert_eq!(error.kind(), Kind::NoExport, "{}: {error}", server.name);
        ensure!(error.to_string().contains("name one of: \"disk\""), "{}: {error}", server.name);
        Ok(())
    })
}

fn facts(client: &Client, options: &ConnectOptions) -> Result<()> {
    let export = client.export();
    assert_eq!(export.size_bytes, SIZE_BYTES);
    ensure!(!export.is_read_only() && !export.tls);
    let shared = if export.can_multi_conn() { options.connections } else { 1 };
    assert_eq!(client.connections(), shared);
    Ok(())
}

/// Tasks that write and read at random within parts of their own, at once.
async fn many_at_once(client: &Client) -> Result<()> {
    let tasks = (0..TASKS).map(|part| runtime::spawn(churn(client.clone(), part)));
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}

async fn churn(client: Client, part: u64) -> Result<()> {
    let mut dice = Random(part);
    let mut known = vec![0; PART_BYTES as usize];
    let (result, _) = client.write(part * PART_BYTES, known.clone(), false).await;
    result?;
    for step in 0..30 {
        let (at, length) = (dice.below(PART_BYTES / 512 - 1) * 512, 512 << dice.below(8));
        let length = length.min(PART_BYTES - at);
        let range = at as usize..(at + length) as usize;
        if dice.below(2) == 0 {
            let bytes = random(dice.next(), length as usize);
            let (result, bytes) =
                client.write(part * PART_BYTES + at, bytes, step % 5 == 0 && fua(&client)).await;
            result?;
            known[range].copy_from_slice(&bytes);
        } else {
            let (result, bytes) = client.read(part * PART_BYTES + at, vec![0xee; length as usize]).await;
            result?;
            ensure!(bytes == known[range], "part {part}, step {step}: other bytes");
        }
    }
    Ok(())
}

fn fua(client: &Client) -> bool {
    client.export().has(Has::SEND_FUA)
}

async fn long_transfers(client: &Client) -> Result<()> {
    let longest = u64::from(client.export().block_sizes.payload_max).min(32 * MIB) as usize;
    for length in [longest, longest - 512, 3 << 20, 100 << 10] {
        let bytes = random(length as u64, length);
        let (result, bytes) = client.write(512, bytes, false).await;
        result?;
        let (result, read) = client.read(512, vec![0; length]).await;
        result?;
        ensure!(read == bytes, "{length} bytes came back as others");
    }
    Ok(())
}

async fn durability(server: &Server, client: &Client) -> Result<()> {
    if client.export().has(Has::SEND_FLUSH) {
        client.flush().await?;
    } else {
        let _ = skip(&format!("{} does not flush", server.name));
        assert_eq!(client.flush().await.map_err(|error| error.kind()), Err(Kind::Request));
    }
    let result = client.write(0, vec![1; 4096], true).await.0;
    assert_eq!(result.is_ok(), fua(client));
    Ok(())
}

async fn zeroes(server: &Server, client: &Client) -> Result<()> {
    if !client.export().has(Has::SEND_WRITE_ZEROES) {
        let _ = skip(&format!("{} does not write zeroes", server.name));
        return Ok(());
    }
    client.write(0, vec![7; 1 << 20], false).await.0?;
    client.zero(4096, 64 << 10, Zero { no_hole: true, ..Zero::default() }).await?;
    let (result, bytes) = client.read(0, vec![1; 128 << 10]).await;
    result?;
    let zero = 4096..4096 + (64 << 10);
    ensure!(bytes.iter().enumerate().all(|(at, byte)| *byte == if zero.contains(&at) { 0 } else { 7 }));
    client.zero(0, SIZE_BYTES, Zero::default()).await?;
    let (result, bytes) = client.read(SIZE_BYTES - MIB, vec![1; MIB as usize]).await;
    result?;
    ensure!(bytes.iter().all(|byte| *byte == 0), "the end of the export is not zero");
    Ok(())
}

async fn holes(server: &Server, client: &Client) -> Result<()> {
    if !client.export().has(Has::SEND_TRIM) {
        let _ = skip(&format!("{} does not trim", server.name));
        return Ok(());
    }
    client.write(MIB, vec![3; 1 << 20], false).await.0?;
    client.trim(MIB, 64 << 10, false).await?;
    let (result, bytes) = client.read(MIB + (64 << 10), vec![0; 64 << 10]).await;
    result?;
    ensure!(bytes.iter().all(|byte| *byte == 3), "a trim took more than its range");
    if client.export().has(Has::SEND_CACHE) {
        client.cache(0, MIB).await?;
    }
    Ok(())
}

async fn allocation(server: &Server, client: &Client) -> Result<()> {
    if !client.export().has_allocation() {
        let _ = skip(&format!("{} does not tell where there is data, with such replies", server.name));
        return Ok(());
    }
    client.write(10 * MIB, vec![5; 1 << 20], false).await.0?;
    let extents = client.block_status(0, SIZE_BYTES).await?;
    let mut at = 0;
    for extent in &extents {
        ensure!(extent.offset == at && extent.length > 0, "a gap at {at}: {extents:?}");
        at += extent.length;
    }
    assert_eq!(at, SIZE_BYTES);
    let written = extents.iter().find(|extent| extent.offset + extent.length > 10 * MIB);
    ensure!(
        written.is_some_and(|extent| !extent.zero && !extent.hole),
        "data is told as a hole: {extents:?}"
    );
    Ok(())
}

/// Requests whose caller has lost interest, also in the middle.
async fn abandoned_requests_disturb_nobody(client: &Client) -> Result<()> {
    let reads = Rc::new(RefCell::new(0));
    for round in 0..20 {
        let (other, reads) = (client.clone(), reads.clone());
        let task = runtime::spawn(async move {
            let _ = other.read(0, vec![0; 1 << 20]).await;
            *reads.borrow_mut() += 1;
        });
        for _ in 0..round {
            runtime::yield_now().await;
        }
        task.abort();
        client.write(MIB, vec![round; 4096], false).await.0?;
        let (result, bytes) = client.read(MIB, vec![0; 4096]).await;
        result?;
        assert_eq!(bytes, [round; 4096]);
    }
    Ok(())
}

async fn outside(client: &Client) -> Result<()> {
    for (offset, length) in [(SIZE_BYTES, 512), (SIZE_BYTES - 512, 1024), (u64::MAX - 511, 512)] {
        let (result, buffer) = client.read(offset, vec![9; length]).await;
        assert_eq!(result.map_err(|error| error.kind()), Err(Kind::Request), "{offset} {length}");
        assert_eq!(buffer, vec![9; length], "the buffer comes back as it was");
    }
    client.read(SIZE_BYTES, Vec::new()).await.0?;
    Ok(())
}
