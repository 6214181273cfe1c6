//! Handshakes between nodes: never a panic, bounded answers, alike however the bytes are cut, and nobody gets in who
//! does not know the key.
//!
//! ```text
//! 1 choice: bit 0 dial, not accept; bit 1 a key     1 the length of pieces     what the peer sends
//! ```

use replication::id::{NodeId, ReplicaId};
use replication::wire::handshake::{
    AcceptStep, Acceptor, Auth, DialStep, Dialer, Features, Key, Linked, Local, PACKET_BYTES_MAX, Versions,
    VolumeFacts,
};

/// What we say, how it ends, and how many bytes were taken.
type Course = (Vec<u8>, Option<Result<Linked, String>>, usize);

/// The input as what one peer sends.
pub fn mirror_handshake(data: &[u8]) {
    let Some((&[choice, cut], bytes)) = data.split_first_chunk() else { return };
    let (dials, has_key) = (choice & 1 != 0, choice & 2 != 0);
    let run =
        |cut_bytes| if dials { dial(has_key, bytes, cut_bytes) } else { accept(has_key, bytes, cut_bytes) };
    let whole = run(usize::MAX);
    assert_eq!(run(usize::from(cut) + 1), whole);
    assert!(whole.0.len() <= 3 * PACKET_BYTES_MAX);
    assert!(!has_key || !matches!(whole.1, Some(Ok(_))), "the key is nowhere in the input");
}

fn local(name: &str, has_key: bool) -> Local {
    let key = Key::new([0xA7; 32]).expect("long enough");
    Local {
        name: name.to_owned(),
        node: NodeId([name.as_bytes()[0]; 16]),
        versions: Versions::OURS,
        features: Features { offered: 0b11, required: 0b01 },
        auth: if has_key { Auth::Key(key) } else { Auth::None },
    }
}

fn facts(own: u8) -> VolumeFacts {
    VolumeFacts {
        volume: "db".to_owned(),
        replicas: vec!["a".to_owned(), "b".to_owned()],
        own: ReplicaId(own),
        size_bytes: 1 << 30,
        region_bytes: 64 << 10,
    }
}

fn accept(has_key: bool, bytes: &[u8], cut_bytes: usize) -> Course {
    let (mut said, mut taken) = (Vec::new(), 0);
    let mut acceptor = Acceptor::new(local("a", has_key), [2; 32]);
    while taken < bytes.len() {
        let end = taken.saturating_add(cut_bytes).min(bytes.len());
        let (more, step) = acceptor.step(&bytes[taken..end], &mut said);
        taken += more;
        match step {
            AcceptStep::More => assert_eq!(taken, end),
            AcceptStep::Failed(error) => {
                return (said, Some(Err(error.to_string())), taken_until(error, taken));
            }
            AcceptStep::Wanted(_) => {
                let result = acceptor.accept(&facts(0), None, &mut said).map_err(|error| error.to_string());
                return (said, Some(result), taken);
            }
        }
    }
    (said, None, taken)
}

fn dial(has_key: bool, bytes: &[u8], cut_bytes: usize) -> Course {
    let (mut said, mut taken) = (Vec::new(), 0);
    let mut dialer = Dialer::new(local("b", has_key), facts(1), ReplicaId(0), [1; 32], &mut said);
    while taken < bytes.len() {
        let end = taken.saturating_add(cut_bytes).min(bytes.len());
        let (more, step) = dialer.step(&bytes[taken..end], &mut said);
        taken += more;
        match step {
            DialStep::More => assert_eq!(taken, end),
            DialStep::Failed(error) => {
                return (said, Some(Err(error.to_string())), taken_until(error, taken));
            }
            DialStep::Linked(linked) => return (said, Some(Ok(linked)), taken),
        }
    }
    (said, None, taken)
}

/// Nobody counts how much of a damaged handshake was taken.
fn taken_until(error: replication::wire::handshake::HandshakeError, taken: usize) -> usize {
    match error {
        replication::wire::handshake::HandshakeError::Malformed(_) => 0,
        _ => taken,
    }
}
