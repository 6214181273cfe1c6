//! A device of the kernel's nbd driver, as sysfs shows it.
//!
//! Its one rule: what is said here was asked just now; nothing is remembered.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::libc;

use crate::error::{Error, Kind};

/// `/dev/nbdN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    index: u32,
}

impl Device {
    pub(super) fn new(index: u32) -> Device {
        Device { index }
    }

    pub(super) fn index(self) -> u32 {
        self.index
    }

    /// `/dev/nbdN`.
    pub fn path(self) -> PathBuf {
        PathBuf::from(self.to_string())
    }

    /// `nbdN`.
    pub fn name(self) -> String {
        format!("nbd{}", self.index)
    }

    /// The devices that are attached, by whomever.
    pub fn all_attached() -> Vec<Device> {
        let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let devices = names.filter_map(|name| name.parse::<Device>().ok());
        let mut attached: Vec<Device> = devices.filter(|device| device.pid().is_some()).collect();
        attached.sort();
        attached
    }

    /// The process that attached it; `None` if it is not attached.
    pub fn pid(self) -> Option<u32> {
        self.read("pid")?.parse().ok().filter(|pid| *pid != 0)
    }

    /// Its size.
    pub fn size_bytes(self) -> Option<u64> {
        Some(self.read("size")?.parse::<u64>().ok()? * 512)
    }

    /// Whether it cannot be written.
    pub fn is_read_only(self) -> bool {
        self.read("ro").as_deref() == Some("1")
    }

    /// What the one who attached it called the other end, where the kernel keeps that (since 5.14).
    pub fn backend(self) -> Option<String> {
        self.read("backend")
    }

    /// How long a request may take before it counts as lost; finer than the whole seconds of netlink.
    pub(super) fn set_request_timeout(self, timeout: Duration) -> io::Result<()> {
        fs::write(self.sysfs("queue/io_timeout"), timeout.as_millis().to_string())
    }

    /// No request is longer than `bytes`.
    pub(super) fn limit_requests(self, bytes: u32) -> io::Result<()> {
        fs::write(self.sysfs("queue/max_sectors_kb"), (bytes / 1024).to_string())
    }

    /// Makes durable what was written, and sees that nobody holds the device.
    pub(super) fn settle(self) -> Result<(), Error> {
        let exclusive = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(self.path());
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::EBUSY) => self.held(),
            _ => Error::caused(Kind::Local, self.to_string(), error)
                .remedy("detach it with --force if it is past saving"),
        };
        exclusive.and_then(|file| file.sync_all()).map_err(failed)
    }

    fn held(self) -> Error {
        let holders = fs::read_dir(self.sysfs("holders")).into_iter().flatten().flatten();
        let mut holders: Vec<String> =
            holders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        holders.extend(mounted_at(&self.path()));
        let by = if holders.is_empty() { String::new() } else { format!(" by {}", holders.join(", ")) };
        Error::new(Kind::Busy, format!("{self} is in use{by}")).remedy("unmount or stop what uses it first")
    }

    /// Waits until the driver has let go of it: nobody has it open any more, and all connections have ended.
    pub(super) fn wait_until_free(self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while self.pid().is_some() {
            if Instant::now() > end {
                return false;
            }
            // sysfs offers no event for it
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn sysfs(self, name: &str) -> PathBuf {
        Path::new("/sys/block").join(self.name()).join(name)
    }

    fn read(self, name: &str) -> Option<String> {
        Some(fs::read_to_string(self.sysfs(name)).ok()?.trim_end().to_owned())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/nbd{}", self.index)
    }
}

impl FromStr for Device {
    type Err = Error;

    /// `/dev/nbd3` or `nbd3`.
    fn from_str(text: &str) -> Result<Device, Error> {
        let number = text.strip_prefix("/dev/").unwrap_or(text).strip_prefix("nbd");
        let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let index = digits.and_then(|digits| digits.parse().ok());
        index.map(Device::new).ok_or_else(|| {
            Error::new(Kind::Uri, format!("{text} is no nbd device"))
                .remedy("write /dev/nbd0, or /dev/nbd1 …")
        })
    }
}

/// Where a device or file is mounted.
fn mounted_at(path: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| line.split_once(' '));
    let points = fields.filter(|(source, _)| Path::new(source) == path);
    points.filter_map(|(_, rest)| rest.split(' ').next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_with_or_without_its_folder() {
        assert_eq!("/dev/nbd12".parse::<Device>().expect("a device").index(), 12);
        assert_eq!("nbd0".parse::<Device>().expect("a device").to_string(), "/dev/nbd0");
    }

    #[test]
    fn partitions_and_other_disks_are_no_devices() {
        for text in ["/dev/nbd0p1", "/dev/sda", "nbd", "nbd+1", "/dev/nbd99999999999", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
