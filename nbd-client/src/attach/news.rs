//! What a watch tells a person.
//!
//! Its one rule: one line for each thing, and nothing twice.

use std::fmt;

use crate::error::Error;

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The device was detached.
    Detached,
    /// The watch was told to stop; the device stays attached.
    Stopped,
}

/// What a person should know of a device that is watched.
#[derive(Clone, Debug)]
pub enum News {
    /// A connection ended.
    Lost {
        /// The host.
        host: String,
        /// Connections that are left, of all hosts.
        left: usize,
        /// Connections that there should be.
        of: usize,
    },
    /// Connections are back.
    Back {
        /// The host.
        host: String,
        /// How many.
        count: usize,
        /// Whether the server may have lost writes that it acknowledged but that were not flushed.
        forgetful: bool,
    },
    /// A server is slow, not lost: requests have more time from now on.
    Slow {
        /// The host.
        host: String,
        /// The time, in seconds.
        seconds: u64,
    },
    /// A host does not answer, or is not to be used. It is dialed again.
    Failed(Error),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Lost { host, left: 0, .. } => write!(f, "{host}: connection lost; none is left, I/O waits"),
            News::Lost { host, left, of } => write!(f, "{host}: connection lost; {left} of {of} are left"),
            News::Back { host, count, forgetful } => {
                let plural = if *count == 1 { "connection is" } else { "connections are" };
                write!(f, "{host}: {count} {plural} back")?;
                let remark = "; the server was restarted: what had not been flushed may be lost";
                f.write_str(if *forgetful { remark } else { "" })
            }
            News::Slow { host, seconds } => {
                write!(f, "{host}: slower than requests may be; they may take {seconds} s for now")
            }
            News::Failed(error) => write!(f, "{error} (it is dialed again)"),
        }
    }
}
