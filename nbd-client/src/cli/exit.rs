//! How a command failed: one line for people, one number for scripts.
//!
//! Its one rule: a number never changes its meaning, and `TABLE` (in the help and the man page) names them all.

use std::process::ExitCode;

use nbd_client::{Error, Kind};

/// What the exit status means, for `--help` and the man page.
pub(crate) const TABLE: &str = "\
Exit status:
  0    done
  1    failed for a reason that has no number below
  2    the command line or a URI is wrong; nothing was done
  3    a server cannot be reached, or was lost for too long
  4    the server has no such export, or does not let us have it
  5    TLS: certificates, or a refusal
  6    the export changed: another size, another identity
  7    copy --verify: source and destination differ
  8    the device or destination is in use
  9    this machine has no nbd driver
  130  interrupted (SIGINT); a copy goes on when it is started again
  143  ended (SIGTERM); a copy goes on when it is started again";

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(dead_code)] // each command uses its own
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    NoExport = 4,
    Tls = 5,
    Changed = 6,
    Differs = 7,
    Busy = 8,
    NoDriver = 9,
    Interrupted = 130,
    Terminated = 143,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// `text` names the thing, the cause and the next step.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }

    /// One more line, for one more server; the first one's status stays.
    pub(crate) fn add(all: &mut Option<Failure>, one: Failure) {
        match all {
            Some(all) => all.text = format!("{}\n{}", all.text, one.text),
            None => *all = Some(one),
        }
    }

    /// The exit status.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// One line for each mistake.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match error.kind() {
            Kind::Uri => Exit::Usage,
            Kind::Unreachable | Kind::Lost => Exit::Unreachable,
            Kind::NoExport => Exit::NoExport,
            Kind::Tls => Exit::Tls,
            Kind::Changed => Exit::Changed,
            Kind::Busy => Exit::Busy,
            Kind::NoDriver => Exit::NoDriver,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_in_the_table() {
        use Exit::*;
        for exit in [
            Failed,
            Usage,
            Unreachable,
            NoExport,
            Tls,
            Changed,
            Differs,
            Busy,
            NoDriver,
            Interrupted,
            Terminated,
        ] {
            assert!(TABLE.contains(&format!("\n  {:<3}  ", exit as u8)), "{exit:?}");
        }
    }
}
