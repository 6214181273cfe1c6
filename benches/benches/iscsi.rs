//! What iSCSI costs per command: its PDUs and the session machine are on the path of every I/O.

use std::hint::black_box;
use std::ops::Range;

use criterion::{Criterion, criterion_group, criterion_main};
use wire::iscsi::login::{Agreed, SessionKind};
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::{
    BHS_BYTES, Cdb, CommandRequest, CommandResponse, DataIn, Lun, NO_TAG, Request, Residual, Response,
    TaskAttribute,
};
use wire::iscsi::session::{Effect, Place, SendTargets, Session, SessionSettings};

/// As many as one receive of an initiator at depth brings.
const BATCH: u32 = 32;
const BLOCK_BYTES: u32 = 4096;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;

/// Where a command has its number.
const CMD_SN: Range<usize> = 24..28;

type Header = [u8; BHS_BYTES];

fn command(index: u32, write: bool) -> Request {
    let mut cdb = [0; 16];
    cdb[0] = if write { WRITE_16 } else { READ_16 };
    cdb[6..10].copy_from_slice(&index.to_be_bytes());
    cdb[13] = 8;
    Request::Command(CommandRequest {
        immediate: false,
        is_final: true,
        read: !write,
        write,
        attribute: TaskAttribute::Simple,
        lun: Lun::from_number(0),
        initiator_task_tag: index % BATCH,
        expected_data_transfer_length: BLOCK_BYTES,
        cmd_sn: index,
        exp_stat_sn: index,
        cdb: Cdb::new(&cdb),
        read_data_transfer_length: None,
    })
}

fn data_in(index: u32) -> Response {
    Response::DataIn(DataIn {
        is_final: true,
        acknowledge: false,
        status: Some(0),
        residual: Residual::None,
        lun: Lun::from_number(0),
        initiator_task_tag: index,
        target_transfer_tag: NO_TAG,
        stat_sn: index,
        exp_cmd_sn: index,
        max_cmd_sn: index,
        data_sn: 0,
        buffer_offset: 0,
    })
}

fn good(index: u32) -> Response {
    Response::Command(CommandResponse {
        response: 0,
        status: 0,
        residual: Residual::None,
        initiator_task_tag: index,
        snack_tag: 0,
        stat_sn: index,
        exp_cmd_sn: index,
        max_cmd_sn: index,
        exp_data_sn: 0,
    })
}

fn header(encode: impl FnOnce(&mut Vec<u8>)) -> Header {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    *bytes.first_chunk().expect("a header")
}

/// The target's side of the codec.
fn target(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("iscsi target, 32 PDUs");
    for (name, write) in [("reads", false), ("writes", true)] {
        let commands = (0..BATCH).map(|index| header(|out| command(index, write).encode(0, out)));
        let commands: Vec<Header> = commands.collect();
        group.bench_function(format!("decode commands, {name}"), |bencher| {
            bencher.iter(|| {
                for header in black_box(&commands) {
                    let _ = black_box(Request::decode(header, &[]));
                }
            });
        });
    }
    let mut out = Vec::with_capacity(1 << 16);
    for (name, response, bytes) in
        [("data in with status", data_in as fn(u32) -> Response, BLOCK_BYTES as usize), ("status", good, 0)]
    {
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                (0..BATCH).for_each(|index| response(black_box(index)).encode(bytes, &mut out));
                black_box(&out);
            });
        });
    }
    group.finish();
}

/// The initiator's side, which a load generator pays for.
fn initiator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("iscsi initiator, 32 PDUs");
    let mut out = Vec::with_capacity(1 << 16);
    group.bench_function("encode commands", |bencher| {
        bencher.iter(|| {
            out.clear();
            (0..BATCH).for_each(|index| command(black_box(index), false).encode(0, &mut out));
            black_box(&out);
        });
    });
    for (name, response) in [("data in with status", data_in(7)), ("status", good(7))] {
        let header = header(|out| response.encode(0, out));
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    let _ = black_box(Response::decode(black_box(&header), &[]));
                }
            });
        });
    }
    group.finish();
}

/// 32 commands through a session: taken, started, and ended with the PDU that carries their status.
fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("iscsi session, 32 commands");
    for (name, write) in [("reads", false), ("writes with immediate data", true)] {
        let immediate_bytes = if write { BLOCK_BYTES as usize } else { 0 };
        let mut session = Session::new(
            &agreed(),
            SessionSettings { queue_depth: 128, is_discovery: false, collect_bytes_max: 1 << 16 },
        );
        let mut cmd_sn = session.exp_cmd_sn();
        let commands =
            (0..BATCH).map(|index| header(|out| command(index, write).encode(immediate_bytes, out)));
        let mut commands: Vec<Header> = commands.collect();
        let (mut effects, mut out) = (Vec::new(), Vec::with_capacity(1 << 16));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                for header in &mut commands {
                    header[CMD_SN].copy_from_slice(&cmd_sn.to_be_bytes());
                    cmd_sn = cmd_sn.wrapping_add(1);
                    take(&mut session, header, &mut effects);
                    end(&mut session, &mut effects, write, &mut out);
                }
                black_box(&out);
            });
        });
    }
    group.finish();
}

fn take(session: &mut Session, header: &Header, effects: &mut Vec<Effect>) {
    let place = session.header(header, &[]).expect("the command is lawful");
    assert_ne!(place, Place::Collect, "a command's data goes to its task");
    session.complete(&[], &NoTargets, effects);
}

fn end(session: &mut Session, effects: &mut Vec<Effect>, write: bool, out: &mut Vec<u8>) {
    for effect in effects.drain(..) {
        match effect {
            Effect::Start(task) if !write => {
                let data = session.data_in(task, 0, BLOCK_BYTES, true, Some((0, BLOCK_BYTES.into())));
                Response::DataIn(data).encode(BLOCK_BYTES as usize, out);
            }
            Effect::Burst { task, .. } if write => {
                Response::Command(session.respond(task, 0, BLOCK_BYTES.into())).encode(0, out);
            }
            _ => {}
        }
    }
}

struct NoTargets;

impl SendTargets for NoTargets {
    fn targets(&self) -> Vec<(String, Vec<String>)> {
        Vec::new()
    }
}

fn agreed() -> Agreed {
    Agreed {
        session: SessionKind::Normal { target_name: "iqn.2026-11.io.ringsan:disk".into() },
        initiator_name: "iqn.2026-11.io.ringsan:benches".into(),
        initiator_alias: String::new(),
        isid: [0x80, 0, 0, 0, 0, 1],
        tsih: 0,
        cid: 1,
        parameters: Parameters { own_max_recv_data_segment_length: 1 << 18, ..Parameters::default() },
        negotiated: Vec::new(),
        chap_user: None,
        cmd_sn: 1,
        stat_sn: 1,
    }
}

criterion_group!(benches, target, initiator, session);
criterion_main!(benches);
