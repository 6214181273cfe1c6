//! Connects, logs in, and asks how large the unit is.

use anyhow::{Context, Result, bail};
use socket2::Socket;
use wire::iscsi::pdu::{Cdb, CommandRequest, Lun, Request, Response, TaskAttribute};

use super::login::login;
use super::pdu::{Digests, receive, send};
use super::talk::{IscsiTalk, Numbers, Unit};
use crate::address::Address;
use crate::load::{DigestKind, Load};
use crate::talk::Dialed;

const GOOD: u8 = 0;
const TEST_UNIT_READY: [u8; 16] = [0; 16];
const CAPACITY_BYTES: u8 = 32;
/// READ CAPACITY (16).
const READ_CAPACITY: [u8; 16] = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, CAPACITY_BYTES, 0, 0];
/// A target may tell of so many things that happened to it before it is ready.
const ATTENTIONS_MAX: usize = 8;

/// A session with one connection, ready for `load`.
pub fn dial(address: &Address, target: &str, lun: u16, load: &Load) -> Result<Dialed> {
    let socket = address.connect()?;
    let context = || format!("cannot log in to {address}");
    let logged_in = login(&socket, target, wanted(load.digests)).with_context(context)?;
    let numbers = Numbers {
        cmd_sn: logged_in.cmd_sn,
        exp_stat_sn: logged_in.exp_stat_sn,
        max_cmd_sn: logged_in.max_cmd_sn,
    };
    let digests = Digests::of(&logged_in.parameters);
    let mut asking = Asking { socket: &socket, digests, numbers, lun: Lun::from_number(lun) };
    let (blocks, logical_block_bytes) =
        asking.capacity().with_context(|| format!("cannot learn the size of {address}"))?;
    if !load.block_bytes.is_multiple_of(logical_block_bytes) {
        bail!("{address} has blocks of {logical_block_bytes} bytes; ask for a multiple of them with --block");
    }
    let unit = Unit { lun: asking.lun, logical_block_bytes };
    let talk = Box::new(IscsiTalk::new(logged_in.parameters, asking.numbers, unit, load));
    Ok(Dialed { socket, talk, size_bytes: blocks * u64::from(logical_block_bytes) })
}

fn wanted(digests: DigestKind) -> Digests {
    Digests { header: digests == DigestKind::Both, data: digests != DigestKind::None }
}

/// Commands one at a time.
struct Asking<'a> {
    socket: &'a Socket,
    digests: Digests,
    numbers: Numbers,
    lun: Lun,
}

impl Asking<'_> {
    /// Blocks, and bytes of a block.
    fn capacity(&mut self) -> Result<(u64, u32)> {
        for _ in 0..ATTENTIONS_MAX {
            if self.command(TEST_UNIT_READY, 0)?.0 == GOOD {
                break;
            }
        }
        let (status, data) = self.command(READ_CAPACITY, CAPACITY_BYTES.into())?;
        match data.first_chunk::<12>() {
            Some(&[a, b, c, d, e, f, g, h, rest @ ..]) if status == GOOD => {
                let blocks = u64::from_be_bytes([a, b, c, d, e, f, g, h]).saturating_add(1);
                Ok((blocks, u32::from_be_bytes(rest)))
            }
            _ => bail!("READ CAPACITY ended with status {status:02x}h"),
        }
    }

    /// The command's status and data.
    fn command(&mut self, cdb: [u8; 16], data_in_bytes: u32) -> Result<(u8, Vec<u8>)> {
        let Numbers { cmd_sn, exp_stat_sn, .. } = self.numbers;
        let request = Request::Command(CommandRequest {
            immediate: false,
            is_final: true,
            read: data_in_bytes > 0,
            write: false,
            attribute: TaskAttribute::Simple,
            lun: self.lun,
            initiator_task_tag: 0,
            expected_data_transfer_length: data_in_bytes,
            cmd_sn,
            exp_stat_sn,
            cdb: Cdb::new(&cdb),
            read_data_transfer_length: None,
        });
        let mut header = Vec::new();
        request.encode(0, &mut header);
        send(self.socket, &header, &[], self.digests)?;
        self.numbers.cmd_sn = cmd_sn.wrapping_add(1);
        self.result()
    }

    fn result(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut result = Vec::new();
        loop {
            let (header, data) = receive(self.socket, self.digests)?;
            let (status, stat_sn, max_cmd_sn) = match Response::decode(&header, &[]) {
                Ok(Response::DataIn(part)) => {
                    result.extend_from_slice(&data);
                    (part.status, part.stat_sn, part.max_cmd_sn)
                }
                Ok(Response::Command(end)) => (Some(end.status | end.response), end.stat_sn, end.max_cmd_sn),
                other => bail!("a command was answered with {other:?}"),
            };
            self.numbers.max_cmd_sn = max_cmd_sn;
            if let Some(status) = status {
                self.numbers.exp_stat_sn = stat_sn.wrapping_add(1);
                return Ok((status, result));
            }
        }
    }
}
