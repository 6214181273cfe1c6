//! The fuzz targets as ordinary tests: the committed corpus, damaged copies of it, and noise.

#[path = "../../tests/fuzz/src/lib.rs"]
mod targets;

#[path = "../../tests/fuzz/src/inputs.rs"]
mod inputs;

use inputs::{corpus, inputs};
use proptest::prelude::*;

#[test]
fn corpus_holds() {
    corpus("negotiation").iter().for_each(|input| targets::negotiation(input));
    corpus("requests").iter().for_each(|input| targets::requests(input));
    corpus("dial").iter().for_each(|input| targets::dial(input));
    corpus("iscsi_pdu").iter().for_each(|input| targets::iscsi_pdu(input));
    corpus("iscsi_text").iter().for_each(|input| targets::iscsi_text(input));
    corpus("iscsi_login").iter().for_each(|input| targets::iscsi_login(input));
    corpus("iscsi_initiator").iter().for_each(|input| targets::iscsi_initiator(input));
    corpus("iscsi_session").iter().for_each(|input| targets::iscsi_session(input));
    corpus("scsi_cdb").iter().for_each(|input| targets::scsi_cdb(input));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn negotiation_withstands_anything(input in inputs("negotiation")) {
        targets::negotiation(&input);
    }

    #[test]
    fn requests_withstand_anything(input in inputs("requests")) {
        targets::requests(&input);
    }

    #[test]
    fn dial_withstands_anything(input in inputs("dial")) {
        targets::dial(&input);
    }

    #[test]
    fn scsi_cdbs_withstand_anything(input in inputs("scsi_cdb")) {
        targets::scsi_cdb(&input);
    }

    #[test]
    fn iscsi_session_withstands_anything(input in inputs("iscsi_session")) {
        targets::iscsi_session(&input);
    }

    #[test]
    fn iscsi_pdus_withstand_anything(input in inputs("iscsi_pdu")) {
        targets::iscsi_pdu(&input);
    }

    #[test]
    fn iscsi_text_withstands_anything(input in inputs("iscsi_text")) {
        targets::iscsi_text(&input);
    }

    #[test]
    fn iscsi_login_withstands_anything(input in inputs("iscsi_login")) {
        targets::iscsi_login(&input);
    }

    #[test]
    fn iscsi_initiator_withstands_anything(input in inputs("iscsi_initiator")) {
        targets::iscsi_initiator(&input);
    }
}
