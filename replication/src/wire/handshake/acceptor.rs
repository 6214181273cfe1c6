//! The half of who was dialed.
//!
//! ```text
//! Greeting ─▶ answered ─▶ Attach ─▶ proved ─▶ Wanted ─┬─ accept ─▶ Linked
//!                                                     └─ refuse
//! ```
//! Its one rule: between `Wanted` and the caller's answer it takes no bytes, so it may move to another core.

use super::dialer::{is_proven, refused, send_proven, tell};
use super::packet::{self, Accepted, Greeting, Intake, Kind, Packet};
use super::proof::{Role, Transcript};
use super::reason::{HandshakeError, Reason};
use super::{Linked, Local, Nonce, Terms, VolumeFacts};
use crate::id::{NodeId, ReplicaId};

/// What comes next. In every case what is in `out` is to be sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptStep {
    /// Call again with more.
    More,
    /// Look the volume up, go to its core, and call `accept` or `refuse`.
    Wanted(Wanted),
    /// Hang up.
    Failed(HandshakeError),
}

/// Who has come, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The volume's name.
    pub volume: String,
    /// The node's name.
    pub name: String,
    /// The node's UUID.
    pub node: NodeId,
    /// Which replica it says that it is.
    pub replica: ReplicaId,
}

/// The half of who was dialed.
#[derive(Debug)]
pub struct Acceptor {
    local: Local,
    nonce: Nonce,
    intake: Intake,
    transcript: Transcript,
    met: Option<(Greeting, Terms)>,
    wanted: Option<VolumeFacts>,
}

impl Acceptor {
    /// Waits for the dialer to speak.
    pub fn new(local: Local, nonce: Nonce) -> Acceptor {
        let (intake, transcript) = (Intake::default(), Transcript::default());
        Acceptor { local, nonce, intake, transcript, met: None, wanted: None }
    }

    /// Takes what the dialer has sent: how many bytes of it, and what comes next.
    pub fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, AcceptStep) {
        assert!(self.wanted.is_none(), "after `Wanted` comes `accept` or `refuse`");
        let mut taken = 0;
        loop {
            let step = match self.intake.take(&bytes[taken..]) {
                Err(error) => Err(error),
                Ok((more, None)) => return (taken + more, AcceptStep::More),
                Ok((more, Some(packet))) => {
                    taken += more;
                    self.hear(&packet, out)
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(wanted)) => return (taken, AcceptStep::Wanted(wanted)),
                Err(error) => {
                    tell(&error, out);
                    return (taken, AcceptStep::Failed(error));
                }
            }
        }
    }

    fn hear(&mut self, packet: &Packet, out: &mut Vec<u8>) -> Result<Option<Wanted>, HandshakeError> {
        match (packet.kind, &self.met) {
            (Kind::Refused, _) => Err(refused(packet)?),
            (Kind::Greeting, None) => self.greet(packet, out).map(|()| None),
            (Kind::Attach, Some(_)) => self.attach(packet).map(Some),
            _ => Err(HandshakeError::Malformed("a packet came out of order")),
        }
    }

    fn greet(&mut self, packet: &Packet, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let greeting = packet.greeting()?;
        let terms = self.local.meet(&greeting).map_err(HandshakeError::Refuses)?;
        let answer = packet::encode(Kind::Greeting, &self.local.greeting(self.nonce));
        self.transcript.add(packet.bytes());
        self.transcript.add(&answer);
        out.extend_from_slice(&answer);
        self.met = Some((greeting, terms));
        Ok(())
    }

    fn attach(&mut self, packet: &Packet) -> Result<Wanted, HandshakeError> {
        let (greeting, _) = self.met.as_ref().expect("it has greeted");
        if !is_proven(&self.local.auth, Role::Dialer, &mut self.transcript, packet)? {
            let (one, other) = (self.local.name.clone(), greeting.name.clone());
            return Err(HandshakeError::Refuses(Reason::OtherKey { one, other }));
        }
        let facts = packet.attach()?;
        let (volume, replica) = (facts.volume.clone(), facts.own);
        self.wanted = Some(facts);
        Ok(Wanted { volume, name: greeting.name.clone(), node: greeting.node, replica })
    }

    /// Lets the dialer in, if it means the same volume as we. `known` is the UUID of the node of this name that is
    /// linked to us already, if one is. `Err`: send what is in `out`, then hang up.
    pub fn accept(
        self,
        facts: &VolumeFacts,
        known: Option<NodeId>,
        out: &mut Vec<u8>,
    ) -> Result<Linked, HandshakeError> {
        let (greeting, _) = self.met.as_ref().expect("it has greeted");
        let its = self.wanted.as_ref().expect("`accept` answers `Wanted`");
        match disagreement(&self.local.name, facts, greeting, its, known) {
            Some(reason) => Err(self.refuse(reason, out)),
            None => Ok(self.welcome(facts.own, out)),
        }
    }

    /// Turns the dialer away.
    pub fn refuse(self, reason: Reason, out: &mut Vec<u8>) -> HandshakeError {
        let error = HandshakeError::Refuses(reason);
        tell(&error, out);
        error
    }

    fn welcome(mut self, own: ReplicaId, out: &mut Vec<u8>) -> Linked {
        let accepted = packet::encode_unproven(Kind::Accepted, &Accepted { own });
        send_proven(&self.local.auth, Role::Acceptor, &mut self.transcript, accepted, out);
        let (greeting, Terms { version, features }) = self.met.expect("it has greeted");
        let peer = self.wanted.expect("`accept` answers `Wanted`").own;
        Linked { version, features, peer, name: greeting.name, node: greeting.node }
    }
}

/// Why the two do not mean the same, if they do not.
fn disagreement(
    own_name: &str,
    facts: &VolumeFacts,
    peer: &Greeting,
    its: &VolumeFacts,
    known: Option<NodeId>,
) -> Option<Reason> {
    let (volume, one, other) = (facts.volume.clone(), own_name.to_owned(), peer.name.clone());
    if known.is_some_and(|known| known != peer.node) {
        return Some(Reason::NameTaken { name: other });
    }
    if !facts.replicas.contains(&peer.name) {
        return Some(Reason::NotAReplica { node: other, volume });
    }
    if facts.replicas != its.replicas {
        let (one, other) = (facts.replicas.clone(), its.replicas.clone());
        return Some(Reason::OtherReplicas { volume, one, other });
    }
    if its.replicas[its.own.index()] != peer.name || its.own == facts.own {
        return Some(Reason::NotAReplica { node: other, volume });
    }
    if facts.size_bytes != its.size_bytes {
        let (size, its) = (facts.size_bytes, its.size_bytes);
        return Some(Reason::OtherSize { volume, one, size, other, its });
    }
    if facts.region_bytes != its.region_bytes {
        let (size, its) = (facts.region_bytes, its.region_bytes);
        return Some(Reason::OtherRegions { volume, one, size, other, its });
    }
    None
}
