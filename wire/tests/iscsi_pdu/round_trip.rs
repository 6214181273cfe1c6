//! iSCSI PDUs: every one comes back as it was written, and whatever bytes decode to, encodes to the same.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::iscsi::pdu::{
    AHS_BYTES_MAX, AsyncMessage, BHS_BYTES, CDB_BYTES_MAX, Cdb, CommandRequest, CommandResponse, DataIn,
    DataOut, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, Lun, NopIn, NopOut, R2t, Reject,
    RejectReason, Request, Residual, Response, Segments, SnackRequest, TaskAttribute, TaskManagementRequest,
    TaskManagementResponse, TextRequest, TextResponse,
};

fn header(bytes: &[u8]) -> [u8; BHS_BYTES] {
    bytes[..BHS_BYTES].try_into().expect("a header")
}

fn encoded(request: &Request, data_bytes: usize) -> Vec<u8> {
    let mut out = vec![0xee; 3];
    request.encode(data_bytes, &mut out);
    assert_eq!(out[..3], [0xee; 3], "what was there stays");
    out.split_off(3)
}

fn numbers<const N: usize>() -> impl Strategy<Value = [u32; N]> {
    any::<[u32; N]>()
}

fn lun() -> impl Strategy<Value = Lun> {
    any::<u64>().prop_map(Lun)
}

fn attribute() -> impl Strategy<Value = TaskAttribute> {
    use TaskAttribute::*;
    prop_oneof![Just(Untagged), Just(Simple), Just(Ordered), Just(HeadOfQueue), Just(Aca)]
}

fn cdb() -> impl Strategy<Value = Cdb> {
    prop_oneof![vec(any::<u8>(), 0..=16), vec(any::<u8>(), 17..=CDB_BYTES_MAX)]
        .prop_map(|bytes| Cdb::new(&bytes))
}

fn command() -> impl Strategy<Value = Request> {
    let flags = any::<[bool; 4]>();
    (flags, attribute(), lun(), numbers(), cdb(), any::<Option<u32>>()).prop_map(
        |([immediate, is_final, read, write], attribute, lun, numbers, cdb, read_data_transfer_length)| {
            let [initiator_task_tag, expected_data_transfer_length, cmd_sn, exp_stat_sn] = numbers;
            Request::Command(CommandRequest {
                immediate,
                is_final,
                read,
                write,
                attribute,
                lun,
                initiator_task_tag,
                expected_data_transfer_length,
                cmd_sn,
                exp_stat_sn,
                cdb,
                read_data_transfer_length,
            })
        },
    )
}

fn login_request() -> impl Strategy<Value = Request> {
    (any::<[bool; 2]>(), 0..4_u8, 0..4_u8, any::<[u8; 8]>(), any::<[u16; 2]>(), numbers()).prop_map(
        |([transit, continues], current_stage, next_stage, bytes, [tsih, cid], numbers)| {
            let [version_max, version_min, isid @ ..] = bytes;
            let [initiator_task_tag, cmd_sn, exp_stat_sn] = numbers;
            Request::Login(LoginRequest {
                transit,
                continues,
                current_stage,
                next_stage,
                version_max,
                version_min,
                isid,
                tsih,
                initiator_task_tag,
                cid,
                cmd_sn,
                exp_stat_sn,
            })
        },
    )
}

fn small_request() -> impl Strategy<Value = Request> {
    let parts = (0..6_u8, any::<[bool; 3]>(), any::<u8>(), lun(), any::<u16>(), numbers());
    parts.prop_map(
        |(kind, [immediate, is_final, continues], byte, lun, cid, [a, b, c, d, e, f])| match kind {
            0 => Request::NopOut(NopOut {
                immediate,
                lun,
                initiator_task_tag: a,
                target_transfer_tag: b,
                cmd_sn: c,
                exp_stat_sn: d,
            }),
            1 => Request::TaskManagement(TaskManagementRequest {
                immediate,
                function: byte & 0x7f,
                lun,
                initiator_task_tag: a,
                referenced_task_tag: b,
                cmd_sn: c,
                exp_stat_sn: d,
                ref_cmd_sn: e,
                exp_data_sn: f,
            }),
            2 => Request::Text(TextRequest {
                immediate,
                is_final,
                continues,
                lun,
                initiator_task_tag: a,
                target_transfer_tag: b,
                cmd_sn: c,
                exp_stat_sn: d,
            }),
            3 => Request::DataOut(DataOut {
                is_final,
                lun,
                initiator_task_tag: a,
                target_transfer_tag: b,
                exp_stat_sn: c,
                data_sn: d,
                buffer_offset: e,
            }),
            4 => Request::Logout(LogoutRequest {
                immediate,
                reason: byte & 0x7f,
                initiator_task_tag: a,
                cid,
                cmd_sn: b,
                exp_stat_sn: c,
            }),
            _ => Request::Snack(SnackRequest {
                kind: byte & 0x0f,
                lun,
                initiator_task_tag: a,
                target_transfer_tag: b,
                exp_stat_sn: c,
                begin_run: d,
                run_length: e,
            }),
        },
    )
}

fn residual() -> impl Strategy<Value = Residual> {
    use Residual::*;
    prop_oneof![Just(None), any::<u32>().prop_map(Overflow), any::<u32>().prop_map(Underflow)]
}

fn response() -> impl Strategy<Value = Response> {
    let parts = (
        0..10_u8,
        any::<[bool; 2]>(),
        any::<[u8; 8]>(),
        any::<[u16; 3]>(),
        lun(),
        numbers::<9>(),
        residual(),
    );
    parts.prop_map(|(kind, [first, second], bytes, words, lun, numbers, residual)| {
        let [initiator_task_tag, target_transfer_tag, stat_sn, exp_cmd_sn, max_cmd_sn, ..] = numbers;
        let [.., x, y, z, _] = numbers;
        match kind {
            0 => Response::NopIn(NopIn {
                lun,
                initiator_task_tag,
                target_transfer_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
            }),
            1 => Response::Command(CommandResponse {
                response: bytes[0],
                status: bytes[1],
                residual,
                initiator_task_tag,
                snack_tag: target_transfer_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                exp_data_sn: x,
            }),
            2 => Response::TaskManagement(TaskManagementResponse {
                response: bytes[0],
                initiator_task_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
            }),
            3 => Response::Login(LoginResponse {
                transit: first,
                continues: second,
                current_stage: bytes[0] & 3,
                next_stage: bytes[0] >> 2 & 3,
                version_max: bytes[1],
                version_active: bytes[2],
                isid: bytes[2..8].try_into().expect("six bytes"),
                tsih: words[0],
                initiator_task_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                status_class: bytes[3],
                status_detail: bytes[4],
            }),
            4 => Response::Text(TextResponse {
                is_final: first,
                continues: second,
                lun,
                initiator_task_tag,
                target_transfer_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
            }),
            5 => Response::DataIn(DataIn {
                is_final: first,
                acknowledge: second,
                status: (bytes[0] & 1 == 0).then_some(bytes[1]),
                residual,
                lun,
                initiator_task_tag,
                target_transfer_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                data_sn: x,
                buffer_offset: y,
            }),
            6 => Response::Logout(LogoutResponse {
                response: bytes[0],
                initiator_task_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                time2wait: words[0],
                time2retain: words[1],
            }),
            7 => Response::Async(AsyncMessage {
                lun,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                event: bytes[0],
                vendor_code: bytes[1],
                parameters: words,
            }),
            8 => Response::R2t(R2t {
                lun,
                initiator_task_tag,
                target_transfer_tag,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                r2t_sn: x,
                buffer_offset: y,
                desired_data_transfer_length: z,
            }),
            _ => Response::Reject(Reject {
                reason: RejectReason::ProtocolError,
                stat_sn,
                exp_cmd_sn,
                max_cmd_sn,
                data_sn_or_r2t_sn: x,
            }),
        }
    })
}

proptest! {
    #[test]
    fn requests_come_back(
        request in prop_oneof![command(), login_request(), small_request()],
        data_bytes in 0_usize..1 << 24,
    ) {
        let bytes = encoded(&request, data_bytes);
        let segments = Segments::of(&header(&bytes));
        prop_assert_eq!(segments.data_bytes, data_bytes);
        prop_assert_eq!(segments.ahs_bytes, bytes.len() - BHS_BYTES);
        prop_assert!((data_bytes + segments.padding()).is_multiple_of(4) && segments.padding() < 4);
        prop_assert_eq!(Request::decode(&header(&bytes), &bytes[BHS_BYTES..]), Ok(request));
    }

    #[test]
    fn responses_come_back(response in response(), data_bytes in 0_usize..1 << 24) {
        let mut bytes = Vec::new();
        response.encode(data_bytes, &mut bytes);
        prop_assert_eq!(bytes.len(), BHS_BYTES);
        prop_assert_eq!(Segments::of(&header(&bytes)), Segments { ahs_bytes: 0, data_bytes });
        prop_assert_eq!(Response::decode(&header(&bytes), &[]), Ok(response));
    }

    #[test]
    fn any_header_decodes_to_what_it_says_or_is_refused(
        bhs in any::<[u8; BHS_BYTES]>().no_shrink(),
        ahs in vec(any::<u8>(), 0..AHS_BYTES_MAX / 4).prop_map(|words| words.repeat(4)),
    ) {
        if let Ok(request) = Request::decode(&bhs, &ahs) {
            let bytes = encoded(&request, 0);
            prop_assert_eq!(Request::decode(&header(&bytes), &bytes[BHS_BYTES..]), Ok(request));
        }
        if let Ok(response) = Response::decode(&bhs, &[]) {
            let mut bytes = Vec::new();
            response.encode(0, &mut bytes);
            prop_assert_eq!(Response::decode(&header(&bytes), &[]), Ok(response));
        }
    }

    #[test]
    fn additional_headers_withstand_anything(ahs in vec(any::<u8>(), 0..300), lengths in vec(0_u16..40, 0..8)) {
        let mut bhs = [0; BHS_BYTES];
        bhs[0] = 1;
        let _ = Request::decode(&bhs, &ahs);
        let built: Vec<u8> = lengths.iter().zip(1..).flat_map(|(length, kind)| {
            let padded = (3 + usize::from(*length)).next_multiple_of(4);
            let mut one = vec![0, *length as u8, kind % 3];
            one.resize(padded, 7);
            one
        }).collect();
        let _ = Request::decode(&bhs, &built);
    }
}
