//! Requests to try things with.

use proptest::prelude::*;

use wire::nbd::transmission::{Command, CommandFlags, Cookie, ReplyStyle, Request};

pub const STYLES: [ReplyStyle; 3] = [ReplyStyle::Simple, ReplyStyle::Structured, ReplyStyle::Extended];

pub fn request(command: Command, offset: u64, length: u64) -> Request {
    Request { command, flags: CommandFlags::NONE, cookie: Cookie(7), offset, length }
}

pub fn flagged(mut request: Request, flags: CommandFlags) -> Request {
    request.flags = flags;
    request
}

pub fn any_request() -> impl Strategy<Value = Request> {
    let field = || prop_oneof![any::<u64>(), 0..4096_u64, (0..8_u64).prop_map(|n| n << 29)];
    (0..10_u16, prop_oneof![0..64_u16, any::<u16>()], any::<u64>(), field(), field()).prop_map(
        |(command, flags, cookie, offset, length)| Request {
            command: Command::from_u16(command),
            flags: CommandFlags::from_bits(flags),
            cookie: Cookie(cookie),
            offset,
            length,
        },
    )
}

pub fn any_style() -> impl Strategy<Value = ReplyStyle> {
    prop::sample::select(&STYLES[..])
}
