//! Logs in to a target without authentication: the blocking mover around `wire::iscsi::initiator`.
//!
//! What is offered is what open-iscsi offers: so a target is measured as Linux would find it.

use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};
use socket2::Socket;
use wire::iscsi::initiator::{InitiatorLogin, InitiatorStep, LoggedIn, Wishes};
use wire::iscsi::parameters::{DigestPolicy, Offers};
use wire::iscsi::pdu::{Request, Response};

use super::pdu::{Digests, receive, send};

const INITIATOR: &str = "iqn.2026-11.io.ringsan:benches";
const DATA_SEGMENT_BYTES_MAX: u32 = 256 << 10;
const FIRST_BURST_BYTES: u32 = 256 << 10;
const MAX_BURST_BYTES: u32 = 16_776_192;
/// ISIDs of this type are random (RFC 7143 §11.12.5).
const RANDOM: u8 = 0x80;

/// Logs in on a fresh connection; the target uses the digests asked for, or it is an error.
pub fn login(socket: &Socket, target: &str, digests: Digests) -> Result<LoggedIn> {
    // Nobody has to prove anything here, so nothing needs to be random.
    let mut login = InitiatorLogin::new(wishes(target, digests), [0; 64]);
    let (mut request, mut data) = login.begin();
    loop {
        let mut header = Vec::new();
        Request::Login(request).encode(data.len(), &mut header);
        send(socket, &header, &data, Digests::default())?;
        let (header, answer) = receive(socket, Digests::default())?;
        let response = match Response::decode(&header, &[]) {
            Ok(Response::Login(response)) => response,
            other => bail!("a login was answered with {other:?}"),
        };
        match login.step(&response, &answer) {
            InitiatorStep::Send(next, text) => (request, data) = (next, text),
            InitiatorStep::Done(logged_in) => {
                if Digests::of(&logged_in.parameters) != digests {
                    bail!("the target does not use the digests asked for");
                }
                return Ok(*logged_in);
            }
            InitiatorStep::Failed(error) => return Err(error.into()),
        }
    }
}

fn wishes(target: &str, digests: Digests) -> Wishes {
    let policy = |wanted| if wanted { DigestPolicy::Required } else { DigestPolicy::Off };
    let offers = Offers {
        header_digest: policy(digests.header),
        data_digest: policy(digests.data),
        own_max_recv_data_segment_length: DATA_SEGMENT_BYTES_MAX,
        max_burst_length: MAX_BURST_BYTES,
        first_burst_length: FIRST_BURST_BYTES,
        initial_r2t: false,
        immediate_data: true,
        max_outstanding_r2t: 1,
    };
    Wishes {
        initiator_name: INITIATOR.into(),
        target_name: Some(target.into()),
        isid: isid(),
        skips_security: true,
        offers,
        ..Wishes::default()
    }
}

/// A name of its own for each session, so that none takes the place of another.
fn isid() -> [u8; 6] {
    static SESSIONS: AtomicU16 = AtomicU16::new(0);
    let [_, b, c, d] = std::process::id().to_be_bytes();
    let [high, low] = SESSIONS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [RANDOM, b, c, d, high, low]
}
