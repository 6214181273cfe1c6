//! What must hold whatever a stranger sends: plain functions, for the fuzzer and for ordinary tests.
//!
//! The first bytes of the input choose the configuration, the rest is what the peer sends.

mod iscsi;
mod iscsi_session;
mod scsi_cdb;

pub use iscsi::{iscsi_initiator, iscsi_login, iscsi_pdu, iscsi_text};
pub use iscsi_session::iscsi_session;
pub use scsi_cdb::scsi_cdb;

use wire::nbd::dial::{Dial, DialOptions, DialStep, Goal};
use wire::nbd::handshake::{
    BASE_ALLOCATION, ExportInfo, ExportTable, LABEL_NAMESPACE, Negotiation, OPTION_BYTES_MAX, ServerPolicy,
    Step, TlsPolicy,
};
use wire::nbd::transmission::{
    ChunkType, Command, CommandFlags, Errno, Extent, Limits, ReplyHeader, ReplyStyle, Request,
    TransmissionFlags, Verdict, check, decode_block_status, decode_block_status_payload, decode_error,
    decode_error_offset, decode_offset_hole, decode_reply_header, decode_request,
    encode_block_status_payload, encode_request, put_block_status, put_done, put_offset_data,
};

const STYLES: [ReplyStyle; 3] = [ReplyStyle::Simple, ReplyStyle::Structured, ReplyStyle::Extended];

/// The server's handshake: never panics, answers within bounds, and alike however the bytes are cut.
pub fn negotiation(data: &[u8]) {
    let Some((&[choice, cut], bytes)) = data.split_first_chunk() else { return };
    let tls = [TlsPolicy::Off, TlsPolicy::Allow, TlsPolicy::Require][usize::from(choice) % 3];
    let default_export = (choice & 4 != 0).then(|| "disk0".to_owned());
    let policy = ServerPolicy { tls, default_export, options_max: 64 };
    let in_pieces = serve(policy.clone(), bytes, usize::from(cut) + 1);
    if tls == TlsPolicy::Off {
        assert_eq!(in_pieces, serve(policy, bytes, usize::MAX));
    }
}

/// What the server says, how it ends, and how many bytes it took.
fn serve(policy: ServerPolicy, bytes: &[u8], cut_bytes: usize) -> (Vec<u8>, Option<Step>, usize) {
    let exports: ExportTable = [export("disk0", true), export("disk1", false)].into_iter().collect();
    let mut said = Vec::new();
    let mut server = Negotiation::new(policy, &mut said);
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut out = Vec::new();
        let (taken, step) = server.step(&rest[..cut_bytes.min(rest.len())], &exports, &mut out);
        assert!(taken > 0 && out.len() < 2 * OPTION_BYTES_MAX);
        rest = &rest[taken..];
        said.append(&mut out);
        match step {
            Step::More => {}
            Step::StartTls => server.tls_established(),
            end => return (said, Some(end), bytes.len() - rest.len()),
        }
    }
    (said, None, bytes.len())
}

fn export(name: &str, offers_allocation: bool) -> ExportInfo {
    ExportInfo {
        name: name.to_owned(),
        description: "a volume".to_owned(),
        size_bytes: 1 << 30,
        flags: TransmissionFlags::SEND_FLUSH
            | TransmissionFlags::SEND_FUA
            | TransmissionFlags::SEND_WRITE_ZEROES,
        block_min: 512,
        block_preferred: 4096,
        payload_max: 1 << 20,
        offers_allocation,
        labels: Vec::new(),
    }
}

/// A stream of requests: what is served lies inside the export, and every answer can be read back.
pub fn requests(data: &[u8]) {
    let Some((&[choice, flags_high, flags_low], bytes)) = data.split_first_chunk() else { return };
    let style = STYLES[usize::from(choice) % 3];
    let limits = Limits {
        size_bytes: 1 << (choice >> 3),
        flags: TransmissionFlags::from_bits(u16::from_be_bytes([flags_high, flags_low])),
        block_min: if choice & 4 == 0 { 1 } else { 512 },
        payload_bytes_max: 4096,
        drain_bytes_max: 8192,
        contexts: 2,
    };
    let mut rest = bytes;
    while let Ok(Some(request)) = decode_request(rest, style) {
        let (header, after) = rest.split_at(style.request_bytes());
        assert_survives(&request, header, style);
        let Some(payload) = answer(&request, style, &limits, after) else { return };
        rest = &after[payload..];
    }
}

fn assert_survives(request: &Request, header: &[u8], style: ReplyStyle) {
    let mut again = Vec::new();
    encode_request(&mut again, style, request);
    let lacks_flag = style == ReplyStyle::Extended && request.command == Command::Write;
    if lacks_flag && !request.flags.contains(CommandFlags::PAYLOAD_LEN) {
        // We never send what we put up with.
        again[5] ^= CommandFlags::PAYLOAD_LEN.bits() as u8;
    }
    assert_eq!(again, header);
}

/// How many bytes of payload to skip; `None` where the session ends.
fn answer(request: &Request, style: ReplyStyle, limits: &Limits, after: &[u8]) -> Option<usize> {
    let payload_bytes = usize::try_from(request.payload_bytes(style)).ok()?;
    match check(request, style, limits) {
        Verdict::Close(_) => None,
        Verdict::Refuse(errno) => {
            assert_eq!(ending(request, style, Err(errno)), Some(errno));
            after.get(..payload_bytes).map(<[u8]>::len)
        }
        Verdict::Serve => {
            assert!(payload_bytes as u64 <= limits.drain_bytes_max);
            let payload = after.get(..payload_bytes)?;
            serve_one(request, style, limits, payload)?;
            Some(payload_bytes)
        }
    }
}

fn serve_one(request: &Request, style: ReplyStyle, limits: &Limits, payload: &[u8]) -> Option<()> {
    match request.command {
        Command::Disconnect => return None,
        Command::Flush => {}
        Command::BlockStatus if request.flags.contains(CommandFlags::PAYLOAD_LEN) => {
            let mut again = Vec::new();
            match decode_block_status_payload(payload) {
                Some(asked) => encode_block_status_payload(&mut again, &asked),
                None => return Some(()),
            }
            assert_eq!(again, payload);
        }
        _ => assert_inside(request, limits),
    }
    if request.command == Command::Read && style != ReplyStyle::Simple {
        let mut out = Vec::new();
        put_offset_data(
            &mut out,
            style,
            true,
            request.cookie,
            request.offset,
            request.offset,
            request.length,
        );
        let header = decode_reply_header(&out, style).expect("ours").expect("whole");
        assert_eq!((header.cookie(), out.len()), (request.cookie, header.header_bytes() + 8));
    } else {
        assert_eq!(ending(request, style, Ok(())), None);
    }
    Some(())
}

fn assert_inside(request: &Request, limits: &Limits) {
    let end = request.offset.checked_add(request.length).expect("check has seen to the range");
    assert!(request.length > 0 && end <= limits.size_bytes);
    assert!((request.offset | request.length).is_multiple_of(limits.block_min.into()));
}

/// The error that a client reads out of the answer.
fn ending(request: &Request, style: ReplyStyle, result: Result<(), Errno>) -> Option<Errno> {
    let mut out = Vec::new();
    put_done(&mut out, style, request.cookie, request.offset, result);
    let header = decode_reply_header(&out, style).expect("ours").expect("whole");
    assert_eq!(header.cookie(), request.cookie);
    match header {
        ReplyHeader::Simple { error, .. } => error,
        ReplyHeader::Chunk { done, chunk, payload_bytes, .. } => {
            let payload = &out[header.header_bytes()..];
            assert!(done && payload.len() as u64 == payload_bytes);
            chunk.is_error().then(|| decode_error(payload).expect("ours").errno)
        }
    }
}

/// A client against whatever a server sends, in the handshake and after it.
pub fn dial(data: &[u8]) {
    let Some((&[choice, cut], bytes)) = data.split_first_chunk() else { return };
    let wishes = DialOptions {
        export: "disk0".to_owned(),
        want_structured: choice & 1 != 0,
        want_extended: choice & 2 != 0,
        contexts: if choice & 4 != 0 { vec![BASE_ALLOCATION.to_owned()] } else { Vec::new() },
        context_queries: if choice & 128 != 0 { vec![LABEL_NAMESPACE.to_owned()] } else { Vec::new() },
        want_tls: choice & 8 != 0,
        goal: [Goal::Transmission, Goal::Describe, Goal::List][usize::from(choice >> 4) % 3],
    };
    let in_pieces = hear(wishes.clone(), bytes, usize::from(cut) + 1);
    if !wishes.want_tls {
        assert_eq!(in_pieces, hear(wishes, bytes, usize::MAX));
    }
    if let (_, Some(DialStep::Agreed(dialed)), taken) = in_pieces {
        replies(&bytes[taken..], dialed.style);
    }
}

/// What the client says, how it ends, and how many bytes it took.
fn hear(wishes: DialOptions, bytes: &[u8], cut_bytes: usize) -> (Vec<u8>, Option<DialStep>, usize) {
    let (mut client, mut said, mut rest) = (Dial::new(wishes), Vec::new(), bytes);
    while !rest.is_empty() {
        let (taken, step) = client.step(&rest[..cut_bytes.min(rest.len())], &mut said);
        rest = &rest[taken..];
        match step {
            DialStep::More => {}
            DialStep::StartTls => client.tls_established(&mut said),
            end => return (said, Some(end), bytes.len() - rest.len()),
        }
    }
    // At most one option for each answer, and an answer has twenty bytes.
    assert!(said.len() <= 4 + 64 * (bytes.len() / 18));
    (said, None, bytes.len())
}

fn replies(mut rest: &[u8], style: ReplyStyle) {
    while let Ok(Some(header)) = decode_reply_header(rest, style) {
        rest = &rest[header.header_bytes()..];
        let ReplyHeader::Chunk { chunk, payload_bytes, .. } = header else { continue };
        let Some(payload) = usize::try_from(payload_bytes).ok().and_then(|count| rest.get(..count)) else {
            return;
        };
        chunk_payload(chunk, payload, style);
        rest = &rest[payload.len()..];
    }
}

fn chunk_payload(chunk: ChunkType, payload: &[u8], style: ReplyStyle) {
    match chunk {
        ChunkType::OffsetHole => assert!(decode_offset_hole(payload).is_none_or(|(_, bytes)| bytes > 0)),
        ChunkType::ErrorOffset => assert_eq!(decode_error_offset(payload).is_some(), error_fits(payload, 14)),
        error if error.is_error() => assert_eq!(decode_error(payload).is_some(), error_fits(payload, 6)),
        ChunkType::BlockStatus | ChunkType::BlockStatusExt => {
            let Some((context_id, extents)) = decode_block_status(chunk, payload) else { return };
            assert!(!extents.is_empty() && extents.iter().all(|extent| extent.length > 0));
            assert_same_extents(style, context_id, &extents);
        }
        _ => {}
    }
}

fn error_fits(payload: &[u8], fixed_bytes: usize) -> bool {
    let message_bytes = payload.get(4..6).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    message_bytes.is_some_and(|message_bytes| fixed_bytes + message_bytes <= payload.len())
}

/// What we would send for these extents tells no more bytes than they are, and begins alike.
fn assert_same_extents(style: ReplyStyle, context_id: u32, extents: &[Extent]) {
    let fits = extents.iter().all(|extent| extent.flags <= u32::MAX.into() && extent.length <= 1 << 40);
    if style == ReplyStyle::Simple || !fits {
        return;
    }
    let mut out = Vec::new();
    put_block_status(&mut out, style, true, wire::nbd::transmission::Cookie(0), 0, context_id, extents);
    let header = decode_reply_header(&out, style).expect("ours").expect("whole");
    let ReplyHeader::Chunk { chunk, .. } = header else { unreachable!("a status is a chunk") };
    let (_, again) = decode_block_status(chunk, &out[header.header_bytes()..]).expect("ours");
    assert_eq!(again[0].flags, extents[0].flags);
    let told = |extents: &[Extent]| extents.iter().map(|extent| u128::from(extent.length)).sum::<u128>();
    assert!(told(&again) <= told(extents));
}
