//! The admin API.

use std::net::TcpListener;
use std::sync::Arc;

use crate::node::Node;

/// Serves it.
pub async fn serve(node: Arc<Node>, listener: TcpListener) {
    let _ = (node, listener);
}
