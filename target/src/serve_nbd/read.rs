//! NBD_CMD_READ.
//!
//! A short read is one reply. A long one is read and sent in pieces, so that it holds little memory; where the
//! client takes no chunks, its pieces own the stream meanwhile.

use std::rc::Rc;

use reactor::{Gather, View};
use wire::nbd::transmission::{
    CommandFlags, ReplyStyle, Request, put_offset_data, put_offset_hole, put_simple_reply,
};

use crate::fault::Fault;
use crate::serve_nbd::commands::abandon;
use crate::serve_nbd::connection::{Connection, Job};

/// Zeroes are told apart from data in units of this size.
const GRAIN_BYTES: usize = 4096;

/// Starts a read that has passed its checks.
pub async fn start(connection: &Rc<Connection>, job: Job) {
    let piece_bytes = connection.budget.piece_bytes();
    let length = job.request.length as usize;
    let first = length.min(piece_bytes);
    connection.admit(first).await;
    let connection = connection.clone();
    let core = connection.here.core().clone();
    if length <= piece_bytes {
        core.spawn(async move { at_once(&connection, &job).await });
    } else if takes_chunks(&connection, &job.request) {
        core.spawn(async move { in_chunks(&connection, &job, first).await });
    } else {
        core.spawn(async move { in_one_stream(&connection, &job, first).await });
    }
}

/// Whether the data may come in chunks, and zeroes as holes.
fn takes_chunks(connection: &Connection, request: &Request) -> bool {
    connection.style != ReplyStyle::Simple && !request.flags.contains(CommandFlags::DF)
}

async fn at_once(connection: &Connection, job: &Job) {
    let Request { offset, length, .. } = job.request;
    let held = length as usize;
    match piece(connection, offset, held).await {
        Ok(view) => {
            let chunks = takes_chunks(connection, &job.request);
            connection.outbox.push(connection.receipt(job, true, held, true), |gather| match chunks {
                true => put_pieces(gather, connection.style, &job.request, offset, view, true),
                false => {
                    put_whole_head(gather, connection.style, &job.request);
                    gather.view(view);
                }
            });
        }
        Err(fault) => connection.done(job, Err(fault), held),
    }
}

async fn in_chunks(connection: &Connection, job: &Job, first: usize) {
    let Request { offset, length, .. } = job.request;
    let end = offset + length;
    let mut at = offset;
    let mut held = first;
    loop {
        let view = match piece(connection, at, held).await {
            Ok(view) => view,
            Err(fault) => return connection.done(job, Err(fault), held),
        };
        let last = at + held as u64 == end;
        connection.outbox.push(connection.receipt(job, true, held, last), |gather| {
            put_pieces(gather, connection.style, &job.request, at, view, last);
        });
        if last {
            return;
        }
        at += held as u64;
        held = ((end - at) as usize).min(connection.budget.piece_bytes());
        connection.budget.hold(held).await;
    }
}

async fn in_one_stream(connection: &Connection, job: &Job, first: usize) {
    let Request { offset, length, .. } = job.request;
    // Before the head is sent an error can still be told.
    let mut view = match piece(connection, offset, first).await {
        Ok(view) => view,
        Err(fault) => return connection.done(job, Err(fault), first),
    };
    let claim = connection.outbox.claim().await;
    let end = offset + length;
    let mut at = offset;
    loop {
        let held = view.len();
        let last = at + held as u64 == end;
        claim.push(connection.receipt(job, true, held, last), |gather| {
            if at == offset {
                put_whole_head(gather, connection.style, &job.request);
            }
            gather.view(view);
        });
        if last {
            return;
        }
        at += held as u64;
        let next = ((end - at) as usize).min(connection.budget.piece_bytes());
        connection.budget.hold_next(&claim, next).await;
        let take = async |len| connection.budget.buffer_next(&claim, len).await;
        view = match connection.volume.read(at, next, take).await {
            Ok(view) => view,
            Err(fault) => {
                connection.errno(&fault);
                abandon(connection);
                let lost = connection.receipt(job, false, next, true);
                return claim.push(lost, |gather| gather.head(|out| out.push(0)));
            }
        };
    }
}

async fn piece(connection: &Connection, offset: u64, len: usize) -> Result<View, Fault> {
    connection.volume.read(offset, len, async |len| connection.budget.buffer(len).await).await
}

/// The head of a reply whose data follows whole.
fn put_whole_head(gather: &mut Gather, style: ReplyStyle, request: &Request) {
    let Request { cookie, offset, length, .. } = *request;
    gather.head(|out| match style {
        ReplyStyle::Simple => put_simple_reply(out, cookie, None),
        _ => put_offset_data(out, style, true, cookie, offset, offset, length),
    });
}

/// Chunks of data, and of holes where the data is zero.
fn put_pieces(
    gather: &mut Gather,
    style: ReplyStyle,
    request: &Request,
    at: u64,
    mut view: View,
    last: bool,
) {
    let Request { cookie, offset, .. } = *request;
    let mut at = at;
    while view.len() > 0 {
        let (len, zero) = next_run(&view);
        let done = last && len == view.len();
        gather.head(|out| match zero {
            true => put_offset_hole(out, style, done, cookie, offset, at, len as u32),
            false => put_offset_data(out, style, done, cookie, offset, at, len as u64),
        });
        match (zero, len == view.len()) {
            (false, true) => return gather.view(view),
            (false, false) => gather.view(view.split_to(len)),
            (true, _) => view.advance(len),
        }
        at += len as u64;
    }
}

/// How many bytes from the front on are all zero, or all in grains that are not.
fn next_run(view: &View) -> (usize, bool) {
    let grain = |at: usize| GRAIN_BYTES.min(view.len() - at);
    let zero = view.is_zero(0, grain(0));
    let mut len = grain(0);
    while len < view.len() && view.is_zero(len, grain(len)) == zero {
        len += grain(len);
    }
    (len, zero)
}
