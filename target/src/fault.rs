//! `Fault`: the one error of the daemon, for the world's mistakes (our own are assertions).
//!
//! `kind` is what code matches on, `context` what a person reads (the thing, the cause, the next
//! step), `source` what one follows to the bottom. One table here maps a kind to an NBD error.

use std::error::Error;
use std::fmt;
use std::io;

use wire::nbd::transmission::Errno;

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
            Kind::Io | Kind::Disconnected => Errno::Io,
            Kind::Resources => Errno::NoMem,
            Kind::ShuttingDown => Errno::Shutdown,
        }
    }
}

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
