//! What a server refuses by looking at a request's header alone, with the protocol's error for it.
//!
//! Its one rule: whatever `check` lets pass lies inside the export, is aligned, was advertised and
//! fits the limits, so nobody behind it looks again.

use super::{Command, CommandFlags, Errno, ReplyStyle, Request, TransmissionFlags};

/// What was promised to this client, and what we put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The export's size.
    pub size_bytes: u64,
    /// The flags that this client was sent.
    pub flags: TransmissionFlags,
    /// The smallest unit of offsets and lengths: a power of two.
    pub block_min: u32,
    /// The longest read or write.
    pub payload_bytes_max: u32,
    /// The longest write that is refused by receiving and forgetting it; beyond it we hang up.
    pub drain_bytes_max: u64,
    /// How many metadata contexts were selected.
    pub contexts: u32,
}

impl Limits {
    /// Whether the export refuses writes.
    #[inline]
    pub fn read_only(&self) -> bool {
        self.flags.contains(TransmissionFlags::READ_ONLY)
    }
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out.
    Serve,
    /// Receive and forget its payload, then answer with the error.
    Refuse(Errno),
    /// Hang up: the stream cannot be trusted, for the reason given.
    Close(&'static str),
}

/// The verdict on `request` of a client with these `limits`.
#[inline]
pub fn check(request: &Request, style: ReplyStyle, limits: &Limits) -> Verdict {
    if request.payload_bytes(style) > received_bytes_max(style, limits) {
        return Verdict::Close("a payload far beyond the advertised maximum");
    }
    match refusal(request, style, limits) {
        None => Verdict::Serve,
        Some(errno) => Verdict::Refuse(errno),
    }
}

/// Clients with extended headers know the maximum, so beyond it the protocol wants them to be hung up on at once.
#[inline]
fn received_bytes_max(style: ReplyStyle, limits: &Limits) -> u64 {
    let served = u64::from(limits.payload_bytes_max);
    if style == ReplyStyle::Extended { served } else { served.max(limits.drain_bytes_max) }
}

#[inline]
fn refusal(request: &Request, style: ReplyStyle, limits: &Limits) -> Option<Errno> {
    let Some(rule) = rule(request.command, style, limits) else { return Some(Errno::Inval) };
    if rule.writes && limits.read_only() {
        return Some(Errno::Perm);
    }
    if !rule.offered || request.flags.has_other_than(rule.flags) {
        return Some(Errno::Inval);
    }
    match request.command {
        // Nothing can be answered to a disconnect, so nothing is refused.
        Command::Disconnect => None,
        Command::Flush => (request.offset != 0 || request.length != 0).then_some(Errno::Inval),
        Command::BlockStatus if request.flags.contains(CommandFlags::PAYLOAD_LEN) => {
            bad_status_payload(request.length, limits).then_some(Errno::Inval)
        }
        _ => bad_range(request, limits),
    }
}

/// What the protocol says of one command under what was advertised.
struct Rule {
    offered: bool,
    writes: bool,
    flags: CommandFlags,
}

#[inline]
fn rule(command: Command, style: ReplyStyle, limits: &Limits) -> Option<Rule> {
    use TransmissionFlags as Has;
    let has = |flag| limits.flags.contains(flag);
    let if_has = |flag, allowed| if has(flag) { allowed } else { CommandFlags::NONE };
    let (offered, writes, flags) = match command {
        Command::Read => (true, false, if_has(Has::SEND_DF, CommandFlags::DF)),
        Command::Write if style == ReplyStyle::Extended => (true, true, CommandFlags::PAYLOAD_LEN),
        Command::Write => (true, true, CommandFlags::NONE),
        Command::Disconnect => (true, false, CommandFlags::from_bits(u16::MAX)),
        Command::Flush => (has(Has::SEND_FLUSH), false, CommandFlags::NONE),
        Command::Trim => (has(Has::SEND_TRIM), true, CommandFlags::NONE),
        Command::Cache => (has(Has::SEND_CACHE), false, CommandFlags::NONE),
        Command::WriteZeroes => {
            let fast = if_has(Has::SEND_FAST_ZERO, CommandFlags::FAST_ZERO);
            (has(Has::SEND_WRITE_ZEROES), true, CommandFlags::NO_HOLE | fast)
        }
        Command::BlockStatus => {
            let named = if_has(Has::BLOCK_STATUS_PAYLOAD, CommandFlags::PAYLOAD_LEN);
            (limits.contexts > 0, false, CommandFlags::REQ_ONE | named)
        }
        Command::Unknown(_) => return None,
    };
    // FUA is to be accepted on every command, once advertised: clients are known to set it anywhere.
    Some(Rule { offered, writes, flags: flags | if_has(Has::SEND_FUA, CommandFlags::FUA) })
}

/// A range that is empty, leaves the export, is unaligned or too long.
#[inline]
fn bad_range(request: &Request, limits: &Limits) -> Option<Errno> {
    let Request { command, offset, length, .. } = *request;
    if length == 0 {
        return Some(Errno::Inval);
    }
    if offset > limits.size_bytes || length > limits.size_bytes - offset {
        return Some(beyond_the_end(command));
    }
    if (offset | length) & (u64::from(limits.block_min) - 1) != 0 {
        return Some(Errno::Inval);
    }
    let carries_data = matches!(command, Command::Read | Command::Write);
    (carries_data && length > limits.payload_bytes_max.into())
        .then(|| if request.flags.contains(CommandFlags::DF) { Errno::Overflow } else { Errno::Inval })
}

#[cold]
fn beyond_the_end(command: Command) -> Errno {
    match command {
        Command::Write | Command::WriteZeroes => Errno::NoSpc,
        _ => Errno::Inval,
    }
}

/// Eight bytes of length, then one to all contexts of four bytes each.
#[cold]
fn bad_status_payload(payload_bytes: u64, limits: &Limits) -> bool {
    payload_bytes < 12
        || !payload_bytes.is_multiple_of(4)
        || payload_bytes > 8 + 4 * u64::from(limits.contexts)
}
