//! What the client makes of servers that are old, odd or hostile.

mod common;

use common::string;
use wire::nbd::dial::{Dial, DialError, DialOptions, DialStep, Goal};
use wire::nbd::handshake::{OptionCode, ReplyCode};
use wire::nbd::transmission::{ReplyStyle, TransmissionFlags};

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";

/// A client and what it sent since last asked.
struct Call {
    dial: Dial,
    sent: Vec<u8>,
}

impl Call {
    fn new(wishes: DialOptions) -> Call {
        Call { dial: Dial::new(wishes), sent: Vec::new() }
    }

    /// Greeted by a modern server.
    fn greeted(wishes: DialOptions) -> Call {
        let mut call = Call::new(wishes);
        assert_eq!(call.hear(GREETING), DialStep::More);
        call.sent.drain(..4);
        call
    }

    fn hear(&mut self, bytes: &[u8]) -> DialStep {
        self.dial.step(bytes, &mut self.sent).1
    }

    fn answered(&mut self, option: OptionCode, reply: ReplyCode, payload: &[u8]) -> DialStep {
        self.sent.clear();
        self.hear(&reply_bytes(option, reply, payload))
    }

    /// The last option that was sent.
    fn asked(&self) -> OptionCode {
        assert_eq!(&self.sent[..8], b"IHAVEOPT");
        OptionCode::from_u32(u32::from_be_bytes(self.sent[8..12].try_into().expect("four bytes")))
    }
}

fn reply_bytes(option: OptionCode, reply: ReplyCode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    let length = u32::try_from(payload.len()).expect("short");
    bytes.extend([option.to_u32(), reply.to_u32(), length].map(u32::to_be_bytes).concat());
    bytes.extend(payload);
    bytes
}

fn plain() -> DialOptions {
    DialOptions { export: "disk0".to_owned(), ..DialOptions::default() }
}

fn rich() -> DialOptions {
    let contexts = vec!["base:allocation".to_owned()];
    DialOptions { want_structured: true, want_extended: true, contexts, ..plain() }
}

const EXPORT_INFO: &[u8] = b"\0\0\0\0\0\0\0\0\x10\0\0\x05";

#[test]
fn what_does_not_greet_is_no_nbd_server() {
    assert_eq!(Call::new(plain()).hear(b"SSH-2.0-OpenSSH_9.9p1"), DialStep::Failed(DialError::NotNbd));
}

#[test]
fn oldstyle_server_is_told_apart() {
    let step = Call::new(plain()).hear(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0");
    assert_eq!(step, DialStep::Failed(DialError::Oldstyle));
}

#[test]
fn plain_newstyle_server_is_asked_by_export_name_alone() {
    let mut call = Call::new(rich());
    assert_eq!(call.hear(b"NBDMAGICIHAVEOPT\0\0"), DialStep::More);
    assert_eq!(call.sent[..4], [0; 4]);
    call.sent.drain(..4);
    assert_eq!(call.asked(), OptionCode::ExportName);
    let step = call.hear(&[b"\0\0\0\0\0\0\x10\0\0\x05", &[0; 124][..]].concat());
    let DialStep::Agreed(dialed) = step else { panic!("{step:?}") };
    assert_eq!((dialed.size_bytes, dialed.flags.bits(), dialed.style), (4096, 5, ReplyStyle::Simple));
}

#[test]
fn plain_newstyle_server_cannot_list_or_speak_tls() {
    for (wishes, option) in [
        (DialOptions { goal: Goal::List, ..plain() }, OptionCode::List),
        (DialOptions { want_tls: true, ..plain() }, OptionCode::StartTls),
    ] {
        let step = Call::new(wishes).hear(b"NBDMAGICIHAVEOPT\0\x02");
        assert_eq!(step, DialStep::Failed(DialError::NotFixedNewstyle(option)));
    }
}

#[test]
fn what_an_old_server_does_not_know_is_done_without() {
    use OptionCode::{ExportName, ExtendedHeaders, Go, StructuredReply};
    let mut call = Call::greeted(rich());
    for (option, next) in [(ExtendedHeaders, StructuredReply), (StructuredReply, Go), (Go, ExportName)] {
        assert_eq!(call.asked(), option);
        assert_eq!(call.answered(option, ReplyCode::ErrUnsup, b"sorry"), DialStep::More);
        assert_eq!(call.asked(), next);
    }
    let step = call.hear(b"\0\0\0\0\0\0\x10\0\0\x05");
    let DialStep::Agreed(dialed) = step else { panic!("{step:?}") };
    assert_eq!(dialed.flags, TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH);
    assert_eq!(dialed.block_sizes, None);
}

#[test]
fn export_is_not_asked_by_name_alone_under_extended_headers() {
    let mut call = Call::greeted(DialOptions { want_extended: true, ..plain() });
    call.answered(OptionCode::ExtendedHeaders, ReplyCode::Ack, &[]);
    let step = call.answered(OptionCode::Go, ReplyCode::ErrUnsup, &[]);
    assert!(matches!(step, DialStep::Failed(DialError::Refused { .. })), "{step:?}");
}

#[test]
fn contexts_of_a_refused_selection_do_not_count() {
    use OptionCode::{ExtendedHeaders, Go, SetMetaContext};
    let mut call = Call::greeted(rich());
    call.answered(ExtendedHeaders, ReplyCode::Ack, &[]);
    call.answered(SetMetaContext, ReplyCode::MetaContext, b"\0\0\0\x07base:allocation");
    assert_eq!(call.answered(SetMetaContext, ReplyCode::ErrTooBig, &[]), DialStep::More);
    call.answered(Go, ReplyCode::Info, EXPORT_INFO);
    let step = call.answered(Go, ReplyCode::Ack, &[]);
    let DialStep::Agreed(dialed) = step else { panic!("{step:?}") };
    assert_eq!(dialed.contexts, []);
}

#[test]
fn contexts_are_listed_before_any_is_selected_and_done_without_if_refused() {
    use OptionCode::{ExtendedHeaders, Go, ListMetaContext, SetMetaContext};
    for refused in [false, true] {
        let mut call =
            Call::greeted(DialOptions { context_queries: vec!["x-ringsan:".to_owned()], ..rich() });
        call.answered(ExtendedHeaders, ReplyCode::Ack, &[]);
        assert_eq!(call.asked(), ListMetaContext);
        call.answered(ListMetaContext, ReplyCode::MetaContext, b"\0\0\0\0x-ringsan:volume:1");
        let last = if refused { ReplyCode::ErrUnsup } else { ReplyCode::Ack };
        assert_eq!(call.answered(ListMetaContext, last, &[]), DialStep::More);
        assert_eq!(call.asked(), SetMetaContext);
        assert_eq!(call.answered(SetMetaContext, ReplyCode::Ack, &[]), DialStep::More);
        call.answered(Go, ReplyCode::Info, EXPORT_INFO);
        let step = call.answered(Go, ReplyCode::Ack, &[]);
        let DialStep::Agreed(dialed) = step else { panic!("{step:?}") };
        assert_eq!(dialed.offered_contexts, ["x-ringsan:volume:1"][usize::from(refused)..]);
    }
}

#[test]
fn refusal_is_told_with_the_servers_words_and_ends_politely() {
    let mut call = Call::greeted(plain());
    let step = call.answered(OptionCode::Go, ReplyCode::ErrUnknown, b"no such disk");
    let DialStep::Failed(error) = step else { panic!("{step:?}") };
    assert_eq!(error.to_string(), "the server refused NBD_OPT_GO: NBD_REP_ERR_UNKNOWN \"no such disk\"");
    assert_eq!(call.asked(), OptionCode::Abort);
}

#[test]
fn tls_is_not_done_without() {
    let mut call = Call::greeted(DialOptions { want_tls: true, ..plain() });
    assert_eq!(call.asked(), OptionCode::StartTls);
    let step = call.answered(OptionCode::StartTls, ReplyCode::ErrUnsup, b"");
    assert!(matches!(step, DialStep::Failed(DialError::Refused { .. })), "{step:?}");
}

#[test]
fn plaintext_before_tls_ends_the_session() {
    let mut call = Call::greeted(DialOptions { want_tls: true, ..plain() });
    let ack = reply_bytes(OptionCode::StartTls, ReplyCode::Ack, &[]);
    let forged = reply_bytes(OptionCode::Go, ReplyCode::Ack, &[]);
    assert_eq!(call.hear(&[ack, forged].concat()), DialStep::Failed(DialError::PlaintextBeforeTls));
}

#[test]
fn go_needs_to_tell_the_size() {
    let step = Call::greeted(plain()).answered(OptionCode::Go, ReplyCode::Ack, &[]);
    assert!(matches!(step, DialStep::Failed(DialError::Malformed { .. })), "{step:?}");
}

#[test]
fn unknown_information_is_ignored() {
    let mut call = Call::greeted(plain());
    assert_eq!(call.answered(OptionCode::Go, ReplyCode::Info, b"\x12\x34whatever"), DialStep::More);
    assert_eq!(call.answered(OptionCode::Go, ReplyCode::Info, EXPORT_INFO), DialStep::More);
    let step = call.answered(OptionCode::Go, ReplyCode::Ack, &[]);
    assert!(matches!(step, DialStep::Agreed(_)), "{step:?}");
}

#[test]
fn unlawful_block_sizes_end_the_session() {
    for sizes in [
        [0, 4096, 65536],
        [3, 4096, 65536],
        [512, 256, 65536],
        [512, 4096, 100],
        [512, 4096, 0],
        [1 << 17, 1 << 17, 1 << 20],
    ] {
        let payload = [vec![0, 3], sizes.map(u32::to_be_bytes).concat()].concat();
        let step = Call::greeted(plain()).answered(OptionCode::Go, ReplyCode::Info, &payload);
        assert!(matches!(step, DialStep::Failed(DialError::Malformed { .. })), "{sizes:?}: {step:?}");
    }
}

#[test]
fn reply_to_another_option_ends_the_session() {
    let step = Call::greeted(plain()).answered(OptionCode::List, ReplyCode::Ack, &[]);
    let error = DialError::ForeignReply { expected: OptionCode::Go, got: OptionCode::List };
    assert_eq!(step, DialStep::Failed(error));
}

#[test]
fn reply_that_does_not_belong_ends_the_session() {
    for reply in [ReplyCode::Server, ReplyCode::MetaContext, ReplyCode::Unknown(77)] {
        let step = Call::greeted(plain()).answered(OptionCode::Go, reply, &string("x"));
        assert!(matches!(step, DialStep::Failed(DialError::Malformed { .. })), "{reply}: {step:?}");
    }
}

#[test]
fn two_contexts_of_one_id_end_the_session() {
    let mut call = Call::greeted(rich());
    call.answered(OptionCode::ExtendedHeaders, ReplyCode::Ack, &[]);
    let context = b"\0\0\0\x07base:allocation";
    assert_eq!(call.answered(OptionCode::SetMetaContext, ReplyCode::MetaContext, context), DialStep::More);
    let step = call.answered(OptionCode::SetMetaContext, ReplyCode::MetaContext, context);
    assert!(matches!(step, DialStep::Failed(DialError::Malformed { .. })), "{step:?}");
}

#[test]
fn endless_answers_end_the_session() {
    let mut call = Call::greeted(DialOptions { goal: Goal::List, ..plain() });
    let line = reply_bytes(OptionCode::List, ReplyCode::Server, &string("disk"));
    let ended = (0..1 << 20).map(|_| call.hear(&line)).find(|step| *step != DialStep::More);
    assert_eq!(ended, Some(DialStep::Failed(DialError::TooLong(OptionCode::List))));
    let mut huge = reply_bytes(OptionCode::Go, ReplyCode::Info, &[]);
    huge[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(Call::greeted(plain()).hear(&huge), DialStep::Failed(DialError::TooLong(OptionCode::Go)));
}
