//! How a daemon is started: on ports of its own, with its files in the test's folder.
//!
//! The binary is the one that RINGSAN_BIN names, else a release build made (or found fresh) on first use.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Scratch;
use crate::certificates::Certificates;
use crate::target::Target;
use crate::tool::Tool;

/// How to start a daemon.
#[derive(Clone)]
pub struct Launch {
    folder: PathBuf,
    data: PathBuf,
    nbd: SocketAddr,
    iscsi: Option<SocketAddr>,
    admin: SocketAddr,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    nbd_settings: String,
    iscsi_settings: String,
    tables: String,
    listens: bool,
}

impl Launch {
    /// A daemon with one core, on free ports of 127.0.0.1, with a data directory of its own in `scratch`. The same
    /// launch, started again, is the same node.
    pub fn new(scratch: &Scratch) -> Launch {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let data = format!("data{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Launch {
            folder: scratch.path().to_owned(),
            data: scratch.join(&data),
            nbd: free_address(),
            iscsi: None,
            admin: free_address(),
            args: Vec::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
            nbd_settings: String::new(),
            iscsi_settings: String::new(),
            tables: String::new(),
            listens: true,
        }
    }

    /// A daemon with one core, at the ports that are ringsan's own of `host`, whose files lie in `folder`: for a
    /// network namespace where nobody else is.
    pub fn at(host: IpAddr, folder: &Path, cpu: usize) -> Launch {
        Launch {
            folder: folder.to_owned(),
            data: folder.join("data"),
            nbd: SocketAddr::new(host, 10809),
            iscsi: Some(SocketAddr::new(host, 3260)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9810)),
            args: vec!["--cores".to_owned(), cpu.to_string()],
            environment: Vec::new(),
            prefix: Vec::new(),
            nbd_settings: String::new(),
            iscsi_settings: String::new(),
            tables: String::new(),
            listens: true,
        }
    }

    /// A volume, `NAME=PATH|memory[,…]`.
    pub fn volume(self, spec: impl Into<String>) -> Launch {
        self.arg("--volume").arg(spec)
    }

    /// Two cores, where the machine has two CPUs.
    pub fn two_cores(self) -> Launch {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
        self.arg("--cores").arg(if cpus > 1 { "0,1" } else { "0" })
    }

    /// One more NBD portal, `HOST:PORT` or `unix:PATH`.
    pub fn portal(self, portal: impl Into<String>) -> Launch {
        self.arg("--nbd").arg(portal)
    }

    /// No TCP portal for NBD.
    pub fn without_tcp(mut self) -> Launch {
        self.listens = false;
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Launch {
        self.args.push(arg.into());
        self
    }

    /// One line of the configuration's section `[nbd]`.
    pub fn nbd_setting(mut self, line: &str) -> Launch {
        self.nbd_settings += &format!("{line}\n");
        self
    }

    /// A TCP portal for iSCSI, too.
    pub fn iscsi(mut self) -> Launch {
        self.iscsi = Some(free_address());
        self
    }

    /// One line of the configuration's section `[iscsi]`.
    pub fn iscsi_setting(mut self, line: &str) -> Launch {
        self.iscsi_settings += &format!("{line}\n");
        self
    }

    /// TLS, which clients may or must use (`allow`, `require`), for clients that `certificates` know.
    pub fn tls(self, mode: &str, certificates: &Certificates) -> Launch {
        let folder = certificates.folder().display();
        let lines = format!("tls = {mode:?}\ntls_directory = \"{folder}\"\ntls_verify_clients = true");
        self.nbd_setting(&lines)
    }

    /// Further tables of the configuration.
    pub fn tables(mut self, text: &str) -> Launch {
        text.clone_into(&mut self.tables);
        self
    }

    /// An environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Launch {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program, with arguments, that starts the daemon (`systemd-socket-activate`, `prlimit`).
    pub fn under(mut self, words: &[&str]) -> Launch {
        self.prefix = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The address of its TCP portal.
    pub fn address(&self) -> SocketAddr {
        self.nbd
    }

    /// The address of its iSCSI portal, which `iscsi` asked for.
    pub fn iscsi_address(&self) -> SocketAddr {
        self.iscsi.expect("a test that speaks iSCSI asks for a portal")
    }

    /// The address of its admin portal.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The file of its configuration.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("ringsan.toml")
    }

    /// Writes the configuration as it stands now.
    pub fn write_config(&self) -> Result<()> {
        let Launch { nbd_settings, iscsi_settings, tables, .. } = self;
        let text = format!("[nbd]\n{nbd_settings}\n[iscsi]\n{iscsi_settings}\n{tables}");
        // it may hold secrets: nobody but its owner may read it
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(self.config_path());
        file.and_then(|mut file| file.write_all(text.as_bytes())).context("writing the configuration")
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Target> {
        let target = self.spawn()?;
        target.await_ready()?;
        Ok(target)
    }

    /// Starts it and does not wait.
    pub fn start_unready(self) -> Result<Target> {
        self.spawn()
    }

    /// Starts it; it must refuse, with exit status `status`. What it said.
    pub fn refused(self, status: i32) -> Result<String> {
        let (ended, said) = self.spawn()?.await_refusal()?;
        ensure!(ended.code() == Some(status), "ended with {ended}, not {status}:\n{said}");
        Ok(said)
    }

    fn spawn(self) -> Result<Target> {
        self.write_config()?;
        let mut words: Vec<String> = self.prefix.clone();
        words.push(binary()?.display().to_string());
        words.extend(["serve", "--config"].map(str::to_owned));
        words.push(self.config_path().display().to_string());
        words.extend(["--data-dir".to_owned(), self.data.display().to_string()]);
        words.extend(["--admin".to_owned(), self.admin.to_string()]);
        if self.listens {
            words.extend(["--nbd".to_owned(), self.nbd.to_string()]);
        }
        match self.iscsi {
            Some(address) => words.extend(["--iscsi".to_owned(), address.to_string()]),
            None => words.push("--no-iscsi".to_owned()),
        }
        words.extend(self.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.iter().cloned()).current_dir(&self.folder);
        Target::spawn(command, self)
    }
}

/// A port below those that the kernel gives to outgoing connections, so that none of ours takes it meanwhile.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((std::process::id() * 131) as u16).wrapping_add(step) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The daemon's binary.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(&BINARY, "RINGSAN_BIN", "ringsan")
}

/// The binary of `ringsan-nbd`.
pub fn client_binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(&BINARY, "RINGSAN_NBD_BIN", "nbd-client")
}

fn found(
    binary: &'static OnceLock<Result<PathBuf, String>>,
    variable: &str,
    package: &str,
) -> Result<&'static Path> {
    match binary.get_or_init(|| find_binary(variable, package).map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

/// What the variable names, else what cargo builds.
fn find_binary(variable: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return fs::canonicalize(&path).with_context(|| format!("{variable}={}", path.display()));
    }
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let build = ["build", "--release", "--package", package, "--message-format", "json"];
    let messages = Tool::new("cargo").args(build).folder(&tree).seconds(1200).ok()?;
    let executables = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path =
        executables.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.context("cargo names the executable that it built")
}
