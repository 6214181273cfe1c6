//! An NBD client of bytes, for tests that break rules: it sends what it is told to and checks nothing first.
//!
//! Its numbers are copied from the specification and not taken from `wire`, so that a mistake there is not
//! made twice and then found to agree with itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// `NBD_OPT_EXPORT_NAME`.
pub const OPT_EXPORT_NAME: u32 = 1;
/// `NBD_OPT_ABORT`.
pub const OPT_ABORT: u32 = 2;
/// `NBD_OPT_LIST`.
pub const OPT_LIST: u32 = 3;
/// `NBD_OPT_STARTTLS`.
pub const OPT_STARTTLS: u32 = 5;
/// `NBD_OPT_INFO`.
pub const OPT_INFO: u32 = 6;
/// `NBD_OPT_GO`.
pub const OPT_GO: u32 = 7;
/// `NBD_REP_ACK`.
pub const REP_ACK: u32 = 1;
/// `NBD_REP_INFO`.
pub const REP_INFO: u32 = 3;
/// `NBD_CMD_READ`.
pub const CMD_READ: u16 = 0;
/// `NBD_CMD_WRITE`.
pub const CMD_WRITE: u16 = 1;
/// `NBD_CMD_FLUSH`.
pub const CMD_FLUSH: u16 = 3;
/// `NBD_CMD_FLAG_FUA`.
pub const FLAG_FUA: u16 = 1;
/// `NBD_ENOSPC`, the only error number the tests name besides `EINVAL` and `EIO`.
pub const ENOSPC: u32 = 28;
/// `NBD_EINVAL`.
pub const EINVAL: u32 = 22;
/// `NBD_EIO`.
pub const EIO: u32 = 5;

const HELLO_BYTES: usize = 18;
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// No server may be silent for longer: a hang is a failure, not a hung test.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Client {
    stream: TcpStream,
    /// Size of the export, once attached.
    pub size_bytes: u64,
    /// Its transmission flags.
    pub flags: u16,
}

/// The server's answer to an option.
pub struct OptionReply {
    /// `NBD_REP_…`.
    pub kind: u32,
    /// What came with it.
    pub payload: Vec<u8>,
}

impl Client {
    /// Connects, and reads nothing.
    pub fn connect(address: SocketAddr) -> Result<Client> {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, size_bytes: 0, flags: 0 })
    }

    /// Connects and exchanges flags: fixed newstyle, no zero padding.
    pub fn greet(address: SocketAddr) -> Result<Client> {
        let mut client = Client::connect(address)?;
        let hello = client.receive(HELLO_BYTES).context("the server's greeting")?;
        ensure!(&hello[..16] == b"NBDMAGICIHAVEOPT", "not a newstyle NBD server: {hello:?}");
        client.send(&3u32.to_be_bytes())?;
        Ok(client)
    }

    /// Connects and attaches to `export` by `NBD_OPT_GO`, with simple replies.
    pub fn attach(address: SocketAddr, export: &str) -> Result<Client> {
        let mut client = Client::greet(address)?;
        client.go(export).with_context(|| format!("attaching to {export:?}"))?;
        Ok(client)
    }

    fn go(&mut self, export: &str) -> Result<()> {
        self.option(OPT_GO, &name_payload(export))?;
        loop {
            let reply = self.option_reply(OPT_GO)?;
            match reply.kind {
                REP_ACK => return Ok(()),
                REP_INFO if reply.payload.starts_with(&[0, 0]) => self.keep_export_info(&reply.payload)?,
                REP_INFO => {}
                kind => bail!("refused: {kind:#x} {}", String::from_utf8_lossy(&reply.payload)),
            }
        }
    }

    fn keep_export_info(&mut self, payload: &[u8]) -> Result<()> {
        ensure!(payload.len() == 12, "NBD_INFO_EXPORT of {} bytes", payload.len());
        self.size_bytes = u64::from_be_bytes(payload[2..10].try_into()?);
        self.flags = u16::from_be_bytes(payload[10..12].try_into()?);
        Ok(())
    }

    /// Sends an option.
    pub fn option(&mut self, option: u32, payload: &[u8]) -> Result<()> {
        let mut frame = OPTION_MAGIC.to_vec();
        frame.extend_from_slice(&option.to_be_bytes());
        frame.extend_from_slice(&u32::try_from(payload.len())?.to_be_bytes());
        frame.extend_from_slice(payload);
        self.send(&frame)
    }

    /// Receives one reply to `option`.
    pub fn option_reply(&mut self, option: u32) -> Result<OptionReply> {
        let head = self.receive(20)?;
        ensure!(head[..8] == OPTION_REPLY_MAGIC.to_be_bytes(), "bad magic of an option reply: {head:?}");
        ensure!(head[8..12] == option.to_be_bytes(), "a reply to another option: {head:?}");
        let len = u32::from_be_bytes(head[16..20].try_into()?);
        ensure!(len <= 64 << 10, "an option reply of {len} bytes");
        Ok(OptionReply {
            kind: u32::from_be_bytes(head[12..16].try_into()?),
            payload: self.receive(len as usize)?,
        })
    }

    /// Sends a request and no payload.
    pub fn request(&mut self, command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Result<()> {
        self.send(&request_frame(command, flags, cookie, offset, length))
    }

    /// Sends a write.
    pub fn request_write(&mut self, flags: u16, cookie: u64, offset: u64, data: &[u8]) -> Result<()> {
        let mut frame = request_frame(CMD_WRITE, flags, cookie, offset, u32::try_from(data.len())?);
        frame.extend_from_slice(data);
        self.send(&frame)
    }

    /// Receives a simple reply's head: the error and the cookie.
    pub fn reply(&mut self) -> Result<(u32, u64)> {
        let head = self.receive(16)?;
        ensure!(head[..4] == SIMPLE_REPLY_MAGIC.to_be_bytes(), "bad magic of a reply: {head:?}");
        Ok((u32::from_be_bytes(head[4..8].try_into()?), u64::from_be_bytes(head[8..16].try_into()?)))
    }

    /// Reads, alone on the connection.
    pub fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>> {
        self.request(CMD_READ, 0, offset, offset, length)?;
        self.succeeded(offset).with_context(|| format!("read of {length} at {offset}"))?;
        self.receive(length as usize)
    }

    /// Writes, alone on the connection.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.request_write(0, offset, offset, data)?;
        self.succeeded(offset).with_context(|| format!("write of {} at {offset}", data.len()))
    }

    /// Flushes, alone on the connection.
    pub fn flush(&mut self) -> Result<()> {
        self.request(CMD_FLUSH, 0, 0, 0, 0)?;
        self.succeeded(0).context("flush")
    }

    fn succeeded(&mut self, cookie: u64) -> Result<()> {
        let (error, answered) = self.reply()?;
        ensure!(answered == cookie, "a reply to {answered:#x}, not to {cookie:#x}");
        ensure!(error == 0, "NBD error {error}");
        Ok(())
    }

    /// Sends any bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Receives so many bytes.
    pub fn receive(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).with_context(|| format!("receiving {len} bytes"))?;
        Ok(bytes)
    }

    /// Reads until the server ends the connection; an error when it does not.
    pub fn ended(&mut self) -> Result<()> {
        let mut scrap = [0; 64 << 10];
        loop {
            match self.stream.read(&mut scrap) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error).context("the server did not end the connection"),
            }
        }
    }

    /// Sends until the server takes no more for `patience`; how much it took. The caller reads nothing meanwhile.
    pub fn flood(&mut self, frame: &[u8], patience: Duration) -> Result<u64> {
        self.stream.set_write_timeout(Some(patience))?;
        let mut sent = 0;
        loop {
            match self.stream.write(frame) {
                Ok(count) => sent += count as u64,
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => break,
                Err(error) if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => {
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            ensure!(sent < 1 << 30, "the server took {sent} bytes of requests whose replies nobody reads");
        }
        self.stream.set_write_timeout(Some(PATIENCE))?;
        Ok(sent)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// The payload of `NBD_OPT_GO` and `NBD_OPT_INFO` without information requests.
pub fn name_payload(export: &str) -> Vec<u8> {
    let mut payload = (export.len() as u32).to_be_bytes().to_vec();
    payload.extend_from_slice(export.as_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload
}

/// A request's 28 bytes.
pub fn request_frame(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut frame = REQUEST_MAGIC.to_be_bytes().to_vec();
    frame.extend_from_slice(&flags.to_be_bytes());
    frame.extend_from_slice(&command.to_be_bytes());
    frame.extend_from_slice(&cookie.to_be_bytes());
    frame.extend_from_slice(&offset.to_be_bytes());
    frame.extend_from_slice(&length.to_be_bytes());
    frame
}
