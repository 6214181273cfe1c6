//! From an endpoint to a negotiated connection: the loop around `wire::nbd::dial::Dial`.
//!
//! Its one rule: everything here together takes at most `connect_timeout`.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use uuid::Uuid;
use wire::nbd::dial::{Dial, DialError, DialOptions, DialStep, Dialed, Goal, ListedExport};
use wire::nbd::handshake::{
    BASE_ALLOCATION, LABEL_INCARNATION, LABEL_NAMESPACE, LABEL_VOLUME, OptionCode, ReplyCode,
};

use super::channel::Channel;
use super::{ConnectOptions, tls};
use crate::error::{Error, Kind};
use crate::export::{BlockSizes, Export};
use crate::runtime::{self, Stream};
use crate::uri::Endpoint;

/// A handshake's answers are short.
const RECEIVE_BYTES: usize = 16 << 10;
/// What a client may assume of a server that says nothing (NBD protocol, "Block sizes").
const BLOCK_SIZES_DEFAULT: BlockSizes = BlockSizes { min: 1, preferred: 4096, payload_max: 32 << 20 };

/// A connection at the beginning of transmission.
pub(super) struct Dialled {
    pub(super) channel: Channel,
    /// Bytes of the transmission phase that have come already.
    pub(super) leftover: Vec<u8>,
    pub(super) export: Export,
    /// The number of base:allocation in this session, if it was selected.
    pub(super) allocation_id: Option<u32>,
}

/// How a handshake ended well.
enum End {
    Agreed(Box<Dialed>),
    Described(Box<Dialed>),
    Listed(Vec<ListedExport>),
}

/// Connects for transmission.
pub(super) async fn dial(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Dialled, Error> {
    match negotiate(endpoint, options, Goal::Transmission).await? {
        (End::Agreed(dialed), channel, leftover) => {
            let allocation = dialed.contexts.iter().find(|context| context.name == BASE_ALLOCATION);
            let allocation_id = allocation.map(|context| context.id);
            Ok(Dialled { channel, leftover, allocation_id, export: export(endpoint, *dialed) })
        }
        _ => unreachable!("the handshake ends as its goal says"),
    }
}

/// What the server says of the export.
pub(super) async fn describe(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Export, Error> {
    match negotiate(endpoint, options, Goal::Describe).await? {
        (End::Described(dialed), channel, _) => {
            channel.finish().await;
            if dialed.size_bytes > 0 {
                return Ok(export(endpoint, *dialed));
            }
            // Some servers know the size only when an export is attached.
            let attached = dial(endpoint, options).await?;
            attached.channel.finish().await;
            Ok(attached.export)
        }
        _ => unreachable!("the handshake ends as its goal says"),
    }
}

/// The server's exports.
pub(super) async fn list(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Vec<ListedExport>, Error> {
    match negotiate(endpoint, options, Goal::List).await? {
        (End::Listed(exports), channel, _) => {
            channel.finish().await;
            Ok(exports)
        }
        _ => unreachable!("the handshake ends as its goal says"),
    }
}

async fn negotiate(
    endpoint: &Endpoint,
    options: &ConnectOptions,
    goal: Goal,
) -> Result<(End, Channel, Vec<u8>), Error> {
    let config = tls::config(endpoint)?;
    let patience = options.connect_timeout;
    let connected = runtime::timeout(patience, Stream::connect(&endpoint.address)).await;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {patience:?}"));
    let stream = connected.map_err(late).and_then(|result| result);
    let channel = Channel::new(stream.map_err(|error| unreachable(endpoint, error))?);
    let handshake = shake_hands(endpoint, channel, wishes(endpoint, options, goal), config);
    let ended = runtime::timeout(patience, handshake).await;
    ended.unwrap_or_else(|_| {
        let what = format!("the server {endpoint} did not finish the negotiation within {patience:?}");
        Err(Error::new(Kind::Unreachable, what))
    })
}

fn wishes(endpoint: &Endpoint, options: &ConnectOptions, goal: Goal) -> DialOptions {
    DialOptions {
        export: endpoint.export.clone(),
        want_structured: options.structured_replies || options.extended_headers,
        want_extended: options.extended_headers,
        contexts: vec![BASE_ALLOCATION.to_owned()],
        context_queries: match goal {
            Goal::Describe => Vec::from(["base:", "qemu:", LABEL_NAMESPACE].map(str::to_owned)),
            _ => vec![LABEL_NAMESPACE.to_owned()],
        },
        want_tls: endpoint.tls.is_some(),
        goal,
    }
}

async fn shake_hands(
    endpoint: &Endpoint,
    mut channel: Channel,
    wishes: DialOptions,
    config: Option<Arc<ClientConfig>>,
) -> Result<(End, Channel, Vec<u8>), Error> {
    let lost = |error| left(endpoint, error);
    let mut dial = Dial::new(wishes);
    let (mut buffer, mut out) = (vec![0; RECEIVE_BYTES], Vec::new());
    loop {
        let (received, returned) = channel.receive(buffer, 0, RECEIVE_BYTES).await;
        buffer = returned;
        let received = received.map_err(lost)?;
        if received == 0 {
            return Err(hung_up(endpoint));
        }
        let (taken, step) = dial.step(&buffer[..received], &mut out);
        let sent = send(&channel, &mut out).await;
        let end = match step {
            DialStep::More => {
                sent.map_err(lost)?;
                continue;
            }
            DialStep::StartTls => {
                sent.map_err(lost)?;
                let config = config.clone().expect("TLS is wished for only with a configuration");
                let started = channel.start_tls(config, tls::server_name(endpoint)?).await;
                started.map_err(|error| not_trusted(endpoint, error))?;
                dial.tls_established(&mut out);
                send(&channel, &mut out).await.map_err(lost)?;
                continue;
            }
            DialStep::Failed(error) => return Err(refused(endpoint, error)),
            DialStep::Agreed(dialed) => End::Agreed(dialed),
            DialStep::Described(dialed) => End::Described(dialed),
            DialStep::Listed(exports) => End::Listed(exports),
        };
        return Ok((end, channel, buffer[taken..received].to_vec()));
    }
}

async fn send(channel: &Channel, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() { Ok(()) } else { channel.send(vec![std::mem::take(out)]).await.0 }
}

fn export(endpoint: &Endpoint, dialed: Dialed) -> Export {
    let label = |prefix: &str| {
        let found = dialed.offered_contexts.iter().find_map(|name| name.strip_prefix(prefix));
        found.and_then(|uuid| uuid.parse::<Uuid>().ok())
    };
    let (uuid, incarnation) = (label(LABEL_VOLUME), label(LABEL_INCARNATION));
    let sizes = dialed.block_sizes;
    let told = sizes.map(|sizes| BlockSizes {
        min: sizes.min,
        preferred: sizes.preferred,
        // A request's buffer is one piece of memory.
        payload_max: sizes.payload_max.min(BLOCK_SIZES_DEFAULT.payload_max.max(sizes.min)),
    });
    Export {
        name: dialed.name.unwrap_or_else(|| endpoint.export.clone()),
        description: dialed.description.unwrap_or_default(),
        size_bytes: dialed.size_bytes,
        flags: dialed.flags,
        block_sizes: told.unwrap_or(BLOCK_SIZES_DEFAULT),
        tells_block_sizes: sizes.is_some(),
        style: dialed.style,
        contexts: dialed.contexts.into_iter().map(|context| context.name).collect(),
        tls: dialed.tls,
        offered_contexts: dialed.offered_contexts,
        uuid,
        incarnation,
    }
}

fn unreachable(endpoint: &Endpoint, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "is the server running, and does it listen there?"
        }
        io::ErrorKind::PermissionDenied => "may this user open the socket?",
        _ => "is the name right, and the network up?",
    };
    Error::caused(Kind::Unreachable, format!("the server {endpoint} cannot be reached"), error).remedy(remedy)
}

/// What a server does that has no such export and no error reply, or that wants TLS from the first byte.
fn hung_up(endpoint: &Endpoint) -> Error {
    let what = format!("the server {endpoint} hung up during the negotiation");
    Error::new(Kind::Unreachable, what).remedy(
        "its log may say why: an unknown export, an address that it does not admit, TLS, too many clients",
    )
}

fn left(endpoint: &Endpoint, error: io::Error) -> Error {
    // In TLS 1.3 the server looks at our certificate when we believe to be through.
    if error.get_ref().is_some_and(|error| error.is::<rustls::Error>()) {
        return not_trusted(endpoint, error);
    }
    Error::caused(Kind::Unreachable, format!("the server {endpoint} left the negotiation"), error)
}

fn not_trusted(endpoint: &Endpoint, error: io::Error) -> Error {
    let what = format!("TLS with the server {endpoint} failed");
    let remedy = match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "is it signed by the ca-cert.pem of tls-certificates, and for this host (or tls-hostname)?"
        }
        Some(rustls::Error::AlertReceived(_)) => {
            "the server wants client-cert.pem and client-key.pem of an authority that it knows, in tls-certificates"
        }
        _ => "its log may say why",
    };
    Error::caused(Kind::Tls, what, error).remedy(remedy)
}

fn refused(endpoint: &Endpoint, error: DialError) -> Error {
    let (kind, what, remedy) = match &error {
        DialError::NotNbd => {
            (Kind::Protocol, format!("{endpoint} is no NBD server"), Some("is the port right?"))
        }
        DialError::Refused { option: OptionCode::StartTls, .. } => {
            (Kind::Tls, format!("no TLS with the server {endpoint}"), Some("without it, write nbd://"))
        }
        DialError::Refused { error: ReplyCode::ErrTlsReqd, .. } => {
            (Kind::Tls, format!("no connection to the server {endpoint} without TLS"), Some("write nbds://"))
        }
        DialError::Refused { error: ReplyCode::ErrUnknown, .. } => {
            (Kind::NoExport, format!("no export {:?} on the server {endpoint}", endpoint.export), None)
        }
        DialError::Refused { .. } => {
            (Kind::Refused, format!("no agreement with the server {endpoint}"), None)
        }
        _ => (Kind::Protocol, format!("no agreement with the server {endpoint}"), None),
    };
    let error = Error::caused(kind, what, error);
    match remedy {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
}
