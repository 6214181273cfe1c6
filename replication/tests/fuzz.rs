//! The fuzz targets as ordinary tests: the committed corpus, damaged copies of it, and noise.

#[path = "../../tests/fuzz/src/inputs.rs"]
mod inputs;
#[path = "../../tests/fuzz/src/mirror_disk.rs"]
mod mirror_disk;
#[path = "../../tests/fuzz/src/mirror_frames.rs"]
mod mirror_frames;
#[path = "../../tests/fuzz/src/mirror_handshake.rs"]
mod mirror_handshake;

use inputs::{corpus, inputs};
use mirror_disk::mirror_disk;
use mirror_frames::mirror_frames;
use mirror_handshake::mirror_handshake;
use proptest::prelude::*;

#[test]
fn corpus_holds() {
    corpus("mirror_frames").iter().for_each(|input| mirror_frames(input));
    corpus("mirror_handshake").iter().for_each(|input| mirror_handshake(input));
    corpus("mirror_disk").iter().for_each(|input| mirror_disk(input));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn frames_withstand_anything(input in inputs("mirror_frames")) {
        mirror_frames(&input);
    }

    #[test]
    fn handshakes_withstand_anything(input in inputs("mirror_handshake")) {
        mirror_handshake(&input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn metadata_withstands_anything(input in inputs("mirror_disk")) {
        mirror_disk(&input);
    }
}
