//! What a server has to offer: one export, and the table of those that this client may see.

use crate::nbd::transmission::{ReplyStyle, STRING_BYTES_MAX, TransmissionFlags};

/// Where labels live: the protocol's form for contexts of one implementation.
pub const LABEL_NAMESPACE: &str = "x-ringsan:";
/// Before the UUID of the volume behind an export.
pub const LABEL_VOLUME: &str = "x-ringsan:volume:";
/// Before a UUID that changes when writes may have been lost that were acknowledged, but not flushed.
pub const LABEL_INCARNATION: &str = "x-ringsan:incarnation:";

/// One export, as the handshake describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its canonical name, not empty.
    pub name: String,
    /// For people; empty for none.
    pub description: String,
    /// Its size.
    pub size_bytes: u64,
    /// What it can do. What depends on the client's own options (HAS_FLAGS, SEND_DF,
    /// BLOCK_STATUS_PAYLOAD) is set or cleared by the negotiation.
    pub flags: TransmissionFlags,
    /// The smallest unit of offsets and lengths: a power of two, at most 64 KiB.
    pub block_min: u32,
    /// The unit that performs best: a power of two, at least `block_min` and 512.
    pub block_preferred: u32,
    /// The longest read or write: a multiple of `block_min`.
    pub payload_max: u32,
    /// Whether base:allocation is offered.
    pub offers_allocation: bool,
    /// Context names that say all they have to say by themselves: listed when asked for, never selected.
    pub labels: Vec<String>,
}

impl ExportInfo {
    /// The flags for a client that agreed on `style` and, if `contexts`, selected metadata contexts.
    pub(crate) fn flags_for(&self, style: ReplyStyle, contexts: bool) -> TransmissionFlags {
        use TransmissionFlags as Flags;
        let of_the_client = Flags::HAS_FLAGS | Flags::SEND_DF | Flags::BLOCK_STATUS_PAYLOAD;
        let mut flags = self.flags.without(of_the_client) | Flags::HAS_FLAGS;
        if !flags.contains(Flags::SEND_WRITE_ZEROES) {
            flags = flags.without(Flags::SEND_FAST_ZERO);
        }
        flags = flags.with(Flags::SEND_DF, style != ReplyStyle::Simple);
        flags.with(Flags::BLOCK_STATUS_PAYLOAD, style == ReplyStyle::Extended && contexts)
    }

    /// The protocol's rules for what a server may advertise; breaking one is our own mistake.
    fn assert_lawful(&self) {
        let Self { name, block_min, block_preferred, payload_max, labels, .. } = self;
        assert!(labels.iter().all(|label| label.starts_with(LABEL_NAMESPACE)), "labels are ours: {labels:?}");
        let name_bytes = 1..=STRING_BYTES_MAX;
        assert!(
            name_bytes.contains(&name.len()) && !name.contains('\0'),
            "an export's name is not empty: {name:?}"
        );
        assert!(self.description.len() <= STRING_BYTES_MAX, "a description fits a string of the protocol");
        assert!(block_min.is_power_of_two() && *block_min <= 1 << 16, "minimum block size {block_min}");
        assert!(
            block_preferred.is_power_of_two() && block_preferred >= block_min && *block_preferred >= 512,
            "preferred block size {block_preferred}"
        );
        let payload_min = u64::from(*block_preferred).min(self.size_bytes).max(1);
        assert!(
            u64::from(*payload_max) >= payload_min && payload_max.is_multiple_of(*block_min),
            "maximum payload {payload_max}"
        );
    }
}

/// The exports that one client may see, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct ExportTable {
    sorted: Vec<ExportInfo>,
}

impl ExportTable {
    /// The export of that very name.
    pub fn get(&self, name: &str) -> Option<&ExportInfo> {
        let index = self.sorted.binary_search_by(|export| export.name.as_str().cmp(name)).ok()?;
        Some(&self.sorted[index])
    }

    /// All, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ExportInfo> {
        self.sorted.iter()
    }
}

impl FromIterator<ExportInfo> for ExportTable {
    fn from_iter<T: IntoIterator<Item = ExportInfo>>(exports: T) -> ExportTable {
        let mut sorted: Vec<ExportInfo> = exports.into_iter().collect();
        sorted.iter().for_each(ExportInfo::assert_lawful);
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(sorted.windows(2).all(|pair| pair[0].name != pair[1].name), "an export's name is its own");
        ExportTable { sorted }
    }
}
