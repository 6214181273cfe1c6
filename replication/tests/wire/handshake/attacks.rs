//! Recorded, reflected, damaged, endless, out of order: what is no handshake of a peer.

use replication::wire::handshake::{
    AcceptStep, Acceptor, Auth, DialStep, HandshakeError, PACKET_BYTES_MAX, Reason,
};

use super::{dial, facts, key, local, wanted};

#[test]
fn a_recorded_dialer_does_not_get_in_again() {
    let (_, _, _, recorded) = wanted(1);
    let mut acceptor = Acceptor::new(local("a", key(1)), [3; 32]);
    let mut out = Vec::new();
    assert_eq!(acceptor.step(&recorded[0], &mut out).1, AcceptStep::More);
    let step = acceptor.step(&recorded[2], &mut out).1;
    assert!(matches!(step, AcceptStep::Failed(HandshakeError::Refuses(Reason::OtherKey { .. }))));
}

#[test]
fn a_recorded_acceptor_is_not_believed_again() {
    let (_, acceptor, _, recorded) = wanted(1);
    let mut accepted = Vec::new();
    acceptor.accept(&facts(0), None, &mut accepted).expect("linked");
    let mut out = Vec::new();
    let mut dialer = dial(local("b", key(1)), facts(1), 9, &mut out);
    assert_eq!(dialer.step(&recorded[1], &mut out).1, DialStep::More);
    let step = dialer.step(&accepted, &mut out).1;
    assert!(matches!(step, DialStep::Failed(HandshakeError::Refuses(Reason::OtherKey { .. }))));
}

/// Whoever has no key sends a node's own packets back to it, in its own or in a second handshake.
#[test]
fn a_nodes_own_packets_prove_nothing_to_it() {
    let mut greeting = Vec::new();
    let mut dialer = dial(local("b", key(1)), facts(1), 1, &mut greeting);
    let step = dialer.step(&greeting, &mut Vec::new()).1;
    assert!(matches!(step, DialStep::Failed(HandshakeError::Refuses(Reason::Itself { .. }))));

    // The attacker poses as `a` with the true a's greeting, and gets b's proof; it gives it back as a's.
    let (mut dialer, _, _, packets) = wanted(1);
    let mut reflected = packets[2].clone();
    reflected[4] = 3;
    let step = dialer.step(&reflected, &mut Vec::new()).1;
    assert!(matches!(step, DialStep::Failed(_)), "{step:?}");
}

#[test]
fn a_flipped_bit_anywhere_ends_the_handshake() {
    let (_, _, _, packets) = wanted(1);
    for (number, packet) in [(0, &packets[0]), (2, &packets[2])] {
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut acceptor = Acceptor::new(local("a", key(1)), [2; 32]);
            let greeting = if number == 0 { &damaged } else { &packets[0] };
            let (mut out, mut dialer_out) = (Vec::new(), Vec::new());
            let step = acceptor.step(greeting, &mut out).1;
            if step != AcceptStep::More || out.is_empty() {
                continue;
            }
            let mut dialer = dial(local("b", key(1)), facts(1), 1, &mut Vec::new());
            let attach = if number == 0 && dialer.step(&out, &mut dialer_out).1 == DialStep::More {
                &dialer_out
            } else {
                &damaged
            };
            let step = acceptor.step(attach, &mut out).1;
            assert!(!matches!(step, AcceptStep::Wanted(_)), "bit {bit} of packet {number}");
        }
    }
}

#[test]
fn what_is_not_a_handshake_is_noticed_at_once() {
    let strange: [&[u8]; 4] =
        [b"G", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"RSF1............"];
    for bytes in strange {
        let step = Acceptor::new(local("a", key(1)), [2; 32]).step(bytes, &mut Vec::new()).1;
        assert!(matches!(step, AcceptStep::Failed(HandshakeError::Malformed(_))), "{bytes:?}");
    }
}

#[test]
fn a_packet_beyond_the_bound_is_refused_by_its_header() {
    let mut packet = b"RSH1\x01\x00\x00\x00".to_vec();
    packet.extend_from_slice(&(PACKET_BYTES_MAX as u32).to_le_bytes());
    let step = Acceptor::new(local("a", key(1)), [2; 32]).step(&packet, &mut Vec::new()).1;
    assert_eq!(step, AcceptStep::Failed(HandshakeError::Malformed("a packet is too long")));
}

#[test]
fn packets_out_of_order_end_the_handshake() {
    let (_, _, _, packets) = wanted(1);
    let mut acceptor = Acceptor::new(local("a", Auth::None), [2; 32]);
    let step = acceptor.step(&packets[2], &mut Vec::new()).1;
    assert_eq!(step, AcceptStep::Failed(HandshakeError::Malformed("a packet came out of order")));
    let mut acceptor = Acceptor::new(local("a", key(1)), [2; 32]);
    assert_eq!(acceptor.step(&packets[0], &mut Vec::new()).1, AcceptStep::More);
    let step = acceptor.step(&packets[0], &mut Vec::new()).1;
    assert_eq!(step, AcceptStep::Failed(HandshakeError::Malformed("a packet came out of order")));
}

#[test]
fn a_peers_words_are_made_harmless() {
    let mut text = b"\x1b[2J\nsecond line".to_vec();
    text.resize(8000, b'x');
    let mut body = 900_u16.to_le_bytes().to_vec();
    body.extend_from_slice(&(text.len() as u64).to_le_bytes());
    body.extend_from_slice(&text);
    let mut packet = b"RSH1\x04\x00\x00\x00".to_vec();
    packet.extend_from_slice(&(body.len() as u32).to_le_bytes());
    packet.extend_from_slice(&body);
    let mut dialer = dial(local("b", key(1)), facts(1), 1, &mut Vec::new());
    let DialStep::Failed(HandshakeError::Refused { code, text }) = dialer.step(&packet, &mut Vec::new()).1
    else {
        panic!("refused");
    };
    assert_eq!((code, text.len()), (900, 1024));
    assert!(text.starts_with("[2Jsecond line") && !text.chars().any(char::is_control));
}
