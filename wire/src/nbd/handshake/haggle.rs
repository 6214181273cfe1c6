//! Answers one complete option at a time, and remembers what was agreed so far.
//!
//! Its one rule: every option gets exactly one final reply (ACK or an error), or the session ends.

use crate::nbd::transmission::ReplyStyle;

use super::answer::{put_ack, put_export_name_answer, put_infos, put_meta_context, put_refusal, put_server};
use super::close::CloseReason;
use super::code::{BASE_ALLOCATION, OptionCode, ReplyCode};
use super::export::{ExportInfo, ExportTable};
use super::option::{InfoRequest, MetaRequest, text};
use super::{Agreed, ContextKind, NegotiatedContext, ServerPolicy, TlsPolicy};

/// The id of base:allocation, in every session.
const ALLOCATION_ID: u32 = 1;

#[derive(Debug)]
pub(super) enum Outcome {
    Continue,
    StartTls,
    Agreed(Box<Agreed>),
    Close(CloseReason),
}

#[derive(Debug)]
pub(super) struct Session {
    policy: ServerPolicy,
    tls: bool,
    fixed_newstyle: bool,
    no_zeroes: bool,
    stopping: bool,
    style: ReplyStyle,
    /// The export whose contexts the client selected last.
    contexts_of: Option<String>,
}

impl Session {
    pub(super) fn new(policy: ServerPolicy) -> Session {
        Session {
            policy,
            tls: false,
            fixed_newstyle: false,
            no_zeroes: false,
            stopping: false,
            style: ReplyStyle::Simple,
            contexts_of: None,
        }
    }

    pub(super) fn options_max(&self) -> u32 {
        self.policy.options_max
    }

    pub(super) fn client_flags(&mut self, flags: u32) -> Outcome {
        const FIXED_NEWSTYLE: u32 = 1 << 0;
        const NO_ZEROES: u32 = 1 << 1;
        if flags & !(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
            return Outcome::Close(CloseReason::UnknownClientFlags(flags));
        }
        self.fixed_newstyle = flags & FIXED_NEWSTYLE != 0;
        self.no_zeroes = flags & NO_ZEROES != 0;
        Outcome::Continue
    }

    /// Whatever was said in the clear may have been forged: it counts for nothing.
    pub(super) fn tls_established(&mut self) {
        self.tls = true;
        self.style = ReplyStyle::Simple;
        self.contexts_of = None;
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// `payload` is `None` if it was too long to be read.
    pub(super) fn option(
        &mut self,
        code: OptionCode,
        payload: Option<&[u8]>,
        exports: &ExportTable,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if !self.fixed_newstyle && code != OptionCode::ExportName {
            return Outcome::Close(CloseReason::NotFixedNewstyle(code));
        }
        if code == OptionCode::SetMetaContext {
            // Also a request that fails drops what was selected before.
            self.contexts_of = None;
        }
        match code {
            OptionCode::ExportName => return self.export_name(payload, exports, out),
            OptionCode::Abort => {
                put_ack(out, code);
                return Outcome::Close(CloseReason::Abort);
            }
            _ => {}
        }
        let answer = match payload {
            _ if self.stopping => Err(Refusal(ReplyCode::ErrShutdown, "the server is stopping")),
            _ if self.needs_tls(code) => Err(Refusal(ReplyCode::ErrTlsReqd, "send NBD_OPT_STARTTLS first")),
            Some(payload) => self.fixed_option(code, payload, exports, out),
            None if matches!(code, OptionCode::Unknown(_)) => Err(UNKNOWN_OPTION),
            None => Err(Refusal(ReplyCode::ErrTooBig, "the option is longer than 16384 bytes")),
        };
        answer.unwrap_or_else(|Refusal(error, message)| {
            put_refusal(out, code, error, message);
            Outcome::Continue
        })
    }

    fn needs_tls(&self, code: OptionCode) -> bool {
        self.policy.tls == TlsPolicy::Require && !self.tls && code != OptionCode::StartTls
    }

    fn fixed_option(
        &mut self,
        code: OptionCode,
        payload: &[u8],
        exports: &ExportTable,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        match code {
            OptionCode::List => self.list(payload, exports, out),
            OptionCode::StartTls => self.start_tls(payload, out),
            OptionCode::Info | OptionCode::Go => self.info_or_go(code, payload, exports, out),
            OptionCode::StructuredReply => self.structured_reply(payload, out),
            OptionCode::ExtendedHeaders => self.extended_headers(payload, out),
            OptionCode::ListMetaContext => self.list_meta_context(payload, exports, out),
            OptionCode::SetMetaContext => self.set_meta_context(payload, exports, out),
            OptionCode::Unknown(_) => Err(UNKNOWN_OPTION),
            OptionCode::ExportName | OptionCode::Abort => unreachable!("both were answered before"),
        }
    }

    /// The one option without an error reply: what cannot be served ends the session.
    fn export_name(&self, payload: Option<&[u8]>, exports: &ExportTable, out: &mut Vec<u8>) -> Outcome {
        let Some(name) = payload.and_then(text) else {
            return Outcome::Close(CloseReason::UnlawfulExportName);
        };
        if self.needs_tls(OptionCode::ExportName) {
            return Outcome::Close(CloseReason::ExportNameBeforeTls);
        }
        if self.stopping {
            return Outcome::Close(CloseReason::ShuttingDown);
        }
        if self.style == ReplyStyle::Extended {
            return Outcome::Close(CloseReason::ExportNameWithExtendedHeaders);
        }
        let Some(export) = self.resolve(name, exports) else {
            return Outcome::Close(CloseReason::UnknownExport(name.to_owned()));
        };
        let agreed = self.agree(export);
        put_export_name_answer(out, agreed.export.size_bytes, agreed.export.flags, !self.no_zeroes);
        Outcome::Agreed(agreed)
    }

    fn list(&self, payload: &[u8], exports: &ExportTable, out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        no_payload(payload)?;
        exports.iter().for_each(|export| put_server(out, export));
        put_ack(out, OptionCode::List);
        Ok(Outcome::Continue)
    }

    fn start_tls(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        no_payload(payload)?;
        if self.tls {
            return Err(Refusal(ReplyCode::ErrInvalid, "TLS is already there"));
        }
        if self.policy.tls == TlsPolicy::Off {
            return Err(Refusal(ReplyCode::ErrPolicy, "TLS is switched off here"));
        }
        put_ack(out, OptionCode::StartTls);
        Ok(Outcome::StartTls)
    }

    fn info_or_go(
        &self,
        code: OptionCode,
        payload: &[u8],
        exports: &ExportTable,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let request = InfoRequest::decode(payload).ok_or(MALFORMED)?;
        let export = self.resolve(request.name, exports).ok_or(UNKNOWN_EXPORT)?;
        let agreed = self.agree(export);
        put_infos(out, code, &agreed.export, agreed.export.flags, &request.wanted);
        put_ack(out, code);
        Ok(if code == OptionCode::Go { Outcome::Agreed(agreed) } else { Outcome::Continue })
    }

    fn structured_reply(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        no_payload(payload)?;
        match self.style {
            ReplyStyle::Simple => self.style = ReplyStyle::Structured,
            ReplyStyle::Structured => {
                return Err(Refusal(ReplyCode::ErrInvalid, "structured replies are already on"));
            }
            ReplyStyle::Extended => {
                return Err(Refusal(ReplyCode::ErrExtHeaderReqd, "extended headers are already on"));
            }
        }
        put_ack(out, OptionCode::StructuredReply);
        Ok(Outcome::Continue)
    }

    fn extended_headers(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        no_payload(payload)?;
        if self.style == ReplyStyle::Extended {
            return Err(Refusal(ReplyCode::ErrInvalid, "extended headers are already on"));
        }
        self.style = ReplyStyle::Extended;
        put_ack(out, OptionCode::ExtendedHeaders);
        Ok(Outcome::Continue)
    }

    fn list_meta_context(
        &self,
        payload: &[u8],
        exports: &ExportTable,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let (export, queries) = self.meta_request(payload, exports)?;
        let allocation = export.offers_allocation.then_some(BASE_ALLOCATION);
        let offered = allocation.into_iter().chain(export.labels.iter().map(String::as_str));
        let wanted = |name: &&str| queries.is_empty() || queries.iter().any(|query| finds(query, name));
        for name in offered.filter(wanted) {
            put_meta_context(out, OptionCode::ListMetaContext, 0, name);
        }
        put_ack(out, OptionCode::ListMetaContext);
        Ok(Outcome::Continue)
    }

    fn set_meta_context(
        &mut self,
        payload: &[u8],
        exports: &ExportTable,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let (export, queries) = self.meta_request(payload, exports)?;
        if export.offers_allocation && queries.contains(&BASE_ALLOCATION) {
            put_meta_context(out, OptionCode::SetMetaContext, ALLOCATION_ID, BASE_ALLOCATION);
            self.contexts_of = Some(export.name.clone());
        }
        put_ack(out, OptionCode::SetMetaContext);
        Ok(Outcome::Continue)
    }

    fn meta_request<'a, 'e>(
        &self,
        payload: &'a [u8],
        exports: &'e ExportTable,
    ) -> Result<(&'e ExportInfo, Vec<&'a str>), Refusal> {
        if self.style == ReplyStyle::Simple {
            return Err(Refusal(ReplyCode::ErrInvalid, "send NBD_OPT_STRUCTURED_REPLY first"));
        }
        let request = MetaRequest::decode(payload).ok_or(MALFORMED)?;
        let export = self.resolve(request.name, exports).ok_or(UNKNOWN_EXPORT)?;
        Ok((export, request.queries))
    }

    /// The empty name stands for the default export.
    fn resolve<'e>(&self, name: &str, exports: &'e ExportTable) -> Option<&'e ExportInfo> {
        let name = if name.is_empty() { self.policy.default_export.as_deref()? } else { name };
        exports.get(name)
    }

    /// What holds between us if the client enters transmission on `export` now.
    fn agree(&self, export: &ExportInfo) -> Box<Agreed> {
        let selected = export.offers_allocation && self.contexts_of.as_deref() == Some(export.name.as_str());
        let allocation = NegotiatedContext { id: ALLOCATION_ID, kind: ContextKind::BaseAllocation };
        let mut export = export.clone();
        export.flags = export.flags_for(self.style, selected);
        let contexts = if selected { vec![allocation] } else { Vec::new() };
        Box::new(Agreed { export, style: self.style, contexts, tls: self.tls })
    }
}

/// An error reply and its sentence for people.
struct Refusal(ReplyCode, &'static str);

const MALFORMED: Refusal = Refusal(ReplyCode::ErrInvalid, "the option's data is malformed");
const UNKNOWN_OPTION: Refusal = Refusal(ReplyCode::ErrUnsup, "this server does not know the option");
const UNKNOWN_EXPORT: Refusal = Refusal(ReplyCode::ErrUnknown, "no export of that name");

/// A query names a context, or with a colon at its end all that begin like it.
fn finds(query: &str, name: &str) -> bool {
    query == name || query.ends_with(':') && name.starts_with(query)
}

fn no_payload(payload: &[u8]) -> Result<(), Refusal> {
    if payload.is_empty() { Ok(()) } else { Err(Refusal(ReplyCode::ErrInvalid, "this option takes no data")) }
}
