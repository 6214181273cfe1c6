//! Why a client could not come to an agreement with its server.

use crate::nbd::handshake::option::quoted;
use crate::nbd::handshake::{OptionCode, ReplyCode};

/// Why the client hangs up; where the protocol wants it, an NBD_OPT_ABORT is in `out`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The first eight bytes are wrong.
    #[error("the server does not speak NBD")]
    NotNbd,
    /// A server of before 2011, or one that was told to behave like it.
    #[error("the server speaks only the oldstyle handshake")]
    Oldstyle,
    /// A server that can only be asked for an export by name.
    #[error("the server does not speak the fixed newstyle handshake, which {0} needs")]
    NotFixedNewstyle(OptionCode),
    /// The server said no.
    #[error("the server refused {option}: {error} {}", quoted(message))]
    Refused {
        /// What was asked.
        option: OptionCode,
        /// The error.
        error: ReplyCode,
        /// The server's words.
        message: String,
    },
    /// Something else stands where a reply should begin.
    #[error("bad magic {0:#018x} where a reply should begin")]
    BadReplyMagic(u64),
    /// A reply to something that was not asked.
    #[error("a reply to {got} where one to {expected} is due")]
    ForeignReply {
        /// What was asked last.
        expected: OptionCode,
        /// What was answered.
        got: OptionCode,
    },
    /// A reply that has no place in the answer to this option, or whose data is malformed.
    #[error("{reply} in answer to {option} is unexpected or malformed")]
    Malformed {
        /// What was asked.
        option: OptionCode,
        /// The reply.
        reply: ReplyCode,
    },
    /// More than a client can be expected to store.
    #[error("the answer to {0} is too long")]
    TooLong(OptionCode),
    /// Bytes that somebody put between the server's consent and the TLS handshake.
    #[error("plaintext after the server agreed to TLS")]
    PlaintextBeforeTls,
}
