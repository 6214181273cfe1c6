//! Sense data in both formats.

use proptest::prelude::*;
use wire::scsi::{FieldPointer, Refusal, Sense, SenseKey, additional};

fn senses() -> impl Strategy<Value = Sense> {
    let field = (any::<bool>(), any::<u16>(), proptest::option::of(0..8_u8))
        .prop_map(|(in_cdb, byte, bit)| FieldPointer { in_cdb, byte, bit });
    let illegal = proptest::option::of(field).prop_map(|field| {
        let sense = Sense::new(SenseKey::IllegalRequest, additional::INVALID_FIELD_IN_CDB);
        Sense { field, ..sense }
    });
    let busy = proptest::option::of(any::<u16>()).prop_map(|progress| {
        let sense = Sense::new(SenseKey::NotReady, additional::SANITIZE_IN_PROGRESS);
        Sense { progress, ..sense }
    });
    let information = proptest::option::of(any::<u32>().prop_map(u64::from));
    (prop_oneof![illegal, busy], information, any::<bool>())
        .prop_map(|(sense, information, deferred)| Sense { information, deferred, ..sense })
}

proptest! {
    #[test]
    fn both_formats_carry_the_same(sense in senses()) {
        for descriptor in [false, true] {
            let mut bytes = Vec::new();
            sense.encode(descriptor, &mut bytes);
            prop_assert_eq!(Sense::decode(&bytes), Some(sense));
        }
    }

    #[test]
    fn decoding_withstands_anything(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Sense::decode(&bytes);
    }
}

#[test]
fn fixed_format_leaves_out_an_address_that_it_has_no_room_for() {
    let sense = Refusal::lba_out_of_range(1 << 32).sense.expect("with sense");
    let (mut fixed, mut descriptor) = (Vec::new(), Vec::new());
    sense.encode(false, &mut fixed);
    sense.encode(true, &mut descriptor);
    assert_eq!(Sense::decode(&fixed).expect("ours").information, None);
    assert_eq!(Sense::decode(&descriptor).expect("ours").information, Some(1 << 32));
}

#[test]
fn fixed_format_lies_as_the_standard_draws_it() {
    let mut bytes = Vec::new();
    Refusal::cdb_field(2, Some(5)).sense.expect("with sense").encode(false, &mut bytes);
    assert_eq!(bytes, [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcd, 0, 2]);
}

#[test]
fn descriptor_format_lies_as_the_standard_draws_it() {
    let mut bytes = Vec::new();
    Refusal::miscompare(0x1234).sense.expect("with sense").encode(true, &mut bytes);
    let header = [0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12];
    let information = [0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34];
    assert_eq!(bytes, [header.as_slice(), &information].concat());
}
