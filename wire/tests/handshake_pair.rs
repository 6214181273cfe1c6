//! Both machines against each other, whatever each side wants and however the bytes arrive.

mod common;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use common::{FIXED, NO_ZEROES, exports, info_payload, meta_payload, option_bytes};
use wire::nbd::dial::{Dial, DialError, DialOptions, DialStep, Dialed, Goal};
use wire::nbd::handshake::{
    Agreed, BASE_ALLOCATION, CloseReason, ExportTable, Negotiation, OptionCode, ReplyCode, ServerPolicy,
    Step, TlsPolicy,
};
use wire::nbd::transmission::{ReplyStyle, TransmissionFlags};

/// How each side's session ended.
struct Ended {
    server: Option<Step>,
    client: DialStep,
}

/// Cuts what travels into pieces of the given sizes, over and over.
struct Cuts {
    sizes: Vec<usize>,
    next: usize,
}

impl Cuts {
    fn cut<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let size = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        &bytes[..size.min(bytes.len())]
    }
}

/// Carries bytes between the two until both have ended or neither has anything to say.
fn meet(policy: ServerPolicy, wishes: DialOptions, exports: &ExportTable, sizes: Vec<usize>) -> Ended {
    let mut cuts = Cuts { sizes, next: 0 };
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let mut server = Negotiation::new(policy, &mut to_client);
    let mut client = Dial::new(wishes);
    let (mut server_end, mut client_end) = (None, None);
    let mut server_waits_for_tls = false;
    loop {
        if server_end.is_none() && !server_waits_for_tls && !to_server.is_empty() {
            let (taken, step) = server.step(cuts.cut(&to_server), exports, &mut to_client);
            to_server.drain(..taken);
            match step {
                Step::More => {}
                Step::StartTls => server_waits_for_tls = true,
                end => server_end = Some(end),
            }
        } else if client_end.is_none() && !to_client.is_empty() {
            let (taken, step) = client.step(cuts.cut(&to_client), &mut to_server);
            to_client.drain(..taken);
            match step {
                DialStep::More => {}
                DialStep::StartTls => {
                    assert!(server_waits_for_tls && to_client.is_empty() && to_server.is_empty());
                    server.tls_established();
                    server_waits_for_tls = false;
                    client.tls_established(&mut to_server);
                }
                end => client_end = Some(end),
            }
        } else {
            let client = client_end.expect("the client always comes to an end, or waits for the server");
            return Ended { server: server_end, client };
        }
    }
}

fn any_policy() -> impl Strategy<Value = ServerPolicy> {
    let tls = select(&[TlsPolicy::Off, TlsPolicy::Allow, TlsPolicy::Require]);
    let default_export = select(&[None, Some("disk0"), Some("gone")]);
    (tls, default_export).prop_map(|(tls, default_export)| ServerPolicy {
        tls,
        default_export: default_export.map(str::to_owned),
        ..ServerPolicy::default()
    })
}

fn any_wishes() -> impl Strategy<Value = DialOptions> {
    let export = select(&["disk0", "disk1", "", "nope"]);
    let queries: [&[&str]; 4] = [&[], &[BASE_ALLOCATION], &["base:", "x:y"], &["x:y", BASE_ALLOCATION]];
    let contexts = select(queries.to_vec());
    let goal = select(&[Goal::Transmission, Goal::Describe, Goal::List]);
    (export, any::<[bool; 4]>(), contexts, goal).prop_map(|(export, wants, contexts, goal)| DialOptions {
        export: export.to_owned(),
        want_structured: wants[0],
        want_extended: wants[1],
        contexts: contexts.iter().map(|&name| name.to_owned()).collect(),
        context_queries: if wants[3] { vec!["base:".to_owned()] } else { Vec::new() },
        want_tls: wants[2],
        goal,
    })
}

fn any_cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![usize::MAX]), vec(1..40_usize, 1..6)]
}

/// What the client must come to, worked out from the wishes alone.
fn expected_error(
    policy: &ServerPolicy,
    wishes: &DialOptions,
    exports: &ExportTable,
) -> Option<(OptionCode, ReplyCode)> {
    if wishes.want_tls && policy.tls == TlsPolicy::Off {
        return Some((OptionCode::StartTls, ReplyCode::ErrPolicy));
    }
    if !wishes.want_tls && policy.tls == TlsPolicy::Require {
        return Some((first_option(wishes), ReplyCode::ErrTlsReqd));
    }
    let name = if wishes.export.is_empty() {
        policy.default_export.as_deref()
    } else {
        Some(wishes.export.as_str())
    };
    let known = name.is_some_and(|name| exports.get(name).is_some());
    (wishes.goal != Goal::List && !known).then(|| (last_option(wishes), ReplyCode::ErrUnknown))
}

fn first_option(wishes: &DialOptions) -> OptionCode {
    match wishes {
        DialOptions { goal: Goal::List, .. } => OptionCode::List,
        DialOptions { want_extended: true, .. } => OptionCode::ExtendedHeaders,
        DialOptions { want_structured: true, .. } => OptionCode::StructuredReply,
        _ => last_option(wishes),
    }
}

fn last_option(wishes: &DialOptions) -> OptionCode {
    match wishes.goal {
        Goal::Transmission => OptionCode::Go,
        Goal::Describe => OptionCode::Info,
        Goal::List => OptionCode::List,
    }
}

fn wished_style(wishes: &DialOptions) -> ReplyStyle {
    match (wishes.want_extended, wishes.want_structured) {
        (true, _) => ReplyStyle::Extended,
        (false, true) => ReplyStyle::Structured,
        (false, false) => ReplyStyle::Simple,
    }
}

fn assert_same(agreed: &Agreed, dialed: &Dialed) {
    assert_eq!(dialed.size_bytes, agreed.export.size_bytes);
    assert_eq!(dialed.flags, agreed.export.flags);
    assert_eq!(dialed.name.as_deref(), Some(agreed.export.name.as_str()));
    assert_eq!(dialed.description.as_deref().unwrap_or_default(), agreed.export.description);
    let sizes = dialed.block_sizes.expect("asked for");
    let offered = (agreed.export.block_min, agreed.export.block_preferred, agreed.export.payload_max);
    assert_eq!((sizes.min, sizes.preferred, sizes.payload_max), offered);
    assert_eq!((dialed.style, dialed.tls), (agreed.style, agreed.tls));
    let ids: Vec<_> = agreed.contexts.iter().map(|context| context.id).collect();
    assert_eq!(dialed.contexts.iter().map(|context| context.id).collect::<Vec<_>>(), ids);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_sides_agree_whatever_each_wants(policy in any_policy(), wishes in any_wishes(), cuts in any_cuts()) {
        let exports = exports();
        let ended = meet(policy.clone(), wishes.clone(), &exports, cuts);
        if let Some((option, error)) = expected_error(&policy, &wishes, &exports) {
            let refused = matches!(&ended.client, DialStep::Failed(DialError::Refused { option: o, error: e, .. })
                if (*o, *e) == (option, error));
            prop_assert!(refused, "{:?} instead of {option}: {error}", ended.client);
            prop_assert_eq!(ended.server, Some(Step::Close(CloseReason::Abort)));
            return Ok(());
        }
        match (ended.server, ended.client) {
            (Some(Step::Agreed(agreed)), DialStep::Agreed(dialed)) => {
                prop_assert_eq!(wishes.goal, Goal::Transmission);
                assert_same(&agreed, &dialed);
                prop_assert_eq!(agreed.style, wished_style(&wishes));
                let wanted = wishes.contexts.iter().any(|name| name == BASE_ALLOCATION);
                let offered = agreed.export.offers_allocation && agreed.style != ReplyStyle::Simple;
                prop_assert_eq!(agreed.contexts.len(), usize::from(wanted && offered));
            }
            (Some(Step::Close(CloseReason::Abort)), DialStep::Described(dialed)) => {
                prop_assert_eq!(wishes.goal, Goal::Describe);
                prop_assert!(dialed.flags.contains(TransmissionFlags::HAS_FLAGS));
            }
            (Some(Step::Close(CloseReason::Abort)), DialStep::Listed(listed)) => {
                prop_assert_eq!(wishes.goal, Goal::List);
                let names: Vec<_> = listed.iter().map(|export| export.name.as_str()).collect();
                prop_assert_eq!(names, ["disk0", "disk1"]);
            }
            (server, client) => prop_assert!(false, "{server:?} but {client:?}"),
        }
    }

    #[test]
    fn server_answers_alike_however_the_bytes_are_cut(script in vec(any_piece(), 0..12), cuts in vec(1..50_usize, 1..5)) {
        let bytes = [(FIXED | NO_ZEROES).to_be_bytes().to_vec(), script.concat()].concat();
        let whole = serve(&bytes, vec![usize::MAX]);
        prop_assert_eq!(serve(&bytes, cuts), whole);
    }

    #[test]
    fn client_acts_alike_however_the_bytes_are_cut(wishes in any_wishes(), policy in any_policy(), flip in any::<(Index, u8)>(), cuts in vec(1..50_usize, 1..5)) {
        let mut bytes = server_side(policy, &wishes);
        let at = flip.0.index(bytes.len());
        bytes[at] ^= flip.1;
        let whole = dial(&bytes, &wishes, vec![usize::MAX]);
        prop_assert_eq!(dial(&bytes, &wishes, cuts), whole);
    }

    #[test]
    fn garbage_never_breaks_the_server(bytes in vec(any::<u8>(), 0..200), cuts in any_cuts()) {
        let _ = serve(&bytes, cuts);
    }
}

/// Options good, bad and damaged. No STARTTLS: what follows it in one piece is an attack, in two pieces TLS.
fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        Just(Vec::new()),
        select(&["disk0", "disk1", "", "nope"]).prop_map(|name| info_payload(name, &[3, 1])),
        select(&["disk0", "nope"]).prop_map(|name| meta_payload(name, &[BASE_ALLOCATION])),
        vec(any::<u8>(), 0..30),
        (16_380..16_400_usize).prop_map(|count| vec![0; count]),
    ];
    let code = prop_oneof![select(&[3, 6, 8, 9, 10, 11][..]), select(&[1, 2, 4, 7, 99][..])];
    (code, payload).prop_map(|(code, payload): (u32, _)| option_bytes(OptionCode::from_u32(code), &payload))
}

/// What the server says to `bytes`, and how it ends; how many bytes it took.
fn serve(bytes: &[u8], sizes: Vec<usize>) -> (Vec<u8>, Option<Step>, usize) {
    let (exports, mut cuts) = (exports(), Cuts { sizes, next: 0 });
    let mut out = Vec::new();
    let mut server = Negotiation::new(ServerPolicy::default(), &mut out);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (taken, step) = server.step(cuts.cut(rest), &exports, &mut out);
        rest = &rest[taken..];
        if step != Step::More {
            return (out, Some(step), bytes.len() - rest.len());
        }
    }
    (out, None, bytes.len())
}

/// Everything that a server says to a client with these wishes.
fn server_side(policy: ServerPolicy, wishes: &DialOptions) -> Vec<u8> {
    let exports = exports();
    let (mut said, mut from) = (Vec::new(), 0);
    let mut server = Negotiation::new(ServerPolicy { tls: TlsPolicy::Off, ..policy }, &mut said);
    let mut client = Dial::new(DialOptions { want_tls: false, ..wishes.clone() });
    let mut to_server = Vec::new();
    while client.step(&said[from..], &mut to_server).1 == DialStep::More {
        from = said.len();
        let mut rest = to_server.as_slice();
        while !rest.is_empty() {
            let (taken, step) = server.step(rest, &exports, &mut said);
            rest = &rest[taken..];
            assert!(rest.is_empty() || step == Step::More);
        }
        to_server.clear();
    }
    said
}

/// What a client makes of `bytes`: its words and its end.
fn dial(bytes: &[u8], wishes: &DialOptions, sizes: Vec<usize>) -> (Vec<u8>, Option<DialStep>) {
    let mut cuts = Cuts { sizes, next: 0 };
    let mut client = Dial::new(DialOptions { want_tls: false, ..wishes.clone() });
    let (mut out, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (taken, step) = client.step(cuts.cut(rest), &mut out);
        rest = &rest[taken..];
        if step != DialStep::More {
            return (out, Some(step));
        }
    }
    (out, None)
}
