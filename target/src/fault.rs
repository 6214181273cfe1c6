//! `Fault`: the one error of the daemon, for the world's mistakes (our own are assertions).
//!
//! `kind` is what code matches on, `context` what a person reads (the thing, the cause, the next
//! step), `source` what one follows to the bottom. Two tables here map a kind to an NBD error, and to SCSI
//! sense data.

use std::error::Error;
use std::fmt;
use std::io;

use wire::nbd::transmission::Errno;
use wire::scsi::{Sense, SenseKey, additional};

/// What went wrong, as far as code has to tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request cannot be right: bad length, unaligned, beyond the end of a read.
    Invalid,
    /// A write, trim or zero beyond the end of the volume, or the backing is full.
    NoSpace,
    /// Read-only volume, or a client that is not allowed.
    Denied,
    /// The backing cannot do this (a fast zero, a discard).
    Unsupported,
    /// The backing failed.
    Io,
    /// Out of memory, buffers or descriptors.
    Resources,
    /// The node or the volume is going away.
    ShuttingDown,
    /// The named thing does not exist.
    NotFound,
    /// The name, path or address is taken.
    Conflict,
    /// The peer broke the protocol; its connection ends.
    Protocol,
    /// The peer went away.
    Disconnected,
    /// A mirrored volume's leader was lost with the request: it may or may not have been carried out.
    Indeterminate,
}

/// Which way a command was going when the medium failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// From the medium.
    Read,
    /// To the medium.
    Write,
}

/// An error with the sentence for people and the cause behind it.
#[derive(Debug)]
pub struct Fault {
    kind: Kind,
    context: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault of `kind`; `context` names the thing, the cause and the next step.
    pub fn new(kind: Kind, context: impl Into<String>) -> Fault {
        Fault { kind, context: context.into(), source: None }
    }

    /// The same, caused by `source`.
    pub fn caused(
        kind: Kind,
        context: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Fault {
        Fault { kind, context: context.into(), source: Some(source.into()) }
    }

    /// A system call's error, its kind read off the error number.
    pub fn io(context: impl Into<String>, error: io::Error) -> Fault {
        Fault::caused(kind_of(&error), context, error)
    }

    /// What code matches on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The error value that an NBD client gets (NBD protocol, "Error values").
    pub fn nbd_errno(&self) -> Errno {
        match self.kind {
            Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Protocol => Errno::Inval,
            Kind::NoSpace => Errno::NoSpc,
            Kind::Denied => Errno::Perm,
            Kind::Unsupported => Errno::NotSup,
            Kind::Io | Kind::Disconnected | Kind::Indeterminate => Errno::Io,
            Kind::Resources => Errno::NoMem,
            Kind::ShuttingDown => Errno::Shutdown,
        }
    }

    /// The sense data that an iSCSI initiator gets (SPC-4 4.5, SBC-3 4.18).
    pub fn sense(&self, access: Access) -> Sense {
        let (key, additional) = match self.kind {
            Kind::Invalid => (SenseKey::IllegalRequest, additional::LBA_OUT_OF_RANGE),
            Kind::NoSpace => (SenseKey::DataProtect, additional::SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
            Kind::Denied => (SenseKey::DataProtect, additional::WRITE_PROTECTED),
            Kind::Unsupported => (SenseKey::IllegalRequest, additional::INVALID_FIELD_IN_CDB),
            // Initiators try again.
            Kind::Indeterminate => (SenseKey::AbortedCommand, additional::INTERNAL_TARGET_FAILURE),
            Kind::Io | Kind::Disconnected => match access {
                Access::Read => (SenseKey::MediumError, additional::UNRECOVERED_READ_ERROR),
                Access::Write => (SenseKey::MediumError, additional::WRITE_ERROR),
            },
            // Initiators try again.
            Kind::Resources => (SenseKey::AbortedCommand, additional::INSUFFICIENT_RESOURCES),
            Kind::ShuttingDown => (SenseKey::NotReady, BECOMING_READY),
            Kind::NotFound => (SenseKey::IllegalRequest, additional::LOGICAL_UNIT_NOT_SUPPORTED),
            Kind::Conflict | Kind::Protocol => (SenseKey::HardwareError, additional::INTERNAL_TARGET_FAILURE),
        };
        Sense::new(key, additional)
    }
}

/// LOGICAL UNIT IS IN PROCESS OF BECOMING READY: initiators try again, by when another session may serve them.
const BECOMING_READY: (u8, u8) = (0x04, 0x01);

fn kind_of(error: &io::Error) -> Kind {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Kind::NoSpace,
        Some(libc::EPERM | libc::EACCES | libc::EROFS) => Kind::Denied,
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => Kind::Unsupported,
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOBUFS) => Kind::Resources,
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Kind::NotFound,
        Some(libc::EEXIST | libc::EADDRINUSE | libc::EBUSY) => Kind::Conflict,
        Some(libc::EINVAL) => Kind::Invalid,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ECONNABORTED) => Kind::Disconnected,
        _ => Kind::Io,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
