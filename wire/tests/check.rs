//! The server's verdict on requests: the error that the protocol names, or safe to carry out.

#[path = "common/requests.rs"]
mod requests;

use proptest::prelude::*;

use requests::{STYLES, any_request, any_style, flagged, request};
use wire::nbd::transmission::{
    BlockStatusPayload, Command, CommandFlags, Errno, Limits, ReplyStyle, Request, TransmissionFlags,
    Verdict, check, decode_block_status_payload, encode_block_status_payload,
};

const MIB: u64 = 1 << 20;

fn all_flags() -> TransmissionFlags {
    TransmissionFlags::from_bits(0x1fff).without(TransmissionFlags::READ_ONLY)
}

fn limits() -> Limits {
    Limits {
        size_bytes: 1024 * MIB,
        flags: all_flags(),
        block_min: 1,
        payload_bytes_max: 32 << 20,
        drain_bytes_max: 64 * MIB,
        contexts: 1,
    }
}

fn verdict(request: Request) -> Verdict {
    check(&request, ReplyStyle::Structured, &limits())
}

proptest! {
    #[test]
    fn what_passes_the_check_is_safe_to_carry_out(request in any_request(), style in any_style(), bits in any::<u16>(), shift in 0..13_u32) {
        let limits = Limits { flags: TransmissionFlags::from_bits(bits), block_min: 1 << shift, ..limits() };
        let verdict = check(&request, style, &limits);
        let counts_payload = request.flags.contains(CommandFlags::PAYLOAD_LEN);
        let ranged = match request.command {
            Command::Disconnect | Command::Flush => false,
            Command::BlockStatus => !counts_payload,
            _ => true,
        };
        if verdict == Verdict::Serve && ranged {
            prop_assert!(request.length > 0);
            prop_assert!(request.offset.checked_add(request.length).is_some_and(|end| end <= limits.size_bytes));
            prop_assert_eq!((request.offset | request.length) % (1 << shift), 0);
            if matches!(request.command, Command::Read | Command::Write) {
                prop_assert!(request.length <= limits.payload_bytes_max.into());
            }
        }
        if !matches!(verdict, Verdict::Close(_)) {
            prop_assert!(request.payload_bytes(style) <= limits.drain_bytes_max);
        }
    }
}

#[test]
fn commands_in_range_are_served() {
    use Command::{Cache, Read, Trim, Write, WriteZeroes};
    for command in [Read, Write, Trim, Cache, WriteZeroes, Command::BlockStatus] {
        assert_eq!(verdict(request(command, 1023 * MIB, MIB)), Verdict::Serve, "{command:?}");
        let with_fua = flagged(request(command, 0, 1), CommandFlags::FUA);
        assert_eq!(verdict(with_fua), Verdict::Serve, "{command:?} with FUA");
    }
    assert_eq!(verdict(request(Command::Flush, 0, 0)), Verdict::Serve);
}

#[test]
fn writes_beyond_the_end_find_no_space() {
    for command in [Command::Write, Command::WriteZeroes] {
        for (offset, length) in [(1024 * MIB, 1), (1024 * MIB - 1, 2), (u64::MAX, 1), (u64::MAX - 5, 100)] {
            assert_eq!(verdict(request(command, offset, length)), Verdict::Refuse(Errno::NoSpc));
        }
    }
}

#[test]
fn everything_else_beyond_the_end_is_invalid() {
    for command in [Command::Read, Command::Trim, Command::Cache, Command::BlockStatus] {
        for (offset, length) in [(1024 * MIB, 1), (1024 * MIB - 1, 2), (u64::MAX, u64::MAX)] {
            assert_eq!(verdict(request(command, offset, length)), Verdict::Refuse(Errno::Inval));
        }
    }
}

#[test]
fn read_only_export_permits_no_write() {
    let limits = Limits { flags: all_flags() | TransmissionFlags::READ_ONLY, ..limits() };
    for command in [Command::Write, Command::Trim, Command::WriteZeroes] {
        let verdict = check(&request(command, 2048 * MIB, 512), ReplyStyle::Simple, &limits);
        assert_eq!(verdict, Verdict::Refuse(Errno::Perm), "{command:?}");
    }
    let bare = Limits { flags: TransmissionFlags::READ_ONLY, ..limits };
    let verdict = check(&request(Command::Trim, 0, 512), ReplyStyle::Simple, &bare);
    assert_eq!(verdict, Verdict::Refuse(Errno::Perm), "not even where trim was not advertised");
}

#[test]
fn unknown_commands_and_flags_are_invalid() {
    assert_eq!(verdict(request(Command::Unknown(8), 0, 512)), Verdict::Refuse(Errno::Inval));
    for command in [Command::Read, Command::Write, Command::Trim, Command::Cache, Command::WriteZeroes] {
        let request = flagged(request(command, 0, 512), CommandFlags::from_bits(1 << 9));
        assert_eq!(verdict(request), Verdict::Refuse(Errno::Inval), "{command:?}");
    }
}

#[test]
fn flags_are_only_valid_where_the_protocol_puts_them() {
    let places = [
        (CommandFlags::NO_HOLE, Command::WriteZeroes),
        (CommandFlags::FAST_ZERO, Command::WriteZeroes),
        (CommandFlags::DF, Command::Read),
        (CommandFlags::REQ_ONE, Command::BlockStatus),
    ];
    for (flag, place) in places {
        for value in [0, 1, 4, 5, 6, 7] {
            let command = Command::from_u16(value);
            let expected = if command == place { Verdict::Serve } else { Verdict::Refuse(Errno::Inval) };
            assert_eq!(verdict(flagged(request(command, 0, 512), flag)), expected, "{flag:?} on {command:?}");
        }
    }
}

#[test]
fn what_was_not_advertised_is_invalid() {
    use CommandFlags as Flag;
    let plain = Limits { flags: TransmissionFlags::HAS_FLAGS, contexts: 0, ..limits() };
    let requests = [
        request(Command::Flush, 0, 0),
        request(Command::Trim, 0, 512),
        request(Command::Cache, 0, 512),
        request(Command::WriteZeroes, 0, 512),
        request(Command::BlockStatus, 0, 512),
        flagged(request(Command::Write, 0, 512), Flag::FUA),
        flagged(request(Command::Read, 0, 512), Flag::DF),
    ];
    for request in requests {
        assert_eq!(
            check(&request, ReplyStyle::Structured, &plain),
            Verdict::Refuse(Errno::Inval),
            "{request:?}"
        );
    }
    let no_fast_zero = Limits { flags: all_flags().without(TransmissionFlags::SEND_FAST_ZERO), ..limits() };
    let fast = flagged(request(Command::WriteZeroes, 0, 512), Flag::FAST_ZERO);
    assert_eq!(check(&fast, ReplyStyle::Structured, &no_fast_zero), Verdict::Refuse(Errno::Inval));
}

#[test]
fn flush_takes_no_range() {
    assert_eq!(verdict(request(Command::Flush, 0, 1)), Verdict::Refuse(Errno::Inval));
    assert_eq!(verdict(request(Command::Flush, 1, 0)), Verdict::Refuse(Errno::Inval));
}

#[test]
fn disconnect_is_never_refused() {
    let odd = flagged(request(Command::Disconnect, 5, 6), CommandFlags::from_bits(0xffdf));
    assert_eq!(verdict(odd), Verdict::Serve);
}

#[test]
fn empty_ranges_are_invalid() {
    for value in [0, 1, 4, 5, 6, 7] {
        let command = Command::from_u16(value);
        assert_eq!(verdict(request(command, 0, 0)), Verdict::Refuse(Errno::Inval), "{command:?}");
    }
}

#[test]
fn unaligned_ranges_are_invalid_where_blocks_are_larger() {
    let limits = Limits { block_min: 4096, ..limits() };
    for (offset, length) in [(512, 4096), (4096, 512)] {
        for value in [0, 1, 4, 6] {
            let request = request(Command::from_u16(value), offset, length);
            assert_eq!(check(&request, ReplyStyle::Simple, &limits), Verdict::Refuse(Errno::Inval));
        }
    }
}

#[test]
fn over_long_data_is_refused_and_far_too_long_data_ends_the_session() {
    let big = |command, length| verdict(request(command, 0, length));
    for command in [Command::Read, Command::Write] {
        assert_eq!(big(command, 32 * MIB), Verdict::Serve);
        assert_eq!(big(command, 32 * MIB + 1), Verdict::Refuse(Errno::Inval));
    }
    assert_eq!(big(Command::Write, 64 * MIB), Verdict::Refuse(Errno::Inval));
    assert!(matches!(big(Command::Write, 64 * MIB + 1), Verdict::Close(_)));
    let extended = |length| check(&request(Command::Write, 0, length), ReplyStyle::Extended, &limits());
    assert_eq!(extended(32 * MIB), Verdict::Serve);
    assert!(matches!(extended(32 * MIB + 1), Verdict::Close(_)), "these clients know the maximum");
    let unfragmented = flagged(request(Command::Read, 0, 33 * MIB), CommandFlags::DF);
    assert_eq!(verdict(unfragmented), Verdict::Refuse(Errno::Overflow));
    for command in [Command::Trim, Command::WriteZeroes, Command::Cache, Command::BlockStatus] {
        assert_eq!(big(command, 1024 * MIB), Verdict::Serve, "{command:?} carries no data");
    }
}

#[test]
fn payload_follows_writes_and_what_says_so() {
    let read = flagged(request(Command::Read, 0, 512), CommandFlags::PAYLOAD_LEN);
    assert_eq!(read.payload_bytes(ReplyStyle::Structured), 0);
    assert_eq!(read.payload_bytes(ReplyStyle::Extended), 512);
    assert_eq!(check(&read, ReplyStyle::Extended, &limits()), Verdict::Refuse(Errno::Inval));
    let write = request(Command::Write, 0, 512);
    for style in STYLES {
        assert_eq!(write.payload_bytes(style), 512);
    }
    let flagged_write = flagged(write, CommandFlags::PAYLOAD_LEN);
    assert_eq!(check(&flagged_write, ReplyStyle::Extended, &limits()), Verdict::Serve);
    assert_eq!(check(&flagged_write, ReplyStyle::Structured, &limits()), Verdict::Refuse(Errno::Inval));
    let huge = flagged(request(Command::Trim, 0, 1 << 40), CommandFlags::PAYLOAD_LEN);
    assert!(matches!(check(&huge, ReplyStyle::Extended, &limits()), Verdict::Close(_)));
}

#[test]
fn block_status_may_name_its_contexts() {
    let limits = Limits { contexts: 2, ..limits() };
    let sized = |bytes| flagged(request(Command::BlockStatus, 512, bytes), CommandFlags::PAYLOAD_LEN);
    let verdict = |bytes| check(&sized(bytes), ReplyStyle::Extended, &limits);
    assert_eq!([12, 16].map(verdict), [Verdict::Serve; 2]);
    assert_eq!([0, 8, 13, 20].map(verdict), [Verdict::Refuse(Errno::Inval); 4]);

    let payload = BlockStatusPayload { length: 1 << 33, context_ids: vec![1, 5] };
    let mut bytes = Vec::new();
    encode_block_status_payload(&mut bytes, &payload);
    assert_eq!(decode_block_status_payload(&bytes), Some(payload));
    assert_eq!(decode_block_status_payload(&bytes[..15]), None);
    bytes[15] = 1;
    bytes[11] = 1;
    assert_eq!(decode_block_status_payload(&bytes), None, "a context named twice");
    let meant = sized(16).with_effect_length(1 << 33);
    assert_eq!(check(&meant, ReplyStyle::Extended, &limits), Verdict::Refuse(Errno::Inval), "beyond the end");
    assert_eq!(check(&sized(16).with_effect_length(MIB), ReplyStyle::Extended, &limits), Verdict::Serve);
}
