//! The stream of one session: PDUs in, and what they lead to.
//!
//! Header, data and their digests are whole and right before the session machine hears of them.

use std::rc::Rc;

use reactor::Buffer;
use reactor::sync::one_shot;
use wire::iscsi::pdu::{BHS_BYTES, Response, Segments};
use wire::iscsi::session::{Effect, Place, SendTargets, TaskId};

use crate::budget::Held;
use crate::fault::{Fault, Kind};
use crate::incoming::Incoming;
use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::task::Task;
use crate::serve_iscsi::{farewell, manage, perform, ping};

const DIGEST_BYTES: usize = 4;

/// Serves the session until the initiator leaves, or is made to.
pub async fn serve(connection: &Rc<Connection>, leftover: Vec<u8>) -> Result<(), Fault> {
    let (written, writer_done) = one_shot();
    let writer = connection.clone();
    connection.here.core().spawn(async move {
        let broken = || {
            writer.is_lost.set(true);
            writer.client.stop_reading();
        };
        let settle = |receipt: &_, sent_at| writer.settle(receipt, sent_at);
        writer.outbox.drain(writer.here.core(), &writer.channel, settle, broken).await;
        written.give(());
    });
    ping::watch(connection);
    let result = receive(connection, leftover).await;
    if result.as_ref().is_ok_and(|left| *left == Left::Stream) && connection.may_finish() {
        farewell::finish(connection).await;
    }
    connection.leave();
    connection.outbox.close();
    writer_done.await;
    connection.client.disconnect_quietly();
    result.map(drop)
}

/// How a session that nobody broke came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// By a logout.
    Logout,
    /// The stream has ended.
    Stream,
}

async fn receive(connection: &Rc<Connection>, leftover: Vec<u8>) -> Result<Left, Fault> {
    let lends = connection.lends();
    let mut incoming =
        Incoming::new(&connection.channel, leftover, lends).with_pauses(connection.has_mirrors());
    let mut effects = Vec::new();
    let mut bhs = [0; BHS_BYTES];
    while !connection.client.is_stopping() && incoming.header(&mut bhs).await? {
        let arrived = connection.here.core().turn_started();
        connection.heard.set(arrived);
        let segments = Segments::of(&bhs);
        let ahs = additional_header(connection, &mut incoming, &bhs, segments.ahs_bytes).await?;
        let place = connection.session.borrow_mut().header(&bhs, &ahs).map_err(broken)?;
        let data = match place {
            Place::Discard => {
                discard(connection, &mut incoming, &segments).await?;
                Vec::new()
            }
            Place::Collect => collect(connection, &mut incoming, &segments).await?,
            Place::Task { task, offset } => {
                let task = connection.entry(task);
                let is_whole = offset == 0 && bhs[1] & 0x80 != 0;
                place_data(connection, &mut incoming, &task, offset, &segments, is_whole, lends).await?;
                Vec::new()
            }
        };
        if connection.has_ended() {
            return Ok(Left::Stream);
        }
        connection.session.borrow_mut().complete(&data, &**connection, &mut effects);
        let mut rest = effects.drain(..).peekable();
        while let Some(effect) = rest.next() {
            let is_over = match effect {
                Effect::Start(task) => {
                    let data = rest.next_if(|next| is_of_data(next, task));
                    perform::start(connection, task, data);
                    false
                }
                effect => carry_out(connection, effect)?,
            };
            if is_over {
                return Ok(Left::Logout);
            }
        }
        connection.outbox.room().await;
    }
    Ok(Left::Stream)
}

/// Whether an effect says what has become of the task's data so far.
fn is_of_data(effect: &Effect, id: TaskId) -> bool {
    matches!(effect, Effect::Burst { task, .. } | Effect::DataFailed(task, _) if *task == id)
}

/// Carries out what a PDU leads to; `true` when the session is over.
fn carry_out(connection: &Rc<Connection>, effect: Effect) -> Result<bool, Fault> {
    match effect {
        Effect::Send(response, data) => connection.send(&response, &data),
        Effect::Start(task) => perform::start(connection, task, None),
        Effect::Burst { task, .. } | Effect::DataFailed(task, _) => {
            // It may have ended meanwhile for another reason.
            if let Some(task) = connection.task(task) {
                task.hears(&effect);
            }
        }
        Effect::Manage { tag, function, lun, tasks } => {
            manage::start(connection, manage::Function { tag, function, lun, tasks });
        }
        Effect::Logout { reason: _, tasks } => {
            connection.abort(&tasks);
            let answer = connection.session.borrow_mut().logout_done();
            connection.send(&Response::Logout(answer), &[]);
            return Ok(true);
        }
        Effect::Close(violation) => return Err(broken(violation)),
    }
    Ok(false)
}

fn broken(violation: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::caused(Kind::Protocol, "the session", violation)
}

async fn additional_header(
    connection: &Connection,
    incoming: &mut Incoming<'_>,
    bhs: &[u8; BHS_BYTES],
    ahs_bytes: usize,
) -> Result<Vec<u8>, Fault> {
    let digest_bytes = if connection.agreed.parameters.header_digest { DIGEST_BYTES } else { 0 };
    if ahs_bytes + digest_bytes == 0 {
        return Ok(Vec::new());
    }
    let mut ahs = vec![0; ahs_bytes + digest_bytes];
    whole(incoming.header(&mut ahs).await?)?;
    let digest = ahs.split_off(ahs_bytes);
    let expected = crc32c::crc32c_append(crc32c::crc32c(bhs), &ahs).to_le_bytes();
    if !digest.is_empty() && digest != expected {
        return Err(Fault::new(Kind::Protocol, "the digest of a header is wrong"));
    }
    Ok(ahs)
}

async fn discard(
    connection: &Connection,
    incoming: &mut Incoming<'_>,
    segments: &Segments,
) -> Result<(), Fault> {
    let tail = tail_bytes(connection, segments);
    incoming.discard((segments.data_bytes + tail) as u64).await
}

async fn collect(
    connection: &Connection,
    incoming: &mut Incoming<'_>,
    segments: &Segments,
) -> Result<Vec<u8>, Fault> {
    let mut data = vec![0; segments.data_bytes];
    if !data.is_empty() {
        whole(incoming.header(&mut data).await?)?;
    }
    check_tail(connection, incoming, segments, crc32c::crc32c(&data)).await?;
    Ok(data)
}

/// Receives data out to where the task wants it.
async fn place_data(
    connection: &Rc<Connection>,
    incoming: &mut Incoming<'_>,
    task: &Task,
    offset: u32,
    segments: &Segments,
    is_whole: bool,
    lends: bool,
) -> Result<(), Fault> {
    let len = segments.data_bytes;
    if len == 0 {
        return Ok(());
    }
    connection.client.awaits_payload(Some(connection.here.core().turn_started()));
    let checksum = match task.has_sequence(offset) {
        false => begin(connection, incoming, task, len, is_whole, lends).await?,
        true => None,
    };
    let checksum = match checksum {
        Some(checksum) => checksum,
        None => fill(connection, incoming, task, offset, len).await?,
    };
    let tail = check_tail(connection, incoming, segments, checksum).await;
    connection.client.awaits_payload(None);
    tail
}

/// Begins a task's unsolicited data. Gives the checksum when that has been all.
async fn begin(
    connection: &Rc<Connection>,
    incoming: &mut Incoming<'_>,
    task: &Task,
    len: usize,
    is_whole: bool,
    lends: bool,
) -> Result<Option<u32>, Fault> {
    let first_burst = connection.agreed.parameters.first_burst_length.min(task.out_bytes);
    let held_bytes = if is_whole { len } else { first_burst as usize };
    connection.budget.hold_while_moving(held_bytes).await;
    let held = Held::stuck(&connection.budget, held_bytes);
    if is_whole
        && lends
        && let Some(view) = incoming.lend(len)
    {
        let checksum = if connection.agreed.parameters.data_digest { view.crc32c(0) } else { 0 };
        task.lend(view, held);
        return Ok(Some(checksum));
    }
    task.expect(0, connection.budget.buffer_now(held_bytes), held);
    Ok(None)
}

async fn fill(
    connection: &Connection,
    incoming: &mut Incoming<'_>,
    task: &Task,
    offset: u32,
    len: usize,
) -> Result<u32, Fault> {
    let Some((mut buffer, start)) = task.take_buffer(offset) else {
        return Err(Fault::new(Kind::Protocol, "data out that belongs nowhere"));
    };
    let at = (offset - start) as usize;
    if at + len > buffer.capacity() {
        return Err(Fault::new(Kind::Protocol, "data out beyond its sequence"));
    }
    buffer.resize(at + len);
    let buffer: Buffer = incoming.payload(buffer, at).await?;
    let checksum = match connection.agreed.parameters.data_digest {
        true => crc32c::crc32c(&buffer.bytes()[at..]),
        false => 0,
    };
    task.put_buffer(start, buffer);
    Ok(checksum)
}

fn tail_bytes(connection: &Connection, segments: &Segments) -> usize {
    let has_digest = connection.agreed.parameters.data_digest && segments.data_bytes > 0;
    segments.padding() + if has_digest { DIGEST_BYTES } else { 0 }
}

/// Takes the padding and the digest behind data whose checksum is `checksum`.
async fn check_tail(
    connection: &Connection,
    incoming: &mut Incoming<'_>,
    segments: &Segments,
    checksum: u32,
) -> Result<(), Fault> {
    let mut tail = [0; 3 + DIGEST_BYTES];
    let tail = &mut tail[..tail_bytes(connection, segments)];
    if tail.is_empty() {
        return Ok(());
    }
    whole(incoming.header(tail).await?)?;
    let (padding, digest) = tail.split_at(segments.padding());
    if !digest.is_empty() && digest != crc32c::crc32c_append(checksum, padding).to_le_bytes() {
        return Err(Fault::new(Kind::Protocol, "the digest of a data segment is wrong"));
    }
    Ok(())
}

fn whole(came: bool) -> Result<(), Fault> {
    let left = || Fault::new(Kind::Disconnected, "the initiator left in the middle of a PDU");
    came.then_some(()).ok_or_else(left)
}

impl Connection {
    /// The mover's side of a task, made when it is first heard of.
    pub fn entry(&self, id: TaskId) -> Rc<Task> {
        let index = id.0 as usize;
        let mut tasks = self.tasks.borrow_mut();
        if tasks.len() <= index {
            tasks.resize(index + 1, None);
        }
        let arrived = self.here.core().turn_started();
        let make = || {
            let session = self.session.borrow();
            Task::new(id, arrived, session.task(id))
        };
        tasks[index].get_or_insert_with(make).clone()
    }

    /// Takes a task that has ended off the table, so that its number can be used again.
    pub fn remove(&self, id: TaskId) {
        let task = self.tasks.borrow_mut().get_mut(id.0 as usize).and_then(Option::take);
        if let Some(task) = task {
            self.order.leave(&task);
        }
    }
}

impl SendTargets for Connection {
    fn targets(&self) -> Vec<(String, Vec<String>)> {
        self.access.targets(&self.agreed.initiator_name, self.channel.local_address())
    }
}
