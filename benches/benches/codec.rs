//! What the NBD codec costs per request: it is on the path of every I/O.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use wire::nbd::transmission::{
    Command, CommandFlags, Cookie, Extent, Limits, ReplyStyle, Request, TransmissionFlags, check,
    decode_reply_header, decode_request, encode_request, put_block_status, put_done, put_offset_data,
    put_simple_reply,
};

const STYLES: [(&str, ReplyStyle); 3] = [
    ("simple", ReplyStyle::Simple),
    ("structured", ReplyStyle::Structured),
    ("extended", ReplyStyle::Extended),
];

/// As many as one receive of a client at depth brings.
const BATCH: usize = 32;

fn read_at(index: usize) -> Request {
    let offset = 4096 * index as u64;
    Request {
        command: Command::Read,
        flags: CommandFlags::NONE,
        cookie: Cookie(offset),
        offset,
        length: 4096,
    }
}

fn limits() -> Limits {
    Limits {
        size_bytes: 1 << 30,
        flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH | TransmissionFlags::SEND_FUA,
        block_min: 1,
        payload_bytes_max: 32 << 20,
        drain_bytes_max: 64 << 20,
        contexts: 0,
    }
}

/// 32 requests of one receive, each decoded and checked.
fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode and check 32 requests");
    for (name, style) in STYLES {
        let mut bytes = Vec::new();
        (0..BATCH).for_each(|index| encode_request(&mut bytes, style, &read_at(index)));
        let limits = limits();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(bytes.as_slice());
                while let Ok(Some(request)) = decode_request(rest, style) {
                    black_box(check(&request, style, &limits));
                    black_box(request);
                    rest = &rest[style.request_bytes()..];
                }
            });
        });
    }
    group.finish();
}

/// 32 answers gathered for one send.
fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode 32 replies");
    let mut out = Vec::with_capacity(1 << 16);
    for (name, style) in STYLES {
        group.bench_function(format!("write {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                (0..BATCH as u64)
                    .for_each(|index| put_done(&mut out, style, Cookie(black_box(index)), index, Ok(())));
                black_box(&out);
            });
        });
        group.bench_function(format!("read {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                for index in 0..BATCH as u64 {
                    let cookie = Cookie(black_box(index));
                    match style {
                        ReplyStyle::Simple => put_simple_reply(&mut out, cookie, None),
                        _ => put_offset_data(&mut out, style, true, cookie, index, index, 4096),
                    }
                }
                black_box(&out);
            });
        });
    }
    group.finish();
}

/// The client's side, which a load generator pays for.
fn client(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("client, 32 requests");
    let mut out = Vec::with_capacity(1 << 16);
    for (name, style) in STYLES {
        group.bench_function(format!("encode requests {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                (0..BATCH).for_each(|index| encode_request(&mut out, style, &read_at(black_box(index))));
                black_box(&out);
            });
        });
        let mut reply = Vec::new();
        put_done(&mut reply, style, Cookie(7), 0, Ok(()));
        group.bench_function(format!("decode replies {name}"), |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    let _ = black_box(decode_reply_header(black_box(&reply), style));
                }
            });
        });
    }
    group.finish();
}

/// A status of 1024 extents that cannot be merged.
fn block_status(criterion: &mut Criterion) {
    let extents: Vec<Extent> =
        (0..1024).map(|index| Extent { length: 65536, flags: index % 2 * 3 }).collect();
    let mut out = Vec::with_capacity(1 << 16);
    let mut group = criterion.benchmark_group("encode 1024 extents");
    for (name, style) in &STYLES[1..] {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                out.clear();
                put_block_status(&mut out, *style, true, Cookie(1), 0, 1, black_box(&extents));
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, replies, client, block_status);
criterion_main!(benches);
