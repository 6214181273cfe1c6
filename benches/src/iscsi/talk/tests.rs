//! What the generator writes into a session, and what it makes of the answers.

use super::*;
use wire::iscsi::pdu::{CommandResponse, DataIn, Segments};

const UNIT: Unit = Unit { lun: Lun(0), logical_block_bytes: 512 };
const WRITE: Question = Question { write: true, offset_bytes: 8192 };
const READ: Question = Question { write: false, offset_bytes: 4096 };

/// A talk whose window is open for `window` commands.
fn talk(agreed: Parameters, load: &Load, window: u32) -> IscsiTalk {
    // The numbers are about to wrap around.
    let cmd_sn = u32::MAX;
    let numbers = Numbers { cmd_sn, exp_stat_sn: 7, max_cmd_sn: cmd_sn.wrapping_add(window).wrapping_sub(1) };
    IscsiTalk::new(agreed, numbers, UNIT, load)
}

/// What was written, and how many bytes of data each PDU brings.
fn written(out: &Outgoing) -> Vec<(Request, usize)> {
    let (mut bytes, mut requests) = (out.unsent(), Vec::new());
    while let Some(header) = bytes.first_chunk::<BHS_BYTES>() {
        let Segments { data_bytes, .. } = Segments::of(header);
        requests.push((Request::decode(header, &[]).expect("lawful"), data_bytes));
        bytes = &bytes[BHS_BYTES + data_bytes.next_multiple_of(4)..];
    }
    assert!(bytes.is_empty(), "nothing lies between PDUs");
    requests
}

fn data_out(talk: &IscsiTalk, (request, bytes): &(Request, usize)) -> (u32, u32, usize, bool) {
    let Request::DataOut(data) = request else { panic!("{request:?} brings no data") };
    assert_eq!((data.initiator_task_tag, data.exp_stat_sn), (0, talk.numbers.exp_stat_sn));
    (data.target_transfer_tag, data.buffer_offset, *bytes, data.is_final)
}

fn tell(talk: &mut IscsiTalk, response: Response) -> Result<Vec<Answer>> {
    let (mut bytes, mut answers) = (Vec::new(), Vec::new());
    response.encode(0, &mut bytes);
    talk.take(&bytes, &mut |answer| answers.push(answer))?;
    Ok(answers)
}

#[test]
fn a_small_write_goes_with_its_command() {
    let load = Load::random_4k(100, 1);
    let mut talk = talk(Parameters::default(), &load, 1);
    let mut out = Outgoing::new(talk.request_bytes_max());
    talk.ask(WRITE, 0, &mut out);
    let [(Request::Command(command), 4096)] = &written(&out)[..] else { panic!("one PDU with all data") };
    assert!(command.is_final && command.write && !command.read);
    assert_eq!(command.cdb[..14], [WRITE_16, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8]);
}

#[test]
fn a_large_write_goes_as_it_was_agreed() {
    let load = Load { block_bytes: 40_000 / 512 * 512, ..Load::random_4k(100, 1) };
    let agreed = Parameters {
        initial_r2t: false,
        first_burst_length: 20_000,
        max_recv_data_segment_length: 8192,
        ..Parameters::default()
    };
    let mut talk = talk(agreed, &load, 1);
    let mut out = Outgoing::new(talk.request_bytes_max());
    talk.ask(WRITE, 0, &mut out);
    let unasked = written(&out);
    assert!(matches!(&unasked[0], (Request::Command(command), 8192) if !command.is_final));
    let unasked: Vec<_> = unasked[1..].iter().map(|pdu| data_out(&talk, pdu)).collect();
    assert_eq!(unasked, [(NO_TAG, 8192, 8192, false), (NO_TAG, 16384, 3616, true)]);

    let rest = R2t {
        target_transfer_tag: 5,
        buffer_offset: 20_000,
        desired_data_transfer_length: load.block_bytes - 20_000,
        ..R2t::default()
    };
    assert_eq!(tell(&mut talk, Response::R2t(rest)).expect("lawful"), []);
    let mut out = Outgoing::new(talk.request_bytes_max());
    assert!(talk.respond(&mut out) && !talk.respond(&mut out));
    let asked: Vec<_> = written(&out).iter().map(|pdu| data_out(&talk, pdu)).collect();
    assert_eq!(asked, [(5, 20_000, 8192, false), (5, 28_192, 8192, false), (5, 36_384, 3552, true)]);
}

#[test]
fn no_more_is_asked_than_the_window_holds() {
    let mut talk = talk(Parameters::default(), &Load::random_4k(0, 8), 2);
    let mut out = Outgoing::new(8 * talk.request_bytes_max());
    for slot in 0..2 {
        assert!(talk.may_ask());
        talk.ask(READ, slot, &mut out);
    }
    assert!(!talk.may_ask());
    let data =
        DataIn { is_final: true, status: Some(0), initiator_task_tag: 1, max_cmd_sn: 1, ..DataIn::default() };
    let answers = tell(&mut talk, Response::DataIn(data)).expect("lawful");
    assert_eq!(answers, [Answer { slot: 1, error: false }]);
    assert!(talk.may_ask());
}

#[test]
fn a_failure_or_a_short_transfer_is_an_error() {
    for (status, residual) in [(2, Residual::None), (0, Residual::Underflow(1))] {
        let mut talk = talk(Parameters::default(), &Load::random_4k(0, 1), 1);
        let end = CommandResponse { status, residual, ..CommandResponse::default() };
        let answers = tell(&mut talk, Response::Command(end)).expect("lawful");
        assert_eq!(answers, [Answer { slot: 0, error: true }]);
    }
}

#[test]
fn a_ping_is_answered() {
    let mut talk = talk(Parameters::default(), &Load::random_4k(0, 1), 1);
    let ping = NopIn { initiator_task_tag: NO_TAG, target_transfer_tag: 9, ..NopIn::default() };
    tell(&mut talk, Response::NopIn(ping)).expect("lawful");
    let mut out = Outgoing::new(talk.request_bytes_max());
    assert!(talk.respond(&mut out));
    assert!(matches!(&written(&out)[..], [(Request::NopOut(pong), 0)] if pong.target_transfer_tag == 9));
}

#[test]
fn what_was_not_asked_for_ends_the_load() {
    let mut talk = talk(Parameters::default(), &Load::random_4k(100, 1), 1);
    let beyond = R2t { buffer_offset: 4096, desired_data_transfer_length: 1, ..R2t::default() };
    assert!(tell(&mut talk, Response::R2t(beyond)).is_err());
    let stranger = CommandResponse { initiator_task_tag: 1, ..CommandResponse::default() };
    assert!(tell(&mut talk, Response::Command(stranger)).is_err());
}
