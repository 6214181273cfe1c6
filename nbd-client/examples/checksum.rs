//! Prints the CRC-32C of an export, read over one connection with many requests in flight.
//!
//! ```text
//! cargo run --release -p nbd-client --example checksum -- nbd://localhost/db
//! ```
use std::collections::VecDeque;

use nbd_client::{Client, ConnectOptions, Error, Uri, runtime};

const PIECE_BYTES: u64 = 256 << 10;
const IN_FLIGHT: usize = 16;

fn main() -> Result<(), Error> {
    let uri: Uri = std::env::args().nth(1).unwrap_or("nbd://localhost/".to_owned()).parse()?;
    let sum = runtime::block_on(async {
        let client = Client::connect(&uri, &ConnectOptions::default()).await?;
        let sum = checksum(&client).await?;
        client.disconnect().await.map(|()| sum)
    })?;
    println!("{sum:08x}");
    Ok(())
}

async fn checksum(client: &Client) -> Result<u32, Error> {
    let size_bytes = client.export().size_bytes;
    let mut starts = (0..size_bytes).step_by(PIECE_BYTES as usize);
    let mut reads = VecDeque::new();
    let mut sum = 0;
    loop {
        // a task for each read; all that are started before the next await are sent at once
        while reads.len() < IN_FLIGHT
            && let Some(start) = starts.next()
        {
            let length = PIECE_BYTES.min(size_bytes - start) as usize;
            let client = client.clone();
            reads.push_back(runtime::spawn(async move { client.read(start, vec![0; length]).await }));
        }
        let Some(read) = reads.pop_front() else { return Ok(sum) };
        let (result, bytes) = read.await.expect("the task does not panic");
        result?;
        sum = crc32c::crc32c_append(sum, &bytes);
    }
}
