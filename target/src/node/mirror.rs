//! Mirrored volumes on the control thread: commands of operators to them.
//!
//! Its one rule: what a replica refuses is no fault: it is handed on as it is.

use std::time::Duration;

use replication::{Command, Refusal};
use tokio::sync::oneshot;

use super::report::unknown_volume;
use super::{LiveVolume, Node, Service};
use crate::fault::{Fault, Kind};
use crate::message::Ask;

/// How long leading may take to begin or to end: others are asked, and leases run out.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// A comparison answers when all is compared. What has not been refused by now is under way.
const VERIFY_TIME: Duration = Duration::from_secs(2);

impl Node {
    /// Has the mirror of a volume carry out a command, or says why its machine refuses it. A comparison that takes
    /// longer than a moment has begun when this returns, and its outcome is in the volume's status.
    pub async fn mirror_command(&self, name: &str, command: Command) -> Result<Result<(), Refusal>, Fault> {
        let (core, uuid) = {
            let live = self.live();
            let volume = live.volumes.get(name).ok_or_else(|| unknown_volume(name))?;
            (serving_core(volume)?, volume.settings.uuid)
        };
        let (reply, answer) = oneshot::channel();
        let ended = || Fault::new(Kind::ShuttingDown, format!("the core of volume `{name}` has ended"));
        if !self.cores[core].send(Ask::Mirror { uuid, command, reply }) {
            return Err(ended());
        }
        let is_verify = matches!(command, Command::Verify { .. });
        let bound = if is_verify { VERIFY_TIME } else { COMMAND_TIME };
        match tokio::time::timeout(bound, answer).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(ended()),
            Err(_) if is_verify => Ok(Ok(())),
            Err(_) => Err(unanswered(name)),
        }
    }
}

/// Where the mirror of a volume is.
fn serving_core(volume: &LiveVolume) -> Result<usize, Fault> {
    let name = &volume.settings.name;
    match &volume.service {
        Service::Unavailable(reason) => {
            Err(Fault::new(Kind::Conflict, format!("volume `{name}` is not being served: {reason}")))
        }
        Service::Serving { .. } if volume.settings.mirror.is_none() => {
            let context = format!(
                "volume `{name}` is not mirrored; give it `replicas` in the configuration, or --replica when it is \
                 created"
            );
            Err(Fault::new(Kind::Invalid, context))
        }
        Service::Serving { core, .. } => Ok(*core),
    }
}

fn unanswered(name: &str) -> Fault {
    let context = format!(
        "volume `{name}`: the command was not carried out within {COMMAND_TIME:?}, and may yet be; see `ringsan \
         status {name}` and `ringsan explain {name}`"
    );
    Fault::new(Kind::Io, context)
}
