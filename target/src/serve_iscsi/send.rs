//! PDUs on their way out: header, data, padding, digests (RFC 7143, sections 11.2 and 13.1).

use reactor::{Gather, View};
use wire::iscsi::pdu::{BHS_BYTES, DataIn, Response};
use wire::scsi::Status;

use crate::outbox::Receipt;
use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::task::Task;

impl Connection {
    /// Sends a PDU that answers no command.
    pub fn send(&self, response: &Response, data: &[u8]) {
        self.outbox.push_loose(BHS_BYTES + data.len(), |gather| self.put(gather, response, data));
    }

    /// Sends a PDU, and books `receipt` when it has gone.
    pub fn send_booked(&self, response: &Response, data: &[u8], receipt: Receipt) {
        self.outbox.push(receipt, |gather| self.put(gather, response, data));
    }

    fn put(&self, gather: &mut Gather, response: &Response, data: &[u8]) {
        gather.head(|out| {
            self.put_header(out, response, data.len());
            let start = out.len();
            out.extend_from_slice(data);
            out.resize(start + data.len().next_multiple_of(4), 0);
            if self.agreed.parameters.data_digest && !data.is_empty() {
                let digest = crc32c::crc32c(&out[start..]);
                out.extend_from_slice(&digest.to_le_bytes());
            }
        });
    }

    /// Sends data in of a task from byte `at` of `end`, in PDUs as long as agreed; the last byte brings GOOD.
    /// `receipt` books each PDU, knowing whether it ends this piece, and the task.
    pub fn send_piece(
        &self,
        task: &Task,
        (at, end): (usize, usize),
        scsi_bytes: u64,
        data: View,
        mut receipt: impl FnMut(bool, bool) -> Receipt,
    ) {
        let mut session = self.session.borrow_mut();
        let piece_end = at + data.len();
        let mut rest = Some(data);
        for (offset, len, is_final) in session.split(at as u32, (piece_end - at) as u32) {
            let next = (offset + len) as usize;
            let status = (next == end).then_some((Status::Good as u8, scsi_bytes));
            let header = session.data_in(task.id, offset, len, is_final, status);
            let data = match next == piece_end {
                true => rest.take().expect("the last PDU of the piece comes once"),
                false => rest.as_mut().expect("there is more").split_to(len as usize),
            };
            if next == end {
                self.remove(task.id);
            }
            self.outbox.push(receipt(next == piece_end, next == end), |gather| {
                self.put_data_in(gather, header, data)
            });
        }
    }

    fn put_data_in(&self, gather: &mut Gather, header: DataIn, data: View) {
        let len = data.len();
        gather.head(|out| self.put_header(out, &Response::DataIn(header), len));
        let padding = [0; 3];
        let padding = &padding[..len.next_multiple_of(4) - len];
        let digest = (self.agreed.parameters.data_digest && len > 0)
            .then(|| crc32c::crc32c_append(data.crc32c(0), padding).to_le_bytes());
        gather.view(data);
        if !padding.is_empty() || digest.is_some() {
            gather.head(|out| {
                out.extend_from_slice(padding);
                out.extend_from_slice(digest.as_ref().map_or(&[], |digest| digest));
            });
        }
    }

    fn put_header(&self, out: &mut Vec<u8>, response: &Response, data_bytes: usize) {
        let start = out.len();
        response.encode(data_bytes, out);
        if self.agreed.parameters.header_digest {
            let digest = crc32c::crc32c(&out[start..]);
            out.extend_from_slice(&digest.to_le_bytes());
        }
    }
}
