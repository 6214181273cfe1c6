//! Logs in to a target without authentication, in one step where the target can.
//!
//! What is offered is what open-iscsi offers: so a target is measured as Linux would find it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};
use socket2::Socket;
use wire::iscsi::pdu::code::stage;
use wire::iscsi::pdu::{LoginRequest, LoginResponse, Request, Response};

use super::pdu::{Digests, receive, send};

const INITIATOR: &str = "iqn.2026-11.io.ringsan:benches";
const DATA_SEGMENT_BYTES_MAX: u32 = 256 << 10;
const FIRST_BURST_BYTES: u32 = 256 << 10;
const MAX_BURST_BYTES: u32 = 16_776_192;
const STEPS_MAX: usize = 16;
/// ISIDs of this type are random (RFC 7143 §11.12.5).
const RANDOM: u8 = 0x80;

/// What both sides agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    /// Which digests are used.
    pub digests: Digests,
    /// A command may bring data.
    pub immediate_data: bool,
    /// No data may follow a command before the target asks for it.
    pub initial_r2t: bool,
    /// The most data that may come unasked.
    pub first_burst_bytes: u32,
    /// The most data of one PDU to the target.
    pub data_segment_bytes_max: u32,
}

/// The numbers that commands and responses carry.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Of the next command.
    pub cmd_sn: u32,
    /// Of the next response.
    pub exp_stat_sn: u32,
    /// The last command that the target has room for.
    pub max_cmd_sn: u32,
}

/// Logs in on a fresh connection.
pub fn login(socket: &Socket, target: &str, digests: Digests) -> Result<(Agreed, Numbers)> {
    let isid = isid();
    let mut numbers = Numbers { cmd_sn: 1, exp_stat_sn: 0, max_cmd_sn: 1 };
    let mut offer = offer(target, digests);
    let mut answers = Vec::new();
    for _ in 0..STEPS_MAX {
        let mut header = Vec::new();
        request(isid, &numbers).encode(offer.len(), &mut header);
        send(socket, &header, &offer, Digests::default())?;
        let (header, data) = receive(socket, Digests::default())?;
        let response = match Response::decode(&header, &[]) {
            Ok(Response::Login(response)) => response,
            other => bail!("a login was answered with {other:?}"),
        };
        check(&response)?;
        (numbers.exp_stat_sn, numbers.max_cmd_sn) = (response.stat_sn.wrapping_add(1), response.max_cmd_sn);
        answers.extend_from_slice(&data);
        if response.transit && response.next_stage == stage::FULL_FEATURE {
            return Ok((agreed(&answers, digests)?, numbers));
        }
        offer.clear();
    }
    bail!("the target does not come to an end of the login")
}

/// A name of its own for each session, so that none takes the place of another.
fn isid() -> [u8; 6] {
    static SESSIONS: AtomicU16 = AtomicU16::new(0);
    let [_, b, c, d] = std::process::id().to_be_bytes();
    let [high, low] = SESSIONS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [RANDOM, b, c, d, high, low]
}

fn request(isid: [u8; 6], numbers: &Numbers) -> Request {
    Request::Login(LoginRequest {
        transit: true,
        continues: false,
        current_stage: stage::OPERATIONAL,
        next_stage: stage::FULL_FEATURE,
        version_max: 0,
        version_min: 0,
        isid,
        tsih: 0,
        initiator_task_tag: 1,
        cid: 1,
        cmd_sn: numbers.cmd_sn,
        exp_stat_sn: numbers.exp_stat_sn,
    })
}

fn offer(target: &str, digests: Digests) -> Vec<u8> {
    let crc = |wanted| if wanted { "CRC32C" } else { "None" };
    format!(
        "InitiatorName={INITIATOR}\0TargetName={target}\0SessionType=Normal\0\
         HeaderDigest={}\0DataDigest={}\0MaxRecvDataSegmentLength={DATA_SEGMENT_BYTES_MAX}\0\
         InitialR2T=No\0ImmediateData=Yes\0FirstBurstLength={FIRST_BURST_BYTES}\0\
         MaxBurstLength={MAX_BURST_BYTES}\0MaxOutstandingR2T=1\0MaxConnections=1\0\
         DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0\
         DefaultTime2Wait=2\0DefaultTime2Retain=0\0",
        crc(digests.header),
        crc(digests.data),
    )
    .into_bytes()
}

fn check(response: &LoginResponse) -> Result<()> {
    match (response.status_class, response.status_detail) {
        (0, _) => Ok(()),
        (2, 1 | 2) => bail!("the target wants this initiator to prove who it is"),
        (2, 3) => bail!("there is no such target"),
        (class, detail) => bail!("the target refuses the login with status {class:02x}{detail:02x}h"),
    }
}

fn agreed(answers: &[u8], wanted: Digests) -> Result<Agreed> {
    let answers = std::str::from_utf8(answers).context("the target's answers are no text")?;
    let answers: BTreeMap<&str, &str> = answers.split('\0').filter_map(|pair| pair.split_once('=')).collect();
    let is = |key, value, otherwise| answers.get(key).map_or(otherwise, |found| *found == value);
    let number = |key, otherwise| match answers.get(key) {
        Some(value) => value.parse().with_context(|| format!("{key}={value} is no number")),
        None => Ok(otherwise),
    };
    let digests =
        Digests { header: is("HeaderDigest", "CRC32C", false), data: is("DataDigest", "CRC32C", false) };
    if digests != wanted {
        bail!("the target does not use the digests asked for");
    }
    Ok(Agreed {
        digests,
        immediate_data: is("ImmediateData", "Yes", true),
        initial_r2t: is("InitialR2T", "Yes", true),
        first_burst_bytes: number("FirstBurstLength", 64 << 10)?,
        // Pieces of whole words need no padding but the last.
        data_segment_bytes_max: number("MaxRecvDataSegmentLength", 8 << 10)? & !3,
    })
}
