//! The loop around `wire::nbd::handshake::Negotiation`.

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::LazyLock;

use uuid::Uuid;
use wire::nbd::handshake::{
    Agreed, CloseReason, ExportInfo, ExportTable, LABEL_INCARNATION, LABEL_VOLUME, Negotiation, ServerPolicy,
    Step, TlsPolicy,
};
use wire::nbd::transmission::TransmissionFlags as Has;

use crate::channel::Channel;
use crate::fault::{Fault, Kind};
use crate::message::{Directory, DirectoryEntry};
use crate::serve_core::ServingCore;
use crate::settings::{Backing, TlsMode};

/// The longest READ or WRITE: what clients that never ask expect (NBD protocol, "Block sizes").
const PAYLOAD_BYTES_MAX: u32 = 32 << 20;
/// A client that has said goodbye is not listened to for ever.
const LAST_RECEIVES_MAX: usize = 4;

/// An agreement with a client.
pub struct Negotiated {
    /// The stream, TLS started where agreed.
    pub channel: Channel,
    /// What came behind the negotiation.
    pub leftover: Vec<u8>,
    /// What was agreed.
    pub agreed: Agreed,
    /// Where the volume is.
    pub entry: DirectoryEntry,
}

/// Negotiates with the client at the other end of `channel`; `None` when it had seen enough.
pub async fn negotiate(
    here: &Rc<ServingCore>,
    mut channel: Channel,
    address: Option<SocketAddr>,
) -> Result<Option<Negotiated>, Fault> {
    let directory = here.directory();
    let exports = here.export_table(address);
    let mut out = Vec::new();
    let mut negotiation = Negotiation::new(policy(&directory), &mut out);
    let mut input: Vec<u8> = Vec::new();
    loop {
        let (taken, step) = negotiation.step(&input, &exports, &mut out);
        input.drain(..taken);
        channel.send_bytes(&out).await?;
        out.clear();
        match step {
            Step::More if taken > 0 && !input.is_empty() => {}
            Step::More => match channel.receive(0).await? {
                Some(buffer) => input.extend_from_slice(buffer.bytes()),
                None => return Ok(None),
            },
            Step::StartTls => {
                let config =
                    directory.nbd.tls_server.as_ref().expect("TLS is offered only with certificates");
                refuse_early_bytes(&input)?;
                channel.start_tls(config).await?;
                negotiation.tls_established();
            }
            Step::Agreed(agreed) => {
                let entry =
                    directory.exports.get(&agreed.export.name).expect("the table was made of it").clone();
                return Ok(Some(Negotiated { channel, leftover: input, agreed: *agreed, entry }));
            }
            Step::Close(reason) if is_polite(&reason) => {
                linger(&channel).await;
                return Ok(None);
            }
            Step::Close(reason) => return Err(Fault::new(Kind::Protocol, format!("negotiation: {reason}"))),
        }
    }
}

/// The exports that a client at `address` may see.
pub fn export_table(directory: &Directory, address: Option<SocketAddr>) -> ExportTable {
    let entries = directory.exports.values();
    entries.filter(|entry| entry.admits(address.map(|address| address.ip()))).map(export_info).collect()
}

fn export_info(entry: &DirectoryEntry) -> ExportInfo {
    let writable = !entry.settings.read_only;
    // All clients of a volume are served by one core from one store: what one has written, the others read, and
    // the flush of one covers the writes of all.
    let always = Has::HAS_FLAGS | Has::SEND_FLUSH | Has::SEND_FUA | Has::SEND_CACHE | Has::CAN_MULTI_CONN;
    let flags = always
        .with(Has::READ_ONLY, !writable)
        .with(Has::SEND_TRIM, writable && entry.facts.can_discard)
        .with(Has::SEND_WRITE_ZEROES, writable)
        .with(Has::SEND_FAST_ZERO, writable);
    ExportInfo {
        name: entry.settings.name.clone(),
        description: entry.settings.description.clone(),
        size_bytes: entry.facts.size_bytes,
        flags,
        // Smaller writes are merged into their block here, one at a time.
        block_min: 1,
        block_preferred: entry.facts.preferred_bytes.clamp(512, PAYLOAD_BYTES_MAX),
        payload_max: PAYLOAD_BYTES_MAX,
        offers_allocation: true,
        labels: labels(entry),
    }
}

fn labels(entry: &DirectoryEntry) -> Vec<String> {
    let volume = entry.settings.uuid;
    let incarnation = match &entry.settings.mirror {
        None => Some(incarnation(entry)),
        // All its nodes say the same, and say it until acknowledged writes may be lost. A new copy does not know.
        Some(mirror) => {
            let era = Some(u128::from(mirror.era.get())).filter(|era| *era != 0);
            era.map(|era| Uuid::from_u128((era << 64 | era) ^ volume.as_u128()))
        }
    };
    let incarnation = incarnation.map(|incarnation| format!("{LABEL_INCARNATION}{incarnation}"));
    std::iter::once(format!("{LABEL_VOLUME}{volume}")).chain(incarnation).collect()
}

/// What the kernel has accepted, it loses only with its own life; what is in our memory, with ours.
fn incarnation(entry: &DirectoryEntry) -> Uuid {
    static PROCESS: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);
    static BOOT: LazyLock<Option<Uuid>> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        text.trim().parse().ok()
    });
    let in_memory = matches!(entry.settings.backing, Backing::Memory);
    let life = if in_memory { *PROCESS } else { BOOT.unwrap_or(*PROCESS) };
    // Mixed with the volume's own: neither the node's boot nor its process is told to clients.
    Uuid::from_u128(life.as_u128() ^ entry.settings.uuid.as_u128())
}

fn policy(directory: &Directory) -> ServerPolicy {
    let tls = match directory.nbd.tls {
        TlsMode::Off => TlsPolicy::Off,
        TlsMode::Allow => TlsPolicy::Allow,
        TlsMode::Require => TlsPolicy::Require,
    };
    ServerPolicy { tls, default_export: directory.nbd.default_export.clone(), ..ServerPolicy::default() }
}

/// What was sent in the clear behind STARTTLS would be taken for the client's own words under TLS, unless it is the
/// beginning of the TLS handshake, which a client may send at once only after our answer.
fn refuse_early_bytes(input: &[u8]) -> Result<(), Fault> {
    match input.is_empty() {
        true => Ok(()),
        false => Err(Fault::new(Kind::Protocol, "negotiation: bytes in the clear behind STARTTLS")),
    }
}

fn is_polite(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Abort)
}

/// Gives the client time to take our last answer: closing with bytes unread would reset the connection.
async fn linger(channel: &Channel) {
    channel.socket().shutdown(Shutdown::Write);
    for _ in 0..LAST_RECEIVES_MAX {
        match channel.receive(0).await {
            Ok(Some(_)) => {}
            _ => return,
        }
    }
}
