//! Frames and messages: there and back, damaged, hostile, and byte for byte as they are documented.

use proptest::prelude::*;
use replication::VolumeId;
use replication::message::Message;
use replication::wire::frame::{
    CONTROL_BYTES_MAX, FrameError, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Payload, Stamp, encode,
};
use replication::wire::message::decode;

use super::samples::{self, Sample, payload};

const STAMP: Stamp = Stamp { version: 1, volume: Some(VolumeId([7; 16])) };

fn framed(sample: &Sample) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&sample.0, STAMP, payload(sample.1), &mut out);
    out
}

fn parse(frame: &[u8]) -> Result<(Header, Message), FrameError> {
    let (header, control) = frame.split_first_chunk().expect("a header");
    let header = Header::decode(header, STAMP.version)?;
    header.check_control(control)?;
    Ok((header, decode(&header, control)?))
}

/// A frame whose checksum fits whatever is in it.
fn forged(mut frame: Vec<u8>) -> Vec<u8> {
    let control_bytes = (frame.len() - HEADER_BYTES) as u32;
    frame[8..12].copy_from_slice(&control_bytes.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..44]), &frame[HEADER_BYTES..]);
    frame[44..48].copy_from_slice(&crc.to_le_bytes());
    frame
}

#[test]
fn every_kind_of_message_comes_back_as_it_was_sent() {
    for sample in samples::all() {
        let (header, message) = parse(&framed(&sample)).unwrap_or_else(|error| panic!("{sample:?}: {error}"));
        assert_eq!((message, header.payload, header.volume), (sample.0, payload(sample.1), STAMP.volume));
    }
}

#[test]
fn frames_follow_one_another_in_one_buffer() {
    let mut out = Vec::new();
    let all = samples::all();
    all.iter().for_each(|(message, bytes)| encode(message, STAMP, payload(*bytes), &mut out));
    let mut rest = &out[..];
    for (message, _) in &all {
        let header = Header::decode(rest.first_chunk().expect("a header"), 1).expect("ours");
        let frame_bytes = HEADER_BYTES + header.control_bytes;
        assert_eq!(parse(&rest[..frame_bytes]).expect("ours").1, *message);
        rest = &rest[frame_bytes..];
    }
    assert!(rest.is_empty());
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    for sample in samples::all() {
        let frame = framed(&sample);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&damaged).is_err(), "bit {bit} of {sample:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_payload_is_noticed() {
    let bytes = [0x5A; 512];
    let sound = Payload::of(&bytes);
    let (message, _) = samples::all().into_iter().find(|(_, bytes)| bytes.is_some()).expect("a write");
    let mut frame = Vec::new();
    encode(&message, STAMP, Some(sound), &mut frame);
    let header = Header::decode(frame.first_chunk().expect("a header"), 1).expect("ours");
    assert_eq!(header.check_payload(crc32c::crc32c(&bytes)), Ok(()));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(header.check_payload(crc32c::crc32c(&damaged)), Err(FrameError::PayloadChecksum));
    }
}

#[test]
fn what_is_cut_short_is_never_a_message() {
    for sample in samples::all() {
        let frame = framed(&sample);
        for end in HEADER_BYTES..frame.len() {
            assert_eq!(parse(&frame[..end]), Err(FrameError::HeaderChecksum));
            let honest = forged(frame[..end].to_vec());
            assert!(matches!(parse(&honest), Err(FrameError::Message(_))), "{end} of {sample:?}");
        }
    }
}

#[test]
fn bytes_behind_a_message_are_refused() {
    for sample in samples::all() {
        let mut frame = framed(&sample);
        frame.push(0);
        assert_eq!(parse(&forged(frame)), Err(FrameError::Message("it is longer than what it says")));
    }
}

#[test]
fn lengths_beyond_the_bounds_are_refused_by_the_header_alone() {
    let frame = framed(&samples::all()[0]);
    for (at, most) in [(8, CONTROL_BYTES_MAX), (12, PAYLOAD_BYTES_MAX)] {
        for bytes in [most as u32 + 1, u32::MAX] {
            let mut header: [u8; HEADER_BYTES] = *frame.first_chunk().expect("a header");
            header[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
            assert_eq!(Header::decode(&header, 1), Err(FrameError::TooLong));
        }
    }
}

#[test]
fn counts_beyond_the_bounds_are_refused_whatever_follows() {
    // Led: variant, epoch, then the set's count.
    let led = samples::all().into_iter().find(|(message, _)| matches!(message, Message::Led { .. }));
    let (message, _) = led.expect("one of every kind");
    for count in [65537_u32, u32::MAX] {
        let mut frame = framed(&(message.clone(), None));
        frame[HEADER_BYTES + 12..][..4].copy_from_slice(&count.to_le_bytes());
        assert_eq!(parse(&forged(frame)), Err(FrameError::Message("a list is too long")));
    }
}

#[test]
fn numbers_that_nobody_could_mean_are_refused() {
    let write = samples::all().into_iter().find(|(message, _)| matches!(message, Message::Write { .. }));
    let frame = framed(&write.expect("a write"));
    let with = |at: usize, number: u64| {
        let mut frame = frame.clone();
        frame[HEADER_BYTES + at..][..8].copy_from_slice(&number.to_le_bytes());
        parse(&forged(frame)).expect_err("refused")
    };
    let (epoch, seq, start, bytes) = (4, 12, 20, 28);
    assert_eq!(with(epoch, u64::MAX), FrameError::Message("a number has no next one"));
    assert_eq!(with(epoch, 6), FrameError::Message("its epoch is not that of its frame"));
    assert_eq!(with(seq, u64::MAX), FrameError::Message("a number has no next one"));
    assert_eq!(with(start, u64::MAX), FrameError::Message("a range ends beyond every volume"));
    assert_eq!(with(bytes, 0), FrameError::Message("a range is empty, or too long"));
    assert_eq!(with(bytes, (32 << 20) + 1), FrameError::Message("a range is empty, or too long"));
    assert_eq!(with(bytes, 8192), FrameError::Message("its payload is not as long as it must be"));
}

#[test]
fn a_message_has_the_payload_that_it_must_have() {
    for (message, bytes) in samples::all() {
        let may_have_either = matches!(message, Message::Forwarded { result: Ok(()), .. });
        let wrong = if bytes.is_some() { None } else { Some(512) };
        assert_eq!(parse(&framed(&(message, wrong))).is_ok(), may_have_either);
    }
}

#[test]
fn unknown_kinds_are_refused() {
    let mut frame = framed(&samples::all()[0]);
    frame[HEADER_BYTES..][..4].copy_from_slice(&1000_u32.to_le_bytes());
    assert_eq!(parse(&forged(frame)), Err(FrameError::Message("its kind is unknown")));
}

#[test]
fn a_frame_of_another_version_or_of_none_is_refused() {
    let frame = framed(&samples::all()[0]);
    let header = frame.first_chunk().expect("a header");
    assert_eq!(Header::decode(header, 2), Err(FrameError::Version(1)));
    assert_eq!(
        Header::decode(b"GET / HTTP/1.1\r\nHost: 10.0.0.1:9811\r\nAccept: */*", 1),
        Err(FrameError::Magic)
    );
}

#[test]
fn a_frame_of_another_volume_is_refused_but_for_greetings() {
    for sample in samples::all() {
        let (header, message) = parse(&framed(&sample)).expect("ours");
        assert_eq!(header.check_volume(STAMP.volume, &message), Ok(()));
        assert_eq!(header.check_volume(None, &message), Ok(()));
        let foreign = header.check_volume(Some(VolumeId([8; 16])), &message);
        let greets = matches!(message, Message::Hello(_) | Message::Refused { .. });
        assert_eq!(foreign, if greets { Ok(()) } else { Err(FrameError::ForeignVolume) });
    }
}

/// The documented layout, byte for byte: whoever changes it changes the protocol's version.
#[test]
fn a_write_is_laid_out_as_documented() {
    let write = samples::all().into_iter().find(|(message, _)| matches!(message, Message::Write { .. }));
    let frame = framed(&write.expect("a write"));
    let header =
        "52534631 0100 0000 2a000000 00100000 0500000000000000 07070707070707070707070707070707 00eeffc0";
    assert_eq!(hex(&frame[..44]), header.replace(' ', ""));
    let control =
        "07000000 0500000000000000 4d00000000000000 0020000000000000 0010000000000000 00000000 01 00";
    assert_eq!(hex(&frame[HEADER_BYTES..]), control.replace(' ', ""));
}

/// A fingerprint of every sample's control bytes, so that no field and no variant moves unnoticed.
#[test]
fn no_message_changes_its_layout_unnoticed() {
    let mut crc = 0;
    for sample in samples::all() {
        crc = crc32c::crc32c_append(crc, &framed(&sample)[HEADER_BYTES..]);
    }
    assert_eq!(
        crc, 0x15EF_5317,
        "a layout has changed: raise the protocol's version once it has been released"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_message_comes_back_as_it_was_sent(sample in samples::any_sample()) {
        let (header, message) = parse(&framed(&sample)).expect("ours");
        prop_assert_eq!((message, header.payload), (sample.0, payload(sample.1)));
    }

    #[test]
    fn noise_with_a_right_checksum_is_refused_or_is_what_it_encodes_to(
        sample in samples::any_sample(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = framed(&sample);
        for (at, value) in edits {
            let at = HEADER_BYTES + at.index(frame.len() - HEADER_BYTES);
            frame[at] = value;
        }
        let frame = forged(frame);
        if let Ok((header, message)) = parse(&frame) {
            prop_assert_eq!(framed(&(message, header.payload.map(|payload| payload.bytes))), frame);
        }
    }
}
