//! Commands that look at what the medium holds: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE.

use std::ops::Range;

use wire::scsi::{ByteCheck, Refusal};

use crate::fault::Access;
use crate::scsi_unit::payload::{Payload, views_of};
use crate::scsi_unit::perform::{Work, steps};

impl Work<'_> {
    /// VERIFY (SBC-3 5.34): the medium can be read, and holds what was sent where that is asked for.
    pub async fn verify(&self, range: Range<u64>, check: ByteCheck, data: Payload) -> Result<(), Refusal> {
        let expected = data.into_bytes();
        match check {
            ByteCheck::None => {
                for step in steps(range) {
                    self.read_step(step).await?;
                }
                Ok(())
            }
            ByteCheck::Compare => {
                let end = range.start + expected.len() as u64;
                self.holds(range.start..range.end.min(end), |at| at, &expected).await
            }
            ByteCheck::CompareOne if expected.len() as u64 == self.block_bytes => {
                self.holds(range, |at| at % expected.len(), &expected).await
            }
            // The one block was not sent: there is nothing to compare.
            ByteCheck::CompareOne => Ok(()),
        }
    }

    /// WRITE AND VERIFY (SBC-3 5.44). What is compared has to come from the medium, so it is written there first.
    pub async fn write_and_verify(
        &self,
        range: Range<u64>,
        data: Payload,
        check: ByteCheck,
    ) -> Result<(), Refusal> {
        let bytes = data.into_bytes();
        let views = views_of(&self.unit.core, &bytes);
        let mut copy = Payload::new(&self.unit.core, views, bytes.len() as u64);
        self.write(range.start, &mut copy, true).await?;
        let range = range.start..range.start + bytes.len() as u64;
        match check {
            ByteCheck::None => {
                for step in steps(range) {
                    self.read_step(step).await?;
                }
                Ok(())
            }
            _ => self.holds(range, |at| at, &bytes).await,
        }
    }

    /// COMPARE AND WRITE (SBC-3 5.2): the first half is compared, the second written.
    pub async fn compare_and_write(
        &self,
        range: Range<u64>,
        data: Payload,
        fua: bool,
    ) -> Result<(), Refusal> {
        let bytes = data.into_bytes();
        let len = (range.end - range.start) as usize;
        let Some((expected, data)) = bytes.split_at_checked(len).filter(|(_, data)| data.len() == len) else {
            return Err(self.data_missing());
        };
        self.goes_on()?;
        self.errand.writes_to(range.start, len as u64);
        let compared = self.unit.volume.compare_and_write(range.start, expected, data, fua).await;
        match compared.map_err(|fault| self.refuse(&fault, Access::Write))? {
            Some(offset) => Err(Refusal::miscompare(offset)),
            None => Ok(()),
        }
    }

    /// ORWRITE (SBC-3 5.14).
    pub async fn or_write(&self, offset: u64, data: Payload, fua: bool) -> Result<(), Refusal> {
        let bytes = data.into_bytes();
        self.goes_on()?;
        self.errand.writes_to(offset, bytes.len() as u64);
        let set = self.unit.volume.or_write(offset, &bytes, fua).await;
        set.map_err(|fault| self.refuse(&fault, Access::Write))
    }

    /// Compares the medium with `expected`; `place` says where in it a byte is that lies so far behind the start.
    async fn holds(
        &self,
        range: Range<u64>,
        place: impl Fn(usize) -> usize,
        expected: &[u8],
    ) -> Result<(), Refusal> {
        let start = range.start;
        for step in steps(range) {
            let view = self.read_step(step.clone()).await?;
            let mut found = vec![0; view.len()];
            view.copy_to(&mut found);
            let at = (step.start - start) as usize;
            let differs = found.iter().enumerate().position(|(i, byte)| *byte != expected[place(at + i)]);
            if let Some(differs) = differs {
                return Err(Refusal::miscompare(place(at + differs) as u64));
            }
        }
        Ok(())
    }
}
