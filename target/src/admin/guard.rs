//! Who may speak to the admin API, and how much they may say.
//!
//! With a token, clients show it. Without one the API is on loopback, where only local programs can speak
//! to it; but a web page in a local browser can make one speak, so requests that come from a page
//! (`Origin`) or for a foreign host name (`Host`, DNS rebinding) are refused. Its one rule: but for
//! `/healthz`, nothing is looked at before this has said yes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiError;
use crate::node::Node;

const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(5);

/// Lets a request in, with its body read whole, or answers it.
pub async fn check(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    let token = node.settings().admin.and_then(|admin| admin.token);
    let admitted = match token {
        Some(token) => match bearer(request.headers()).is_some_and(|shown| token.admits(shown)) {
            true => Ok(()),
            false => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "denied",
                "show the token: Authorization: Bearer …",
            )),
        },
        None => local_only(request.uri(), request.headers()),
    };
    match admitted {
        Ok(()) => match whole(request).await {
            Ok(request) => next.run(request).await,
            Err(error) => error.into_response(),
        },
        Err(error) => error.into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn local_only(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::ORIGIN) {
        let message = "requests from web pages are refused; set admin_token_file to allow them with a token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "denied", message));
    }
    let host = uri.host().or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    if host.is_some_and(is_local) {
        return Ok(());
    }
    let message = "the Host header does not name this machine's loopback; use 127.0.0.1 or localhost";
    Err(ApiError::new(StatusCode::FORBIDDEN, "denied", message))
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn whole(request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let too_large = |_| {
        let message = format!("the body could not be read, or has more than {BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid", &message)
    };
    let too_slow =
        |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid", "the body did not arrive in time");
    let bytes = tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_BYTES_MAX)).await.map_err(too_slow)?;
    Ok(Request::from_parts(parts, Body::from(bytes.map_err(too_large)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header value"))).collect()
    }

    #[test]
    fn without_a_token_only_loopback_names_are_let_in() {
        let uri = Uri::from_static("/v1/status");
        for host in ["localhost", "localhost:9810", "127.0.0.1:9810", "127.1.2.3", "[::1]:9810"] {
            assert!(local_only(&uri, &headers(&[(header::HOST, host)])).is_ok(), "{host}");
        }
        for host in ["attacker.example", "127.0.0.1.attacker.example:9810", "10.0.0.1", "[::2]:9810", ""] {
            assert!(local_only(&uri, &headers(&[(header::HOST, host)])).is_err(), "{host}");
        }
        assert!(local_only(&uri, &headers(&[])).is_err());
    }

    #[test]
    fn without_a_token_web_pages_are_refused() {
        let page = headers(&[(header::HOST, "127.0.0.1:9810"), (header::ORIGIN, "http://attacker.example")]);
        assert!(local_only(&Uri::from_static("/v1/reload"), &page).is_err());
    }

    #[test]
    fn the_token_is_read_from_the_authorization_header() {
        assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, "Bearer secret")])), Some("secret"));
        assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, "Basic secret")])), None);
        assert_eq!(bearer(&headers(&[])), None);
    }
}
