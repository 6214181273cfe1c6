//! The floor's side of iSCSI: just enough of a target for our own initiator, and how its commands and answers look.
//!
//! All data of a write comes with its command, all data of a read goes with its status. Each command takes one
//! CmdSN and one StatSN, so the one is made from the other.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::ops::Range;

use anyhow::{Error, Result, anyhow, bail};
use wire::iscsi::login::{Access, Authentication, Login, LoginStatus, LoginStep};
use wire::iscsi::parameters::{DigestPolicy, Offers};
use wire::iscsi::pdu::{
    BHS_BYTES, CommandRequest, CommandResponse, DataIn, LoginRequest, LoginResponse, NO_TAG, Request,
    Residual, Response,
};

use super::pdu::{DIGEST_BYTES, Digests, receive, send};
use crate::floor::{Echo, Form, SIZE_BYTES};

/// More than any load has in flight.
const WINDOW: u32 = 8192;
/// The most that comes with a command.
pub const DATA_SEGMENT_BYTES_MAX: u32 = 256 << 10;
const LOGICAL_BLOCK_BYTES: u32 = 512;
const READ_CAPACITY: u8 = 0x9e;

/// Where requests have what answers repeat: the task's tag, and the command's number.
const TASK_TAG: Range<usize> = 16..20;
const CMD_SN: Range<usize> = 24..28;
/// Where answers have StatSN, ExpCmdSN and MaxCmdSN.
const STAT_SN: Range<usize> = 24..28;
const EXP_CMD_SN: Range<usize> = 28..32;
const MAX_CMD_SN: Range<usize> = 32..36;

/// How `echo` looks.
pub fn form(echo: &Echo) -> Form {
    let digest_bytes = if echo.data_digest { DIGEST_BYTES } else { 0 };
    let mut header = Vec::new();
    match echo.reply_payload() {
        0 => good(0, 0).encode(0, &mut header),
        bytes => data(0, 0).encode(bytes, &mut header),
    }
    Form {
        request_bytes: BHS_BYTES,
        request_payload: if echo.write { echo.block_bytes + digest_bytes } else { 0 },
        header,
        reply_payload: echo.reply_payload(),
        digest_bytes: if echo.write { 0 } else { digest_bytes },
        answer,
    }
}

#[inline]
fn answer(request: &[u8], reply: &mut [u8]) {
    reply[TASK_TAG].copy_from_slice(&request[TASK_TAG]);
    let cmd_sn = u32::from_be_bytes(request[CMD_SN].try_into().expect("4 bytes"));
    reply[STAT_SN].copy_from_slice(&request[CMD_SN]);
    reply[EXP_CMD_SN].copy_from_slice(&cmd_sn.wrapping_add(1).to_be_bytes());
    reply[MAX_CMD_SN].copy_from_slice(&cmd_sn.wrapping_add(WINDOW).to_be_bytes());
}

/// Logs the client in and tells it the size; `false` when it went away before.
pub fn negotiate(stream: &mut TcpStream, echo: &Echo) -> Result<bool> {
    match serve_until_capacity(stream, echo) {
        Ok(()) => Ok(true),
        Err(error) if has_left(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn has_left(error: &Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset))
}

fn serve_until_capacity(stream: &mut TcpStream, echo: &Echo) -> Result<()> {
    // Nothing that is secret is made of these bytes.
    let mut login = Login::new(offers(echo), [0; 64]);
    let mut digests = Digests::default();
    loop {
        let (header, text) = receive(&mut *stream, digests)?;
        let request = Request::decode(&header, &[]).map_err(|reason| anyhow!("refused: {reason:?}"))?;
        match request {
            Request::Login(request) => {
                digests = answer_login(stream, &mut login, &request, &text)?;
            }
            Request::Command(command) => {
                let is_last = answer_command(stream, &command, digests)?;
                if is_last {
                    return Ok(());
                }
            }
            other => bail!("the floor does not know {other:?}"),
        }
    }
}

/// One step of the login, and the digests to use from then on.
fn answer_login(
    stream: &mut TcpStream,
    login: &mut Login,
    request: &LoginRequest,
    text: &[u8],
) -> Result<Digests> {
    let (mut reply, data, digests) = match login.step(request, text, &Anybody) {
        LoginStep::Reply(reply, data) => (reply, data, Digests::default()),
        LoginStep::Done { reply, data, agreed } => {
            (LoginResponse { tsih: 1, ..reply }, data, Digests::of(&agreed.parameters))
        }
        LoginStep::Refuse { reason, .. } | LoginStep::Close(reason) => bail!("the login failed: {reason}"),
    };
    reply.max_cmd_sn = reply.exp_cmd_sn.wrapping_add(WINDOW);
    put(stream, &Response::Login(reply), &data, Digests::default())?;
    Ok(digests)
}

/// What the generator finds: room for a whole write with its command.
fn offers(echo: &Echo) -> Offers {
    // Who only looks whether the floor is there asks for none.
    let data_digest = if echo.data_digest { DigestPolicy::Allowed } else { DigestPolicy::Off };
    Offers {
        header_digest: DigestPolicy::Off,
        data_digest,
        own_max_recv_data_segment_length: DATA_SEGMENT_BYTES_MAX,
        max_burst_length: DATA_SEGMENT_BYTES_MAX,
        first_burst_length: DATA_SEGMENT_BYTES_MAX,
        initial_r2t: true,
        immediate_data: true,
        max_outstanding_r2t: 1,
    }
}

/// Nobody has to prove anything.
struct Anybody;

impl Access for Anybody {
    fn authentication(&self, _: &str, _: Option<&str>) -> Result<Authentication, LoginStatus> {
        Ok(Authentication::default())
    }

    fn portal_group(&self) -> u16 {
        1
    }
}

/// `true` after the last command that is answered here.
fn answer_command(stream: &mut TcpStream, command: &CommandRequest, digests: Digests) -> Result<bool> {
    let CommandRequest { initiator_task_tag, cmd_sn, .. } = *command;
    if command.cdb[0] != READ_CAPACITY {
        return put(stream, &good(initiator_task_tag, cmd_sn), &[], digests).map(|()| false);
    }
    let mut capacity = [0; 32];
    capacity[..8].copy_from_slice(&(SIZE_BYTES / u64::from(LOGICAL_BLOCK_BYTES) - 1).to_be_bytes());
    capacity[8..12].copy_from_slice(&LOGICAL_BLOCK_BYTES.to_be_bytes());
    put(stream, &data(initiator_task_tag, cmd_sn), &capacity, digests).map(|()| true)
}

fn put(stream: &mut TcpStream, response: &Response, data: &[u8], digests: Digests) -> Result<()> {
    let mut header = Vec::new();
    response.encode(data.len(), &mut header);
    send(stream, &header, data, digests)
}

/// All data of a read, and its status.
fn data(initiator_task_tag: u32, cmd_sn: u32) -> Response {
    Response::DataIn(DataIn {
        is_final: true,
        acknowledge: false,
        status: Some(0),
        residual: Residual::None,
        lun: Default::default(),
        initiator_task_tag,
        target_transfer_tag: NO_TAG,
        stat_sn: cmd_sn,
        exp_cmd_sn: cmd_sn.wrapping_add(1),
        max_cmd_sn: cmd_sn.wrapping_add(WINDOW),
        data_sn: 0,
        buffer_offset: 0,
    })
}

fn good(initiator_task_tag: u32, cmd_sn: u32) -> Response {
    Response::Command(CommandResponse {
        response: 0,
        status: 0,
        residual: Residual::None,
        initiator_task_tag,
        snack_tag: 0,
        stat_sn: cmd_sn,
        exp_cmd_sn: cmd_sn.wrapping_add(1),
        max_cmd_sn: cmd_sn.wrapping_add(WINDOW),
        exp_data_sn: 0,
    })
}
