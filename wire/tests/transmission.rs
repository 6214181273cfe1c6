//! Requests and replies survive the wire; `check` gives the error that the protocol names.

use proptest::collection::vec;
use proptest::prelude::*;

use wire::nbd::transmission::{
    BadMagic, BlockStatusPayload, ChunkType, Command, CommandFlags, Cookie, Errno, Extent, Limits,
    ReplyHeader, ReplyStyle, Request, STATE_HOLE, STATE_ZERO, TransmissionFlags, Verdict, check,
    decode_block_status, decode_block_status_payload, decode_error, decode_error_offset, decode_offset_hole,
    decode_reply_header, decode_request, encode_block_status_payload, encode_request, put_block_status,
    put_done, put_error, put_error_offset, put_none, put_offset_data, put_offset_hole, put_simple_reply,
};

const MIB: u64 = 1 << 20;
const STYLES: [ReplyStyle; 3] = [ReplyStyle::Simple, ReplyStyle::Structured, ReplyStyle::Extended];
const CHUNKED: [ReplyStyle; 2] = [ReplyStyle::Structured, ReplyStyle::Extended];

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

fn request(command: Command, offset: u64, length: u64) -> Request {
    Request { command, flags: CommandFlags::NONE, cookie: Cookie(7), offset, length }
}

fn verdict(request: Request) -> Verdict {
    check(&request, ReplyStyle::Structured, &limits())
}

fn flagged(mut request: Request, flags: CommandFlags) -> Request {
    request.flags = flags;
    request
}

fn any_request() -> impl Strategy<Value = Request> {
    let field = || prop_oneof![any::<u64>(), 0..4096_u64, (0..8_u64).prop_map(|n| n << 29)];
    (0..10_u16, prop_oneof![0..64_u16, any::<u16>()], any::<u64>(), field(), field()).prop_map(
        |(command, flags, cookie, offset, length)| Request {
            command: Command::from_u16(command),
            flags: CommandFlags::from_bits(flags),
            cookie: Cookie(cookie),
            offset,
            length,
        },
    )
}

fn any_style() -> impl Strategy<Value = ReplyStyle> {
    prop::sample::select(&STYLES[..])
}

proptest! {
    #[test]
    fn request_survives_the_wire(mut request in any_request(), style in any_style(), tail in vec(any::<u8>(), 0..40)) {
        if style != ReplyStyle::Extended {
            request.length &= u64::from(u32::MAX);
        }
        let mut bytes = Vec::new();
        encode_request(&mut bytes, style, &request);
        prop_assert_eq!(bytes.len(), style.request_bytes());
        for end in 0..bytes.len() {
            prop_assert_eq!(decode_request(&bytes[..end], style), Ok(None));
        }
        bytes.extend(tail);
        prop_assert_eq!(decode_request(&bytes, style), Ok(Some(request)));
    }

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

    #[test]
    fn reply_headers_survive_the_wire(cookie in any::<u64>(), offset in any::<u64>(), bytes in 1..1_u64 << 31, done in any::<bool>()) {
        let cookie = Cookie(cookie);
        for style in CHUNKED {
            let mut out = Vec::new();
            put_offset_data(&mut out, style, done, cookie, offset, 5, bytes);
            for end in 0..style.chunk_header_bytes() {
                prop_assert_eq!(decode_reply_header(&out[..end], style), Ok(None));
            }
            let header = decode_reply_header(&out, style).expect("good magic").expect("whole");
            let request_offset = (style == ReplyStyle::Extended).then_some(offset);
            let chunk = ChunkType::OffsetData;
            prop_assert_eq!(header, ReplyHeader::Chunk { cookie, done, chunk, request_offset, payload_bytes: 8 + bytes });
            prop_assert_eq!(header.header_bytes() + 8, out.len());
            prop_assert_eq!(&out[header.header_bytes()..], &5_u64.to_be_bytes());
        }
    }

    #[test]
    fn extents_survive_the_wire(extents in vec((1..1_u64 << 34, 0..4_u64), 1..20)) {
        let extents: Vec<Extent> = extents.into_iter().map(|(length, flags)| Extent { length, flags }).collect();
        let told: u64 = extents.iter().map(|extent| extent.length).sum();
        let wide = block_status(ReplyStyle::Extended, &extents);
        prop_assert_eq!(wide.iter().map(|extent| extent.length).sum::<u64>(), told);
        prop_assert!(wide.windows(2).all(|pair| pair[0].flags != pair[1].flags));
        let narrow = block_status(ReplyStyle::Structured, &extents);
        let (last, before) = narrow.split_last().expect("at least one");
        prop_assert_eq!(before, &wide[..before.len()]);
        prop_assert!(last.flags == wide[before.len()].flags && last.length <= wide[before.len()].length);
    }

    #[test]
    fn decoders_take_any_bytes(bytes in vec(any::<u8>(), 0..80), style in any_style()) {
        let _ = decode_request(&bytes, style);
        let _ = decode_reply_header(&bytes, style);
        let _ = decode_block_status_payload(&bytes);
        let _ = decode_error(&bytes);
        let _ = decode_error_offset(&bytes);
        let _ = decode_offset_hole(&bytes);
        for chunk in [ChunkType::BlockStatus, ChunkType::BlockStatusExt, ChunkType::None] {
            if let Some((_, extents)) = decode_block_status(chunk, &bytes) {
                prop_assert!(extents.iter().all(|extent| extent.length > 0));
            }
        }
    }
}

/// Encodes and decodes a status chunk.
fn block_status(style: ReplyStyle, extents: &[Extent]) -> Vec<Extent> {
    let mut out = vec![0xee; 3];
    put_block_status(&mut out, style, true, Cookie(1), 9, 42, extents);
    let (header, payload) = chunk(&out[3..], style);
    let ReplyHeader::Chunk { chunk, .. } = header else { panic!("{header:?}") };
    let (context, extents) = decode_block_status(chunk, payload).expect("well-formed");
    assert_eq!(context, 42);
    extents
}

/// The one chunk in `bytes`, whose length must be the one that it names.
fn chunk(bytes: &[u8], style: ReplyStyle) -> (ReplyHeader, &[u8]) {
    let header = decode_reply_header(bytes, style).expect("good magic").expect("whole");
    let ReplyHeader::Chunk { payload_bytes, .. } = header else { panic!("{header:?}") };
    let payload = &bytes[header.header_bytes()..];
    assert_eq!(payload.len() as u64, payload_bytes);
    (header, payload)
}

#[test]
fn wrong_magic_is_told_before_the_header_is_whole() {
    for style in STYLES {
        assert_eq!(decode_request(b"GET / HTTP/1.1", style), Err(BadMagic(0x4745_5420)));
        assert_eq!(decode_reply_header(b"HTTP", style), Err(BadMagic(0x4854_5450)));
    }
}

#[test]
fn compact_and_extended_headers_are_not_mixed() {
    let mut compact = Vec::new();
    encode_request(&mut compact, ReplyStyle::Simple, &request(Command::Read, 0, 1));
    compact.resize(64, 0);
    assert!(decode_request(&compact, ReplyStyle::Extended).is_err());
    let mut reply = Vec::new();
    put_simple_reply(&mut reply, Cookie(1), None);
    assert!(decode_reply_header(&reply, ReplyStyle::Extended).is_err());
}

#[test]
fn layout_of_a_request_is_the_protocols() {
    let mut out = Vec::new();
    let write = flagged(request(Command::Write, 0x0102, 0x0304), CommandFlags::FUA);
    encode_request(&mut out, ReplyStyle::Simple, &write);
    let expected = b"\x25\x60\x95\x13\0\x01\0\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x01\x02\0\0\x03\x04";
    assert_eq!(out, expected);
}

#[test]
fn layout_of_replies_is_the_protocols() {
    let mut out = Vec::new();
    put_simple_reply(&mut out, Cookie(7), Some(Errno::NoSpc));
    assert_eq!(out, b"\x67\x44\x66\x98\0\0\0\x1c\0\0\0\0\0\0\0\x07");
    out.clear();
    put_offset_hole(&mut out, ReplyStyle::Structured, false, Cookie(7), 0, 0x1000, 0x200);
    assert_eq!(out, b"\x66\x8e\x33\xef\0\0\0\x02\0\0\0\0\0\0\0\x07\0\0\0\x0c\0\0\0\0\0\0\x10\0\0\0\x02\0");
    out.clear();
    put_none(&mut out, ReplyStyle::Extended, true, Cookie(7), 0x99);
    assert_eq!(out, b"\x6e\x8a\x27\x8c\0\x01\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x99\0\0\0\0\0\0\0\0");
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
    let meant = sized(16).with_effect_length(1 << 33);
    assert_eq!(check(&meant, ReplyStyle::Extended, &limits), Verdict::Refuse(Errno::Inval), "beyond the end");
    assert_eq!(check(&sized(16).with_effect_length(MIB), ReplyStyle::Extended, &limits), Verdict::Serve);
}

#[test]
fn neighbouring_extents_of_equal_state_become_one() {
    let extent = |length, flags| Extent { length, flags };
    let extents = [extent(10, 0), extent(0, 3), extent(20, 0), extent(5, STATE_HOLE | STATE_ZERO)];
    for style in CHUNKED {
        assert_eq!(block_status(style, &extents), [extent(30, 0), extent(5, 3)]);
    }
}

#[test]
fn long_extent_is_clipped_to_a_block_boundary_where_32_bits_are_not_enough() {
    let extents = [
        Extent { length: 512, flags: 0 },
        Extent { length: 1 << 40, flags: 3 },
        Extent { length: 1, flags: 0 },
    ];
    assert_eq!(block_status(ReplyStyle::Extended, &extents), extents);
    let clipped = Extent { length: 0xffff_0000, flags: 3 };
    assert_eq!(block_status(ReplyStyle::Structured, &extents), [extents[0], clipped]);
}

#[test]
fn every_command_ends_in_every_style() {
    let result = |style, result| {
        let mut out = Vec::new();
        put_done(&mut out, style, Cookie(3), 0, result);
        let header = decode_reply_header(&out, style).expect("good magic").expect("whole");
        match header {
            ReplyHeader::Simple { error, .. } => error,
            ReplyHeader::Chunk { chunk: ChunkType::None, done: true, .. } => None,
            ReplyHeader::Chunk { chunk: ChunkType::Error, done: true, .. } => {
                decode_error(chunk(&out, style).1).map(|error| error.errno)
            }
            other => panic!("{other:?}"),
        }
    };
    for style in STYLES {
        assert_eq!(result(style, Ok(())), None);
        assert_eq!(result(style, Err(Errno::Io)), Some(Errno::Io));
    }
}

#[test]
fn errors_carry_their_message_cut_at_a_character() {
    for style in CHUNKED {
        let mut out = Vec::new();
        put_error(&mut out, style, true, Cookie(1), 0, Errno::Io, &"ü".repeat(3000));
        let error = decode_error(chunk(&out, style).1).expect("well-formed");
        assert_eq!((error.errno, error.message), (Errno::Io, "ü".repeat(2048).as_bytes()));
        out.clear();
        put_error_offset(&mut out, style, false, Cookie(1), 0, Errno::NoMem, "why", 77);
        let (error, offset) = decode_error_offset(chunk(&out, style).1).expect("well-formed");
        assert_eq!((error.errno, error.message, offset), (Errno::NoMem, &b"why"[..], 77));
    }
}

#[test]
fn unlisted_errors_read_as_invalid() {
    assert_eq!(Errno::from_u32(0), None);
    assert_eq!(Errno::from_u32(9999), Some(Errno::Inval));
    for errno in [1, 5, 12, 22, 28, 75, 95, 108] {
        assert_eq!(Errno::from_u32(errno).map(Errno::to_u32), Some(errno));
    }
}
