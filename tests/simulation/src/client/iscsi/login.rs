//! Logs a simulated client in to the volume's target.
//!
//! Its one rule: what is offered differs from login to login, so that data goes all the ways it can.

use reactor::{Handle, io as verbs};
use wire::iscsi::initiator::{InitiatorLogin, InitiatorStep, Wishes};
use wire::iscsi::parameters::{DigestPolicy, Offers};
use wire::iscsi::pdu::{Request, Response};

use super::{Talk, put, take};
use crate::client::send;
use crate::dice::Dice;
use crate::node::TARGET;

/// Logs in over a connection that has just been made.
pub async fn log_in(socket: &Handle, dice: &mut Dice) -> Result<Talk, String> {
    let mut login = InitiatorLogin::new(wishes(dice), [0; 64]);
    let (mut request, mut data) = login.begin();
    let mut input = Vec::new();
    loop {
        let mut out = Vec::new();
        put(&Request::Login(request), &data, [false; 2], &mut out);
        send(socket, &out).await?;
        let (response, answer) = loop {
            if let Some(pdu) = take(&mut input, [false; 2])? {
                break pdu;
            }
            let received = verbs::receive(socket, 0).await.map_err(|error| error.to_string())?;
            if received.len() == 0 {
                return Err("it hung up while we logged in".into());
            }
            input.extend_from_slice(received.bytes());
        };
        let Response::Login(response) = response else {
            return Err(format!("a login was answered with {response:?}"));
        };
        match login.step(&response, &answer) {
            InitiatorStep::Send(next, text) => (request, data) = (next, text),
            InitiatorStep::Done(logged_in) => return Ok(Talk::new(*logged_in, input)),
            InitiatorStep::Failed(error) => return Err(error.to_string()),
        }
    }
}

fn wishes(dice: &mut Dice) -> Wishes {
    let mut digest = || if dice.percent(30) { DigestPolicy::Required } else { DigestPolicy::Off };
    let (header_digest, data_digest) = (digest(), digest());
    let offers = Offers {
        header_digest,
        data_digest,
        own_max_recv_data_segment_length: dice.pick(&[512, 4096, 256 << 10]),
        max_burst_length: dice.pick(&[4096, 1 << 20]),
        first_burst_length: dice.pick(&[512, 4096, 64 << 10]),
        initial_r2t: dice.percent(50),
        immediate_data: dice.percent(50),
        max_outstanding_r2t: dice.pick(&[1, 4]),
    };
    let [a, b, c, d] = (dice.roll() as u32).to_be_bytes();
    Wishes {
        initiator_name: "iqn.2026-11.io.ringsan:simulation".into(),
        target_name: Some(TARGET.into()),
        // Random, so that no session takes the place of another.
        isid: [0x80, a, b, c, d, dice.roll() as u8],
        skips_security: true,
        offers,
        ..Wishes::default()
    }
}
