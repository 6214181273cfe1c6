//! What may be asked of an export: checked here, before it is sent.

use wire::nbd::transmission::{Command, CommandFlags, ReplyStyle, TransmissionFlags as Has};

use super::request::Ask;
use crate::error::{Error, Kind};
use crate::export::Export;

/// A length of 32 bits that is a multiple of every lawful block size.
const COMPACT_BYTES_MAX: u64 = 0xffff_0000;
/// Some servers zero only so much of a longer range, and report success.
const ZERO_BYTES_MAX: u64 = 32 << 20;

/// Refuses what the server would, or must, refuse.
pub(super) fn check(ask: &Ask, export: &Export) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(Kind::Request, format!("{ask} of {:?}: {why}", export.name)));
    if let Some((_, word)) = needs(ask).find(|(flag, _)| !export.has(*flag)) {
        return refuse(format!("the export does not offer {word}"));
    }
    let changes = matches!(ask.command, Command::Write | Command::WriteZeroes | Command::Trim);
    if changes && export.is_read_only() {
        return refuse("the export is read-only".to_owned());
    }
    if ask.command == Command::BlockStatus && !export.has_allocation() {
        return refuse("the export does not tell where there is data".to_owned());
    }
    if ask.offset.checked_add(ask.length).is_none_or(|end| end > export.size_bytes) {
        return refuse(format!("the export ends at {}", export.size_bytes));
    }
    let block = u64::from(export.block_sizes.min);
    if !ask.offset.is_multiple_of(block) || !ask.length.is_multiple_of(block) {
        return refuse(format!("the export wants multiples of {block} bytes"));
    }
    let carries_data = matches!(ask.command, Command::Read | Command::Write);
    if carries_data && ask.length > export.block_sizes.payload_max.into() {
        return refuse(format!("the export takes at most {} bytes at once", export.block_sizes.payload_max));
    }
    Ok(())
}

fn needs(ask: &Ask) -> impl Iterator<Item = (Has, &'static str)> {
    let by_command = match ask.command {
        Command::Flush => Some((Has::SEND_FLUSH, "flush")),
        Command::Trim => Some((Has::SEND_TRIM, "trim")),
        Command::WriteZeroes => Some((Has::SEND_WRITE_ZEROES, "writing of zeroes")),
        Command::Cache => Some((Has::SEND_CACHE, "cache")),
        _ => None,
    };
    let by_flag = [
        (CommandFlags::FUA, (Has::SEND_FUA, "FUA: flush instead")),
        (CommandFlags::FAST_ZERO, (Has::SEND_FAST_ZERO, "fast zeroes")),
    ];
    let flags = ask.flags;
    let by_flag = by_flag.into_iter().filter(move |(flag, _)| flags.contains(*flag)).map(|(_, need)| need);
    by_command.into_iter().chain(by_flag)
}

/// How much of it to ask for at once.
pub(super) fn piece(ask: &Ask, export: &Export) -> u64 {
    let most = match (export.style, ask.command) {
        (ReplyStyle::Extended, _) => u64::MAX,
        (_, Command::WriteZeroes) => ZERO_BYTES_MAX,
        _ => COMPACT_BYTES_MAX,
    };
    ask.length.min(most)
}
