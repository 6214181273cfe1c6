//! The server's handshake: bytes of the client in, answers out, until both agree or part.
//!
//! ```text
//!            greeting
//!               ▼
//! ClientFlags ─▶ Haggling ──GO, EXPORT_NAME──▶ Agreed
//!                 │    ▲ └──ABORT, misbehaviour──▶ Close
//!        STARTTLS ▼    │ tls_established
//!               AwaitTls
//! ```
//! Its one rule: how the bytes are cut into calls changes nothing about the answers.

mod answer;
mod close;
pub(crate) mod code;
mod export;
mod frame;
mod haggle;
pub(crate) mod option;

pub use close::CloseReason;
pub use code::{BASE_ALLOCATION, OptionCode, ReplyCode};
pub use export::{ExportInfo, ExportTable, LABEL_INCARNATION, LABEL_NAMESPACE, LABEL_VOLUME};
pub use frame::OPTION_BYTES_MAX;

use crate::nbd::transmission::{Limits, ReplyStyle};

use frame::{Framing, Unit};
use haggle::{Outcome, Session};

/// Whether clients may or must speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsPolicy {
    /// NBD_OPT_STARTTLS is refused.
    #[default]
    Off,
    /// The client decides.
    Allow,
    /// Nothing is told or agreed without it.
    Require,
}

/// How this server negotiates with one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPolicy {
    /// Whether clients may or must speak TLS.
    pub tls: TlsPolicy,
    /// What the empty name stands for.
    pub default_export: Option<String>,
    /// How many options a client may send before it is taken for an attack.
    pub options_max: u32,
}

impl Default for ServerPolicy {
    /// No TLS, no default export, and options enough to ask about each of some hundred exports.
    fn default() -> ServerPolicy {
        ServerPolicy { tls: TlsPolicy::Off, default_export: None, options_max: 4096 }
    }
}

/// What a metadata context tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextKind {
    /// base:allocation: holes and zeroes.
    BaseAllocation,
}

/// A metadata context that the client selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiatedContext {
    /// Its number in this session.
    pub id: u32,
    /// What it tells.
    pub kind: ContextKind,
}

/// What holds during transmission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The export, with the flags as this client was sent them.
    pub export: ExportInfo,
    /// Which headers both sides use.
    pub style: ReplyStyle,
    /// The selected metadata contexts.
    pub contexts: Vec<NegotiatedContext>,
    /// Whether it was agreed under TLS.
    pub tls: bool,
}

impl Agreed {
    /// What `transmission::check` holds this client to.
    ///
    /// `drain_bytes_max` should be 32 MiB or more: up to there the protocol wants an error, not a hang-up.
    pub fn limits(&self, drain_bytes_max: u64) -> Limits {
        Limits {
            size_bytes: self.export.size_bytes,
            flags: self.export.flags,
            block_min: self.export.block_min,
            payload_bytes_max: self.export.payload_max,
            drain_bytes_max,
            contexts: u32::try_from(self.contexts.len()).expect("there are but a few contexts"),
        }
    }
}

/// What comes next. In every case what is in `out` is to be sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again: with the rest of the input, or with more.
    More,
    /// All further bytes are TLS; call `tls_established` when its handshake is done.
    StartTls,
    /// Transmission begins with the first byte that was not taken.
    Agreed(Box<Agreed>),
    /// Hang up.
    Close(CloseReason),
}

/// The server's half of one handshake.
#[derive(Debug)]
pub struct Negotiation {
    framing: Framing,
    session: Session,
    phase: Phase,
    options: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Haggling,
    AwaitTls,
    Over,
}

impl Negotiation {
    /// Begins a session; the greeting is in `out`.
    pub fn new(policy: ServerPolicy, out: &mut Vec<u8>) -> Negotiation {
        answer::put_greeting(out);
        Negotiation {
            framing: Framing::new(),
            session: Session::new(policy),
            phase: Phase::Haggling,
            options: 0,
        }
    }

    /// Takes bytes off `input`, at most up to the end of one option, and says how many; appends the answer to `out`.
    ///
    /// Send `out` before the next call: so a client that pipelines options cannot make it grow.
    pub fn step(&mut self, input: &[u8], exports: &ExportTable, out: &mut Vec<u8>) -> (usize, Step) {
        assert_eq!(self.phase, Phase::Haggling, "step during TLS or after the end");
        let mut rest = input;
        let outcome = match self.framing.next(&mut rest) {
            None => Outcome::Continue,
            Some(Unit::ClientFlags(flags)) => self.session.client_flags(flags),
            Some(Unit::BadMagic(magic)) => Outcome::Close(CloseReason::BadOptionMagic(magic)),
            Some(Unit::TooBig { code }) => self.option(code, None, exports, out),
            Some(Unit::Option { code, payload }) => self.option(code, Some(&payload), exports, out),
        };
        let taken_bytes = input.len() - rest.len();
        assert!(taken_bytes > 0 || input.is_empty(), "every call makes progress");
        (taken_bytes, self.enter(outcome, rest))
    }

    /// The TLS handshake is done: negotiation begins anew inside it.
    pub fn tls_established(&mut self) {
        assert_eq!(self.phase, Phase::AwaitTls, "TLS without NBD_OPT_STARTTLS");
        self.session.tls_established();
        self.phase = Phase::Haggling;
    }

    /// From now on every option but ABORT is answered with NBD_REP_ERR_SHUTDOWN.
    pub fn stop(&mut self) {
        self.session.stop();
    }

    fn option(
        &mut self,
        code: OptionCode,
        payload: Option<&[u8]>,
        exports: &ExportTable,
        out: &mut Vec<u8>,
    ) -> Outcome {
        self.options += 1;
        if self.options > self.session.options_max() {
            return Outcome::Close(CloseReason::TooManyOptions(self.session.options_max()));
        }
        self.session.option(code, payload, exports, out)
    }

    fn enter(&mut self, outcome: Outcome, rest: &[u8]) -> Step {
        let (phase, step) = match outcome {
            Outcome::Continue => (Phase::Haggling, Step::More),
            // A client waits for the ACK, so whatever follows was put there by somebody in between.
            Outcome::StartTls if !rest.is_empty() => {
                (Phase::Over, Step::Close(CloseReason::PlaintextAfterStartTls))
            }
            Outcome::StartTls => (Phase::AwaitTls, Step::StartTls),
            Outcome::Agreed(agreed) => (Phase::Over, Step::Agreed(agreed)),
            Outcome::Close(reason) => (Phase::Over, Step::Close(reason)),
        };
        self.phase = phase;
        step
    }
}
