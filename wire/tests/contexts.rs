//! How clients list and select metadata contexts.

mod common;

use common::{Talk, export, info_payload, meta_payload, string};
use wire::nbd::handshake::{
    BASE_ALLOCATION, ExportInfo, LABEL_NAMESPACE, LABEL_VOLUME, OPTION_BYTES_MAX, OptionCode, ReplyCode,
    ServerPolicy, Step,
};
use wire::nbd::transmission::TransmissionFlags;

fn plain() -> ServerPolicy {
    ServerPolicy::default()
}

#[test]
fn meta_contexts_need_structured_replies() {
    for option in [OptionCode::ListMetaContext, OptionCode::SetMetaContext] {
        let verdict = Talk::begun(plain()).verdict(option, &meta_payload("disk0", &[BASE_ALLOCATION]));
        assert_eq!(verdict, ReplyCode::ErrInvalid);
    }
}

#[test]
fn listing_contexts_knows_the_wildcard_and_no_query() {
    for queries in [&[][..], &["base:"], &[BASE_ALLOCATION], &["qemu:x", "base:"]] {
        let replies =
            Talk::structured(plain()).ask(OptionCode::ListMetaContext, &meta_payload("disk0", queries));
        assert_eq!(replies.len(), 2, "{queries:?}");
        assert_eq!(replies[0].reply, ReplyCode::MetaContext);
        assert_eq!(replies[0].payload, b"\0\0\0\0base:allocation");
    }
    for queries in [&["qemu:"][..], &["base:allo"], &["nonsense"], &[""]] {
        let replies =
            Talk::structured(plain()).ask(OptionCode::ListMetaContext, &meta_payload("disk0", queries));
        assert_eq!(replies.len(), 1, "{queries:?}");
    }
}

#[test]
fn labels_are_listed_when_asked_for_and_never_selected() {
    let label = format!("{LABEL_VOLUME}6d1b");
    let listed = |queries: &[&str], option| {
        let mut talk = Talk::structured(plain());
        let labelled = ExportInfo { labels: vec![label.clone()], ..export("disk0") };
        talk.exports = [labelled].into_iter().collect();
        let mut replies = talk.ask(option, &meta_payload("disk0", queries));
        assert_eq!(replies.pop().map(|reply| reply.reply), Some(ReplyCode::Ack));
        let names = replies.iter().map(|reply| String::from_utf8_lossy(&reply.payload[4..]).into_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed(&[LABEL_NAMESPACE], OptionCode::ListMetaContext), [label.as_str()]);
    assert_eq!(listed(&[LABEL_VOLUME], OptionCode::ListMetaContext), [label.as_str()]);
    assert_eq!(listed(&[&label], OptionCode::ListMetaContext), [label.as_str()]);
    assert_eq!(listed(&[], OptionCode::ListMetaContext), [BASE_ALLOCATION, label.as_str()]);
    assert_eq!(listed(&["base:"], OptionCode::ListMetaContext), [BASE_ALLOCATION]);
    assert!(listed(&[LABEL_NAMESPACE, &label], OptionCode::SetMetaContext).is_empty());
}

#[test]
fn selecting_contexts_ignores_wildcards_and_strangers() {
    for queries in [&[][..], &["base:"], &["x-y:z", "nonsense"]] {
        let replies =
            Talk::structured(plain()).ask(OptionCode::SetMetaContext, &meta_payload("disk0", queries));
        assert_eq!(replies.len(), 1, "{queries:?}");
    }
}

#[test]
fn selected_context_has_an_id_and_reaches_transmission() {
    let replies =
        Talk::structured(plain()).ask(OptionCode::SetMetaContext, &meta_payload("disk0", &[BASE_ALLOCATION]));
    assert_eq!(replies[0].payload, b"\0\0\0\x01base:allocation");
    assert_eq!(contexts_after(&[meta_payload("disk0", &[BASE_ALLOCATION])], "disk0"), 1);
}

#[test]
fn contexts_of_another_export_are_dropped() {
    let mut talk = Talk::structured(plain());
    talk.exports = ["disk0", "disk1"].map(export).into_iter().collect();
    talk.acked(OptionCode::SetMetaContext, &meta_payload("disk0", &[BASE_ALLOCATION]));
    let step = talk.option(OptionCode::Go, &info_payload("disk1", &[]));
    let Step::Agreed(agreed) = step else { panic!("{step:?}") };
    assert_eq!(agreed.contexts, []);
}

#[test]
fn last_selection_replaces_the_earlier_one_even_if_it_fails() {
    let good = meta_payload("disk0", &[BASE_ALLOCATION]);
    for last in
        [meta_payload("disk0", &[]), meta_payload("nope", &[]), vec![1], vec![0; OPTION_BYTES_MAX + 1]]
    {
        assert_eq!(contexts_after(&[good.clone(), last], "disk0"), 0);
    }
    assert_eq!(contexts_after(&[vec![1], good], "disk0"), 1);
}

#[test]
fn contexts_of_an_unknown_export_are_unknown() {
    let mut talk = Talk::structured(plain());
    for option in [OptionCode::ListMetaContext, OptionCode::SetMetaContext] {
        assert_eq!(talk.verdict(option, &meta_payload("nope", &[])), ReplyCode::ErrUnknown);
    }
}

#[test]
fn export_without_contexts_offers_none() {
    let mut talk = Talk::structured(plain());
    assert_eq!(talk.ask(OptionCode::ListMetaContext, &meta_payload("disk1", &[])).len(), 1);
    assert_eq!(talk.ask(OptionCode::SetMetaContext, &meta_payload("disk1", &[BASE_ALLOCATION])).len(), 1);
}

#[test]
fn malformed_context_request_is_invalid() {
    let good = meta_payload("disk0", &[BASE_ALLOCATION, "x:y"]);
    let mut talk = Talk::structured(plain());
    for end in 0..good.len() {
        assert_eq!(
            talk.verdict(OptionCode::SetMetaContext, &good[..end]),
            ReplyCode::ErrInvalid,
            "cut at {end}"
        );
    }
    let trailing = [&good[..], b"x"].concat();
    assert_eq!(talk.verdict(OptionCode::ListMetaContext, &trailing), ReplyCode::ErrInvalid);
    let many = [string("disk0"), u32::MAX.to_be_bytes().to_vec()].concat();
    assert_eq!(talk.verdict(OptionCode::ListMetaContext, &many), ReplyCode::ErrInvalid);
}

#[test]
fn naming_contexts_in_requests_is_not_offered_without_contexts() {
    let mut talk = Talk::begun(plain());
    talk.acked(OptionCode::ExtendedHeaders, &[]);
    let step = talk.option(OptionCode::Go, &info_payload("disk0", &[]));
    let Step::Agreed(agreed) = step else { panic!("{step:?}") };
    assert!(!agreed.export.flags.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD));
}

fn contexts_after(selections: &[Vec<u8>], go: &str) -> usize {
    let mut talk = Talk::structured(plain());
    for payload in selections {
        talk.option(OptionCode::SetMetaContext, payload);
        talk.out.clear();
    }
    match talk.option(OptionCode::Go, &info_payload(go, &[])) {
        Step::Agreed(agreed) => agreed.contexts.len(),
        step => panic!("{step:?}"),
    }
}
