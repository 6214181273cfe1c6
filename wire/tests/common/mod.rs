//! A hand-driven client for the server's machine, which reads the answers on its own terms.

#![allow(dead_code, reason = "each test program uses its part")]

use wire::nbd::handshake::{ExportInfo, ExportTable, Negotiation, OptionCode, ReplyCode, ServerPolicy, Step};
use wire::nbd::transmission::TransmissionFlags;

pub const FIXED: u32 = 1;
pub const NO_ZEROES: u32 = 2;

/// A writable export that can do everything.
pub fn export(name: &str) -> ExportInfo {
    use TransmissionFlags as Flags;
    ExportInfo {
        name: name.to_owned(),
        description: format!("the volume {name}"),
        size_bytes: 1 << 30,
        flags: Flags::SEND_FLUSH
            | Flags::SEND_FUA
            | Flags::SEND_TRIM
            | Flags::SEND_WRITE_ZEROES
            | Flags::SEND_FAST_ZERO
            | Flags::SEND_CACHE
            | Flags::CAN_MULTI_CONN,
        block_min: 1,
        block_preferred: 4096,
        payload_max: 32 << 20,
        offers_allocation: true,
        labels: Vec::new(),
    }
}

/// `disk0` and `disk1`; the latter has no metadata contexts and no description.
pub fn exports() -> ExportTable {
    let mut plain = export("disk1");
    plain.offers_allocation = false;
    plain.description.clear();
    [export("disk0"), plain].into_iter().collect()
}

/// One reply to an option, as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    pub option: OptionCode,
    pub reply: ReplyCode,
    pub payload: Vec<u8>,
}

/// A session with the server's machine.
pub struct Talk {
    pub negotiation: Negotiation,
    pub exports: ExportTable,
    pub out: Vec<u8>,
}

impl Talk {
    pub fn new(policy: ServerPolicy) -> Talk {
        let mut out = Vec::new();
        Talk { negotiation: Negotiation::new(policy, &mut out), exports: exports(), out }
    }

    /// Past the greeting and the client's flags.
    pub fn begun(policy: ServerPolicy) -> Talk {
        let mut talk = Talk::new(policy);
        assert_eq!(talk.send(&(FIXED | NO_ZEROES).to_be_bytes()), Step::More);
        talk.out.clear();
        talk
    }

    /// Begun, with structured replies.
    pub fn structured(policy: ServerPolicy) -> Talk {
        let mut talk = Talk::begun(policy);
        talk.acked(OptionCode::StructuredReply, &[]);
        talk
    }

    /// Hands all bytes over, which must be taken up to the step's own end.
    pub fn send(&mut self, bytes: &[u8]) -> Step {
        let mut rest = bytes;
        loop {
            let (taken, step) = self.negotiation.step(rest, &self.exports, &mut self.out);
            rest = &rest[taken..];
            if step != Step::More || rest.is_empty() {
                return step;
            }
        }
    }

    pub fn option(&mut self, option: OptionCode, payload: &[u8]) -> Step {
        self.send(&option_bytes(option, payload))
    }

    /// Sends an option and takes the replies to it.
    pub fn ask(&mut self, option: OptionCode, payload: &[u8]) -> Vec<RawReply> {
        let step = self.option(option, payload);
        assert!(matches!(step, Step::More | Step::Agreed(_)), "{step:?}");
        self.replies()
    }

    /// The final reply to an option.
    pub fn verdict(&mut self, option: OptionCode, payload: &[u8]) -> ReplyCode {
        self.ask(option, payload).last().expect("every option is answered").reply
    }

    pub fn acked(&mut self, option: OptionCode, payload: &[u8]) {
        assert_eq!(self.verdict(option, payload), ReplyCode::Ack);
    }

    /// Everything in `out`, which must be whole replies, all to the same option and only the last one final.
    pub fn replies(&mut self) -> Vec<RawReply> {
        let replies = parse_replies(&std::mem::take(&mut self.out));
        for (index, reply) in replies.iter().enumerate() {
            let is_final = reply.reply.is_error() || reply.reply == ReplyCode::Ack;
            assert_eq!(is_final, index + 1 == replies.len(), "{replies:?}");
        }
        replies
    }
}

pub fn option_bytes(option: OptionCode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(option.to_u32().to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub fn info_payload(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(u16::try_from(wanted.len()).expect("short").to_be_bytes());
    bytes.extend(wanted.iter().flat_map(|item| item.to_be_bytes()));
    bytes
}

pub fn meta_payload(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(u32::try_from(queries.len()).expect("short").to_be_bytes());
    bytes.extend(queries.iter().flat_map(|query| string(query)));
    bytes
}

pub fn parse_replies(mut bytes: &[u8]) -> Vec<RawReply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes(), "a reply begins with its magic");
        let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let end = 20 + field(16) as usize;
        replies.push(RawReply {
            option: OptionCode::from_u32(field(8)),
            reply: ReplyCode::from_u32(field(12)),
            payload: bytes[20..end].to_vec(),
        });
        bytes = &bytes[end..];
    }
    replies
}
