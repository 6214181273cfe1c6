//! The login phase (RFC 7143, section 6.3): requests in, responses out, until both sides agree.
//!
//! No digests are in use yet, and nothing but login requests is lawful.

use std::net::SocketAddr;
use std::rc::Rc;

use wire::iscsi::login::{Login, LoginStep};
use wire::iscsi::pdu::{BHS_BYTES, Request, Response, Segments};

use crate::channel::Channel;
use crate::fault::{Fault, Kind};
use crate::incoming::Incoming;
use crate::serve_core::ServingCore;
use crate::serve_iscsi::Entrance;
use crate::serve_iscsi::access::NodeAccess;

/// Text of one login request: the default MaxRecvDataSegmentLength, which holds until login is over (section 13.12).
const TEXT_BYTES_MAX: usize = 8192;
/// Requests of one login; negotiations that need more than a few go round in circles.
const REQUESTS_MAX: usize = 64;

/// Logs an initiator in; `None` when it left before saying anything.
pub async fn login(
    here: &Rc<ServingCore>,
    channel: &Channel,
    address: Option<SocketAddr>,
) -> Result<Option<Entrance>, Fault> {
    let access = NodeAccess::new(here.directory(), address);
    let mut login = Login::new(access.settings().offers.clone(), random()?);
    let mut incoming = Incoming::new(channel, Vec::new(), false);
    for _ in 0..REQUESTS_MAX {
        let mut bhs = [0; BHS_BYTES];
        if !incoming.header(&mut bhs).await? {
            return Ok(None);
        }
        let (request, text) = request(&mut incoming, &bhs).await?;
        let Request::Login(request) = request else {
            return Err(Fault::new(Kind::Protocol, "a request other than login before the login is over"));
        };
        match login.step(&request, &text, &access) {
            LoginStep::Reply(reply, text) => send(channel, &Response::Login(reply), &text).await?,
            LoginStep::Done { reply, data, agreed } => {
                let leftover = incoming.into_leftover();
                return Ok(Some(Entrance { agreed, reply, text: data, leftover }));
            }
            LoginStep::Refuse { reply, data, reason } => {
                send(channel, &Response::Login(reply), &data).await?;
                return Err(Fault::new(Kind::Denied, format!("login refused: {reason}")));
            }
            LoginStep::Close(reason) => return Err(Fault::new(Kind::Protocol, format!("login: {reason}"))),
        }
    }
    Err(Fault::new(Kind::Protocol, "login: it took too many requests"))
}

/// Sends one PDU, without digests.
pub async fn send(channel: &Channel, response: &Response, data: &[u8]) -> Result<(), Fault> {
    let mut bytes = Vec::with_capacity(BHS_BYTES + data.len() + 3);
    response.encode(data.len(), &mut bytes);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    channel.send_bytes(&bytes).await
}

async fn request(incoming: &mut Incoming<'_>, bhs: &[u8; BHS_BYTES]) -> Result<(Request, Vec<u8>), Fault> {
    let segments = Segments::of(bhs);
    if segments.data_bytes > TEXT_BYTES_MAX {
        let context = format!("login: a data segment of {} bytes, beyond 8192", segments.data_bytes);
        return Err(Fault::new(Kind::Protocol, context));
    }
    let mut bytes = vec![0; segments.ahs_bytes + segments.data_bytes + segments.padding()];
    if !bytes.is_empty() && !incoming.header(&mut bytes).await? {
        return Err(Fault::new(Kind::Disconnected, "the initiator left in the middle of a request"));
    }
    let (ahs, rest) = bytes.split_at(segments.ahs_bytes);
    let request = Request::decode(bhs, ahs).map_err(|reason| {
        Fault::new(Kind::Protocol, format!("login: a PDU that cannot be read ({reason:?})"))
    })?;
    Ok((request, rest[..segments.data_bytes].to_vec()))
}

fn random() -> Result<[u8; 64], Fault> {
    let mut random = [0; 64];
    getrandom::fill(&mut random)
        .map_err(|error| Fault::new(Kind::Resources, format!("no random numbers for a login: {error}")))?;
    Ok(random)
}
