//! The session of one client: its reader, its writer, and the commands that carry no data.

use std::rc::Rc;

use reactor::sync::one_shot;
use wire::nbd::transmission::{
    Command, CommandFlags, EXTENDED_REQUEST_BYTES, Errno, Extent, Request, Verdict, check,
    decode_block_status_payload, decode_request, put_block_status,
};

use crate::clients::DropReason;
use crate::fault::{Fault, Kind};
use crate::incoming::Incoming;
use crate::serve_nbd::connection::{Connection, Job, operation_of};
use crate::serve_nbd::{read, write};
use crate::store::Zeroing;

/// Extents in one BLOCK_STATUS reply; a client asks again from where it ends.
const EXTENTS_MAX: usize = 1024;

/// Serves requests until the client leaves, or is made to; then answers what is in flight.
pub async fn serve(connection: &Rc<Connection>, leftover: Vec<u8>) -> Result<(), Fault> {
    let (written, writer_done) = one_shot();
    let writer = connection.clone();
    connection.here.core().spawn(async move {
        let broken = || writer.client.stop_reading();
        let settle = |receipt: &_, sent_at| writer.settle(receipt, sent_at);
        writer.outbox.drain(writer.here.core(), &writer.channel, settle, broken).await;
        written.give(());
    });
    let result = read_requests(connection, leftover).await;
    if result.as_ref().is_err_and(|fault| fault.kind() == Kind::Protocol) {
        connection.client.stop_reading();
    }
    connection.budget.idle().await;
    connection.outbox.close();
    writer_done.await;
    connection.client.disconnect_quietly();
    result
}

async fn read_requests(connection: &Rc<Connection>, leftover: Vec<u8>) -> Result<(), Fault> {
    let volume = &connection.volume;
    let mut incoming = Incoming::new(&connection.channel, leftover, volume.is_immediate())
        .with_pauses(volume.mirror().is_some());
    let style = connection.style;
    let mut header = [0; EXTENDED_REQUEST_BYTES];
    let header = &mut header[..style.request_bytes()];
    while !connection.client.is_stopping() && incoming.header(header).await? {
        let request = decode_request(header, style);
        let request = request.map_err(|error| Fault::caused(Kind::Protocol, "a request", error))?;
        let request = request.expect("the header is whole");
        connection.may_go_on()?;
        let arrived = connection.here.core().turn_started();
        let job = Job { request, operation: operation_of(request.command), arrived };
        match check(&request, style, &connection.limits()) {
            Verdict::Serve if request.command == Command::Disconnect => return Ok(()),
            Verdict::Serve => serve_one(connection, &mut incoming, job).await?,
            Verdict::Refuse(errno) => refuse(connection, &mut incoming, job, errno).await?,
            Verdict::Close(reason) => return Err(Fault::new(Kind::Protocol, reason)),
        }
    }
    Ok(())
}

async fn serve_one(connection: &Rc<Connection>, incoming: &mut Incoming<'_>, job: Job) -> Result<(), Fault> {
    match job.request.command {
        Command::Read => read::start(connection, job).await,
        Command::Write => write::start(connection, incoming, job).await?,
        Command::BlockStatus if job.request.flags.contains(CommandFlags::PAYLOAD_LEN) => {
            let payload_bytes = job.request.length as usize;
            let payload = incoming.payload(connection.budget.buffer(payload_bytes).await, 0).await?;
            connection.admit(0).await;
            selected_block_status(connection, job, payload.bytes());
        }
        Command::BlockStatus => {
            connection.admit(0).await;
            let ids = connection.contexts.iter().map(|context| context.id).collect();
            start_block_status(connection, job, ids);
        }
        _ => {
            connection.admit(0).await;
            let connection = connection.clone();
            connection.here.core().clone().spawn(async move {
                let result = without_data(&connection, &job.request).await;
                connection.done(&job, result, 0);
            });
        }
    }
    Ok(())
}

async fn refuse(
    connection: &Rc<Connection>,
    incoming: &mut Incoming<'_>,
    job: Job,
    errno: Errno,
) -> Result<(), Fault> {
    // Counted in when it is whole: a client that leaves before takes its request with it.
    incoming.discard(job.request.payload_bytes(connection.style)).await?;
    connection.admit(0).await;
    connection.done_with(&job, Err(errno), 0);
    Ok(())
}

async fn without_data(connection: &Connection, request: &Request) -> Result<(), Fault> {
    let Request { command, flags, offset, length, .. } = *request;
    let durable = flags.contains(CommandFlags::FUA);
    let volume = &connection.volume;
    match command {
        Command::Flush => {
            let flushed = volume.flush().await;
            connection.same_era().and(flushed)
        }
        Command::Trim => volume.trim(offset, length, durable).await,
        Command::Cache => volume.prefetch(offset, length).await,
        Command::WriteZeroes => {
            let may_unmap = !flags.contains(CommandFlags::NO_HOLE);
            let how = Zeroing { may_unmap, fast_only: flags.contains(CommandFlags::FAST_ZERO) };
            volume.write_zeroes(offset, length, how, durable).await
        }
        other => unreachable!("{other:?} is served elsewhere"),
    }
}

/// BLOCK_STATUS with a payload: the range's length, and which contexts.
fn selected_block_status(connection: &Rc<Connection>, mut job: Job, payload: &[u8]) {
    let Some(selected) = decode_block_status_payload(payload) else {
        return connection.done_with(&job, Err(Errno::Inval), 0);
    };
    job.request = job.request.with_effect_length(selected.length);
    let known = |id: &u32| connection.contexts.iter().any(|context| context.id == *id);
    match check(&job.request, connection.style, &connection.limits()) {
        Verdict::Refuse(errno) => connection.done_with(&job, Err(errno), 0),
        _ if !selected.context_ids.iter().all(known) => connection.done_with(&job, Err(Errno::Inval), 0),
        _ => start_block_status(connection, job, selected.context_ids),
    }
}

fn start_block_status(connection: &Rc<Connection>, job: Job, context_ids: Vec<u32>) {
    let connection = connection.clone();
    connection.here.core().clone().spawn(async move {
        let Request { flags, offset, length, .. } = job.request;
        let extents_max = if flags.contains(CommandFlags::REQ_ONE) { 1 } else { EXTENTS_MAX };
        match connection.volume.extents(offset, length, extents_max).await {
            Ok(extents) => answer_block_status(&connection, &job, &context_ids, &extents),
            Err(fault) => connection.done(&job, Err(fault), 0),
        }
    });
}

fn answer_block_status(connection: &Connection, job: &Job, context_ids: &[u32], extents: &[Extent]) {
    let Request { cookie, offset, .. } = job.request;
    connection.outbox.push(connection.receipt(job, true, 0, true), |gather| {
        for (i, &id) in context_ids.iter().enumerate() {
            let done = i + 1 == context_ids.len();
            gather.head(|out| put_block_status(out, connection.style, done, cookie, offset, id, extents));
        }
    });
}

/// Ends a client whose stream can no longer be framed: data was promised that could not be read.
pub fn abandon(connection: &Connection) {
    connection.client.disconnect(DropReason::Resources);
}
