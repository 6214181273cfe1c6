//! libFuzzer's door to the client's parser of replies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nbd_client::fuzz_replies(data));
