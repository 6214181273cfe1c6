//! iSCSI: PDUs of both directions, texts, and whole logins against either end.

use wire::iscsi::chap::{ChapUser, Secret, decode_binary};
use wire::iscsi::initiator::{InitiatorLogin, InitiatorStep, Wishes};
use wire::iscsi::login::{
    Access, Agreed, Authentication, LOGIN_DATA_BYTES_MAX, Login, LoginStatus, LoginStep,
};
use wire::iscsi::parameters::{DigestPolicy, Offers, Parameters};
use wire::iscsi::pdu::{AHS_BYTES_MAX, BHS_BYTES, LoginResponse, Request, Response, Segments};
use wire::iscsi::text::{KEY_BYTES_MAX, Limits, Pairs, TEXT_BYTES_MAX, parse_number, put_pair};

const TARGET: &str = "iqn.2026-11.io.ringsan:disk0";
const RANDOM: [u8; 64] = [0x5a; 64];

/// Headers of either direction: what they decode to is what it encodes to.
pub fn iscsi_pdu(data: &[u8]) {
    let Some((bhs, rest)) = data.split_first_chunk() else { return };
    let ahs = &rest[..rest.len().min(AHS_BYTES_MAX) / 4 * 4];
    if let Ok(request) = Request::decode(bhs, ahs) {
        let mut again = Vec::new();
        request.encode(Segments::of(bhs).data_bytes, &mut again);
        let (bhs_again, ahs_again) = again.split_first_chunk().expect("a header");
        assert_eq!(Segments::of(bhs_again).data_bytes, Segments::of(bhs).data_bytes);
        assert_eq!(Segments::of(bhs_again).ahs_bytes, ahs_again.len());
        assert!(ahs_again.len() <= ahs.len());
        assert_eq!(Request::decode(bhs_again, ahs_again), Ok(request));
    }
    if let Ok(response) = Response::decode(bhs, &[]) {
        let mut again = Vec::new();
        response.encode(Segments::of(bhs).data_bytes, &mut again);
        let bhs_again: &[u8; BHS_BYTES] = again[..].try_into().expect("no more than a header");
        assert_eq!(Response::decode(bhs_again, &[]), Ok(response));
    }
}

/// Texts: bounded, no key twice, and the same when written anew.
pub fn iscsi_text(data: &[u8]) {
    let Ok(pairs) = Pairs::parse(data, Limits::default()) else { return };
    assert!(data.len() <= TEXT_BYTES_MAX);
    let (mut again, mut parameters) = (Vec::new(), Parameters::default());
    for (key, value) in pairs.iter() {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
        assert_eq!(pairs.get(key), Some(value));
        put_pair(&mut again, key, value);
        let _ = (parse_number(value), parameters.redeclare(key, value));
        assert!(decode_binary(value, 64).is_none_or(|bytes| (1..=64).contains(&bytes.len())));
    }
    assert!((512..1 << 24).contains(&parameters.max_recv_data_segment_length));
    assert_eq!(Pairs::parse(&again, Limits::default()), Ok(pairs));
}

/// Whoever comes may; the first byte says whether they have to prove who they are.
struct Door {
    is_guarded: bool,
}

impl Access for Door {
    fn authentication(&self, initiator: &str, target: Option<&str>) -> Result<Authentication, LoginStatus> {
        assert!(!initiator.is_empty());
        let user =
            |name: &str, secret: &[u8]| ChapUser { name: name.to_owned(), secret: Secret::new(secret) };
        let guard = Authentication {
            chap_users: vec![user("alice", b"correct horse battery")],
            own: Some(user("target", b"the targets own secret")),
            target_alias: "disk 0".to_owned(),
        };
        match target {
            None | Some(TARGET) if self.is_guarded => Ok(guard),
            None | Some(TARGET) => Ok(Authentication::default()),
            Some(_) => Err(LoginStatus::NOT_FOUND),
        }
    }

    fn portal_group(&self) -> u16 {
        1
    }
}

/// A stream of PDUs to a target: it answers within bounds, and nobody gets past it who has proved nothing.
pub fn iscsi_login(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let door = Door { is_guarded: choice & 1 != 0 };
    let offers = offers(choice);
    let mut login = Login::new(offers.clone(), RANDOM);
    let mut stat_sn = 0;
    while let Some((Ok(Request::Login(request)), data)) = next(&mut rest, Request::decode) {
        let (reply, said, is_over) = match login.step(&request, data, &door) {
            LoginStep::Reply(reply, said) => (reply, said, false),
            LoginStep::Done { reply, data, agreed } => {
                assert!(reply.transit && reply.next_stage == 3);
                assert_eq!(agreed.stat_sn, stat_sn + 1);
                assert_agreed(&agreed, &offers, &door);
                (reply, data, true)
            }
            LoginStep::Refuse { reply, data, reason } => {
                assert!(reply.status_class != 0 && !reply.transit && reason.len() < 2000);
                (reply, data, true)
            }
            LoginStep::Close(_) => return,
        };
        assert_eq!((reply.stat_sn, reply.initiator_task_tag), (stat_sn, request.initiator_task_tag));
        assert!(said.len() <= LOGIN_DATA_BYTES_MAX && !(reply.continues && reply.transit));
        assert!(!reply.transit || request.transit);
        stat_sn += 1;
        if is_over {
            return;
        }
    }
}

fn offers(choice: u8) -> Offers {
    let policy =
        [DigestPolicy::Allowed, DigestPolicy::Required, DigestPolicy::Off][usize::from(choice >> 1) % 3];
    Offers {
        header_digest: policy,
        max_burst_length: if choice & 0x40 != 0 { 65_536 } else { 1 << 20 },
        immediate_data: choice & 0x80 == 0,
        ..Offers::default()
    }
}

/// The next PDU of a stream, and its data.
fn next<'a, T>(rest: &mut &'a [u8], decode: impl Fn(&[u8; BHS_BYTES], &[u8]) -> T) -> Option<(T, &'a [u8])> {
    let (bhs, after) = rest.split_first_chunk()?;
    let segments = Segments::of(bhs);
    let (ahs, after) = after.split_at_checked(segments.ahs_bytes)?;
    let (data, after) = after.split_at_checked(segments.data_bytes)?;
    *rest = after.get(segments.padding()..)?;
    Some((decode(bhs, ahs), data))
}

fn assert_agreed(agreed: &Agreed, offers: &Offers, door: &Door) {
    assert_eq!(agreed.chap_user.is_some(), door.is_guarded);
    assert!((1..=223).contains(&agreed.initiator_name.len()));
    let Parameters { max_burst_length, first_burst_length, .. } = agreed.parameters;
    assert!((512..=max_burst_length).contains(&first_burst_length));
    assert!((512..1 << 24).contains(&agreed.parameters.max_recv_data_segment_length));
    assert!((1..=offers.max_outstanding_r2t).contains(&agreed.parameters.max_outstanding_r2t));
    if matches!(agreed.session, wire::iscsi::login::SessionKind::Normal { .. }) {
        assert!(max_burst_length <= offers.max_burst_length);
        assert!(offers.immediate_data || !agreed.parameters.immediate_data);
    }
    let is_discovery = agreed.session == wire::iscsi::login::SessionKind::Discovery;
    match offers.header_digest {
        DigestPolicy::Required => assert!(agreed.parameters.header_digest || is_discovery),
        DigestPolicy::Off => assert!(!agreed.parameters.header_digest),
        DigestPolicy::Allowed => {}
    }
}

/// A stream of PDUs to an initiator: it believes nothing that it could not have asked for.
pub fn iscsi_initiator(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let user = |name: &str, secret: &[u8]| ChapUser { name: name.to_owned(), secret: Secret::new(secret) };
    let is_mutual = choice & 3 == 3;
    let wishes = Wishes {
        target_name: (choice & 8 == 0).then(|| TARGET.to_owned()),
        chap: (choice & 1 != 0).then(|| user("alice", b"correct horse battery")),
        target_chap: is_mutual.then(|| user("target", b"the targets own secret")),
        skips_security: choice & 4 != 0,
        ..Wishes::default()
    };
    let mut initiator = InitiatorLogin::new(wishes.clone(), RANDOM);
    let (_, first) = initiator.begin();
    assert!(first.len() <= LOGIN_DATA_BYTES_MAX);
    let (mut stage, mut was_proved) = (0, false);
    while let Some((Ok(Response::Login(response)), data)) = next(&mut rest, Response::decode) {
        was_proved |= proves(&response, data);
        match initiator.step(&response, data) {
            InitiatorStep::Send(request, text) => {
                assert!(request.current_stage >= stage && text.len() <= LOGIN_DATA_BYTES_MAX);
                stage = request.current_stage;
            }
            InitiatorStep::Done(done) => {
                assert!(!is_mutual || was_proved);
                let parameters = done.parameters;
                assert!(parameters.max_burst_length <= wishes.offers.max_burst_length.max(262_144));
                assert!((512..=parameters.max_burst_length).contains(&parameters.first_burst_length));
                return;
            }
            InitiatorStep::Failed(_) => return,
        }
    }
}

/// Whether this text could hold the target's proof.
fn proves(response: &LoginResponse, data: &[u8]) -> bool {
    response.status_class == 0 && data.windows(7).any(|bytes| bytes == b"CHAP_R=")
}
