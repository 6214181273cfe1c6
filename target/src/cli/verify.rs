//! `ringsan verify`: compares the replicas of a volume while it is in use, and shows how far that is.
//!
//! Its one rule: it succeeds only when all was compared, and nothing that differs was left so.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use ureq::http::Method;

use super::client::ClientArgs;
use super::mirror::mirror_of;
use super::volume::path_of;
use super::{Failure, print};
use crate::config::units::size_rounded;
use crate::status::VolumeStatus;
use crate::status::mirror::{VerificationStatus, VerifyRequest};

/// Between two looks at how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The flags of `verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// The volume
    name: String,
    /// Send the leader's bytes where they differ
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Starts it, and waits for its end.
pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let client = args.client.client()?;
    let path = path_of(&args.name);
    let request = VerifyRequest { repair: args.repair };
    let mut volume: VolumeStatus = client.send_json(Method::POST, &format!("{path}/verify"), &request)?;
    let mut progress = Progress::default();
    while let Some(verification) = verification_of(&volume)?.filter(|verification| verification.running) {
        progress.show(&volume, verification);
        std::thread::sleep(LOOK_AGAIN);
        volume = client.get(&path)?;
    }
    progress.end();
    let Some(verification) = verification_of(&volume)? else {
        return Err(Failure::Error(format!(
            "volume `{0}`: the comparison ended before all was compared, and its outcome is lost: leader or \
             replicas have changed; see `ringsan explain {0}`, then start it again",
            args.name
        )));
    };
    let in_sync = &mirror_of(&volume)?.in_sync;
    print(&outcome_text(&args.name, in_sync, verification))?;
    verdict(&args.name, verification)
}

fn verification_of(volume: &VolumeStatus) -> Result<Option<&VerificationStatus>, Failure> {
    Ok(mirror_of(volume)?.verification.as_ref())
}

/// A line on the terminal that is written over and over.
#[derive(Default)]
struct Progress {
    shown: usize,
}

impl Progress {
    fn show(&mut self, volume: &VolumeStatus, verification: &VerificationStatus) {
        if std::io::stderr().is_terminal() {
            let size_bytes = volume.facts.as_ref().map_or(0, |facts| facts.size_bytes);
            self.write(&progress_text(&volume.name, size_bytes, verification));
        }
    }

    fn end(&mut self) {
        if self.shown > 0 {
            self.write("");
            let _ = write!(std::io::stderr(), "\r");
        }
    }

    /// That standard error cannot be written stops no comparison.
    fn write(&mut self, text: &str) {
        let mut error = std::io::stderr().lock();
        let _ = write!(error, "\r{text:<0$}", self.shown);
        let _ = error.flush();
        self.shown = text.chars().count();
    }
}

fn progress_text(name: &str, size_bytes: u64, verification: &VerificationStatus) -> String {
    let differ = match verification.differing_bytes {
        0 => String::new(),
        bytes => format!(", {} differ", size_rounded(bytes)),
    };
    let (done, all) = (size_rounded(verification.bytes), size_rounded(size_bytes));
    let percent = (verification.bytes as f64 / size_bytes.max(1) as f64 * 100.0).min(100.0);
    format!("{name}: {done} of {all} compared, {percent:.0} %{differ}")
}

/// What was compared, and each difference.
fn outcome_text(name: &str, in_sync: &[String], verification: &VerificationStatus) -> String {
    let compared = format!("{name}: {} compared on {}", size_rounded(verification.bytes), in_sync.join(", "));
    if verification.differing_bytes == 0 {
        return format!("{compared}: no differences\n");
    }
    let differing = size_rounded(verification.differing_bytes);
    let mended = if verification.repair { ", mended from the leader" } else { "" };
    let mut text = format!("{compared}: regions of {differing} differ{mended}\n");
    for difference in &verification.differences {
        let length = size_rounded(difference.length_bytes);
        text += &format!("  {}: {length} at byte {}\n", difference.replica, difference.offset_bytes);
    }
    text
}

fn verdict(name: &str, verification: &VerificationStatus) -> Result<(), Failure> {
    if let Some(trouble) = &verification.trouble {
        return Err(Failure::Error(format!(
            "volume `{name}`: the comparison ended before all was compared: {trouble}; see `ringsan explain {name}`, \
             then start it again"
        )));
    }
    if verification.differing_bytes > 0 && !verification.repair {
        let differing = size_rounded(verification.differing_bytes);
        return Err(Failure::Error(format!(
            "volume `{name}`: replicas differ in regions of {differing}: see the log for the cause, and let `ringsan \
             verify {name} --repair` send the leader's bytes there"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::mirror::DifferenceStatus;

    fn verification() -> VerificationStatus {
        VerificationStatus {
            running: false,
            repair: false,
            bytes: 3 << 30,
            differing_bytes: 0,
            differences: Vec::new(),
            trouble: None,
        }
    }

    fn differing() -> VerificationStatus {
        let difference = DifferenceStatus { replica: "b".into(), offset_bytes: 65536, length_bytes: 65536 };
        VerificationStatus { differing_bytes: 65536, differences: vec![difference], ..verification() }
    }

    #[test]
    fn differences_that_were_left_are_a_failure() {
        let in_sync = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            outcome_text("db", &in_sync, &verification()),
            "db: 3 GiB compared on a, b: no differences\n"
        );
        assert!(verdict("db", &verification()).is_ok());
        let text = outcome_text("db", &in_sync, &differing());
        assert!(text.ends_with("regions of 64 KiB differ\n  b: 64 KiB at byte 65536\n"), "{text}");
        assert!(
            matches!(verdict("db", &differing()), Err(Failure::Error(text)) if text.contains("--repair"))
        );
    }

    #[test]
    fn mended_differences_are_told_and_are_no_failure() {
        let mended = VerificationStatus { repair: true, ..differing() };
        assert!(outcome_text("db", &[], &mended).contains("differ, mended from the leader"));
        assert!(verdict("db", &mended).is_ok());
    }

    #[test]
    fn an_early_end_is_a_failure() {
        let cut = VerificationStatus { trouble: Some("b leads".into()), ..verification() };
        assert!(matches!(verdict("db", &cut), Err(Failure::Error(text)) if text.contains("b leads")));
    }

    #[test]
    fn progress_is_told_in_bytes_and_percent() {
        let text = progress_text("db", 4 << 30, &differing());
        assert_eq!(text, "db: 3 GiB of 4 GiB compared, 75 %, 64 KiB differ");
    }
}
