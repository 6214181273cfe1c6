//! The servers of an attachment: dialed all at once, and compared, because one device is to stand for all of them.
//!
//! Its one rule: a server that cannot be reached is passed over; one that answers anything but the same export ends
//! the attachment before the kernel knows of it.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use uuid::Uuid;
use wire::nbd::transmission::TransmissionFlags;

use crate::client::{ConnectOptions, KernelSocket, dial_kernel_socket};
use crate::error::{Error, Kind};
use crate::export::Export;
use crate::runtime;
use crate::uri::{Address, Endpoint};

/// What the kernel's driver can use of what a server offers.
const USED: TransmissionFlags = TransmissionFlags::from_bits(
    TransmissionFlags::HAS_FLAGS.bits()
        | TransmissionFlags::READ_ONLY.bits()
        | TransmissionFlags::SEND_FLUSH.bits()
        | TransmissionFlags::SEND_FUA.bits()
        | TransmissionFlags::ROTATIONAL.bits()
        | TransmissionFlags::SEND_TRIM.bits()
        | TransmissionFlags::SEND_WRITE_ZEROES.bits()
        | TransmissionFlags::CAN_MULTI_CONN.bits(),
);

/// An export as all of its servers describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// Its size.
    pub size_bytes: u64,
    /// The volume's identity, where the servers tell one.
    pub uuid: Option<Uuid>,
    /// What all of them offer.
    #[serde(with = "flag_bits")]
    pub flags: TransmissionFlags,
    /// The largest of their smallest blocks.
    pub block_min: u32,
    /// The least of their longest reads and writes.
    pub payload_max: u32,
}

impl Common {
    /// As one server describes it.
    pub(crate) fn of(export: &Export) -> Common {
        Common {
            size_bytes: export.size_bytes,
            uuid: export.uuid,
            flags: TransmissionFlags::from_bits(export.flags.bits() & USED.bits()),
            block_min: export.block_sizes.min,
            payload_max: export.block_sizes.payload_max,
        }
    }

    /// What holds for `other` too; an error if it is another export.
    pub(crate) fn joined(&self, other: &Common, host: &Endpoint) -> Result<Common, Error> {
        self.difference(other).map_or(Ok(()), |how| Err(differs(host, how)))?;
        Ok(Common {
            flags: TransmissionFlags::from_bits(self.flags.bits() & other.flags.bits()),
            block_min: self.block_min.max(other.block_min),
            payload_max: self.payload_max.min(other.payload_max),
            ..self.clone()
        })
    }

    /// Whether `export` may stand for this one in a device that is in use.
    pub(super) fn admits(&self, export: &Export, host: &Endpoint) -> Result<(), Error> {
        let other = Common::of(export);
        self.difference(&other).map_or(Ok(()), |how| Err(changed(host, how)))?;
        if !other.flags.contains(self.flags.without(TransmissionFlags::ROTATIONAL)) {
            return Err(changed(host, "offers less than when it was attached".to_owned()));
        }
        if other.block_min > self.block_min || other.payload_max < self.payload_max {
            return Err(changed(host, "wants other block sizes than when it was attached".to_owned()));
        }
        Ok(())
    }

    /// What makes `other` another export.
    fn difference(&self, other: &Common) -> Option<String> {
        if self.size_bytes != other.size_bytes {
            return Some(format!("has {} bytes, and {} were expected", other.size_bytes, self.size_bytes));
        }
        if self.uuid != other.uuid {
            let name = |uuid: Option<Uuid>| uuid.map_or("unnamed".to_owned(), |uuid| uuid.to_string());
            return Some(format!("is volume {}, and {} was expected", name(other.uuid), name(self.uuid)));
        }
        let read_only = |flags: TransmissionFlags| flags.contains(TransmissionFlags::READ_ONLY);
        (read_only(self.flags) != read_only(other.flags)).then(|| {
            let mode = if read_only(other.flags) { "read-only" } else { "writable" };
            format!("is {mode}, unlike the others")
        })
    }
}

/// Of several hosts one is not like the first.
pub(crate) fn differs(host: &Endpoint, how: String) -> Error {
    Error::new(Kind::Changed, format!("{host}: export {:?} {how}", host.export))
        .remedy("see that all hosts serve the same volume, or name only those that do")
}

fn changed(host: &Endpoint, how: String) -> Error {
    Error::new(Kind::Changed, format!("{host}: export {:?} {how}", host.export))
        .remedy("detach, see that all hosts serve the same volume, and attach again")
}

/// What came of dialing them all.
#[derive(Debug)]
pub(super) struct Roster {
    pub common: Common,
    /// Of each server as many as wished, or none.
    pub sockets: Vec<Vec<KernelSocket>>,
    /// Why those without sockets have none.
    pub absent: Vec<Error>,
}

/// Connects `each` times to every server, to all at once.
pub(super) fn dial_all(endpoints: &[Endpoint], each: usize, patience: Duration) -> Result<Roster, Error> {
    let outcomes: Vec<_> = thread::scope(|scope| {
        let dials: Vec<_> =
            endpoints.iter().map(|host| scope.spawn(move || dial(host, each, patience))).collect();
        dials.into_iter().map(|dial| dial.join().expect("a dial does not panic")).collect()
    });
    let mut roster = Roster { common: NOTHING, sockets: Vec::new(), absent: Vec::new() };
    let mut common: Option<Common> = None;
    for (host, outcome) in endpoints.iter().zip(outcomes) {
        let sockets = match outcome {
            Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::Lost) => {
                roster.absent.push(error);
                Vec::new()
            }
            sockets => sockets?,
        };
        for socket in &sockets {
            let this = Common::of(&socket.export);
            common = Some(common.map_or(Ok(this.clone()), |common| common.joined(&this, host))?);
        }
        roster.sockets.push(sockets);
    }
    match common {
        Some(common) => Ok(Roster { common, ..roster }),
        None => Err(nobody(roster.absent)),
    }
}

const NOTHING: Common =
    Common { size_bytes: 0, uuid: None, flags: TransmissionFlags::NONE, block_min: 1, payload_max: 0 };

/// Connects `count` times to one server.
pub(super) fn dial(host: &Endpoint, count: usize, patience: Duration) -> Result<Vec<KernelSocket>, Error> {
    let options = ConnectOptions { connect_timeout: patience, ..ConnectOptions::default() };
    let sockets = runtime::block_on(async {
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            sockets.push(dial_kernel_socket(host, &options).await?);
        }
        Ok::<_, Error>(sockets)
    })?;
    if matches!(host.address, Address::Tcp { .. }) {
        sockets.iter().for_each(|socket| keep_alive(&socket.socket));
    }
    Ok(sockets)
}

/// A host that vanishes without a word is noticed on an idle connection too; best effort.
fn keep_alive(socket: &impl AsFd) {
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
    let _ = SockRef::from(socket).set_tcp_keepalive(&probes.with_retries(3));
}

fn nobody(mut absent: Vec<Error>) -> Error {
    match absent.len() {
        1 => absent.remove(0),
        _ => {
            let causes: Vec<String> = absent.iter().map(Error::to_string).collect();
            Error::new(Kind::Unreachable, format!("no host answers: {}", causes.join(", ")))
        }
    }
}

/// Flags as their number.
mod flag_bits {
    use serde::{Deserialize, Deserializer, Serializer};
    use wire::nbd::transmission::TransmissionFlags;

    pub(super) fn serialize<S: Serializer>(flags: &TransmissionFlags, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(flags.bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TransmissionFlags, D::Error> {
        u16::deserialize(from).map(TransmissionFlags::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Endpoint {
        let address = Address::Tcp { host: "b".into(), port: 10809 };
        Endpoint { address, export: "db".into(), tls: None }
    }

    fn common() -> Common {
        let flags =
            TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH | TransmissionFlags::CAN_MULTI_CONN;
        Common {
            size_bytes: 1 << 20,
            uuid: Some(Uuid::from_u128(1)),
            flags,
            block_min: 1,
            payload_max: 1 << 25,
        }
    }

    #[test]
    fn what_all_offer_is_the_least_of_them() {
        let less = Common {
            flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_TRIM,
            block_min: 4096,
            payload_max: 1 << 20,
            ..common()
        };
        let joined = common().joined(&less, &host()).expect("the same export");
        assert_eq!(joined, Common { flags: TransmissionFlags::HAS_FLAGS, ..less });
    }

    #[test]
    fn another_size_is_another_export() {
        let error = common().joined(&Common { size_bytes: 1, ..common() }, &host()).expect_err("refused");
        assert_eq!(error.kind(), Kind::Changed);
        assert!(error.to_string().contains("b:10809") && error.to_string().contains("1048576"), "{error}");
    }

    #[test]
    fn another_volume_or_one_without_identity_is_another_export() {
        for uuid in [Some(Uuid::from_u128(2)), None] {
            assert!(common().joined(&Common { uuid, ..common() }, &host()).is_err());
        }
        let unnamed = Common { uuid: None, ..common() };
        assert!(unnamed.joined(&unnamed, &host()).is_ok());
    }

    #[test]
    fn a_read_only_copy_does_not_stand_for_a_writable_one() {
        let flags = common().flags | TransmissionFlags::READ_ONLY;
        assert!(common().joined(&Common { flags, ..common() }, &host()).is_err());
    }
}
