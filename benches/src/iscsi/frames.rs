//! Finds the responses in a stream of bytes, and skips their data in place.
//!
//! Header digests are checked all, of data digests one in 64: more, and the generator would measure itself.

use anyhow::{Result, anyhow, bail};
use wire::iscsi::pdu::{BHS_BYTES, Response, Segments};

use super::pdu::{DIGEST_BYTES, Digests, digest};
use crate::stream::Stream;

const CHECKED_EVERY: u32 = 64;

/// The place in one connection's stream of responses.
pub struct Frames {
    digests: Digests,
    stream: Stream,
    /// The sum of the data so far, where its digest is to be checked.
    sum: Option<u32>,
    unchecked: u32,
}

impl Frames {
    /// At the start of the full feature phase.
    pub fn new(digests: Digests) -> Frames {
        Frames { digests, stream: Stream::new(), sum: None, unchecked: 0 }
    }

    /// Puts back the piece of a header that ended the bytes before; the next bytes go behind it.
    #[inline]
    pub fn resume(&mut self, inbox: &mut [u8]) -> usize {
        self.stream.resume(inbox)
    }

    /// The next response, its data still to come; `None` when `bytes` are used up.
    #[inline]
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Response>> {
        let (data, rest) = self.stream.split(bytes);
        *bytes = rest;
        if let Some(sum) = self.sum
            && !self.check(sum, data, bytes)?
        {
            return Ok(None);
        }
        let (Some(header), true) = (bytes.first_chunk::<BHS_BYTES>(), self.header_is_whole(bytes)) else {
            self.stream.carry(bytes);
            return Ok(None);
        };
        *bytes = &bytes[BHS_BYTES..];
        if self.digests.header {
            *bytes = expect_digest(bytes, digest(header))?;
        }
        self.expect(Segments::of(header));
        Response::decode(header, &[])
            .map(Some)
            .map_err(|reason| anyhow!("a response is malformed: {reason:?}"))
    }

    #[inline]
    fn header_is_whole(&self, bytes: &[u8]) -> bool {
        let digest_bytes = if self.digests.header { DIGEST_BYTES } else { 0 };
        bytes.len() >= BHS_BYTES + digest_bytes
    }

    #[inline]
    fn expect(&mut self, segments: Segments) {
        let bytes = segments.data_bytes + segments.padding();
        if bytes == 0 || !self.digests.data {
            return self.stream.expect(bytes);
        }
        self.unchecked = (self.unchecked + 1) % CHECKED_EVERY;
        if self.unchecked == 0 {
            self.sum = Some(0);
            self.stream.expect(bytes);
        } else {
            self.stream.expect(bytes + DIGEST_BYTES);
        }
    }

    /// Adds `data` to the sum and, when that was the last of it, takes the digest; `false` when it has not come yet.
    fn check(&mut self, sum: u32, data: &[u8], rest: &mut &[u8]) -> Result<bool> {
        let sum = crc32c::crc32c_append(sum, data);
        self.sum = Some(sum);
        if !self.stream.is_at_header() || rest.len() < DIGEST_BYTES {
            self.stream.carry(rest);
            return Ok(false);
        }
        *rest = expect_digest(rest, sum.to_le_bytes())?;
        self.sum = None;
        Ok(true)
    }
}

fn expect_digest(bytes: &[u8], digest: [u8; DIGEST_BYTES]) -> Result<&[u8]> {
    match bytes.strip_prefix(&digest) {
        Some(rest) => Ok(rest),
        None => bail!("the server sent a wrong digest"),
    }
}
