//! What a node tells of its mirrored volume: `GET /v1/volumes/NAME` of its admin portal, as far as it matters here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The mirror of a volume, as the asked node knows it.
#[derive(Deserialize)]
pub struct Mirror {
    /// What the asked node does: `leader`, …
    pub role: String,
    /// The in-sync set.
    pub in_sync: Vec<String>,
    /// Extents that may differ between replicas after a failure: those that were written and are not yet known durable
    /// on all of them.
    pub active_extents: usize,
    /// All replicas.
    pub replicas: Vec<Replica>,
    /// Cause and next step for what is not in sync.
    pub explanation: Vec<String>,
}

/// One of its replicas.
#[derive(Clone, Deserialize)]
pub struct Replica {
    /// Its node.
    pub name: String,
    /// `in_sync`, `resync`, …
    pub state: String,
    /// The link to it.
    pub link: Option<Link>,
}

/// The link to a replica's node.
#[derive(Clone, Deserialize)]
pub struct Link {
    /// Bytes sent since the asked node started, frames and payload.
    pub sent_bytes: u64,
}

#[derive(Deserialize)]
struct Volume {
    mirror: Option<Mirror>,
}

impl Mirror {
    /// The replica on the node of this name.
    pub fn replica(&self, name: &str) -> Result<&Replica> {
        let found = self.replicas.iter().find(|replica| replica.name == name);
        found.with_context(|| format!("no replica is called {name}"))
    }

    /// Bytes sent to it so far.
    pub fn sent_bytes(&self, name: &str) -> Result<u64> {
        Ok(self.replica(name)?.link.as_ref().map_or(0, |link| link.sent_bytes))
    }
}

/// Asks the node whose admin portal this is.
pub fn mirror(admin: SocketAddr, volume: &str) -> Result<Mirror> {
    let answer = get(admin, &format!("/v1/volumes/{volume}")).with_context(|| format!("asking {admin}"))?;
    let volume: Volume = serde_json::from_slice(&answer).context("its answer is not what was expected")?;
    volume.mirror.context("the volume is not mirrored")
}

fn get(admin: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // A server of HTTP 1.0 sends the body in one piece and hangs up.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    body(answer)
}

fn body(mut answer: Vec<u8>) -> Result<Vec<u8>> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let head = answer.windows(BLANK_LINE.len()).position(|bytes| bytes == BLANK_LINE);
    let body = answer.split_off(head.context("the answer ends in its head")? + BLANK_LINE.len());
    let status = answer.split(|byte| *byte == b' ').nth(1);
    ensure!(status == Some(b"200"), "{}", String::from_utf8_lossy(&[answer, body].concat()));
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_follows_a_head_that_says_200() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}\r\n\r\n".to_vec();
        assert_eq!(body(answer).expect("it succeeded"), b"{}\r\n\r\n");
        let refused = body(b"HTTP/1.0 404 Not Found\r\n\r\nno such volume".to_vec());
        assert!(refused.expect_err("it did not").to_string().contains("no such volume"));
        assert!(body(b"HTTP/1.0 200 OK\r\n".to_vec()).is_err());
    }
}
