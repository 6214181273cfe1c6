//! What must hold whatever a server sends after the handshake: a plain function, for the fuzzer and for ordinary
//! tests. The first bytes of the input choose the style and how the rest is cut; the rest is what the server sends.

use wire::nbd::transmission::CommandFlags;

use super::*;
use crate::client::request::{Ask, Place};

pub(super) const STYLES: [ReplyStyle; 3] = [ReplyStyle::Simple, ReplyStyle::Structured, ReplyStyle::Extended];
/// Of each request.
pub(super) const LENGTH: u64 = 1000;

/// Replies to one request of each kind: never a panic, and they mean the same however they are cut.
pub fn replies(data: &[u8]) {
    let Some((&[choice, cut], bytes)) = data.split_first_chunk() else { return };
    let style = STYLES[usize::from(choice) % STYLES.len()];
    assert_eq!(fed(style, bytes, usize::from(cut) + 1), fed(style, bytes, usize::MAX));
}

/// A table with one request of each kind in flight, and their cookies.
pub(super) fn table() -> (Table, Vec<Cookie>) {
    let mut table = Table::default();
    let commands = [Command::Read, Command::Write, Command::BlockStatus, Command::Flush, Command::Read];
    let cookies = commands.map(|command| {
        let carries_data = matches!(command, Command::Read | Command::Write);
        let buffer = if carries_data { vec![0xee; LENGTH as usize] } else { Vec::new() };
        let ask = Ask { command, flags: CommandFlags::NONE, offset: 5000, length: LENGTH };
        let key = table.insert(ask, buffer);
        table.begin(key, 0).expect("it is to be sent").1
    });
    (table, cookies.to_vec())
}

/// What became of a request.
type Fate = (Place, Option<String>, Vec<u8>);

/// How it ended, and what became of each request.
pub(super) fn fed(style: ReplyStyle, bytes: &[u8], cut: usize) -> (Result<(), Violation>, Vec<Fate>) {
    let (mut table, cookies) = table();
    let mut replies = Replies::new(0, style, Some(1));
    let (mut inbox, mut rest, mut end) = (Vec::new(), bytes, Ok(()));
    while !rest.is_empty() && end.is_ok() {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        inbox.extend_from_slice(piece);
        rest = after;
        match replies.advance(&inbox, &mut table) {
            Ok(taken) => drop(inbox.drain(..taken)),
            Err(violation) => end = Err(violation),
        }
    }
    let fates = (0..cookies.len()).map(|key| {
        let slot = table.slot(key);
        (slot.place, slot.outcome.as_ref().map(|outcome| format!("{outcome:?}")), slot.buffer.clone())
    });
    (end, fates.collect())
}
