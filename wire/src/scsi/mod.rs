//! SCSI block devices (SPC-4, SBC-3): command descriptor blocks, and the logical unit that answers them.
