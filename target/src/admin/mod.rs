//! The admin API: HTTP and JSON on the control thread, beside the path of any I/O.
//!
//! ```text
//! GET    /healthz              ok, while every core answers
//! GET    /metrics              Prometheus text
//! GET    /v1/status[?window=1s]
//! GET    /v1/volumes           POST /v1/volumes (a VolumeSpec)
//! GET    /v1/volumes/NAME      PATCH (a ResizeRequest)     DELETE [?delete_data=true]
//! POST   /v1/volumes/NAME/promote, demote, verify, discard   (see `mirror.rs`)
//! POST   /v1/reload
//! ```
//! Its one rule: every error is `{"error": {"kind", "message"}}`.

mod guard;
mod mirror;
mod server;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::units::parse_duration;
use crate::config::volume::VolumeSpec;
use crate::fault::{Fault, Kind};
use crate::metrics;
use crate::node::{Node, StartError};
use crate::status::{ErrorBody, ErrorDetail, ReloadReport, ResizeRequest, Status, VolumeStatus};

/// Serves the admin API of `node` until the runtime ends.
pub async fn serve(node: Arc<Node>, listener: TcpListener) {
    let router = router(node);
    if let Err(error) = server::run(router, listener).await {
        tracing::error!(%error, "the admin API has ended; the volumes are still served");
    }
}

fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(scrape))
        .route("/v1/status", get(status))
        .route("/v1/volumes", get(list).post(create))
        .route("/v1/volumes/{name}", get(show).patch(resize).delete(remove))
        .route("/v1/reload", post(reload))
        .merge(mirror::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(axum::middleware::from_fn_with_state(node.clone(), guard::check))
        .with_state(node)
}

async fn health(State(node): State<Arc<Node>>) -> Result<&'static str, ApiError> {
    node.snapshots().await.map_err(|fault| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "io", &fault))?;
    Ok("ok\n")
}

async fn scrape(State(node): State<Arc<Node>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let scrape = node.scrape().await?;
    let (content_type, text) = match accept.contains("application/openmetrics-text") {
        true => (metrics::OPENMETRICS, metrics::text(scrape)),
        false => (metrics::CLASSIC, metrics::classic_text(scrape)),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    window: Option<String>,
}

async fn status(
    State(node): State<Arc<Node>>,
    query: Result<Query<StatusQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Status>, ApiError> {
    let Query(query) = query.map_err(|rejection| invalid(&rejection.body_text()))?;
    let window = query.window.as_deref().map(parse_duration).transpose().map_err(|wrong| invalid(&wrong))?;
    Ok(Json(node.status(window.filter(|window| *window > Duration::ZERO)).await?))
}

async fn list(State(node): State<Arc<Node>>) -> Result<Json<Vec<VolumeStatus>>, ApiError> {
    Ok(Json(node.status(None).await?.volumes))
}

async fn show(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Json<VolumeStatus>, ApiError> {
    Ok(Json(node.volume(&name).await?))
}

async fn create(State(node): State<Arc<Node>>, body: Bytes) -> Result<Response, ApiError> {
    let spec: VolumeSpec = parsed(&body)?;
    let worker = node.clone();
    let name = spec.name.clone();
    to_the_end(async move { worker.create_volume(&spec).await }).await?;
    Ok((StatusCode::CREATED, Json(node.volume(&name).await?)).into_response())
}

async fn resize(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<VolumeStatus>, ApiError> {
    let request: ResizeRequest = parsed(&body)?;
    let (worker, volume) = (node.clone(), name.clone());
    to_the_end(async move { worker.resize_volume(&volume, &request).await }).await?;
    Ok(Json(node.volume(&name).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveQuery {
    #[serde(default)]
    delete_data: bool,
}

async fn remove(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    query: Result<Query<RemoveQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(query) = query.map_err(|rejection| invalid(&rejection.body_text()))?;
    to_the_end(async move { node.remove_volume(&name, query.delete_data).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reload(State(node): State<Arc<Node>>) -> Result<Json<ReloadReport>, ApiError> {
    let outcome = tokio::spawn(async move { node.reload().await }).await;
    match outcome.expect("a reload does not panic, and nobody cancels it") {
        Ok(report) => Ok(Json(report)),
        Err(StartError::Fault(fault)) => Err(fault.into()),
        Err(mistakes) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &mistakes)),
    }
}

/// Runs a change that must not be dropped half-way when its client hangs up.
async fn to_the_end(change: impl Future<Output = Result<(), Fault>> + Send + 'static) -> Result<(), Fault> {
    tokio::spawn(change).await.expect("a change does not panic, and nobody cancels it")
}

async fn unknown_path() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        &"there is nothing at this path; see the paths under /v1",
    )
}

async fn unknown_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid", &"this path does not know this method")
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| invalid(&format!("the body is not the JSON it should be: {error}")))
}

fn invalid(message: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid", message)
}

/// An error on its way to the client.
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, kind: &str, message: &(impl std::fmt::Display + ?Sized)) -> ApiError {
        let error = ErrorDetail { kind: kind.to_owned(), message: message.to_string() };
        ApiError { status, body: ErrorBody { error } }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> ApiError {
        let (status, kind) = match fault.kind() {
            Kind::Invalid | Kind::Protocol => (StatusCode::BAD_REQUEST, "invalid"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Kind::Conflict => (StatusCode::CONFLICT, "conflict"),
            Kind::Denied => (StatusCode::FORBIDDEN, "denied"),
            Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Kind::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            Kind::Resources => (StatusCode::SERVICE_UNAVAILABLE, "resources"),
            Kind::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            Kind::Io | Kind::Disconnected | Kind::Indeterminate => (StatusCode::INTERNAL_SERVER_ERROR, "io"),
        };
        ApiError::new(status, kind, &fault)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
