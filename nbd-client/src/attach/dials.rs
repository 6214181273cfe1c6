//! Dials under way.
//!
//! Its one rule: each has a thread of its own, because names and connections take their time.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::nodes;
use super::redial::Dial;
use crate::client::KernelSocket;
use crate::error::Error;
use crate::uri::Endpoint;

/// The server's number, and what came of dialing it.
pub(super) type Outcome = (usize, Result<Vec<KernelSocket>, Error>);

/// Dials under way, each on a thread of its own, because names and connections take their time.
pub(super) struct Dials {
    sender: mpsc::Sender<Outcome>,
    receiver: mpsc::Receiver<Outcome>,
    ended: PipeReader,
    bell: PipeWriter,
}

impl Dials {
    pub(super) fn new() -> io::Result<Dials> {
        let (sender, receiver) = mpsc::channel();
        let (ended, bell) = io::pipe()?;
        Ok(Dials { sender, receiver, ended, bell })
    }

    pub(super) fn begin(&self, dial: Dial, host: Endpoint, patience: Duration) -> io::Result<()> {
        let (sender, mut bell) = (self.sender.clone(), self.bell.try_clone()?);
        let Dial { node, count } = dial;
        thread::Builder::new().name(format!("dial {host}")).spawn(move || {
            let outcome = nodes::dial(&host, count, patience);
            // nobody hears it when the watch has ended
            let _ = sender.send((node, outcome)).map(|()| bell.write_all(&[0]));
        })?;
        Ok(())
    }

    /// An outcome that has come.
    pub(super) fn next(&mut self) -> Option<Outcome> {
        let outcome = self.receiver.try_recv().ok()?;
        // one byte belongs to each outcome, and comes right after it
        let _ = self.ended.read_exact(&mut [0]);
        Some(outcome)
    }
}

impl AsFd for Dials {
    /// Can be read when an outcome has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}
