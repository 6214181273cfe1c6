//! The result of every operational key (RFC 7143 §13).

use wire::iscsi::parameters::{DigestPolicy, Key, Negotiation, NegotiationError, Offers, Parameters};

fn offers() -> Offers {
    Offers {
        header_digest: DigestPolicy::Allowed,
        data_digest: DigestPolicy::Allowed,
        own_max_recv_data_segment_length: 131_072,
        max_burst_length: 524_288,
        first_burst_length: 131_072,
        initial_r2t: false,
        immediate_data: true,
        max_outstanding_r2t: 4,
    }
}

/// Hands a whole text over; the answers, and what holds then.
fn negotiate(
    offers: Offers,
    is_discovery: bool,
    text: &[(&str, &str)],
) -> Result<(Vec<(String, String)>, Parameters), NegotiationError> {
    let mut negotiation = Negotiation::new(offers, is_discovery);
    let mut out = Vec::new();
    take(&mut negotiation, text, &mut out)?;
    Ok((pairs(&out), negotiation.parameters()))
}

fn take(
    negotiation: &mut Negotiation,
    text: &[(&str, &str)],
    out: &mut Vec<u8>,
) -> Result<(), NegotiationError> {
    for (key, value) in text {
        negotiation.take(Key::from_name(key).expect("a key"), value, out)?;
    }
    negotiation.end_of_text(false, out)
}

fn pairs(out: &[u8]) -> Vec<(String, String)> {
    let text = str::from_utf8(out).expect("answers are text");
    let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').expect("answers are pairs"));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn answer(offers: Offers, key: &str, value: &str) -> String {
    let (answers, _) = negotiate(offers, false, &[(key, value)]).expect("an answer");
    let [(answered, result)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(answered, key);
    result.clone()
}

#[test]
fn every_key_has_its_result_function() {
    let cases = [
        // The initiator's first that is known.
        ("HeaderDigest", "None", "None"),
        ("HeaderDigest", "CRC32C,None", "CRC32C"),
        ("HeaderDigest", "X-sha,None,CRC32C", "None"),
        ("DataDigest", "CRC32C", "CRC32C"),
        ("DataDigest", "None,CRC32C", "None"),
        // OR.
        ("InitialR2T", "No", "No"),
        ("InitialR2T", "Yes", "Yes"),
        ("DataPDUInOrder", "No", "Yes"),
        ("DataPDUInOrder", "Yes", "Yes"),
        ("DataSequenceInOrder", "No", "Yes"),
        // AND.
        ("ImmediateData", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        // The smaller one.
        ("MaxBurstLength", "16776192", "524288"),
        ("MaxBurstLength", "512", "512"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("FirstBurstLength", "1024", "1024"),
        ("FirstBurstLength", "262144", "131072"),
        ("MaxOutstandingR2T", "1", "1"),
        ("MaxOutstandingR2T", "65535", "4"),
        ("MaxConnections", "8", "1"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("ErrorRecoveryLevel", "0", "0"),
        ("DefaultTime2Retain", "3600", "0"),
        ("DefaultTime2Retain", "0", "0"),
        ("iSCSIProtocolLevel", "2", "1"),
        ("iSCSIProtocolLevel", "0", "0"),
        // The larger one.
        ("DefaultTime2Wait", "0", "0"),
        ("DefaultTime2Wait", "7", "7"),
        // A list of which RFC 3720's manner is the only one here.
        ("TaskReporting", "FastAbort,ResponseFence,RFC3720", "RFC3720"),
        ("TaskReporting", "FastAbort", "Reject"),
        // Obsolete (§13.25).
        ("IFMarker", "Yes", "No"),
        ("OFMarker", "No", "No"),
        ("IFMarkInt", "2048~65535", "Reject"),
        ("OFMarkInt", "2048", "Reject"),
        // Unlawful values.
        ("InitialR2T", "yes", "Reject"),
        ("ImmediateData", "", "Reject"),
        ("MaxBurstLength", "511", "Reject"),
        ("MaxBurstLength", "16777216", "Reject"),
        ("MaxBurstLength", "many", "Reject"),
        ("FirstBurstLength", "0", "Reject"),
        ("MaxOutstandingR2T", "0", "Reject"),
        ("MaxOutstandingR2T", "65536", "Reject"),
        ("MaxConnections", "0", "Reject"),
        ("ErrorRecoveryLevel", "3", "Reject"),
        ("DefaultTime2Wait", "3601", "Reject"),
        ("DefaultTime2Retain", "-1", "Reject"),
        ("iSCSIProtocolLevel", "32", "Reject"),
    ];
    for (key, value, result) in cases {
        assert_eq!(answer(offers(), key, value), result, "{key}={value}");
    }
}

#[test]
fn our_side_of_the_booleans_counts() {
    let strict = Offers { initial_r2t: true, immediate_data: false, ..offers() };
    assert_eq!(answer(strict.clone(), "InitialR2T", "No"), "Yes");
    assert_eq!(answer(strict, "ImmediateData", "Yes"), "No");
}

#[test]
fn digest_policy_decides() {
    let with = |policy| Offers { header_digest: policy, data_digest: policy, ..offers() };
    assert_eq!(answer(with(DigestPolicy::Off), "HeaderDigest", "CRC32C,None"), "None");
    assert_eq!(answer(with(DigestPolicy::Required), "DataDigest", "None,CRC32C"), "CRC32C");
    for (policy, offered) in [
        (DigestPolicy::Off, "CRC32C"),
        (DigestPolicy::Required, "None"),
        (DigestPolicy::Allowed, "MD5"),
        (DigestPolicy::Allowed, ""),
    ] {
        let result = negotiate(with(policy), false, &[("HeaderDigest", offered)]);
        assert!(matches!(result, Err(NegotiationError::Unacceptable { .. })), "{policy:?} {offered}");
    }
}

#[test]
fn discovery_goes_without_required_digests() {
    let offers = Offers {
        header_digest: DigestPolicy::Required,
        data_digest: DigestPolicy::Required,
        ..Offers::default()
    };
    let result = negotiate(offers.clone(), true, &[("HeaderDigest", "None"), ("DataDigest", "None")]);
    assert!(!result.expect("agreed").1.header_digest);
    let result = negotiate(offers, true, &[("HeaderDigest", "CRC32C,None")]);
    assert!(result.expect("agreed").1.header_digest, "who wants them gets them");
}

#[test]
fn results_become_what_holds() {
    let text = [
        ("HeaderDigest", "CRC32C"),
        ("DataDigest", "CRC32C,None"),
        ("FirstBurstLength", "200000"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "65536"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("MaxOutstandingR2T", "3"),
        ("DefaultTime2Wait", "5"),
        ("DefaultTime2Retain", "30"),
        ("MaxConnections", "4"),
        ("ErrorRecoveryLevel", "1"),
    ];
    let (answers, parameters) = negotiate(offers(), false, &text).expect("agreed");
    assert_eq!(
        parameters,
        Parameters {
            header_digest: true,
            data_digest: true,
            max_recv_data_segment_length: 262_144,
            own_max_recv_data_segment_length: 8192,
            max_burst_length: 65_536,
            first_burst_length: 65_536,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 3,
            default_time2wait: 5,
            default_time2retain: 0,
            max_connections: 1,
            error_recovery_level: 0,
        }
    );
    let first_burst = answers.last().expect("answers").clone();
    assert_eq!(first_burst, ("FirstBurstLength".to_owned(), "65536".to_owned()), "no more than a burst");
    assert!(!answers.iter().any(|(key, _)| key == "MaxRecvDataSegmentLength"), "declared, not negotiated");
}

#[test]
fn rejected_keys_keep_their_defaults() {
    let (_, parameters) =
        negotiate(offers(), false, &[("MaxBurstLength", "1"), ("InitialR2T", "?")]).expect("go on");
    assert_eq!(parameters, Parameters::default());
}

#[test]
fn first_burst_is_irrelevant_without_unsolicited_data() {
    let text = [("FirstBurstLength", "65536"), ("ImmediateData", "No"), ("InitialR2T", "Yes")];
    let (answers, _) = negotiate(offers(), false, &text).expect("agreed");
    assert_eq!(answers[2], ("FirstBurstLength".to_owned(), "Irrelevant".to_owned()));
}

#[test]
fn scsi_keys_are_irrelevant_in_a_discovery_session() {
    for key in [
        "MaxConnections",
        "InitialR2T",
        "ImmediateData",
        "MaxBurstLength",
        "FirstBurstLength",
        "MaxOutstandingR2T",
        "DataPDUInOrder",
        "DataSequenceInOrder",
        "TaskReporting",
        "iSCSIProtocolLevel",
    ] {
        let (answers, _) = negotiate(offers(), true, &[(key, "1")]).expect("agreed");
        assert_eq!(answers, [(key.to_owned(), "Irrelevant".to_owned())]);
    }
    for (key, value) in [("HeaderDigest", "None"), ("DefaultTime2Wait", "2"), ("ErrorRecoveryLevel", "0")] {
        let (answers, _) = negotiate(offers(), true, &[(key, value)]).expect("agreed");
        assert_eq!(answers, [(key.to_owned(), value.to_owned())]);
    }
}

#[test]
fn unlawful_declarations_end_the_login() {
    for value in ["511", "16777216", "", "None", "8k"] {
        let result = negotiate(offers(), false, &[("MaxRecvDataSegmentLength", value)]);
        let unlawful =
            NegotiationError::Unlawful { key: "MaxRecvDataSegmentLength", value: value.to_owned() };
        assert_eq!(result, Err(unlawful));
    }
}

#[test]
fn our_own_length_is_declared_once() {
    let mut negotiation = Negotiation::new(offers(), false);
    let mut out = Vec::new();
    negotiation.end_of_text(false, &mut out).expect("fine");
    assert!(out.is_empty());
    negotiation.end_of_text(true, &mut out).expect("fine");
    negotiation.end_of_text(true, &mut out).expect("fine");
    assert_eq!(out, b"MaxRecvDataSegmentLength=131072\0");
    assert_eq!(negotiation.parameters().own_max_recv_data_segment_length, 131_072);
}

fn modest() -> Offers {
    Offers {
        header_digest: DigestPolicy::Required,
        max_burst_length: 131_072,
        first_burst_length: 8192,
        immediate_data: false,
        ..offers()
    }
}

#[test]
fn what_was_not_offered_and_is_too_much_is_offered_by_us() {
    let mut negotiation = Negotiation::new(modest(), false);
    let mut out = Vec::new();
    take(&mut negotiation, &[("InitialR2T", "No")], &mut out).expect("fine");
    out.clear();
    assert_eq!(negotiation.propose(&mut out), Ok(true));
    assert_eq!(out, b"HeaderDigest=CRC32C\0ImmediateData=No\0MaxBurstLength=131072\0FirstBurstLength=8192\0");
    out.clear();
    let answers = [
        ("HeaderDigest", "CRC32C"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "65536"),
        ("FirstBurstLength", "4096"),
    ];
    take(&mut negotiation, &answers, &mut out).expect("acceptable");
    assert!(out.is_empty(), "an answer is not answered");
    assert_eq!(negotiation.propose(&mut out), Ok(false));
    let parameters = negotiation.parameters();
    assert!(parameters.header_digest && !parameters.immediate_data);
    assert_eq!((parameters.max_burst_length, parameters.first_burst_length), (65_536, 4096));
}

#[test]
fn first_burst_is_not_offered_where_no_data_comes_unasked() {
    let mut negotiation = Negotiation::new(modest(), false);
    let mut out = Vec::new();
    assert_eq!(negotiation.propose(&mut out), Ok(true));
    assert!(!String::from_utf8_lossy(&out).contains("FirstBurstLength"));
}

#[test]
fn answers_beyond_our_offer_are_unacceptable() {
    let bad = [
        ("HeaderDigest", "None"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "131073"),
        ("MaxBurstLength", "Reject"),
        ("ImmediateData", "NotUnderstood"),
    ];
    for (key, value) in bad {
        let mut negotiation = Negotiation::new(modest(), false);
        let mut out = Vec::new();
        negotiation.propose(&mut out).expect("offers");
        let result = take(&mut negotiation, &[(key, value)], &mut out);
        assert!(matches!(result, Err(NegotiationError::Unacceptable { .. })), "{key}={value}: {result:?}");
    }
}

#[test]
fn unanswered_offers_end_the_login() {
    let mut negotiation = Negotiation::new(modest(), false);
    let mut out = Vec::new();
    negotiation.propose(&mut out).expect("offers");
    assert_eq!(negotiation.propose(&mut out), Err(NegotiationError::Unanswered("HeaderDigest")));
}

#[test]
fn nothing_is_offered_to_who_keeps_to_the_defaults() {
    assert!(!Negotiation::new(Offers::default(), false).has_wishes());
    assert!(!Negotiation::new(modest(), true).parameters().header_digest);
}

#[test]
fn full_feature_phase_takes_a_new_length_only() {
    let mut parameters = Parameters::default();
    assert_eq!(parameters.redeclare("MaxRecvDataSegmentLength", "65536"), None);
    assert_eq!(parameters.max_recv_data_segment_length, 65_536);
    assert_eq!(parameters.redeclare("MaxRecvDataSegmentLength", "1"), Some("Reject"));
    assert_eq!(parameters.redeclare("InitiatorAlias", "new name"), None);
    for key in ["MaxBurstLength", "HeaderDigest", "InitiatorName", "AuthMethod", "TargetAddress", "IFMarker"]
    {
        assert_eq!(parameters.redeclare(key, "1"), Some("Reject"), "{key}");
    }
    for key in ["X-com.example", "Y-digest", "Z#hash", "InitialR2t"] {
        assert_eq!(parameters.redeclare(key, "1"), Some("NotUnderstood"), "{key}");
    }
    assert_eq!(parameters, Parameters { max_recv_data_segment_length: 65_536, ..Parameters::default() });
}
