//! What the kernel's driver is told of an export: flags, block size, timeouts.
//!
//! Its one rule: what the driver cannot do is refused here, before it is asked.

use std::time::Duration;

use wire::nbd::transmission::TransmissionFlags;

use super::device::Device;
use super::kernel::Wish;
use super::netlink::Attribute;
use super::nodes::{Common, Roster};
use crate::error::{Error, Kind};
use crate::uri::Endpoint;

/// With several hosts a request of a lost connection is sent to another one after this time. The driver starts its
/// clock only up to a second late, so an I/O stalls for less than two.
const TIMEOUT_OF_MANY: Duration = Duration::from_millis(900);
const TIMEOUT_OF_ONE: Duration = Duration::from_secs(30);
const DEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The block sizes that the driver can have (the largest is a page).
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=4096;
/// The longest request that the driver makes without being told otherwise.
const REQUEST_BYTES_MAX: u32 = 128 << 10;

/// What the driver is told.
pub(super) struct Plan {
    pub size_bytes: u64,
    pub block_size: u32,
    pub flags: TransmissionFlags,
    pub timeout: Duration,
    pub dead_timeout: Duration,
    pub payload_max: u32,
}

impl Plan {
    pub(super) fn new(wish: &Wish, roster: &Roster) -> Result<Plan, Error> {
        let hosts = roster.sockets.len();
        let common = &roster.common;
        let multi = common.flags.contains(TransmissionFlags::CAN_MULTI_CONN);
        if !multi && (wish.connections_each > 1 || hosts > 1) {
            let text = format!("{}: the server does not allow several connections", wish.uri_text);
            return Err(Error::new(Kind::Refused, text)
                .remedy("attach one host with one connection, or serve it with CAN_MULTI_CONN"));
        }
        let usual = if hosts > 1 { TIMEOUT_OF_MANY } else { TIMEOUT_OF_ONE };
        let patience = if wish.persist { DEAD_TIMEOUT } else { Duration::ZERO };
        let block_size = block_size(wish, common)?;
        Ok(Plan {
            size_bytes: common.size_bytes / u64::from(block_size) * u64::from(block_size),
            block_size,
            flags: common.flags.with(TransmissionFlags::READ_ONLY, wish.read_only),
            timeout: wish.timeout.unwrap_or(usual),
            dead_timeout: wish.dead_timeout.unwrap_or(patience),
            payload_max: common.payload_max,
        })
    }

    pub(super) fn attributes(&self) -> Vec<Attribute> {
        vec![
            Attribute::SizeBytes(self.size_bytes),
            Attribute::BlockSizeBytes(self.block_size.into()),
            Attribute::ServerFlags(self.flags.bits().into()),
            Attribute::Timeout(whole_seconds(self.timeout)),
            Attribute::DeadConnTimeout(whole_seconds(self.dead_timeout)),
        ]
    }

    /// What only sysfs can set.
    pub(super) fn fine_tune(&self, device: Device, warnings: &mut Vec<String>) {
        if let Err(error) = device.set_request_timeout(self.timeout) {
            let seconds = whole_seconds(self.timeout);
            warnings.push(format!(
                "{device}: the timeout is {seconds} s, because sysfs takes no finer one: {error}"
            ));
        }
        if self.payload_max < REQUEST_BYTES_MAX
            && let Err(error) = device.limit_requests(self.payload_max)
        {
            let text = "requests may be longer than the server takes";
            warnings.push(format!("{device}: {text} ({} bytes): {error}", self.payload_max));
        }
    }
}

fn block_size(wish: &Wish, common: &Common) -> Result<u32, Error> {
    let least = common.block_min.max(*BLOCK_SIZES.start());
    let size = wish.block_size.unwrap_or(least);
    if size.is_power_of_two() && BLOCK_SIZES.contains(&size) && size.is_multiple_of(common.block_min) {
        return Ok(size);
    }
    let (first, last) = (least, BLOCK_SIZES.end());
    let text = format!("{}: the device cannot have blocks of {size} bytes", wish.uri_text);
    Err(Error::new(Kind::Refused, text).remedy(if first > *last {
        "the server wants larger ones than the kernel has; use --fuse DIR".to_owned()
    } else {
        format!("use a power of two from {first} to {last}")
    }))
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

pub(super) fn warnings(wish: &Wish, roster: &Roster) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    for error in &roster.absent {
        let then = if wish.persist { "it is dialed again until it answers" } else { "attached without it" };
        warnings.push(format!("{error} ({then})"));
    }
    if roster.sockets.len() > 1 && roster.common.uuid.is_none() {
        let hosts = wish.uri.endpoints().iter().map(Endpoint::to_string).collect::<Vec<_>>().join(" and ");
        warnings.push(format!(
            "{hosts} do not tell which volume they serve: only its size was compared; attach them together only if \
             they mirror each other"
        ));
    }
    let rest = roster.common.size_bytes % 512;
    if rest > 0 {
        warnings
            .push(format!("the last {rest} bytes of the export are no whole sector: the device lacks them"));
    }
    warnings
}
