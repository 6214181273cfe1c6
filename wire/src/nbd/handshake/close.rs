//! Why a handshake ended without an agreement: the client's wish, or its misbehaviour by name.

use super::code::OptionCode;
use super::option::quoted;

/// Why the server hangs up. Whatever is in `out` is still to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client was done: NBD_OPT_ABORT.
    #[error("the client ended the handshake with NBD_OPT_ABORT")]
    Abort,
    /// Flags that no one defined: the protocol demands to hang up.
    #[error("unknown client flags {0:#010x}")]
    UnknownClientFlags(u32),
    /// No option begins like that.
    #[error("bad magic {0:#018x} where an option should begin")]
    BadOptionMagic(u64),
    /// A client that did not agree to fixed newstyle may only name its export.
    #[error("{0} from a client that did not agree to fixed newstyle")]
    NotFixedNewstyle(OptionCode),
    /// More options than anyone needs.
    #[error("the client sent more than {0} options")]
    TooManyOptions(u32),
    /// NBD_OPT_EXPORT_NAME has no error reply: an unknown export can only be refused by hanging up.
    #[error("NBD_OPT_EXPORT_NAME for {}, which is no export that this client may use", quoted(.0))]
    UnknownExport(String),
    /// The same for something that cannot be a name.
    #[error("NBD_OPT_EXPORT_NAME with a name that is too long or no text")]
    UnlawfulExportName,
    /// The same where TLS has to come first.
    #[error("NBD_OPT_EXPORT_NAME before TLS, which is required here")]
    ExportNameBeforeTls,
    /// The same after extended headers, with which the protocol forbids it.
    #[error("NBD_OPT_EXPORT_NAME after NBD_OPT_EXTENDED_HEADERS")]
    ExportNameWithExtendedHeaders,
    /// The same while the server is stopping.
    #[error("NBD_OPT_EXPORT_NAME while the server is stopping")]
    ShuttingDown,
    /// Bytes that somebody put between NBD_OPT_STARTTLS and the TLS handshake.
    #[error("plaintext after NBD_OPT_STARTTLS")]
    PlaintextAfterStartTls,
}
