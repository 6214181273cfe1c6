//! Requests, replies and chunks survive the wire, in the protocol's own layout.

#[path = "common/requests.rs"]
mod requests;

use proptest::collection::vec;
use proptest::prelude::*;

use requests::{STYLES, any_request, any_style, flagged, request};
use wire::nbd::transmission::{
    BadMagic, ChunkType, Command, CommandFlags, Cookie, Errno, Extent, ReplyHeader, ReplyStyle, STATE_HOLE,
    STATE_ZERO, decode_block_status, decode_block_status_payload, decode_error, decode_error_offset,
    decode_offset_hole, decode_reply_header, decode_request, encode_request, put_block_status, put_done,
    put_error, put_error_offset, put_none, put_offset_data, put_offset_hole, put_simple_reply,
};

const CHUNKED: [ReplyStyle; 2] = [ReplyStyle::Structured, ReplyStyle::Extended];

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
        if style == ReplyStyle::Extended && request.command == Command::Write {
            request.flags = request.flags | CommandFlags::PAYLOAD_LEN;
        }
        bytes.extend(tail);
        prop_assert_eq!(decode_request(&bytes, style), Ok(Some(request)));
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

#[test]
fn number_of_wide_descriptors_may_be_left_out() {
    let mut payload = [0_u32, 1, 0, 512, 0, 3].map(u32::to_be_bytes).concat();
    let expected = Some((0, vec![Extent { length: 512, flags: 3 }]));
    assert_eq!(decode_block_status(ChunkType::BlockStatusExt, &payload), expected);
    payload[7] = 0;
    assert_eq!(decode_block_status(ChunkType::BlockStatusExt, &payload), expected);
    payload[7] = 2;
    assert_eq!(decode_block_status(ChunkType::BlockStatusExt, &payload), None);
}
