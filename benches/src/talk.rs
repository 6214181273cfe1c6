//! What a connection of the generator speaks: NBD or iSCSI, as one that asks, counts answers, and drops payloads.
//!
//! Rule: a talk moves no bytes over the socket; it writes into `Outgoing` and reads what it is shown.

use anyhow::Result;
use socket2::Socket;

use crate::address::{Address, Name};
use crate::load::{Load, Question};
use crate::outgoing::Outgoing;
use crate::{iscsi, nbd};

/// One request answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The slot that it was asked in.
    pub slot: usize,
    /// It failed.
    pub error: bool,
}

/// One side of a conversation.
pub trait Talk: Send {
    /// The most bytes that one request takes in `Outgoing`, with all that the server asks for later.
    fn request_bytes_max(&self) -> usize;

    /// The server lets one more request come.
    fn may_ask(&self) -> bool;

    /// Writes `question`; there is room.
    fn ask(&mut self, question: Question, slot: usize, out: &mut Outgoing);

    /// Writes one thing that the server has asked for in the meantime; `false` when nothing is due or fits.
    fn respond(&mut self, out: &mut Outgoing) -> bool;

    /// Puts back what was cut off; the next bytes go behind it.
    fn resume(&mut self, inbox: &mut [u8]) -> usize;

    /// Takes the next `bytes` of the stream and tells of every request that they finish.
    fn take(&mut self, bytes: &[u8], answered: &mut dyn FnMut(Answer)) -> Result<()>;
}

/// A server that waits for requests.
pub struct Dialed {
    /// Blocking as yet.
    pub socket: Socket,
    /// What is spoken on it.
    pub talk: Box<dyn Talk>,
    /// The volume's size.
    pub size_bytes: u64,
}

/// Connects to `address` and negotiates what `load` wants.
pub fn dial(address: &Address, load: &Load) -> Result<Dialed> {
    match &address.name {
        Name::Export(export) => nbd::dial(address, export, load),
        Name::Unit { target, lun } => iscsi::dial(address, target, *lun, load),
    }
}
