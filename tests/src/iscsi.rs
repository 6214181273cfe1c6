//! An iSCSI initiator of bytes, for tests that break rules: it sends what it is told to and checks little.
//!
//! Its numbers are copied from RFC 7143 and not taken from `wire`, so that a mistake there is not made twice and
//! then found to agree with itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

mod command;
mod login;
mod pdu;

pub use command::{Answer, Data, Taken, read_10, write_10};
pub use login::{Login, Outcome, Refusal};
pub use pdu::Pdu;

/// Opcodes of initiators (§11.2.1.2).
pub mod request {
    /// NOP-Out.
    pub const NOP_OUT: u8 = 0x00;
    /// SCSI Command.
    pub const COMMAND: u8 = 0x01;
    /// SCSI Task Management function request.
    pub const MANAGEMENT: u8 = 0x02;
    /// Login.
    pub const LOGIN: u8 = 0x03;
    /// Text.
    pub const TEXT: u8 = 0x04;
    /// SCSI Data-Out.
    pub const DATA_OUT: u8 = 0x05;
    /// Logout.
    pub const LOGOUT: u8 = 0x06;
    /// SNACK.
    pub const SNACK: u8 = 0x10;
    /// The bit that makes a request immediate.
    pub const IMMEDIATE: u8 = 0x40;
}

/// Opcodes of targets (§11.2.1.2).
pub mod response {
    /// NOP-In.
    pub const NOP_IN: u8 = 0x20;
    /// SCSI Response.
    pub const COMMAND: u8 = 0x21;
    /// SCSI Task Management function response.
    pub const MANAGEMENT: u8 = 0x22;
    /// Login.
    pub const LOGIN: u8 = 0x23;
    /// Text.
    pub const TEXT: u8 = 0x24;
    /// SCSI Data-In.
    pub const DATA_IN: u8 = 0x25;
    /// Logout.
    pub const LOGOUT: u8 = 0x26;
    /// Ready To Transfer.
    pub const R2T: u8 = 0x31;
    /// Asynchronous Message.
    pub const ASYNC: u8 = 0x32;
    /// Reject.
    pub const REJECT: u8 = 0x3f;
}

/// Task management functions (§11.5.1).
pub mod function {
    /// ABORT TASK.
    pub const ABORT_TASK: u8 = 1;
    /// ABORT TASK SET.
    pub const ABORT_TASK_SET: u8 = 2;
    /// CLEAR TASK SET.
    pub const CLEAR_TASK_SET: u8 = 4;
    /// LOGICAL UNIT RESET.
    pub const LUN_RESET: u8 = 5;
    /// TARGET WARM RESET.
    pub const WARM_RESET: u8 = 6;
    /// TARGET COLD RESET.
    pub const COLD_RESET: u8 = 7;
    /// TASK REASSIGN.
    pub const TASK_REASSIGN: u8 = 8;
}

/// The reserved task tag.
pub const NO_TAG: u32 = 0xffff_ffff;
/// Bytes of a basic header segment.
pub const HEADER_BYTES: usize = 48;
/// Bytes of a logical block, everywhere in these tests.
pub const BLOCK: usize = 512;
/// The name of the initiator that a login uses unless told otherwise.
pub const INITIATOR: &str = "iqn.2026-11.test:initiator";
/// No target may be silent for longer: a hang is a failure, not a hung test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the target that serves a volume of its own.
pub fn target_name(volume: &str) -> String {
    format!("iqn.2026-11.io.ringsan:{volume}")
}

/// The table that declares a target: `settings` are lines of it, `luns` are volumes with more settings of theirs.
pub fn target_table(name: &str, settings: &str, luns: &[(&str, &str)]) -> String {
    let lun =
        |(volume, more): &(&str, &str)| format!("[[iscsi.target.lun]]\nvolume = \"{volume}\"\n{more}\n");
    let luns: String = luns.iter().map(lun).collect();
    format!("[[iscsi.target]]\nname = \"{}\"\n{settings}\n{luns}", target_name(name))
}

/// One connection, which is a session once logged in.
pub struct Client {
    stream: TcpStream,
    header_digest: bool,
    data_digest: bool,
    cmd_sn: u32,
    exp_stat_sn: u32,
    next_tag: u32,
    /// What has come for commands that nobody has waited for yet.
    early: Vec<Pdu>,
    /// The LUN of its commands, 0 to 255.
    pub lun: u8,
    /// The session's handle, given by the target.
    pub tsih: u16,
    /// The keys that the target declared or answered.
    pub keys: Vec<(String, String)>,
}

impl Client {
    /// Connects, and sends nothing.
    pub fn connect(address: SocketAddr) -> Result<Client> {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            header_digest: false,
            data_digest: false,
            cmd_sn: 1,
            exp_stat_sn: 0,
            next_tag: 1,
            early: Vec::new(),
            lun: 0,
            tsih: 0,
            keys: Vec::new(),
        })
    }

    /// Logs in to a volume's own target, and takes the unit attention that every new session finds.
    pub fn attach(address: SocketAddr, volume: &str) -> Result<Client> {
        Login::to(&target_name(volume)).attach(address)
    }

    /// What the target answered to a key.
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A tag that no other task has.
    pub fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag
    }

    /// A request with a tag, the next command number (immediate ones do not use it up) and the status expected.
    pub fn request(&mut self, opcode: u8) -> Pdu {
        let is_immediate = opcode & request::IMMEDIATE != 0;
        let tag = self.tag();
        let pdu = Pdu::new(opcode).tag(tag).word(24, self.cmd_sn).word(28, self.exp_stat_sn);
        self.cmd_sn = self.cmd_sn.wrapping_add(u32::from(!is_immediate));
        pdu
    }

    /// The bytes of a PDU, with padding and the digests agreed on.
    pub fn frame(&self, pdu: &Pdu) -> Vec<u8> {
        pdu.frame(self.header_digest, self.data_digest)
    }

    /// Sends a PDU.
    pub fn send(&mut self, pdu: &Pdu) -> Result<()> {
        let frame = self.frame(pdu);
        self.send_bytes(&frame)
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Receives a PDU, whatever it is; its digests must be right.
    pub fn receive(&mut self) -> Result<Pdu> {
        let header = self.receive_checked(HEADER_BYTES, self.header_digest).context("a header")?;
        let mut pdu = Pdu { header: header.try_into().expect("so many were asked for"), data: Vec::new() };
        ensure!(pdu.header[4] == 0, "a response with additional headers: {pdu:?}");
        let data_bytes = pdu.data_bytes();
        ensure!(data_bytes <= 1 << 20, "a response of {data_bytes} bytes");
        if data_bytes > 0 {
            pdu.data = self.receive_checked(data_bytes.next_multiple_of(4), self.data_digest)?;
            pdu.data.truncate(data_bytes);
        }
        if let Some(stat_sn) = pdu.stat_sn() {
            self.exp_stat_sn = stat_sn.wrapping_add(1);
        }
        Ok(pdu)
    }

    /// Receives a PDU, and answers pings on the way.
    pub fn receive_answering(&mut self) -> Result<Pdu> {
        let end = Instant::now() + PATIENCE;
        loop {
            ensure!(Instant::now() < end, "nothing but pings for {PATIENCE:?}");
            let pdu = self.receive()?;
            if pdu.opcode() != response::NOP_IN || pdu.word_at(20) == NO_TAG {
                return Ok(pdu);
            }
            let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
            let pong = Pdu::new(request::NOP_OUT | request::IMMEDIATE).flags(0x80).tag(NO_TAG);
            let pong = pong.word(20, pdu.word_at(20)).word(24, cmd_sn).word(28, exp_stat_sn);
            self.send(&pong)?;
        }
    }

    /// Receives the PDU with this opcode that answers `tag`.
    pub fn answer(&mut self, opcode: u8, tag: u32) -> Result<Pdu> {
        let pdu = self.receive_answering()?;
        ensure!(pdu.opcode() == opcode && pdu.tag_of() == tag, "expected {opcode:#x} for {tag}: {pdu:?}");
        Ok(pdu)
    }

    /// Sends a ping; it must come back.
    pub fn ping(&mut self) -> Result<()> {
        let pdu =
            self.request(request::NOP_OUT).flags(0x80).word(20, NO_TAG).data(b"are you there?".to_vec());
        self.send(&pdu)?;
        let pong = self.answer(response::NOP_IN, pdu.tag_of())?;
        ensure!(pong.data == pdu.data, "a ping came back as {pong:?}");
        Ok(())
    }

    /// Asks for task management, as an immediate request; the function's response.
    pub fn manage(&mut self, function: u8, referenced: Option<&Pdu>) -> Result<u8> {
        let pdu = self.request_management(function, referenced)?;
        Ok(self.answer(response::MANAGEMENT, pdu.tag_of())?.header[2])
    }

    /// Asks for task management, and does not wait.
    pub fn request_management(&mut self, function: u8, referenced: Option<&Pdu>) -> Result<Pdu> {
        let pdu =
            self.request(request::MANAGEMENT | request::IMMEDIATE).flags(0x80 | function).byte(9, self.lun);
        let pdu = pdu.word(20, referenced.map_or(NO_TAG, Pdu::tag_of));
        let pdu = pdu.word(32, referenced.map_or(0, |task| task.word_at(24)));
        self.send(&pdu)?;
        Ok(pdu)
    }

    /// Asks for a logout, and does not wait; `reason` 0 closes the session, 1 the connection.
    pub fn request_logout(&mut self, reason: u8) -> Result<Pdu> {
        let pdu = self.request(request::LOGOUT | request::IMMEDIATE).flags(0x80 | reason);
        self.send(&pdu)?;
        Ok(pdu)
    }

    /// Logs out: answered with success, then the end of the connection.
    pub fn logout(mut self) -> Result<()> {
        let pdu = self.request_logout(0)?;
        let response = self.answer(response::LOGOUT, pdu.tag_of())?.header[2];
        ensure!(response == 0, "logout: response {response}");
        self.ended()
    }

    /// Sends a text request of one PDU; the keys of the answer, which may come in several.
    pub fn text(&mut self, pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
        let mut pdu = self.request(request::TEXT).flags(0x80).word(20, NO_TAG).data(pdu::pairs(pairs));
        let mut collected = Vec::new();
        loop {
            self.send(&pdu)?;
            let part = self.answer(response::TEXT, pdu.tag_of())?;
            collected.extend_from_slice(&part.data);
            if part.header[1] & 0x80 != 0 {
                return pdu::read_pairs(&collected);
            }
            let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
            self.cmd_sn += 1;
            pdu = pdu.data(Vec::new()).word(20, part.word_at(20)).word(24, cmd_sn).word(28, exp_stat_sn);
        }
    }

    /// Receives so many bytes.
    pub fn receive_bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).with_context(|| format!("receiving {len} bytes"))?;
        Ok(bytes)
    }

    fn receive_checked(&mut self, len: usize, has_digest: bool) -> Result<Vec<u8>> {
        let bytes = self.receive_bytes(len)?;
        if has_digest {
            let digest = self.receive_bytes(4)?;
            ensure!(digest == crc32c::crc32c(&bytes).to_le_bytes(), "a wrong digest from the target");
        }
        Ok(bytes)
    }

    /// Reads until the target ends the connection; an error when it does not.
    pub fn ended(&mut self) -> Result<()> {
        let mut scrap = [0; 64 << 10];
        loop {
            match self.stream.read(&mut scrap) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error).context("the target did not end the connection"),
            }
        }
    }

    /// Whether nothing has come so far, not even the end.
    pub fn is_quiet(&self) -> Result<bool> {
        Ok(self.peek()?.is_none())
    }

    /// Whether all has come, and then the end.
    pub fn has_ended(&self) -> Result<bool> {
        Ok(self.peek()? == Some(0))
    }

    fn peek(&self) -> Result<Option<usize>> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0; 1]);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(0)),
            Err(error) => bail!(error),
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}
