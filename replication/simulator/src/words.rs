//! What happens, in words.
//!
//! Its one rule: only a run with a timeline comes here; words cost time.

use replication::{
    ByteRange, Change, Command, Effect, Event, LocalResult, Message, Operation, Record, ReplicaSet,
};

use crate::payload::{Payload, SECTOR};

/// A node's name.
pub(crate) fn name(node: usize) -> &'static str {
    ["a", "b", "c", "d", "e", "f", "g", "h"][node]
}

pub(crate) fn names(set: ReplicaSet) -> String {
    set.iter().map(|replica| name(replica.index())).collect()
}

pub(crate) fn record(record: &Record) -> String {
    let leader = record.leader.map_or("nobody", |leader| name(leader.index()));
    format!("epoch {}: {leader} leads, in sync {}", record.epoch, names(record.in_sync))
}

pub(crate) fn range(range: ByteRange) -> String {
    let first = range.start / SECTOR;
    match range.bytes / SECTOR {
        1 => format!("sector {first}"),
        count => format!("sectors {first} to {}", first + count - 1),
    }
}

pub(crate) fn values(payload: Option<&Payload>) -> String {
    payload.map_or_else(String::new, |payload| {
        let values: Vec<String> = payload.values().iter().map(u64::to_string).collect();
        format!(" [{}]", values.join(" "))
    })
}

pub(crate) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Write { range: at, change, durable } => {
            let what = match change {
                Change::Data => "write",
                Change::Zero { deallocate: false } => "zero",
                Change::Zero { deallocate: true } => "trim",
            };
            format!("{what} {}{}", range(*at), if *durable { ", durably" } else { "" })
        }
        Operation::Flush => "flush".to_owned(),
        Operation::Read { range: at } => format!("read {}", range(*at)),
    }
}

fn command(command: &Command) -> &'static str {
    match command {
        Command::Promote { force: false } => "promote",
        Command::Promote { force: true } => "promote by force",
        Command::Demote => "demote",
        Command::HandOver => "hand over",
        Command::Verify { repair: false } => "verify",
        Command::Verify { repair: true } => "verify and repair",
        Command::Discard => "discard",
    }
}

pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Hello(hello) => format!(
            "Hello (run {}, promised {}, {}{}{}; history {})",
            hello.incarnation.0 / 100,
            hello.promised,
            hello.record.as_ref().map_or_else(|| "no record".to_owned(), record),
            if hello.leads { ", leads" } else { "" },
            if hello.unbroken { ", unbroken" } else { "" },
            history(&hello.history)
        ),
        Message::Prepare { epoch, forced } => {
            format!("Prepare epoch {epoch}{}", if *forced { " by force" } else { "" })
        }
        Message::Promise { epoch, record: latest, unbroken, .. } => format!(
            "Promise epoch {epoch} ({}{})",
            latest.as_ref().map_or_else(|| "no record".to_owned(), record),
            if *unbroken { ", unbroken" } else { "" }
        ),
        Message::Refused { epoch, promised, reason, .. } => {
            format!("Refused epoch {epoch}, promised {promised}: {reason:?}")
        }
        Message::Lead(lead) => format!(
            "Lead ({}{}{})",
            record(&lead.record),
            if lead.begins { ", begins" } else { "" },
            if lead.report { ", report" } else { "" }
        ),
        Message::Write { epoch, seq, range: at, change, .. } => {
            format!("Write #{seq} {} ({change:?}, epoch {epoch})", range(*at))
        }
        Message::Resync { epoch, seq, range: at } => format!("Resync #{seq} {} (epoch {epoch})", range(*at)),
        Message::Written { epoch, seq, result, also } => {
            format!("Written #{seq} and {} more (epoch {epoch}): {result:?}", also.len())
        }
        Message::Forward { id, sent_before, operation: what, .. } => {
            let before =
                sent_before.map_or_else(String::new, |epoch| format!(", sent before in epoch {epoch}"));
            format!("Forward {id}: {}{before}", operation(what))
        }
        other => format!("{other:?}"),
    }
}

fn history(history: &replication::History) -> String {
    let terms = history.terms().iter().map(|term| {
        format!("{}/{} {}..={}", name(term.leader.index()), term.incarnation.0 / 100, term.first, term.last)
    });
    terms.collect::<Vec<_>>().join(", ")
}

pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Submit { request, operation: what, .. } => {
            format!("client's request {request}: {}", operation(what))
        }
        Event::LocalDone { op, result: Ok(LocalResult::Done) } => format!("disk: {op} done"),
        Event::LocalDone { op, result } => format!("disk: {op}: {result:?}"),
        Event::MetadataDone { op, result } => format!("disk: metadata {op}: {result:?}"),
        Event::PeerUp { peer, session } => format!("link {session} to {} is up", name(peer.index())),
        Event::PeerLost { peer, session } => format!("link {session} to {} is lost", name(peer.index())),
        Event::Received { peer, message: what, .. } => {
            format!("from {}: {}", name(peer.index()), message(what))
        }
        Event::Heard { peer, .. } => format!("from {}: a part of a message", name(peer.index())),
        Event::Tick => "tick".to_owned(),
        Event::Decided { epoch, decision } => format!("coordinator on epoch {epoch}: {decision:?}"),
        Event::RecordChanged(latest) => format!("coordinator: {}", record(latest)),
        Event::Command { command: id, what } => format!("operator's command {id}: {}", command(what)),
        Event::Reconfigured { on_peer_loss, timing } => {
            format!("configuration: {on_peer_loss:?}, {} ms", timing.peer_timeout / 1_000_000)
        }
    }
}

/// None: of no interest.
pub(crate) fn effect(effect: &Effect, payload: Option<&Payload>) -> Option<String> {
    Some(match effect {
        Effect::ReadLocal { op, range: at, .. } => format!("reads {} ({op})", range(*at)),
        Effect::WriteLocal { op, range: at, change, .. } => {
            format!("writes {} {change:?}{} ({op})", range(*at), values(payload))
        }
        Effect::FlushLocal { op } => format!("flushes its disk ({op})"),
        Effect::ChecksumLocal { op, range: at } => format!("sums {} ({op})", range(*at)),
        Effect::WriteMetadata { op, record: metadata } => format!("writes {metadata:?} ({op})"),
        Effect::Send { to, message: what, .. } => {
            format!("to {}: {}{}", name(to.index()), message(what), values(payload))
        }
        Effect::Complete { request, result } => {
            let how = result.map(|_| values(payload));
            format!(
                "answers request {request}: {}",
                how.map_or_else(|fault| format!("{fault:?}"), |v| format!("well{v}"))
            )
        }
        Effect::Propose { expected, record: latest } => {
            format!("proposes {} after epoch {expected}", record(latest))
        }
        Effect::Disconnect { peer, session, reason } => {
            format!("ends link {session} to {}: {reason}", name(peer.index()))
        }
        Effect::Notice(notice) => format!("says {notice:?}"),
        Effect::Answer { command, result } => format!("answers command {command}: {result:?}"),
        Effect::Release { .. } | Effect::WakeAt(_) => return None,
    })
}
