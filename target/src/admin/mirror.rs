//! Mirrors, steered: who leads, whether replicas are equal, which copy yields.
//!
//! ```text
//! POST   /v1/volumes/NAME/promote   (a PromoteRequest)
//! POST   /v1/volumes/NAME/demote
//! POST   /v1/volumes/NAME/verify    (a VerifyRequest) 202 while it goes on: see the volume's `mirror.verification`
//! POST   /v1/volumes/NAME/discard
//! ```
//! Each answers with the volume. Its one rule: what a replica refuses is a conflict of the kind `refused`, or
//! `refused_unless_forced` where an operator may insist.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use replication::{Command, Refusal};
use serde::de::DeserializeOwned;

use super::{ApiError, parsed};
use crate::node::Node;
use crate::status::mirror::{PromoteRequest, VerifyRequest};
use crate::status::{MirrorStatus, VolumeStatus, can_be_forced, refusal_text};

/// Its routes.
pub fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/v1/volumes/{name}/promote", post(promote))
        .route("/v1/volumes/{name}/demote", post(demote))
        .route("/v1/volumes/{name}/verify", post(verify))
        .route("/v1/volumes/{name}/discard", post(discard))
}

type Answer = Result<Json<VolumeStatus>, ApiError>;

async fn promote(State(node): State<Arc<Node>>, Path(name): Path<String>, body: Bytes) -> Answer {
    let PromoteRequest { force } = parsed_or_default(&body)?;
    carry_out(node, name, Command::Promote { force }).await
}

async fn demote(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer {
    carry_out(node, name, Command::Demote).await
}

async fn discard(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answer {
    carry_out(node, name, Command::Discard).await
}

async fn verify(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let VerifyRequest { repair } = parsed_or_default(&body)?;
    let Json(volume) = carry_out(node, name, Command::Verify { repair }).await?;
    let verification = volume.mirror.as_ref().and_then(|mirror| mirror.verification.as_ref());
    let goes_on = verification.is_some_and(|verification| verification.running);
    let status = if goes_on { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(volume)).into_response())
}

/// Carries a command out to its end, also when the client hangs up.
async fn carry_out(node: Arc<Node>, name: String, command: Command) -> Answer {
    let (worker, volume) = (node.clone(), name.clone());
    let outcome = tokio::spawn(async move { worker.mirror_command(&volume, command).await }).await;
    match outcome.expect("a command does not panic, and nobody cancels it")? {
        Ok(()) => Ok(Json(node.volume(&name).await?)),
        Err(refusal) => Err(refused(&node.volume(&name).await?, &refusal)),
    }
}

fn refused(volume: &VolumeStatus, refusal: &Refusal) -> ApiError {
    let kind = if can_be_forced(refusal) { "refused_unless_forced" } else { "refused" };
    let name = &volume.name;
    let replicas = volume.mirror.iter().flat_map(|mirror| &mirror.replicas);
    let names: Vec<String> = replicas.map(|replica| replica.name.clone()).collect();
    let reason = match (refusal, &volume.mirror) {
        (Refusal::NotLeader, Some(mirror)) => not_leader(name, mirror),
        _ => refusal_text(refusal, name, &names),
    };
    ApiError::new(StatusCode::CONFLICT, kind, &format!("volume `{name}`: {reason}"))
}

fn not_leader(name: &str, mirror: &MirrorStatus) -> String {
    let own = &mirror.own;
    match mirror.leader.as_ref().filter(|leader| mirror.current && *leader != own) {
        Some(leader) => format!("{own} does not lead, {leader} does: ask there, or give --admin of {leader}"),
        None => format!("{own} does not lead, and knows of nobody who does: see `ringsan explain {name}`"),
    }
}

/// The body as JSON; an empty one asks for what is asked for by default.
fn parsed_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { parsed(body) }
}
