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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::pdu::send;
    use wire::iscsi::pdu::{DataIn, NopIn};

    const BOTH: Digests = Digests { header: true, data: true };

    fn stream(count: u32, digests: Digests) -> Vec<u8> {
        let mut stream = Vec::new();
        for number in 0..count {
            let data = vec![number as u8; (number % 3 * 101) as usize];
            let response = match number % 3 {
                0 => Response::NopIn(NopIn { stat_sn: number, ..NopIn::default() }),
                _ => Response::DataIn(DataIn {
                    stat_sn: number,
                    status: Some(0),
                    is_final: true,
                    ..DataIn::default()
                }),
            };
            let mut header = Vec::new();
            response.encode(data.len(), &mut header);
            send(&mut stream, &header, &data, digests).expect("memory takes all");
        }
        stream
    }

    /// The numbers of the responses found, as the generator's connection would look for them.
    fn found(stream: &[u8], cut: usize, digests: Digests) -> Result<Vec<u32>> {
        let mut frames = Frames::new(digests);
        let (mut inbox, mut numbers) = (vec![0; cut + 64], Vec::new());
        for piece in stream.chunks(cut) {
            let carried = frames.resume(&mut inbox);
            inbox[carried..carried + piece.len()].copy_from_slice(piece);
            let mut bytes = &inbox[..carried + piece.len()];
            while let Some(response) = frames.next(&mut bytes)? {
                numbers.push(match response {
                    Response::NopIn(ping) => ping.stat_sn,
                    Response::DataIn(data) => data.stat_sn,
                    other => panic!("{other:?} was not sent"),
                });
            }
        }
        Ok(numbers)
    }

    #[test]
    fn responses_are_found_however_the_stream_is_cut() {
        for digests in [Digests::default(), Digests { header: false, data: true }, BOTH] {
            let stream = stream(300, digests);
            for cut in [1, 3, 47, 53, 100, 1000, stream.len()] {
                let numbers = found(&stream, cut, digests).expect("all is right");
                assert!(numbers.iter().copied().eq(0..300), "cut {cut}, {digests:?}: {numbers:?}");
            }
        }
    }

    #[test]
    fn wrong_data_is_noticed_before_long() {
        let mut stream = stream(300, BOTH);
        // All that is data, and nothing of headers: their digests are checked each time.
        let data = |byte: &mut u8| *byte = byte.wrapping_add(1);
        let mut at = 0;
        while at < stream.len() {
            let segments = Segments::of(stream[at..].first_chunk().expect("a header"));
            at += BHS_BYTES + DIGEST_BYTES;
            if segments.data_bytes > 0 {
                stream[at..][..segments.data_bytes].iter_mut().for_each(data);
                at += segments.data_bytes + segments.padding() + DIGEST_BYTES;
            }
        }
        assert!(found(&stream, 1000, BOTH).is_err());
    }

    #[test]
    fn a_wrong_header_digest_is_noticed_at_once() {
        let mut stream = stream(3, BOTH);
        stream[BHS_BYTES] ^= 1;
        assert!(found(&stream, 1000, BOTH).is_err());
    }
}
