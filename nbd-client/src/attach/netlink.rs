//! The messages of the kernel's nbd driver: generic netlink, family `nbd`, as linux/nbd-netlink.h numbers them.
//!
//! Its one rule: bytes <-> values, and nothing about what they are for.

use std::os::fd::RawFd;

use netlink_packet_core::{
    DecodeError, Emitable, NLA_F_NESTED, Nla, NlaBuffer, NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader};

pub(super) const FAMILY: &str = "nbd";
pub(super) const GROUP: &str = "nbd_mc_group";
const VERSION: u8 = 1;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    Connect = 1,
    Disconnect = 2,
    Reconfigure = 3,
    LinkDead = 4,
    Status = 5,
}

impl Command {
    fn from_number(number: u8) -> Option<Command> {
        use Command::*;
        [Connect, Disconnect, Reconfigure, LinkDead, Status]
            .into_iter()
            .find(|command| *command as u8 == number)
    }
}

/// A device, as STATUS tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceStatus {
    pub index: u32,
    pub connected: bool,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Index(u32),
    SizeBytes(u64),
    BlockSizeBytes(u64),
    /// Seconds.
    Timeout(u64),
    ServerFlags(u64),
    Sockets(Vec<RawFd>),
    /// Seconds.
    DeadConnTimeout(u64),
    Devices(Vec<DeviceStatus>),
    /// Whatever text; the driver shows it, and wants it again with every RECONFIGURE.
    Backend(String),
}

const INDEX: u16 = 1;
const SIZE_BYTES: u16 = 2;
const BLOCK_SIZE_BYTES: u16 = 3;
const TIMEOUT: u16 = 4;
const SERVER_FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const DEAD_CONN_TIMEOUT: u16 = 8;
const DEVICE_LIST: u16 = 9;
const BACKEND_IDENTIFIER: u16 = 10;

const SOCK_ITEM: u16 = 1;
const SOCK_FD: u16 = 1;
const DEVICE_ITEM: u16 = 1;
const DEVICE_INDEX: u16 = 1;
const DEVICE_CONNECTED: u16 = 2;

/// A message to the driver, or from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub command: Command,
    pub attributes: Vec<Attribute>,
}

impl Message {
    /// The device that it is about.
    pub(super) fn index(&self) -> Option<u32> {
        self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::Index(index) => Some(*index),
            _ => None,
        })
    }
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        self.command as u8
    }

    fn version(&self) -> u8 {
        VERSION
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Message, DecodeError> {
        let command = Command::from_number(header.cmd).ok_or_else(|| {
            DecodeError::from(format!("command {} of the nbd driver is unknown", header.cmd))
        })?;
        let mut attributes = Vec::new();
        for buffer in NlasIterator::new(bytes) {
            attributes.extend(Attribute::parse(&buffer?)?);
        }
        Ok(Message { command, attributes })
    }
}

impl Attribute {
    /// `None` for what is of no interest, or of a later kernel.
    fn parse(buffer: &NlaBuffer<&[u8]>) -> Result<Option<Attribute>, DecodeError> {
        let value = buffer.value();
        Ok(Some(match buffer.kind() {
            INDEX => Attribute::Index(number(value, u32::from_ne_bytes)?),
            SIZE_BYTES => Attribute::SizeBytes(number(value, u64::from_ne_bytes)?),
            BLOCK_SIZE_BYTES => Attribute::BlockSizeBytes(number(value, u64::from_ne_bytes)?),
            TIMEOUT => Attribute::Timeout(number(value, u64::from_ne_bytes)?),
            SERVER_FLAGS => Attribute::ServerFlags(number(value, u64::from_ne_bytes)?),
            DEAD_CONN_TIMEOUT => Attribute::DeadConnTimeout(number(value, u64::from_ne_bytes)?),
            DEVICE_LIST => Attribute::Devices(devices(value)?),
            _ => return Ok(None),
        }))
    }

    fn value(&self) -> Vec<u8> {
        match self {
            Attribute::Index(number) => number.to_ne_bytes().to_vec(),
            Attribute::SizeBytes(number)
            | Attribute::BlockSizeBytes(number)
            | Attribute::Timeout(number)
            | Attribute::ServerFlags(number)
            | Attribute::DeadConnTimeout(number) => number.to_ne_bytes().to_vec(),
            Attribute::Sockets(sockets) => {
                let fd = |socket: &RawFd| Plain::new(SOCK_FD, socket.to_ne_bytes());
                nested(sockets.iter().map(|socket| Plain::nest(SOCK_ITEM, &[fd(socket)])))
            }
            Attribute::Devices(devices) => nested(devices.iter().map(|device| {
                let index = Plain::new(DEVICE_INDEX, device.index.to_ne_bytes());
                let connected = Plain::new(DEVICE_CONNECTED, [u8::from(device.connected)]);
                Plain::nest(DEVICE_ITEM, &[index, connected])
            })),
            Attribute::Backend(text) => [text.as_bytes(), b"\0"].concat(),
        }
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value().len()
    }

    fn kind(&self) -> u16 {
        match self {
            Attribute::Index(_) => INDEX,
            Attribute::SizeBytes(_) => SIZE_BYTES,
            Attribute::BlockSizeBytes(_) => BLOCK_SIZE_BYTES,
            Attribute::Timeout(_) => TIMEOUT,
            Attribute::ServerFlags(_) => SERVER_FLAGS,
            Attribute::Sockets(_) => SOCKETS | NLA_F_NESTED,
            Attribute::DeadConnTimeout(_) => DEAD_CONN_TIMEOUT,
            Attribute::Devices(_) => DEVICE_LIST | NLA_F_NESTED,
            Attribute::Backend(_) => BACKEND_IDENTIFIER,
        }
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value());
    }
}

/// An attribute within an attribute.
struct Plain {
    kind: u16,
    value: Vec<u8>,
}

impl Plain {
    fn new(kind: u16, value: impl Into<Vec<u8>>) -> Plain {
        Plain { kind, value: value.into() }
    }

    fn nest(kind: u16, parts: &[Plain]) -> Plain {
        let mut value = vec![0; parts.buffer_len()];
        parts.emit(&mut value);
        Plain { kind: kind | NLA_F_NESTED, value }
    }
}

impl Nla for Plain {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}

fn nested(parts: impl Iterator<Item = Plain>) -> Vec<u8> {
    Plain::nest(0, &parts.collect::<Vec<_>>()).value
}

fn devices(value: &[u8]) -> Result<Vec<DeviceStatus>, DecodeError> {
    NlasIterator::new(value).map(|item| device(item?.value())).collect()
}

fn device(item: &[u8]) -> Result<DeviceStatus, DecodeError> {
    let mut status = DeviceStatus { index: 0, connected: false };
    for part in NlasIterator::new(item) {
        let part = part?;
        match part.kind() {
            DEVICE_INDEX => status.index = number(part.value(), u32::from_ne_bytes)?,
            DEVICE_CONNECTED => status.connected = number(part.value(), u8::from_ne_bytes)? != 0,
            _ => {}
        }
    }
    Ok(status)
}

fn number<const N: usize, T>(value: &[u8], decode: fn([u8; N]) -> T) -> Result<T, DecodeError> {
    let bytes = value.try_into().map_err(|_| DecodeError::invalid_number(N, value.len()))?;
    Ok(decode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(message: &Message) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn parsed(command: Command, bytes: &[u8]) -> Result<Message, DecodeError> {
        Message::parse_with_param(bytes, GenlHeader { cmd: command as u8, version: VERSION })
    }

    #[test]
    fn sockets_are_a_list_of_items_as_the_header_draws_it() {
        let message = Message { command: Command::Connect, attributes: vec![Attribute::Sockets(vec![5, 6])] };
        let word = |number: u16| number.to_ne_bytes();
        let item = |fd: i32| {
            [&word(12)[..], &word(SOCK_ITEM | NLA_F_NESTED), &word(8), &word(SOCK_FD), &fd.to_ne_bytes()]
                .concat()
        };
        let expected = [&word(28)[..], &word(SOCKETS | NLA_F_NESTED), &item(5), &item(6)].concat();
        assert_eq!(bytes_of(&message), expected);
    }

    #[test]
    fn what_is_emitted_is_parsed_again() {
        let devices =
            vec![DeviceStatus { index: 0, connected: true }, DeviceStatus { index: 7, connected: false }];
        let attributes = vec![
            Attribute::Index(3),
            Attribute::SizeBytes(1 << 40),
            Attribute::BlockSizeBytes(4096),
            Attribute::Timeout(30),
            Attribute::ServerFlags(0x1ff),
            Attribute::DeadConnTimeout(1),
            Attribute::Devices(devices),
        ];
        let message = Message { command: Command::Status, attributes };
        assert_eq!(parsed(Command::Status, &bytes_of(&message)).expect("well-formed"), message);
        assert_eq!(message.index(), Some(3));
    }

    #[test]
    fn a_text_ends_with_a_zero_and_padding() {
        let message =
            Message { command: Command::Connect, attributes: vec![Attribute::Backend("abcd".into())] };
        let bytes = bytes_of(&message);
        assert_eq!(bytes[..2], 9u16.to_ne_bytes());
        assert_eq!(bytes[4..], *b"abcd\0\0\0\0");
    }

    #[test]
    fn unknown_attributes_are_passed_over() {
        let mut bytes = [&8u16.to_ne_bytes()[..], &99u16.to_ne_bytes(), &[1, 2, 3, 4]].concat();
        bytes
            .extend(bytes_of(&Message { command: Command::LinkDead, attributes: vec![Attribute::Index(1)] }));
        assert_eq!(parsed(Command::LinkDead, &bytes).expect("well-formed").index(), Some(1));
    }

    #[test]
    fn short_numbers_and_unknown_commands_are_errors() {
        let bytes = [&6u16.to_ne_bytes()[..], &INDEX.to_ne_bytes(), &[1, 2, 0, 0]].concat();
        assert!(parsed(Command::LinkDead, &bytes).is_err());
        assert!(Message::parse_with_param(&[], GenlHeader { cmd: 77, version: VERSION }).is_err());
    }
}
