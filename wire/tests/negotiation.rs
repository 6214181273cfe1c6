//! What the server answers to each option, well-formed or not.

mod common;

use common::{
    FIXED, NO_ZEROES, RawReply, Talk, export, info_payload, meta_payload, option_bytes, parse_replies, string,
};
use wire::nbd::handshake::{
    BASE_ALLOCATION, CloseReason, ExportTable, OPTION_BYTES_MAX, OptionCode, ReplyCode, ServerPolicy, Step,
    TlsPolicy,
};
use wire::nbd::transmission::{ReplyStyle, TransmissionFlags};

fn plain() -> ServerPolicy {
    ServerPolicy::default()
}

fn with_tls(tls: TlsPolicy) -> ServerPolicy {
    ServerPolicy { tls, ..plain() }
}

fn info(reply: &RawReply) -> (u16, &[u8]) {
    let (kind, rest) = reply.payload.split_first_chunk().expect("an info has a type");
    (u16::from_be_bytes(*kind), rest)
}

#[test]
fn greeting_offers_fixed_newstyle_without_zeroes() {
    assert_eq!(Talk::new(plain()).out, b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn unknown_client_flags_end_the_session() {
    let step = Talk::new(plain()).send(&7_u32.to_be_bytes());
    assert_eq!(step, Step::Close(CloseReason::UnknownClientFlags(7)));
}

#[test]
fn option_with_wrong_magic_ends_the_session() {
    let step = Talk::begun(plain()).send(b"IHAVEOPZ\0\0\0\0\0\0\0\0");
    assert!(matches!(step, Step::Close(CloseReason::BadOptionMagic(_))), "{step:?}");
}

#[test]
fn export_name_is_answered_with_size_and_flags() {
    let mut talk = Talk::begun(plain());
    let Step::Agreed(agreed) = talk.option(OptionCode::ExportName, b"disk0") else { panic!("not agreed") };
    assert_eq!(agreed.style, ReplyStyle::Simple);
    let mut expected = (1_u64 << 30).to_be_bytes().to_vec();
    expected.extend(agreed.export.flags.bits().to_be_bytes());
    assert_eq!(talk.out, expected);
    assert!(agreed.export.flags.contains(TransmissionFlags::HAS_FLAGS));
    assert!(!agreed.export.flags.contains(TransmissionFlags::SEND_DF));
}

#[test]
fn export_name_is_padded_for_clients_that_want_zeroes() {
    for flags in [0, FIXED] {
        let mut talk = Talk::new(plain());
        talk.send(&flags.to_be_bytes());
        talk.out.clear();
        let step = talk.option(OptionCode::ExportName, b"disk0");
        assert!(matches!(step, Step::Agreed(_)), "{step:?}");
        assert_eq!(talk.out.len(), 10 + 124);
        assert_eq!(talk.out[10..], [0; 124]);
    }
}

#[test]
fn only_export_name_is_served_without_fixed_newstyle() {
    let mut talk = Talk::new(plain());
    talk.send(&NO_ZEROES.to_be_bytes());
    let step = talk.option(OptionCode::List, &[]);
    assert_eq!(step, Step::Close(CloseReason::NotFixedNewstyle(OptionCode::List)));
}

#[test]
fn unknown_export_name_ends_the_session_without_an_answer() {
    let mut talk = Talk::begun(plain());
    let step = talk.option(OptionCode::ExportName, b"nope");
    assert_eq!(step, Step::Close(CloseReason::UnknownExport("nope".to_owned())));
    assert!(talk.out.is_empty());
}

#[test]
fn unlawful_export_name_ends_the_session() {
    for name in [&b"a\0b"[..], &[0xff], &[b'x'; 4097], &vec![b'x'; OPTION_BYTES_MAX + 1]] {
        let step = Talk::begun(plain()).option(OptionCode::ExportName, name);
        assert_eq!(step, Step::Close(CloseReason::UnlawfulExportName));
    }
}

#[test]
fn export_name_after_extended_headers_ends_the_session() {
    let mut talk = Talk::begun(plain());
    talk.acked(OptionCode::ExtendedHeaders, &[]);
    let step = talk.option(OptionCode::ExportName, b"disk0");
    assert_eq!(step, Step::Close(CloseReason::ExportNameWithExtendedHeaders));
}

#[test]
fn empty_name_is_the_default_export() {
    let mut talk = Talk::begun(ServerPolicy { default_export: Some("disk1".to_owned()), ..plain() });
    let Step::Agreed(agreed) = talk.option(OptionCode::Go, &info_payload("", &[1])) else {
        panic!("not agreed")
    };
    assert_eq!(agreed.export.name, "disk1");
    assert_eq!(info(&talk.replies()[1]), (1, &b"disk1"[..]));
}

#[test]
fn empty_name_is_unknown_without_a_default_export() {
    let mut talk = Talk::begun(plain());
    assert_eq!(talk.verdict(OptionCode::Go, &info_payload("", &[])), ReplyCode::ErrUnknown);
    assert_eq!(talk.verdict(OptionCode::Info, &info_payload("disk0", &[])), ReplyCode::Ack);
}

#[test]
fn abort_is_acknowledged_whatever_it_carries() {
    for payload in [&b""[..], b"bye", &vec![0; OPTION_BYTES_MAX + 1]] {
        let mut talk = Talk::begun(with_tls(TlsPolicy::Require));
        assert_eq!(talk.option(OptionCode::Abort, payload), Step::Close(CloseReason::Abort));
        assert_eq!(talk.replies()[0].reply, ReplyCode::Ack);
    }
}

#[test]
fn list_names_and_describes_each_export() {
    let replies = Talk::begun(plain()).ask(OptionCode::List, &[]);
    let payloads: Vec<_> = replies[..2].iter().map(|reply| reply.payload.clone()).collect();
    let described = [string("disk0"), b"the volume disk0".to_vec()].concat();
    assert_eq!(payloads, [described, string("disk1")]);
}

#[test]
fn options_that_take_no_data_refuse_data() {
    use OptionCode::{ExtendedHeaders, List, StartTls, StructuredReply};
    for option in [List, StartTls, StructuredReply, ExtendedHeaders] {
        let mut talk = Talk::begun(with_tls(TlsPolicy::Allow));
        assert_eq!(talk.verdict(option, b"x"), ReplyCode::ErrInvalid, "{option}");
    }
}

#[test]
fn info_tells_what_was_asked_and_negotiation_goes_on() {
    let mut talk = Talk::begun(plain());
    let replies = talk.ask(OptionCode::Info, &info_payload("disk0", &[3, 2, 77, 1]));
    let kinds: Vec<_> = replies[..4].iter().map(|reply| info(reply).0).collect();
    assert_eq!(kinds, [0, 1, 2, 3]);
    assert_eq!(info(&replies[0]).1[..8], (1_u64 << 30).to_be_bytes());
    assert_eq!(info(&replies[3]).1, [1_u32, 4096, 32 << 20].map(u32::to_be_bytes).concat());
    talk.acked(OptionCode::Info, &info_payload("disk0", &[]));
}

#[test]
fn description_is_left_out_where_there_is_none() {
    let replies = Talk::begun(plain()).ask(OptionCode::Info, &info_payload("disk1", &[2]));
    assert_eq!(replies.len(), 2, "{replies:?}");
}

#[test]
fn go_without_block_size_is_served() {
    let mut talk = Talk::begun(plain());
    let step = talk.option(OptionCode::Go, &info_payload("disk0", &[]));
    assert!(matches!(step, Step::Agreed(_)), "{step:?}");
    let replies = talk.replies();
    assert_eq!(replies.len(), 2);
    assert_eq!(info(&replies[0]).0, 0);
}

#[test]
fn malformed_go_is_invalid_and_negotiation_goes_on() {
    let good = info_payload("disk0", &[1, 3]);
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    bad.push([&good[..], b"\0"].concat());
    bad.push(info_payload("di\0sk", &[]));
    let mut talk = Talk::begun(plain());
    for payload in bad {
        assert_eq!(talk.verdict(OptionCode::Go, &payload), ReplyCode::ErrInvalid, "{payload:?}");
    }
    assert!(matches!(talk.option(OptionCode::Go, &good), Step::Agreed(_)));
}

#[test]
fn unknown_options_are_unsupported_whatever_their_length() {
    let mut talk = Talk::begun(plain());
    for payload_bytes in [0, 1, 4096, OPTION_BYTES_MAX, OPTION_BYTES_MAX + 1, 1 << 20] {
        let verdict = talk.verdict(OptionCode::Unknown(4), &vec![7; payload_bytes]);
        assert_eq!(verdict, ReplyCode::ErrUnsup, "{payload_bytes} bytes");
    }
}

#[test]
fn over_long_option_is_too_big_and_negotiation_goes_on() {
    let mut talk = Talk::structured(plain());
    for option in [OptionCode::Go, OptionCode::ListMetaContext, OptionCode::SetMetaContext] {
        assert_eq!(talk.verdict(option, &vec![0; OPTION_BYTES_MAX + 1]), ReplyCode::ErrTooBig);
    }
    let longest = vec![0; OPTION_BYTES_MAX];
    assert_eq!(talk.verdict(OptionCode::Go, &longest), ReplyCode::ErrInvalid, "read, and found malformed");
    talk.acked(OptionCode::List, &[]);
}

#[test]
fn structured_replies_bring_dont_fragment() {
    let mut talk = Talk::structured(plain());
    let Step::Agreed(agreed) = talk.option(OptionCode::Go, &info_payload("disk0", &[])) else {
        panic!("not agreed")
    };
    assert_eq!(agreed.style, ReplyStyle::Structured);
    assert!(agreed.export.flags.contains(TransmissionFlags::SEND_DF));
    assert!(!agreed.export.flags.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD));
}

#[test]
fn extended_headers_imply_structured_replies() {
    let mut talk = Talk::begun(plain());
    talk.acked(OptionCode::ExtendedHeaders, &[]);
    talk.acked(OptionCode::SetMetaContext, &meta_payload("disk0", &[BASE_ALLOCATION]));
    assert_eq!(talk.verdict(OptionCode::StructuredReply, &[]), ReplyCode::ErrExtHeaderReqd);
    let Step::Agreed(agreed) = talk.option(OptionCode::Go, &info_payload("disk0", &[])) else {
        panic!("not agreed")
    };
    assert_eq!(agreed.style, ReplyStyle::Extended);
    assert!(
        agreed.export.flags.contains(TransmissionFlags::SEND_DF | TransmissionFlags::BLOCK_STATUS_PAYLOAD)
    );
}

#[test]
fn asking_twice_for_the_same_headers_is_invalid_and_harmless() {
    for option in [OptionCode::StructuredReply, OptionCode::ExtendedHeaders] {
        let mut talk = Talk::begun(plain());
        talk.acked(option, &[]);
        assert_eq!(talk.verdict(option, &[]), ReplyCode::ErrInvalid);
        talk.acked(OptionCode::SetMetaContext, &meta_payload("disk0", &[]));
    }
}

#[test]
fn required_tls_comes_before_everything() {
    use OptionCode::{ExtendedHeaders, Go, Info, List, ListMetaContext, StructuredReply, Unknown};
    let mut talk = Talk::begun(with_tls(TlsPolicy::Require));
    for option in [List, Info, Go, StructuredReply, ExtendedHeaders, ListMetaContext, Unknown(99)] {
        assert_eq!(talk.verdict(option, &info_payload("disk0", &[])), ReplyCode::ErrTlsReqd, "{option}");
    }
    let step = talk.option(OptionCode::ExportName, b"disk0");
    assert_eq!(step, Step::Close(CloseReason::ExportNameBeforeTls));
}

#[test]
fn tls_is_refused_by_policy_where_it_is_off() {
    assert_eq!(Talk::begun(plain()).verdict(OptionCode::StartTls, &[]), ReplyCode::ErrPolicy);
}

fn into_tls(talk: &mut Talk) {
    assert_eq!(talk.option(OptionCode::StartTls, &[]), Step::StartTls);
    assert_eq!(talk.replies()[0].reply, ReplyCode::Ack);
    talk.negotiation.tls_established();
}

#[test]
fn tls_forgets_what_was_negotiated_in_the_clear() {
    let mut talk = Talk::structured(with_tls(TlsPolicy::Allow));
    talk.acked(OptionCode::SetMetaContext, &meta_payload("disk0", &[BASE_ALLOCATION]));
    into_tls(&mut talk);
    let Step::Agreed(agreed) = talk.option(OptionCode::Go, &info_payload("disk0", &[])) else {
        panic!("not agreed")
    };
    assert_eq!((agreed.style, agreed.contexts.len(), agreed.tls), (ReplyStyle::Simple, 0, true));
}

#[test]
fn second_tls_is_invalid() {
    let mut talk = Talk::begun(with_tls(TlsPolicy::Require));
    into_tls(&mut talk);
    assert_eq!(talk.verdict(OptionCode::StartTls, &[]), ReplyCode::ErrInvalid);
    talk.acked(OptionCode::List, &[]);
}

#[test]
fn plaintext_after_starttls_ends_the_session() {
    let mut talk = Talk::begun(with_tls(TlsPolicy::Allow));
    let bytes = [option_bytes(OptionCode::StartTls, &[]), option_bytes(OptionCode::List, &[])].concat();
    assert_eq!(talk.send(&bytes), Step::Close(CloseReason::PlaintextAfterStartTls));
}

#[test]
fn one_call_answers_one_option() {
    let mut talk = Talk::begun(plain());
    let list = option_bytes(OptionCode::List, &[]);
    let (taken, step) = talk.negotiation.step(&list.repeat(100), &talk.exports, &mut talk.out);
    assert_eq!((taken, step), (list.len(), Step::More));
    assert_eq!(talk.replies().len(), 3);
}

#[test]
fn endless_haggling_ends_the_session() {
    let mut talk = Talk::begun(ServerPolicy { options_max: 5, ..plain() });
    let steps: Vec<_> = (0..6).map(|_| talk.option(OptionCode::List, &[])).collect();
    assert!(steps[..5].iter().all(|step| *step == Step::More), "{steps:?}");
    assert_eq!(steps[5], Step::Close(CloseReason::TooManyOptions(5)));
}

#[test]
fn stopping_server_refuses_all_but_abort() {
    let mut talk = Talk::begun(plain());
    talk.negotiation.stop();
    assert_eq!(talk.verdict(OptionCode::Go, &info_payload("disk0", &[])), ReplyCode::ErrShutdown);
    assert_eq!(talk.option(OptionCode::Abort, &[]), Step::Close(CloseReason::Abort));
    let mut talk = Talk::begun(plain());
    talk.negotiation.stop();
    assert_eq!(talk.option(OptionCode::ExportName, b"disk0"), Step::Close(CloseReason::ShuttingDown));
}

#[test]
fn bytes_after_the_agreement_are_left_for_transmission() {
    let mut talk = Talk::begun(plain());
    let go = option_bytes(OptionCode::Go, &info_payload("disk0", &[]));
    let bytes = [&go[..], b"\x25\x60\x95\x13"].concat();
    let (taken, step) = talk.negotiation.step(&bytes, &talk.exports, &mut talk.out);
    assert!(matches!(step, Step::Agreed(_)), "{step:?}");
    assert_eq!(taken, go.len());
}

#[test]
fn fast_zero_is_not_advertised_without_write_zeroes() {
    let mut odd = export("odd");
    odd.flags = TransmissionFlags::SEND_FAST_ZERO | TransmissionFlags::SEND_DF;
    let mut talk = Talk::begun(plain());
    talk.exports = ExportTable::from_iter([odd]);
    let Step::Agreed(agreed) = talk.option(OptionCode::Go, &info_payload("odd", &[])) else {
        panic!("not agreed")
    };
    assert_eq!(agreed.export.flags, TransmissionFlags::HAS_FLAGS);
}

#[test]
fn errors_carry_a_sentence_for_people() {
    let mut talk = Talk::begun(plain());
    talk.option(OptionCode::Go, &info_payload("nope", &[]));
    let replies = parse_replies(&talk.out);
    assert_eq!(str::from_utf8(&replies[0].payload), Ok("no export of that name"));
}

#[test]
fn strangers_words_do_not_flood_the_log() {
    let reason = CloseReason::UnknownExport("\x1b[2J".repeat(1000)).to_string();
    assert!(reason.len() < 400 && !reason.contains('\x1b'), "{reason}");
}
