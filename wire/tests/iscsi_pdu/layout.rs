//! iSCSI PDUs: every field lies where RFC 7143 has it, and what cannot be is refused.

use wire::iscsi::pdu::{
    BHS_BYTES, Cdb, CommandRequest, DataIn, LoginResponse, Lun, NO_TAG, RejectReason, Request, Residual,
    Response, TaskAttribute,
};

fn encoded(request: &Request, data_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(data_bytes, &mut out);
    out
}

fn command_of(cdb: &[u8]) -> CommandRequest {
    CommandRequest {
        immediate: true,
        is_final: true,
        read: false,
        write: true,
        attribute: TaskAttribute::Ordered,
        lun: Lun::from_number(5),
        initiator_task_tag: 0x0102_0304,
        expected_data_transfer_length: 0x1000,
        cmd_sn: 0x1122_3344,
        exp_stat_sn: 0x5566_7788,
        cdb: Cdb::new(cdb),
        read_data_transfer_length: None,
    }
}

#[test]
fn scsi_command_lies_as_the_standard_draws_it() {
    let bytes = encoded(&Request::Command(command_of(&[0x2a, 1, 2, 3, 4, 5, 6, 7, 8, 9])), 0x012345);
    let expected = [
        &[0x41, 0xa2, 0, 0, 0, 0x01, 0x23, 0x45, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0x10, 0][..],
        &[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x2a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn long_cdb_goes_into_an_additional_header() {
    let cdb: Vec<u8> = (0..18).collect();
    let bytes = encoded(&Request::Command(command_of(&cdb)), 0);
    assert_eq!(bytes[4], 2, "TotalAHSLength counts words");
    assert_eq!(bytes[BHS_BYTES..], [0, 3, 1, 0, 16, 17, 0, 0], "AHSLength counts from the reserved byte on");
}

#[test]
fn bidirectional_length_goes_into_an_additional_header() {
    let request =
        CommandRequest { read: true, read_data_transfer_length: Some(0x0a0b), ..command_of(&[0x5e]) };
    assert_eq!(encoded(&Request::Command(request), 0)[BHS_BYTES..], [0, 5, 2, 0, 0, 0, 0x0a, 0x0b]);
}

#[test]
fn malformed_additional_headers_are_refused() {
    let mut bhs = [0; BHS_BYTES];
    bhs[0] = 1;
    let too_long = [&[1, 0x00, 1, 0][..], &[0; 256]].concat();
    let cases: [&[u8]; 8] = [
        &[0, 0, 1, 0],                               // no reserved byte
        &[0, 1, 1, 0],                               // an extended CDB of no bytes
        &[0, 200, 1, 0],                             // beyond the end
        &[0, 5, 9, 0, 0, 0, 0, 0],                   // a type that no one defined
        &[0, 4, 2, 0, 0, 0, 0, 0],                   // a length of three bytes
        &[0, 2, 1, 0, 7, 0, 0, 0, 0, 2, 1, 0, 7, 0], // twice, and cut
        &[0, 5, 2, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 1],
        &too_long,
    ];
    for ahs in cases {
        assert_eq!(Request::decode(&bhs, ahs), Err(RejectReason::InvalidPduField), "{ahs:?}");
    }
}

#[test]
fn reserved_attributes_are_refused() {
    for attribute in 5..8 {
        let mut bhs = [0; BHS_BYTES];
        bhs[..2].copy_from_slice(&[1, 0x80 | attribute]);
        assert_eq!(Request::decode(&bhs, &[]), Err(RejectReason::InvalidPduField));
    }
}

#[test]
fn opcodes_of_the_other_side_are_not_supported() {
    for opcode in [0x07, 0x1c, 0x1e, 0x20, 0x21, 0x3f] {
        let mut bhs = [0; BHS_BYTES];
        bhs[0] = opcode;
        assert_eq!(Request::decode(&bhs, &[]), Err(RejectReason::CommandNotSupported));
    }
    assert_eq!(Response::decode(&[0; BHS_BYTES], &[]), Err(RejectReason::CommandNotSupported));
}

#[test]
fn data_in_with_status_lies_as_the_standard_draws_it() {
    let pdu = DataIn {
        is_final: true,
        status: Some(0x18),
        residual: Residual::Underflow(9),
        initiator_task_tag: 0x0a,
        target_transfer_tag: NO_TAG,
        stat_sn: 1,
        exp_cmd_sn: 2,
        max_cmd_sn: 3,
        data_sn: 4,
        buffer_offset: 5,
        ..DataIn::default()
    };
    let mut bytes = Vec::new();
    Response::DataIn(pdu).encode(512, &mut bytes);
    let expected = [
        &[0x25, 0x83, 0, 0x18, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0xff, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 9],
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn login_response_lies_as_the_standard_draws_it() {
    let pdu = LoginResponse {
        transit: true,
        current_stage: 1,
        next_stage: 3,
        isid: [1, 2, 3, 4, 5, 6],
        tsih: 0x0708,
        initiator_task_tag: 9,
        stat_sn: 10,
        exp_cmd_sn: 11,
        max_cmd_sn: 12,
        status_class: 2,
        status_detail: 7,
        ..LoginResponse::default()
    };
    let mut bytes = Vec::new();
    Response::Login(pdu).encode(0, &mut bytes);
    let expected = [
        &[0x23, 0x87, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0, 0][..],
        &[0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0, 12, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn contradictory_residuals_are_refused() {
    let mut bhs = [0; BHS_BYTES];
    bhs[..2].copy_from_slice(&[0x25, 0x86]);
    assert_eq!(Response::decode(&bhs, &[]), Err(RejectReason::InvalidPduField));
}

#[test]
fn unknown_reject_reasons_are_refused() {
    let mut bhs = [0; BHS_BYTES];
    bhs[..3].copy_from_slice(&[0x3f, 0x80, 1]);
    assert_eq!(Response::decode(&bhs, &[]), Err(RejectReason::InvalidPduField));
}

#[test]
fn luns_have_a_number_on_one_level_only() {
    for number in [0, 1, 255, 256, 0x3fff] {
        assert_eq!(Lun::from_number(number).number(), Some(number));
    }
    assert_eq!(Lun::from_number(255).0, 0x00ff << 48);
    assert_eq!(Lun::from_number(256).0, 0x4100 << 48);
    assert_eq!(Lun(0x4001 << 48).number(), Some(1), "flat space for a small number");
    assert_eq!(Lun(0x0101 << 48).number(), None, "another bus");
    assert_eq!(Lun(0xc101 << 48).number(), None, "a well-known unit");
    assert_eq!(Lun(0x0001_0000_0000_0001).number(), None, "a second level");
}

#[test]
fn cdbs_are_at_least_sixteen_bytes() {
    assert_eq!(Cdb::new(&[0x12]).len(), 16);
    assert_eq!(Cdb::new(&[7; 17]).len(), 17);
    assert_eq!(format!("{:?}", Cdb::new(&[0x12, 0xab])), format!("Cdb(12ab{})", "00".repeat(14)));
}
