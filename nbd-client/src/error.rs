//! What can go wrong, for programs (`Kind`) and for people (`Display`: thing, cause, remedy).

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use wire::nbd::transmission::Errno;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The URI cannot be used.
    Uri,
    /// Nobody answers at the address.
    Unreachable,
    /// The server has no such export, or does not let us have it.
    NoExport,
    /// TLS: certificates, or the server's refusal.
    Tls,
    /// The server refused something else of the negotiation.
    Refused,
    /// The server broke the protocol.
    Protocol,
    /// The server answered a request with an error.
    Server(Errno),
    /// The connection ended, and could not be made again in time.
    Lost,
    /// The export is not what it was when we connected: another size, another identity.
    Changed,
    /// Writes that the server had acknowledged may not be durable, although a flush was due: write them again.
    Unflushed,
    /// The request is outside of the export, or not what it can do.
    Request,
    /// A local file, device or resource.
    Local,
    /// A device or destination is in use.
    Busy,
    /// The kernel's nbd driver is not there.
    NoDriver,
}

/// An error. All who wait for the same thing get the same one.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: Kind,
    what: String,
    remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// `what` names the thing and the cause.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { inner: Arc::new(Inner { kind, what: what.into(), remedy: None, source: None }) }
    }

    /// `what` names the thing, `source` the cause.
    pub fn caused(
        kind: Kind,
        what: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let inner = Inner { kind, what: what.into(), remedy: None, source: Some(source.into()) };
        Error { inner: Arc::new(inner) }
    }

    /// The same with the next step for a person. Only the error's maker can add one.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.remedy = Some(remedy.into());
        }
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The server's error value, where a server answered with one.
    pub fn errno(&self) -> Option<Errno> {
        match self.inner.kind {
            Kind::Server(errno) => Some(errno),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { what, remedy, source, .. } = &*self.inner;
        f.write_str(what)?;
        let mut cause = source.as_deref().map(|source| source as &dyn StdError);
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        match remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.inner.kind)
    }
}

// The whole chain is in `Display`: one line for people.
impl StdError for Error {}
