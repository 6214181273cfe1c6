//! One request of the kernel, carried out by the client and answered.
//!
//! Its one rule: each is answered exactly once, with the server's own error where there is one.

use fuser::Errno;

use super::filesystem::Wanted;
use crate::client::{Client, Zero};
use crate::error::{Error, Kind};

/// Carries it out.
pub(super) async fn perform(client: Client, wanted: Wanted) {
    match wanted {
        Wanted::Read { offset, length, reply } => match read(&client, offset, length).await {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno(&error)),
        },
        Wanted::Write { offset, data, durable, reply } => {
            let length = u32::try_from(data.len()).expect("the kernel's writes are short");
            match write(&client, offset, data, durable).await {
                Ok(()) => reply.written(length),
                Err(error) => reply.error(errno(&error)),
            }
        }
        Wanted::Flush { reply } => match client.flush().await {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        },
        Wanted::Zero { offset, length, keep_space, reply } => {
            let how = Zero { no_hole: keep_space, ..Zero::default() };
            match client.zero(offset, length, how).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        }
        Wanted::End | Wanted::Stop => {}
    }
}

async fn read(client: &Client, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
    let piece_max = client.export().block_sizes.payload_max;
    if length <= piece_max {
        let (result, data) = client.read(offset, vec![0; length as usize]).await;
        return result.map(|()| data);
    }
    let mut data = Vec::with_capacity(length as usize);
    while data.len() < length as usize {
        let piece = (length as usize - data.len()).min(piece_max as usize);
        let (result, bytes) = client.read(offset + data.len() as u64, vec![0; piece]).await;
        result?;
        data.extend_from_slice(&bytes);
    }
    Ok(data)
}

async fn write(client: &Client, offset: u64, data: Vec<u8>, durable: bool) -> Result<(), Error> {
    let piece_max = client.export().block_sizes.payload_max as usize;
    if data.len() <= piece_max {
        return client.write(offset, data, durable).await.0;
    }
    let mut at = offset;
    for piece in data.chunks(piece_max) {
        client.write(at, piece.to_vec(), durable).await.0?;
        at += piece.len() as u64;
    }
    Ok(())
}

fn errno(error: &Error) -> Errno {
    tracing::debug!("{error}");
    match (error.errno(), error.kind()) {
        (Some(errno), _) => Errno::from_i32(errno.to_u32() as i32),
        (None, Kind::Request) => Errno::EINVAL,
        (None, _) => Errno::EIO,
    }
}
