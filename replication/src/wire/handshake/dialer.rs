//! The dialer's half of a handshake.
//!
//! Its one rule: it says nothing of volumes before it knows that the right node has answered.

use super::packet::{self, Greeting, Intake, Kind, Packet, Refused};
use super::proof::{Role, Transcript};
use super::reason::{HandshakeError, Reason};
use super::{Auth, Linked, Local, Nonce, Terms, VolumeFacts};
use crate::id::ReplicaId;

/// What comes next. In every case what is in `out` is to be sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialStep {
    /// Call again with more.
    More,
    /// The link is up; what was not taken belongs to frames.
    Linked(Linked),
    /// Hang up.
    Failed(HandshakeError),
}

/// The half of who has dialed.
#[derive(Debug)]
pub struct Dialer {
    local: Local,
    facts: VolumeFacts,
    peer: ReplicaId,
    intake: Intake,
    transcript: Transcript,
    met: Option<(Greeting, Terms)>,
}

impl Dialer {
    /// Begins, for the link to replica `peer` of this volume: the dialer speaks first.
    ///
    /// The facts have been checked: both replicas are in the list, and ours has this node's name.
    pub fn new(local: Local, facts: VolumeFacts, peer: ReplicaId, nonce: Nonce, out: &mut Vec<u8>) -> Dialer {
        assert!(peer != facts.own && peer.index() < facts.replicas.len(), "the peer is another replica");
        let greeting = packet::encode(Kind::Greeting, &local.greeting(nonce));
        let mut transcript = Transcript::default();
        transcript.add(&greeting);
        out.extend_from_slice(&greeting);
        Dialer { local, facts, peer, intake: Intake::default(), transcript, met: None }
    }

    /// Takes what the peer has sent: how many bytes of it, and what comes next.
    pub fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, DialStep) {
        let mut taken = 0;
        loop {
            let step = match self.intake.take(&bytes[taken..]) {
                Err(error) => Err(error),
                Ok((more, None)) => return (taken + more, DialStep::More),
                Ok((more, Some(packet))) => {
                    taken += more;
                    self.hear(&packet, out)
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(linked)) => return (taken, DialStep::Linked(linked)),
                Err(error) => {
                    tell(&error, out);
                    return (taken, DialStep::Failed(error));
                }
            }
        }
    }

    fn hear(&mut self, packet: &Packet, out: &mut Vec<u8>) -> Result<Option<Linked>, HandshakeError> {
        match (packet.kind, self.met.take()) {
            (Kind::Refused, _) => Err(refused(packet)?),
            (Kind::Greeting, None) => self.attach(packet, out).map(|()| None),
            (Kind::Accepted, Some((greeting, terms))) => self.linked(packet, greeting, terms).map(Some),
            _ => Err(HandshakeError::Malformed("a packet came out of order")),
        }
    }

    fn attach(&mut self, packet: &Packet, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let greeting = packet.greeting()?;
        let terms = self.local.meet(&greeting).map_err(HandshakeError::Refuses)?;
        let expected = &self.facts.replicas[self.peer.index()];
        if *expected != greeting.name {
            let (expected, found) = (expected.clone(), greeting.name);
            return Err(HandshakeError::Refuses(Reason::WrongName { expected, found }));
        }
        self.transcript.add(packet.bytes());
        let attach = packet::encode_unproven(Kind::Attach, &self.facts);
        send_proven(&self.local.auth, Role::Dialer, &mut self.transcript, attach, out);
        self.met = Some((greeting, terms));
        Ok(())
    }

    fn linked(&mut self, packet: &Packet, peer: Greeting, terms: Terms) -> Result<Linked, HandshakeError> {
        if !is_proven(&self.local.auth, Role::Acceptor, &mut self.transcript, packet)? {
            let (one, other) = (self.local.name.clone(), peer.name);
            return Err(HandshakeError::Refuses(Reason::OtherKey { one, other }));
        }
        if packet.accepted()?.own != self.peer {
            return Err(HandshakeError::Malformed("it says that it is another replica"));
        }
        let Terms { version, features } = terms;
        Ok(Linked { version, features, peer: self.peer, name: peer.name, node: peer.node })
    }
}

/// Sends a packet, with its proof if there is a key.
pub(super) fn send_proven(
    auth: &Auth,
    role: Role,
    transcript: &mut Transcript,
    mut packet: Vec<u8>,
    out: &mut Vec<u8>,
) {
    let (before, room) = packet.split_last_chunk_mut().expect("there is room for a proof");
    transcript.add(before);
    if let Auth::Key(key) = auth {
        *room = key.prove(role, transcript);
    }
    transcript.add(room);
    out.extend_from_slice(&packet);
}

/// Whether the proof at the end of a packet is right, as far as one is needed.
pub(super) fn is_proven(
    auth: &Auth,
    role: Role,
    transcript: &mut Transcript,
    packet: &Packet,
) -> Result<bool, HandshakeError> {
    let (before, proof) = packet.split_proof()?;
    transcript.add(before);
    let is_right = match auth {
        Auth::Key(key) => key.verify(role, transcript, proof),
        Auth::None | Auth::Tls { .. } => true,
    };
    transcript.add(proof);
    Ok(is_right)
}

pub(super) fn refused(packet: &Packet) -> Result<HandshakeError, HandshakeError> {
    let Refused { code, text } = packet.refused()?;
    Ok(HandshakeError::Refused { code, text })
}

/// Tells the peer why we hang up, if it is its fault and it would understand.
pub(super) fn tell(error: &HandshakeError, out: &mut Vec<u8>) {
    if let HandshakeError::Refuses(reason) = error {
        let refused = Refused { code: reason.code(), text: reason.to_string() };
        out.extend_from_slice(&packet::encode(Kind::Refused, &refused));
    }
}
