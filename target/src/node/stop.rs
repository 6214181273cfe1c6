//! The graceful end: stop accepting, finish or fail what is in flight within a bound, flush, close.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Node;
use crate::fault::Fault;
use crate::message::Ask;
use crate::serve_core::CoreHandle;

/// What cores may take beyond the grace, for flushing.
const FLUSH_TIME: Duration = Duration::from_secs(20);

impl Node {
    /// Stops every core; what could not be flushed comes back.
    pub async fn stop(&self) -> Vec<Fault> {
        let grace = self.live().node.stop_timeout;
        let faults = stop_cores(&self.cores, grace).await;
        self.live().portals.clear();
        faults
    }
}

pub(super) async fn stop_cores(cores: &[CoreHandle], grace: Duration) -> Vec<Fault> {
    let mut answers = Vec::new();
    for core in cores {
        let (reply, answer) = oneshot::channel();
        core.send(Ask::Stop { grace, reply });
        answers.push(answer);
    }
    let mut faults = Vec::new();
    let deadline = tokio::time::Instant::now() + grace + FLUSH_TIME;
    for answer in answers {
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(failed)) => faults.extend(failed),
            Ok(Err(_)) => {}
            Err(_) => faults.push(Fault::new(
                crate::fault::Kind::Io,
                format!("a core did not stop within {:?}; its storage may be stuck", grace + FLUSH_TIME),
            )),
        }
    }
    faults
}
