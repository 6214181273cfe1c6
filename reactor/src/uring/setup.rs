//! Making rings: the best that this kernel has, and a word about what it lacks.

use std::io;
use std::rc::Rc;

use io_uring::squeue::Entry128;
use io_uring::{Builder, IoUring, Probe, cqueue, opcode, squeue};

use crate::buffer::Arena;
use crate::uring::provided::Provided;

/// How the rings and buffers of a core are made.
#[derive(Clone, Debug)]
pub struct UringSettings {
    /// Submission entries of the ordinary ring; completions have four times as many.
    pub entries: u32,
    /// Bytes of the registered payload arena.
    pub arena_bytes: usize,
    /// Bytes of all receive buffers.
    pub receive_arena_bytes: usize,
    /// Bytes of one receive buffer.
    pub receive_buffer_bytes: usize,
    /// Receive buffers that the kernel may pick from at a time, a power of two.
    pub receive_buffers: u16,
    /// Entries of the file table.
    pub files: u32,
    /// Features not to use, by the names in `FEATURES`.
    pub without: Vec<String>,
}

/// The names that `UringSettings::without` knows.
pub const FEATURES: [&str; 7] = [
    "defer_taskrun",
    "coop_taskrun",
    "buffer_ring",
    "registered_buffers",
    "registered_files",
    "iopoll",
    "send_zc",
];

/// Kernel worker threads of one ring for what it cannot do without waiting (fsync, buffered writes of most file
/// systems), and as many for what may wait without end.
const WORKERS_MAX: u32 = 32;

/// The kernel (major, minor) from which NVMe commands are known to take registered buffers: 6.1 answers many with
/// EINVAL, 6.12 none.
const REGISTERED_COMMANDS: (u32, u32) = (6, 12);

impl Default for UringSettings {
    fn default() -> UringSettings {
        UringSettings {
            entries: 1024,
            arena_bytes: 16 << 20,
            receive_arena_bytes: 8 << 20,
            receive_buffer_bytes: 256 << 10,
            receive_buffers: 8,
            files: 4096,
            without: Vec::new(),
        }
    }
}

/// What was found while the rings were made.
pub(super) struct Setup {
    without: Vec<String>,
    task_run: TaskRun,
    notes: Vec<String>,
    arena_registered: bool,
    zero_copy_send: bool,
    registered_commands: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskRun {
    Deferred,
    Cooperative,
    Plain,
}

impl Setup {
    pub(super) fn network_ring(settings: &UringSettings) -> io::Result<(IoUring, Setup)> {
        let without = settings.without.clone();
        let mut setup = Setup {
            without,
            task_run: TaskRun::Plain,
            notes: Vec::new(),
            arena_registered: false,
            zero_copy_send: false,
            registered_commands: kernel_is_at_least(REGISTERED_COMMANDS),
        };
        let mut last = io::Error::other("no way of setting up a ring was tried");
        for task_run in [TaskRun::Deferred, TaskRun::Cooperative, TaskRun::Plain] {
            if setup.excludes(task_run.feature()) {
                setup.notes.push(format!("no {} (switched off)", task_run.name()));
                continue;
            }
            let mut builder = IoUring::builder();
            task_run.apply(&mut builder);
            builder.setup_clamp().setup_cqsize(settings.entries * 4).dontfork();
            match builder.build(settings.entries) {
                Ok(ring) => {
                    setup.task_run = task_run;
                    setup.notes.push(task_run.name().into());
                    setup.require(&ring)?;
                    return Ok((ring, setup));
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    setup.notes.push(format!("no {} (kernel too old)", task_run.name()));
                    last = error;
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(unavailable(last))
    }

    fn require(&mut self, ring: &IoUring) -> io::Result<()> {
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::other(
                "this kernel's io_uring is too old; ringsan needs Linux 5.15 or newer",
            ));
        }
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        self.zero_copy_send = probe.is_supported(opcode::SendMsgZc::CODE) && !self.excludes("send_zc");
        self.notes.push(match self.zero_copy_send {
            true => "SEND_ZC".into(),
            false => "no SEND_ZC (kernel too old, or switched off)".into(),
        });
        // Kernels before 5.15 cannot bound them; they are not supported anyway.
        let _ = ring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX, WORKERS_MAX]);
        Ok(())
    }

    /// A ring for disks. Polled rings need the device's or file system's support only when used.
    pub(super) fn big_ring(&self, polled: bool) -> io::Result<IoUring<Entry128, cqueue::Entry32>> {
        let mut builder = IoUring::<Entry128, cqueue::Entry32>::builder();
        if polled {
            if self.excludes("iopoll") {
                return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
            }
            builder.setup_iopoll();
        }
        if self.task_run == TaskRun::Deferred {
            self.task_run.apply(&mut builder);
        }
        builder.setup_clamp().dontfork();
        builder.build(512)
    }

    /// Whether sends may be lent to the network card.
    pub(super) fn has_zero_copy_send(&self) -> bool {
        self.zero_copy_send
    }

    /// Whether NVMe commands may use registered buffers.
    pub(super) fn has_registered_commands(&self) -> bool {
        self.registered_commands
    }

    /// The payload arena, registered as far as the memlock limit allows.
    pub(super) fn register_arena(
        &mut self,
        ring: &IoUring,
        settings: &UringSettings,
    ) -> io::Result<Rc<Arena>> {
        let mut bytes = settings.arena_bytes;
        while !self.excludes("registered_buffers") && bytes >= 4 << 20 {
            let arena = Arena::new(bytes)?;
            match register(ring, &arena) {
                Ok(()) => {
                    self.arena_registered = true;
                    self.notes.push(match bytes == settings.arena_bytes {
                        true => "registered buffers".into(),
                        false => format!("registered buffers of {} MiB only (memlock limit)", bytes >> 20),
                    });
                    return Ok(arena);
                }
                Err(_) => bytes /= 2,
            }
        }
        self.notes.push("no registered buffers (memlock limit, or switched off)".into());
        Arena::new(settings.arena_bytes)
    }

    pub(super) fn register_same_arena(
        &self,
        ring: &IoUring<Entry128, cqueue::Entry32>,
        arena: &Arena,
    ) -> io::Result<()> {
        if self.arena_registered { register(ring, arena) } else { Ok(()) }
    }

    pub(super) fn provided(
        &mut self,
        ring: &IoUring,
        settings: &UringSettings,
    ) -> io::Result<Option<Provided>> {
        if self.excludes("buffer_ring") {
            self.notes.push("no buffer ring (switched off)".into());
            return Ok(None);
        }
        match Provided::new(ring, settings.receive_buffers, settings.receive_buffer_bytes) {
            Ok(provided) => {
                self.notes.push("buffer ring".into());
                Ok(Some(provided))
            }
            Err(error) => {
                self.notes.push(format!("no buffer ring ({error})"));
                Ok(None)
            }
        }
    }

    /// How many slots the file table has; 0 without one.
    pub(super) fn register_files(&mut self, ring: &IoUring, settings: &UringSettings) -> u32 {
        if self.excludes("registered_files")
            || ring.submitter().register_files_sparse(settings.files).is_err()
        {
            self.notes.push("no registered files".into());
            return 0;
        }
        self.notes.push("registered files".into());
        settings.files
    }

    pub(super) fn features(&self, polled: bool, passthrough: bool) -> Vec<String> {
        let mut features = self.notes.clone();
        if polled {
            features.push("IOPOLL ring".into());
        }
        if passthrough {
            features.push("passthrough ring".into());
        }
        if (polled || passthrough) && !self.registered_commands {
            features.push("no registered buffers in NVMe commands (kernel older than 6.12)".into());
        }
        features
    }

    fn excludes(&self, feature: &str) -> bool {
        self.without.iter().any(|name| name == feature)
    }
}

impl TaskRun {
    fn apply<S: squeue::EntryMarker, C: cqueue::EntryMarker>(self, builder: &mut Builder<S, C>) {
        match self {
            // Without the flag, a poll that does not enter never learns that there is something to run.
            TaskRun::Deferred => builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
            TaskRun::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
            TaskRun::Plain => builder,
        };
    }

    fn name(self) -> &'static str {
        match self {
            TaskRun::Deferred => "DEFER_TASKRUN",
            TaskRun::Cooperative => "COOP_TASKRUN",
            TaskRun::Plain => "interrupting task work",
        }
    }

    fn feature(self) -> &'static str {
        match self {
            TaskRun::Deferred => "defer_taskrun",
            TaskRun::Cooperative => "coop_taskrun",
            TaskRun::Plain => "",
        }
    }
}

fn register<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
    ring: &IoUring<S, C>,
    arena: &Arena,
) -> io::Result<()> {
    let iovec = libc::iovec { iov_base: arena.base().cast(), iov_len: arena.bytes() };
    // SAFETY: the arena outlives the ring's use of it: every buffer holds it, and drivers drop rings first.
    unsafe { ring.submitter().register_buffers(&[iovec]) }?;
    arena.set_registered(true);
    Ok(())
}

fn kernel_is_at_least(wanted: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= wanted,
        _ => false,
    }
}

/// The reason why there is no ring at all, and what to do.
fn unavailable(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring; ringsan needs Linux 5.15 or newer".to_string(),
        Some(libc::EPERM | libc::EACCES) => {
            let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            format!(
                "io_uring is forbidden here (sysctl kernel.io_uring_disabled is {:?}); allow it with \
                 `sysctl kernel.io_uring_disabled=0`, or lift the container's seccomp filter",
                value.trim()
            )
        }
        Some(libc::ENOMEM) => {
            "no memory for io_uring; raise the memlock limit (ulimit -l, LimitMEMLOCK=)".to_string()
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "no descriptor left for io_uring; raise the limit (ulimit -n)".to_string()
        }
        _ => format!("io_uring cannot be set up: {error}"),
    };
    io::Error::new(error.kind(), advice)
}
