//! Whether what we connected to again is still the same export, and can still do what it could.

use crate::attach::nodes::{Common, differs};
use crate::error::{Error, Kind};
use crate::export::Export;
use crate::uri::Endpoint;

/// Refuses an export that is not what `known` was.
pub(super) fn same(known: &Export, now: &Export, endpoint: &Endpoint) -> Result<(), Error> {
    let change = if known.size_bytes != now.size_bytes {
        format!("has {} bytes now, and had {}", now.size_bytes, known.size_bytes)
    } else if known.uuid != now.uuid {
        let told = |uuid: Option<uuid::Uuid>| uuid.map_or("no identity".to_owned(), |uuid| uuid.to_string());
        format!("is another volume: {}, and was {}", told(now.uuid), told(known.uuid))
    } else if !now.flags.contains(known.flags) || known.is_read_only() != now.is_read_only() {
        format!(
            "can no longer do what it could: flags {:#x}, and had {:#x}",
            now.flags.bits(),
            known.flags.bits()
        )
    } else if now.block_sizes.min > known.block_sizes.min
        || now.block_sizes.payload_max < known.block_sizes.payload_max
    {
        "has narrower block sizes now".to_owned()
    } else if known.has_allocation() && !now.has_allocation() {
        "no longer tells where there is data".to_owned()
    } else {
        return Ok(());
    };
    let what = format!("the export {:?} on {endpoint} {change}", known.name);
    Err(Error::new(Kind::Changed, what).remedy("check what the server serves, and connect anew"))
}

/// Refuses a server of several whose export could not stand for that of the first one.
pub(super) fn stands_for(first: &Export, other: &Export, endpoint: &Endpoint) -> Result<(), Error> {
    let (ours, theirs) = (Common::of(first), Common::of(other));
    ours.joined(&theirs, endpoint)?;
    if !other.flags.contains(first.flags) {
        let how =
            format!("offers less than the others: {:#x} of {:#x}", other.flags.bits(), first.flags.bits());
        return Err(differs(endpoint, how));
    }
    if theirs.block_min > ours.block_min || theirs.payload_max < ours.payload_max {
        return Err(differs(endpoint, "wants other block sizes than the others".to_owned()));
    }
    Ok(())
}
