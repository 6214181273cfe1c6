//! Servers that lie, stammer, fall silent or hang up: an error in time, never a panic, never wrong bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nbd_client::{Client, ConnectOptions, Error, Kind, Uri, runtime};
use wire::nbd::handshake::{ExportInfo, ExportTable, Negotiation, ServerPolicy, Step};
use wire::nbd::transmission::{
    ChunkType, Command, Cookie, Errno, Extent, ReplyStyle, Request, TransmissionFlags as Has, decode_request,
    put_block_status, put_chunk_header, put_done, put_error, put_offset_data, put_offset_hole,
    put_simple_reply,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LENGTH: u64 = 4096;

/// How a server answers a request: with these bytes, or by hanging up.
type Script = fn(&Request, ReplyStyle) -> Option<Vec<u8>>;

/// A server that negotiates as it should, and then does as `script` says.
fn server(script: Script) -> SocketAddr {
    listen(move |socket| {
        let _ = serve(socket, script, Duration::ZERO);
    })
}

fn listen(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(socket));
        }
    });
    address
}

/// Each byte of a reply takes `pace`.
fn serve(mut socket: TcpStream, script: Script, pace: Duration) -> std::io::Result<()> {
    let export = ExportInfo {
        name: "disk".to_owned(),
        description: String::new(),
        size_bytes: 1 << 30,
        flags: Has::SEND_FLUSH | Has::SEND_WRITE_ZEROES | Has::SEND_TRIM | Has::CAN_MULTI_CONN,
        block_min: 1,
        block_preferred: 4096,
        payload_max: 1 << 20,
        offers_allocation: true,
        labels: Vec::new(),
    };
    let exports: ExportTable = [export].into_iter().collect();
    let mut out = Vec::new();
    let mut negotiation = Negotiation::new(ServerPolicy::default(), &mut out);
    let (mut input, mut starved): (Vec<u8>, bool) = (Vec::new(), false);
    let style = loop {
        socket.write_all(&std::mem::take(&mut out))?;
        if input.is_empty() || starved {
            receive(&mut socket, &mut input)?;
        }
        let (taken, step) = negotiation.step(&input, &exports, &mut out);
        input.drain(..taken);
        starved = taken == 0;
        match step {
            Step::Agreed(agreed) => break agreed.style,
            Step::More => {}
            Step::StartTls | Step::Close(_) => return Ok(()),
        }
    };
    socket.write_all(&out)?;
    loop {
        while let Ok(Some(request)) = decode_request(&input, style) {
            let whole = style.request_bytes() + request.payload_bytes(style) as usize;
            while input.len() < whole {
                receive(&mut socket, &mut input)?;
            }
            input.drain(..whole);
            match script(&request, style) {
                Some(reply) if pace.is_zero() => socket.write_all(&reply)?,
                Some(reply) => {
                    for byte in reply {
                        socket.write_all(&[byte])?;
                        thread::sleep(pace);
                    }
                }
                None => return Ok(()),
            }
        }
        receive(&mut socket, &mut input)?;
    }
}

fn receive(socket: &mut TcpStream, input: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let count = socket.read(&mut buffer)?;
    if count == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    input.extend_from_slice(&buffer[..count]);
    Ok(())
}

#[derive(Clone, Copy)]
enum Style {
    Simple,
    Structured,
    Extended,
}

fn options(style: Style) -> ConnectOptions {
    ConnectOptions {
        extended_headers: matches!(style, Style::Extended),
        structured_replies: !matches!(style, Style::Simple),
        reconnect_for: Duration::from_millis(300),
        ..ConnectOptions::default()
    }
}

/// What a client of such a server gets for a request of `command`.
fn asked(address: SocketAddr, options: &ConnectOptions, command: Command) -> Result<Vec<u8>, Error> {
    let uri: Uri = format!("nbd://{address}/disk").parse()?;
    runtime::block_on(async {
        let client = Client::connect(&uri, options).await?;
        let asked = async {
            match command {
                Command::Read => {
                    let (result, buffer) = client.read(LENGTH, vec![0xee; LENGTH as usize]).await;
                    result.map(|()| buffer)
                }
                Command::Write => {
                    client.write(LENGTH, vec![1; LENGTH as usize], false).await.0.map(|()| Vec::new())
                }
                _ => client.block_status(LENGTH, LENGTH).await.map(|_| Vec::new()),
            }
        };
        runtime::timeout(PATIENCE, asked).await.expect("an answer in time")
    })
}

fn chunk(style: ReplyStyle, request: &Request, done: bool, kind: ChunkType, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let length = payload.len() as u64;
    put_chunk_header(&mut out, style, done, kind, request.cookie, request.offset, length);
    out.extend_from_slice(payload);
    out
}

fn data(style: ReplyStyle, request: &Request, done: bool, offset: u64, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_offset_data(&mut out, style, done, request.cookie, request.offset, offset, length);
    out.resize(out.len() + length as usize, 7);
    out
}

fn simple(cookie: Cookie, error: Option<Errno>, data_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_simple_reply(&mut out, cookie, error);
    out.resize(out.len() + data_bytes, 7);
    out
}

/// Every lie ends the client with an error that names it.
#[test]
fn lies_are_told_apart_by_name() {
    use Command::{BlockStatus, Read, Write};
    use Style::{Extended, Simple, Structured};
    let lies: &[(Style, Command, Script, &str)] = &[
        (Simple, Read, |_, _| Some(b"HTTP/1.1 400 Bad Request\r\n".to_vec()), "bad magic"),
        (Simple, Read, |r, _| Some(simple(Cookie(r.cookie.0 ^ 1), None, 4096)), "no request in flight"),
        (Simple, Read, |r, _| Some(simple(Cookie(r.cookie.0 ^ 1 << 40), None, 4096)), "no request in flight"),
        (Simple, Write, |r, _| Some(simple(Cookie(u64::MAX - r.cookie.0), None, 0)), "no request in flight"),
        (Simple, Read, |r, s| Some(data(s_structured(s), r, true, r.offset, r.length)), "bad magic"),
        (Structured, Read, |r, _| Some(simple(r.cookie, None, 4096)), "simple reply to a read"),
        (Extended, Read, |r, _| Some(simple(r.cookie, None, 4096)), "bad magic"),
        (Structured, Read, |r, s| Some(data(s, r, true, r.offset - 1, r.length)), "outside of the request"),
        (Structured, Read, |r, s| Some(data(s, r, true, r.offset + 1, r.length)), "outside of the request"),
        (Structured, Read, |r, s| Some(data(s, r, true, u64::MAX, 1)), "outside of the request"),
        (Structured, Read, |r, s| Some(data(s, r, true, r.offset, r.length + 1)), "4105 bytes in a chunk"),
        (
            Structured,
            Read,
            |r, s| Some(data(s, r, true, r.offset, r.length - 1)),
            "before all data was there",
        ),
        (
            Extended,
            Read,
            |r, s| Some(data(s, r, true, r.offset + 1, r.length - 1)),
            "before all data was there",
        ),
        (Structured, Read, |r, s| Some(data(s, r, false, r.offset, 4096).repeat(2)), "answered before"),
        (Structured, Read, |r, s| Some(chunk(s, r, true, ChunkType::None, &[])), "before all data was there"),
        (Structured, Read, |r, s| Some(chunk(s, r, false, ChunkType::None, &[])), "0 bytes in a chunk"),
        (Structured, Read, |r, s| Some(chunk(s, r, true, ChunkType::None, &[1])), "1 bytes in a chunk"),
        (
            Structured,
            Read,
            |r, s| Some(chunk(s, r, true, ChunkType::OffsetData, &[0; 8])),
            "8 bytes in a chunk",
        ),
        (
            Structured,
            Read,
            |r, s| Some(chunk(s, r, true, ChunkType::OffsetHole, &[0; 12])),
            "malformed chunk",
        ),
        (Structured, Read, |r, s| Some(hole(s, r, r.offset, u32::MAX)), "outside of the request"),
        (
            Structured,
            Read,
            |r, s| Some(chunk(s, r, true, ChunkType::Unknown(77), &[0; 4])),
            "unknown type of chunk, 77",
        ),
        (Structured, Read, |r, s| Some(chunk(s, r, true, ChunkType::Error, &[0; 5])), "5 bytes in a chunk"),
        (
            Structured,
            Read,
            |r, s| Some(chunk(s, r, true, ChunkType::Error, b"\0\0\0\x05\0\x09words")),
            "malformed chunk",
        ),
        (Structured, Read, |r, s| Some(announce(s, r, ChunkType::Error)), "4294967295 bytes in a chunk"),
        (Extended, Read, |r, s| Some(announce(s, r, ChunkType::OffsetData)), "4294967295 bytes in a chunk"),
        (Extended, Read, |r, s| Some(elsewhere(s, r)), "another offset"),
        (Structured, Write, |r, s| Some(data(s, r, true, r.offset, r.length)), "data in answer to Write"),
        (Structured, Write, |r, s| Some(status(s, r, 1, &[4096])), "block status in answer to Write"),
        (Structured, BlockStatus, |r, _| Some(simple(r.cookie, None, 0)), "without block status"),
        (Structured, BlockStatus, |r, s| Some(status(s, r, 2, &[4096])), "a context that was not selected"),
        (Extended, BlockStatus, |r, s| Some(status(s, r, 1, &[4096, 4096])), "beyond the request"),
        (Structured, BlockStatus, |r, s| Some(status(s, r, 1, &[1]).repeat(2)), "block status twice"),
        (
            Structured,
            BlockStatus,
            |r, s| Some(chunk(s, r, true, ChunkType::BlockStatus, &[0; 12])),
            "malformed chunk",
        ),
    ];
    for (number, (style, command, script, words)) in lies.iter().enumerate() {
        let error = asked(server(*script), &options(*style), *command).expect_err("it lies");
        assert_eq!(error.kind(), Kind::Protocol, "{number}: {error}");
        assert!(error.to_string().contains(words), "{number}: {error}, not {words}");
    }
}

fn s_structured(_: ReplyStyle) -> ReplyStyle {
    ReplyStyle::Structured
}

fn hole(style: ReplyStyle, request: &Request, offset: u64, length: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_offset_hole(&mut out, style, true, request.cookie, request.offset, offset, length);
    out
}

fn announce(style: ReplyStyle, request: &Request, kind: ChunkType) -> Vec<u8> {
    let mut out = Vec::new();
    put_chunk_header(&mut out, style, true, kind, request.cookie, request.offset, u32::MAX.into());
    out
}

fn elsewhere(style: ReplyStyle, request: &Request) -> Vec<u8> {
    data(style, &Request { offset: request.offset + 1, ..*request }, true, request.offset, request.length)
}

fn status(style: ReplyStyle, request: &Request, context: u32, lengths: &[u64]) -> Vec<u8> {
    let extents: Vec<Extent> =
        lengths.iter().zip(0..).map(|(&length, flags)| Extent { length, flags }).collect();
    let mut out = Vec::new();
    put_block_status(&mut out, style, false, request.cookie, request.offset, context, &extents);
    out
}

#[test]
fn replies_in_pieces_and_out_of_order_are_put_together() {
    let address = server(|r, s| {
        let pieces = [
            data(s, r, false, r.offset + 3000, 1096),
            hole(s, r, r.offset, 1000),
            data(s, r, false, r.offset + 1000, 2000),
        ];
        let mut reply = pieces.concat();
        // The hole's chunk says that it is the last one: put it there.
        let hole_at = pieces[0].len()..pieces[0].len() + pieces[1].len();
        reply.drain(hole_at);
        reply.extend_from_slice(&pieces[1]);
        Some(reply)
    });
    for style in [Style::Structured, Style::Extended] {
        let bytes = asked(address, &options(style), Command::Read).expect("it is lawful");
        assert!(bytes[..1000].iter().all(|byte| *byte == 0) && bytes[1000..].iter().all(|byte| *byte == 7));
    }
}

#[test]
fn the_servers_own_errors_are_told_and_the_connection_goes_on() {
    let address = server(|r, s| {
        let mut out = Vec::new();
        match s {
            ReplyStyle::Simple => put_simple_reply(&mut out, r.cookie, Some(Errno::NoSpc)),
            _ => put_error(&mut out, s, true, r.cookie, r.offset, Errno::NoSpc, "the disk is full"),
        }
        Some(out)
    });
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        for command in [Command::Read, Command::Write] {
            let error = asked(address, &options(style), command).expect_err("the disk is full");
            assert_eq!(error.kind(), Kind::Server(Errno::NoSpc));
            assert!(error.to_string().contains("4096 bytes at 4096: the server answered ENOSPC"), "{error}");
        }
    }
}

#[test]
fn a_server_that_hangs_up_on_a_request_is_given_up() {
    let error = asked(server(|_, _| None), &options(Style::Simple), Command::Read).expect_err("it hangs up");
    assert_eq!(error.kind(), Kind::Lost, "{error}");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let silent = server(|_, _| Some(Vec::new()));
    let impatient = ConnectOptions { stall_timeout: Duration::from_millis(300), ..options(Style::Extended) };
    let error = asked(silent, &impatient, Command::Read).expect_err("it says nothing");
    assert_eq!(error.kind(), Kind::Lost, "{error}");
}

#[test]
fn a_server_that_trickles_is_given_up() {
    let address = listen(|socket| {
        let _ = serve(socket, |r, _| Some(simple(r.cookie, None, 4096)), Duration::from_millis(50));
    });
    let impatient = ConnectOptions { stall_timeout: Duration::from_millis(300), ..options(Style::Simple) };
    let error = asked(address, &impatient, Command::Read).expect_err("it never ends");
    assert_eq!(error.kind(), Kind::Lost, "{error}");
}

#[test]
fn a_client_that_leaves_at_once_says_goodbye() {
    static ASKED: Mutex<Vec<Command>> = Mutex::new(Vec::new());
    let address = server(|request, _| {
        ASKED.lock().expect("nobody panics here").push(request.command);
        None
    });
    let uri: Uri = format!("nbd://{address}/disk").parse().expect("a URI");
    let parted = runtime::block_on(async {
        Client::connect(&uri, &options(Style::Extended)).await?.disconnect().await
    });
    assert!(parted.is_ok(), "{parted:?}");
    assert_eq!(*ASKED.lock().expect("nobody panics here"), [Command::Disconnect]);
}

#[test]
fn a_server_that_does_not_negotiate_is_given_up() {
    let silent = listen(|mut socket| {
        let _ = socket.read(&mut [0; 10]);
        thread::sleep(PATIENCE);
    });
    let impatient = ConnectOptions { connect_timeout: Duration::from_millis(200), ..options(Style::Simple) };
    let error = asked(silent, &impatient, Command::Read).expect_err("it says nothing");
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    let rude = listen(|mut socket| {
        let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.9 and more\r\n");
        let _ = socket.read(&mut [0; 10]);
    });
    let error = asked(rude, &options(Style::Simple), Command::Read).expect_err("it is no NBD server");
    assert_eq!(error.kind(), Kind::Protocol, "{error}");
    assert!(error.to_string().contains("is the port right?"), "{error}");
}

#[test]
fn done_without_more_ends_a_write() {
    for style in [Style::Structured, Style::Extended] {
        let address = server(|r, s| {
            let mut out = Vec::new();
            put_done(&mut out, s, r.cookie, r.offset, Ok(()));
            Some(out)
        });
        asked(address, &options(style), Command::Write).expect("it is lawful");
    }
}
