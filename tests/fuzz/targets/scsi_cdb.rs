//! libFuzzer's door to `fuzz::scsi_cdb`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::scsi_cdb(data));
