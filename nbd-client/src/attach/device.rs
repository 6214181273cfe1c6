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

    /// How long a request may take before it counts as lost.
    pub(super) fn request_timeout(self) -> Option<Duration> {
        self.read("queue/io_timeout")?.parse().ok().map(Duration::from_millis)
    }

    /// No request is longer than `bytes`.
    pub(super) fn limit_requests(self, bytes: u32) -> io::Result<()> {
        fs::write(self.sysfs("queue/max_sectors_kb"), (bytes / 1024).to_string())
    }

    /// Makes durable what was written, and sees that nobody uses the device.
    pub(super) fn settle(self) -> Result<(), Error> {
        let users = self.users();
        if !users.is_empty() {
            return Err(self.used_by(&users));
        }
        let exclusive = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(self.path());
        exclusive.and_then(|file| file.sync_all()).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => self.used_by(&[]),
            _ => Error::caused(Kind::Local, self.to_string(), error)
                .remedy("detach it with --force if it is past saving"),
        })
    }

    fn used_by(self, users: &[String]) -> Error {
        let by = if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) };
        Error::new(Kind::Busy, format!("{self} is in use{by}")).remedy("unmount or stop what uses it first")
    }

    /// Devices above it, mount points and processes, as far as we may see them.
    fn users(self) -> Vec<String> {
        let entries = fs::read_dir(self.sysfs("holders")).into_iter().flatten().flatten();
        let holders = entries.filter_map(|entry| entry.file_name().into_string().ok());
        holders.chain(self.mount_points()).chain(self.openers()).collect()
    }

    fn mount_points(self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let pairs = mounts.lines().filter_map(|line| line.split_once(' '));
        let here = pairs.filter(|(source, _)| self.is_called(Path::new(source)));
        here.filter_map(|(_, rest)| rest.split(' ').next()).map(str::to_owned).collect()
    }

    fn openers(self) -> Vec<String> {
        let mut openers = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process.file_name().to_string_lossy().parse::<u32>();
            let Some(pid) = pid.ok().filter(|pid| *pid != std::process::id()) else { continue };
            let mut files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            if files.any(|file| fs::read_link(file.path()).is_ok_and(|path| self.is_called(&path))) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                openers.push(format!("{} (process {pid})", name.trim_end()));
            }
        }
        openers
    }

    /// Whether `path` is the device, or a partition of it.
    fn is_called(self, path: &Path) -> bool {
        let name = path.to_str().and_then(|path| path.strip_prefix("/dev/"));
        let rest = name.and_then(|name| name.strip_prefix(&self.name()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('p'))
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

    #[test]
    fn partitions_use_the_device_and_other_devices_do_not() {
        let device = Device::new(1);
        assert!(["/dev/nbd1", "/dev/nbd1p2"].iter().all(|path| device.is_called(Path::new(path))));
        assert!(
            !["/dev/nbd12", "/dev/nbd", "/tmp/nbd1"].iter().any(|path| device.is_called(Path::new(path)))
        );
    }
}
