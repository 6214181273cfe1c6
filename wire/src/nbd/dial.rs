//! The client's handshake: bytes of the server in, options out, until both agree or part.
//!
//! ```text
//! Greeting ─▶ STARTTLS ─▶ EXTENDED_HEADERS ─▶ STRUCTURED_REPLY ─▶ LIST_META_CONTEXT
//!     ─▶ SET_META_CONTEXT (each only if wished) ─▶ GO ─▶ Agreed
//!                                               ├─▶ INFO ─▶ Described
//!                                               └─▶ LIST ─▶ Listed
//! ```
//! Its one rule: one option at a time, and what the server refuses we do without, except TLS and the export.

mod dialed;
mod error;
mod reply;

pub use dialed::{BlockSizes, DialContext, Dialed, ListedExport};
pub use error::DialError;

use crate::bytes::{Gather, Reader};
use crate::nbd::handshake::code::{
    CLIENT_FLAGS_BYTES, EXPORT_NAME_PADDING_BYTES, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, GREETING_BYTES,
    INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_NAME, INIT_MAGIC, OLDSTYLE_MAGIC, OPTION_MAGIC,
};
use crate::nbd::handshake::option::{InfoRequest, MetaRequest, put_option, text};
use crate::nbd::handshake::{OptionCode, ReplyCode};
use crate::nbd::transmission::{ReplyStyle, STRING_BYTES_MAX};

use dialed::Told;
use reply::{OptionReply, Replies, decode_context, decode_export, decode_server};

/// What the handshake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Goal {
    /// To use the export.
    #[default]
    Transmission,
    /// To learn about the export, and leave.
    Describe,
    /// To learn what exports there are, and leave.
    List,
}

/// What a client wishes. `Default` asks for the default export, plainly.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DialOptions {
    /// The export; empty for the server's default.
    pub export: String,
    /// Replies in chunks, if the server can.
    pub want_structured: bool,
    /// 64-bit headers, if the server can; else `want_structured` decides.
    pub want_extended: bool,
    /// Metadata contexts to select, of which the server may know some. They need one of the two above.
    pub contexts: Vec<String>,
    /// Queries for metadata contexts that are only to be listed, such as `base:`. They need the same.
    pub context_queries: Vec<String>,
    /// TLS, or nothing.
    pub want_tls: bool,
    /// What the handshake is for.
    pub goal: Goal,
}

/// What comes next. In every case what is in `out` is to be sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialStep {
    /// Call again with more.
    More,
    /// Do the TLS handshake, then call `tls_established`.
    StartTls,
    /// Transmission begins.
    Agreed(Box<Dialed>),
    /// The answer to `Goal::Describe`; hang up.
    Described(Box<Dialed>),
    /// The answer to `Goal::List`; hang up.
    Listed(Vec<ListedExport>),
    /// Hang up.
    Failed(DialError),
}

/// The client's half of one handshake.
#[derive(Debug)]
pub struct Dial {
    wishes: DialOptions,
    phase: Phase,
    no_zeroes: bool,
    tls: bool,
    style: ReplyStyle,
    contexts: Vec<DialContext>,
    offered: Vec<String>,
    listed: Vec<ListedExport>,
    told: Told,
}

#[derive(Debug)]
enum Phase {
    Greeting(Gather),
    Answer(Replies),
    ExportNameAnswer(Gather),
    AwaitTls,
    Over,
}

impl Dial {
    /// Begins a session: the server speaks first.
    ///
    /// Names longer than the protocol's strings are the caller's mistake.
    pub fn new(wishes: DialOptions) -> Dial {
        let strings = || wishes.contexts.iter().chain(&wishes.context_queries).chain([&wishes.export]);
        assert!(
            strings().all(|string| text(string.as_bytes()).is_some()),
            "names of at most {STRING_BYTES_MAX} bytes"
        );
        Dial {
            wishes,
            phase: Phase::Greeting(Gather::default()),
            no_zeroes: false,
            tls: false,
            style: ReplyStyle::Simple,
            contexts: Vec::new(),
            offered: Vec::new(),
            listed: Vec::new(),
            told: Told::default(),
        }
    }

    /// Takes bytes off `input` and says how many; appends what to send to `out`.
    ///
    /// All are taken unless the handshake came to its end (or to TLS) before.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, DialStep) {
        let mut rest = input;
        let step = loop {
            match self.next(&mut rest, out) {
                Ok(DialStep::More) if !rest.is_empty() => {}
                Ok(DialStep::StartTls) if !rest.is_empty() => break self.fail(DialError::PlaintextBeforeTls),
                Ok(step) => break step,
                Err(error) => break self.fail(error),
            }
        };
        (input.len() - rest.len(), step)
    }

    /// The TLS handshake is done: negotiation goes on inside it. What to send is in `out`.
    pub fn tls_established(&mut self, out: &mut Vec<u8>) {
        assert!(matches!(self.phase, Phase::AwaitTls), "TLS without the server's consent");
        self.tls = true;
        self.ask_after(OptionCode::StartTls, out);
    }

    fn fail(&mut self, error: DialError) -> DialStep {
        self.phase = Phase::Over;
        DialStep::Failed(error)
    }

    fn next(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<DialStep, DialError> {
        match &mut self.phase {
            Phase::Greeting(gather) => match gather.take(input, GREETING_BYTES) {
                None => Ok(DialStep::More),
                Some(greeting) => self.greeted(&greeting, out),
            },
            Phase::Answer(replies) => match replies.next(input)? {
                None => Ok(DialStep::More),
                Some(reply) => {
                    let option = replies.option();
                    self.answered(option, &reply, out)
                }
            },
            Phase::ExportNameAnswer(gather) => {
                let answer_bytes = 10 + if self.no_zeroes { 0 } else { EXPORT_NAME_PADDING_BYTES };
                let answer = gather.take(input, answer_bytes);
                Ok(answer.map_or(DialStep::More, |answer| self.export_name_answered(&answer)))
            }
            Phase::AwaitTls | Phase::Over => panic!("step during TLS or after the end"),
        }
    }

    fn greeted(&mut self, greeting: &[u8], out: &mut Vec<u8>) -> Result<DialStep, DialError> {
        let mut reader = Reader::new(greeting);
        let mut fields = || Some((reader.u64()?, reader.u64()?, reader.u16()?));
        match fields().expect("eighteen bytes were gathered") {
            (INIT_MAGIC, OPTION_MAGIC, flags) => self.newstyle(flags, out),
            (INIT_MAGIC, OLDSTYLE_MAGIC, _) => Err(DialError::Oldstyle),
            _ => Err(DialError::NotNbd),
        }
    }

    fn newstyle(&mut self, flags: u16, out: &mut Vec<u8>) -> Result<DialStep, DialError> {
        // Client and server flags of the two have the same bits.
        let common = flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        let client_flags: [u8; CLIENT_FLAGS_BYTES] = u32::from(common).to_be_bytes();
        out.extend_from_slice(&client_flags);
        self.no_zeroes = common & FLAG_NO_ZEROES != 0;
        let first = self.first_option();
        if common & FLAG_FIXED_NEWSTYLE != 0 {
            self.ask(first, out);
        } else if self.wishes.goal == Goal::Transmission && !self.wishes.want_tls {
            self.ask(OptionCode::ExportName, out);
        } else {
            return Err(DialError::NotFixedNewstyle(first));
        }
        Ok(DialStep::More)
    }

    fn first_option(&self) -> OptionCode {
        if self.wishes.want_tls { OptionCode::StartTls } else { self.option_after(OptionCode::StartTls) }
    }

    /// The order of our options: which of them is wished, and possible, after `option`.
    fn option_after(&self, option: OptionCode) -> OptionCode {
        let last = match self.wishes.goal {
            Goal::Transmission => OptionCode::Go,
            Goal::Describe => OptionCode::Info,
            Goal::List => return OptionCode::List,
        };
        let chunks = self.style != ReplyStyle::Simple;
        match option {
            OptionCode::StartTls if self.wishes.want_extended => OptionCode::ExtendedHeaders,
            OptionCode::StartTls | OptionCode::ExtendedHeaders if !chunks && self.wishes.want_structured => {
                OptionCode::StructuredReply
            }
            OptionCode::SetMetaContext => last,
            _ if chunks
                && option != OptionCode::ListMetaContext
                && !self.wishes.context_queries.is_empty() =>
            {
                OptionCode::ListMetaContext
            }
            _ if chunks && !self.wishes.contexts.is_empty() => OptionCode::SetMetaContext,
            _ => last,
        }
    }

    fn ask_after(&mut self, option: OptionCode, out: &mut Vec<u8>) {
        self.ask(self.option_after(option), out);
    }

    fn ask(&mut self, option: OptionCode, out: &mut Vec<u8>) {
        let name = self.wishes.export.as_str();
        let mut payload = Vec::new();
        match option {
            OptionCode::Go | OptionCode::Info => {
                InfoRequest { name, wanted: vec![INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE] }
                    .encode(&mut payload);
            }
            OptionCode::ListMetaContext | OptionCode::SetMetaContext => {
                let selects = option == OptionCode::SetMetaContext;
                let queries = if selects { &self.wishes.contexts } else { &self.wishes.context_queries };
                let queries = queries.iter().map(String::as_str).collect();
                MetaRequest { name, queries }.encode(&mut payload);
            }
            OptionCode::ExportName => payload.extend_from_slice(name.as_bytes()),
            _ => {}
        }
        put_option(out, option, &payload);
        self.phase = match option {
            OptionCode::ExportName => Phase::ExportNameAnswer(Gather::default()),
            _ => Phase::Answer(Replies::new(option)),
        };
    }

    fn answered(
        &mut self,
        option: OptionCode,
        reply: &OptionReply,
        out: &mut Vec<u8>,
    ) -> Result<DialStep, DialError> {
        match reply.code {
            ReplyCode::Ack => self.acknowledged(option, out),
            error if error.is_error() => self.refused(option, reply, out),
            _ => {
                let malformed = DialError::Malformed { option, reply: reply.code };
                self.note(option, reply).ok_or(malformed)?;
                Ok(DialStep::More)
            }
        }
    }

    /// What a reply before the final one says.
    fn note(&mut self, option: OptionCode, reply: &OptionReply) -> Option<()> {
        match (option, reply.code) {
            (OptionCode::List, ReplyCode::Server) => self.listed.push(decode_server(&reply.payload)?),
            (OptionCode::ListMetaContext, ReplyCode::MetaContext) => {
                self.offered.push(decode_context(&reply.payload)?.name);
            }
            (OptionCode::SetMetaContext, ReplyCode::MetaContext) => {
                let context = decode_context(&reply.payload)?;
                let taken = self.contexts.iter().any(|other| other.id == context.id);
                (!taken).then(|| self.contexts.push(context))?;
            }
            (OptionCode::Go | OptionCode::Info, ReplyCode::Info) => self.told.note(&reply.payload)?,
            _ => return None,
        }
        Some(())
    }

    fn acknowledged(&mut self, option: OptionCode, out: &mut Vec<u8>) -> Result<DialStep, DialError> {
        match option {
            OptionCode::StartTls => {
                self.phase = Phase::AwaitTls;
                return Ok(DialStep::StartTls);
            }
            OptionCode::ExtendedHeaders => self.style = ReplyStyle::Extended,
            OptionCode::StructuredReply => self.style = ReplyStyle::Structured,
            OptionCode::ListMetaContext | OptionCode::SetMetaContext => {}
            OptionCode::List => {
                self.leave(out);
                return Ok(DialStep::Listed(std::mem::take(&mut self.listed)));
            }
            _ => return self.described(option, out),
        }
        self.ask_after(option, out);
        Ok(DialStep::More)
    }

    fn described(&mut self, option: OptionCode, out: &mut Vec<u8>) -> Result<DialStep, DialError> {
        let dialed = self.dialed().ok_or(DialError::Malformed { option, reply: ReplyCode::Ack })?;
        if option == OptionCode::Info {
            self.leave(out);
            return Ok(DialStep::Described(dialed));
        }
        self.phase = Phase::Over;
        Ok(DialStep::Agreed(dialed))
    }

    fn export_name_answered(&mut self, answer: &[u8]) -> DialStep {
        self.told = Told::default();
        self.told.export = decode_export(&answer[..10]);
        self.phase = Phase::Over;
        DialStep::Agreed(self.dialed().expect("ten bytes are a size and flags"))
    }

    fn dialed(&mut self) -> Option<Box<Dialed>> {
        let contexts = std::mem::take(&mut self.contexts);
        let mut dialed = std::mem::take(&mut self.told).into_dialed(self.style, contexts, self.tls)?;
        dialed.offered_contexts = std::mem::take(&mut self.offered);
        Some(dialed)
    }

    fn refused(
        &mut self,
        option: OptionCode,
        reply: &OptionReply,
        out: &mut Vec<u8>,
    ) -> Result<DialStep, DialError> {
        let unknown = reply.code == ReplyCode::ErrUnsup;
        let hopeless = matches!(reply.code, ReplyCode::ErrTlsReqd | ReplyCode::ErrShutdown);
        match option {
            OptionCode::ExtendedHeaders | OptionCode::StructuredReply if !hopeless => {
                self.ask_after(option, out);
            }
            OptionCode::ListMetaContext if !hopeless => {
                self.offered.clear();
                self.ask_after(option, out);
            }
            OptionCode::SetMetaContext if !hopeless => {
                self.contexts.clear();
                self.ask_after(option, out);
            }
            // A server of before 2016. Extended headers, and this option no longer, are newer than that.
            OptionCode::Go if unknown && self.style != ReplyStyle::Extended => {
                self.ask(OptionCode::ExportName, out)
            }
            _ => {
                self.leave(out);
                let message =
                    String::from_utf8_lossy(&reply.payload[..reply.payload.len().min(STRING_BYTES_MAX)]);
                return Err(DialError::Refused { option, error: reply.code, message: message.into_owned() });
            }
        }
        Ok(DialStep::More)
    }

    /// The polite end, due to every server that did nothing wrong.
    fn leave(&mut self, out: &mut Vec<u8>) {
        put_option(out, OptionCode::Abort, &[]);
        self.phase = Phase::Over;
    }
}
