//! PDUs over a blocking socket, with their padding and digests: for logging in, and for the commands before a load.

use std::io::{Read, Write};

use anyhow::{Result, bail};
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::{BHS_BYTES, Segments};

/// The size of a digest.
pub const DIGEST_BYTES: usize = 4;

/// The digests that both sides use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Behind each header.
    pub header: bool,
    /// Behind each data segment.
    pub data: bool,
}

impl Digests {
    /// Those that were agreed on.
    pub fn of(parameters: &Parameters) -> Digests {
        Digests { header: parameters.header_digest, data: parameters.data_digest }
    }
}

/// A CRC32C as it stands in a PDU (RFC 7143 §13.1).
#[inline]
pub fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    crc32c::crc32c(bytes).to_le_bytes()
}

/// Sends `header` and `data`.
pub fn send(mut stream: impl Write, header: &[u8], data: &[u8], digests: Digests) -> Result<()> {
    let mut out = header.to_vec();
    if digests.header {
        out.extend_from_slice(&digest(header));
    }
    let start = out.len();
    out.extend_from_slice(data);
    out.resize(start + data.len().next_multiple_of(4), 0);
    if digests.data && !data.is_empty() {
        let digest = digest(&out[start..]);
        out.extend_from_slice(&digest);
    }
    Ok(stream.write_all(&out)?)
}

/// Receives a header and its data; nobody here expects additional headers.
pub fn receive(mut stream: impl Read, digests: Digests) -> Result<([u8; BHS_BYTES], Vec<u8>)> {
    let mut header = [0; BHS_BYTES];
    stream.read_exact(&mut header)?;
    let segments = Segments::of(&header);
    if segments.ahs_bytes > 0 {
        bail!("an additional header came that nobody asked for");
    }
    if digests.header {
        check(&mut stream, &header)?;
    }
    let mut data = vec![0; segments.data_bytes + segments.padding()];
    stream.read_exact(&mut data)?;
    if digests.data && !data.is_empty() {
        check(&mut stream, &data)?;
    }
    data.truncate(segments.data_bytes);
    Ok((header, data))
}

fn check(mut stream: impl Read, bytes: &[u8]) -> Result<()> {
    let mut found = [0; DIGEST_BYTES];
    stream.read_exact(&mut found)?;
    if found != digest(bytes) {
        bail!("a digest is wrong");
    }
    Ok(())
}
