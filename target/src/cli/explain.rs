//! `ringsan explain`: cause and next step in words, for all that is not in sync.
//!
//! Its one rule: a volume is called in sync only with the names of those that hold it.

use clap::Args;

use super::client::ClientArgs;
use super::volume::path_of;
use super::{Failure, print};
use crate::status::VolumeStatus;

/// The flags of `explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The volume; left out, all that are mirrored or not served
    name: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Asks and prints.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let client = args.client.client()?;
    let lines: Vec<String> = match &args.name {
        Some(name) => explained(&client.get(&path_of(name))?),
        None => {
            let volumes: Vec<VolumeStatus> = client.get("/v1/volumes")?;
            let worth_a_word =
                |volume: &&VolumeStatus| volume.mirror.is_some() || volume.unavailable.is_some();
            volumes.iter().filter(worth_a_word).flat_map(explained).collect()
        }
    };
    if lines.is_empty() {
        return print("no volume is mirrored, and all are served\n");
    }
    print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// A line for each thing to know.
fn explained(volume: &VolumeStatus) -> Vec<String> {
    let name = &volume.name;
    let Some(mirror) = &volume.mirror else {
        return vec![match &volume.unavailable {
            Some(reason) => format!("{name}: not served: {reason}"),
            None => format!("{name}: not mirrored, its data is on this node only"),
        }];
    };
    if mirror.explanation.is_empty() {
        return vec![format!("{name}: in sync on {}", mirror.in_sync.join(", "))];
    }
    mirror.explanation.iter().map(|line| format!("{name}: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::volume;
    use super::*;
    use crate::status::MirrorStatus;
    use crate::status::mirror::tests::{healthy, leading};

    #[test]
    fn only_a_whole_mirror_is_in_sync() {
        let mut volume = volume("db");
        volume.mirror = Some(MirrorStatus::new("db", &healthy(), None));
        assert_eq!(explained(&volume), ["db: in sync on a, b"]);
        volume.mirror = Some(MirrorStatus::new("db", &leading(), None));
        let lines = explained(&volume);
        assert!(lines.len() == 1 && lines[0].starts_with("db: c: is being brought up to date"), "{lines:?}");
    }

    #[test]
    fn what_is_not_mirrored_or_not_served_is_told_so() {
        let mut volume = volume("db");
        assert_eq!(explained(&volume), ["db: not mirrored, its data is on this node only"]);
        volume.unavailable = Some("its file is gone".into());
        assert_eq!(explained(&volume), ["db: not served: its file is gone"]);
    }
}
