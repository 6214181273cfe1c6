//! Servers of one export, `disk`, each as a process that ends with its value.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Launch, MIB, Scratch, Target};

/// The size of every export here.
pub const SIZE_BYTES: u64 = 64 * MIB;
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub struct Server {
    /// What it is called in messages.
    pub name: &'static str,
    address: SocketAddr,
    process: Process,
    _scratch: Scratch,
}

enum Process {
    Ringsan(#[allow(dead_code, reason = "it ends with its value")] Box<Target>),
    Child(Child),
    /// It went into the background.
    Daemon(Pid),
}

impl Server {
    /// Our target, with a volume in memory.
    pub fn ringsan() -> Result<Server> {
        let scratch = Scratch::new()?;
        let target = Launch::new(&scratch).volume(format!("disk=memory,size={SIZE_BYTES}")).start()?;
        let address = target.address();
        Ok(Server {
            name: "ringsan",
            address,
            process: Process::Ringsan(Box::new(target)),
            _scratch: scratch,
        })
    }

    /// nbdkit, with its memory.
    pub fn nbdkit() -> Result<Server> {
        Server::nbdkit_with(&[])
    }

    /// nbdkit, which does not promise that its connections share a cache.
    pub fn nbdkit_without_multi_conn() -> Result<Server> {
        Server::nbdkit_with(&["--filter=multi-conn", "multi-conn-mode=disable"])
    }

    fn nbdkit_with(more: &[&str]) -> Result<Server> {
        let scratch = Scratch::new()?;
        let address = free_address()?;
        let mut command = Command::new("nbdkit");
        let words = ["--foreground", "--ipaddr", "127.0.0.1", "--port"];
        command.args(words).arg(address.port().to_string()).args(["memory", &SIZE_BYTES.to_string()]);
        command.args(more);
        Server::child("nbdkit", command, address, scratch)
    }

    /// qemu-nbd, with a file.
    pub fn qemu_nbd() -> Result<Server> {
        let scratch = Scratch::new()?;
        let address = free_address()?;
        let file = scratch.sparse("disk.img", SIZE_BYTES)?;
        let mut command = Command::new("qemu-nbd");
        command.args([
            "--persistent",
            "--shared=0",
            "--bind=127.0.0.1",
            "--export-name=disk",
            "--format=raw",
        ]);
        command.args(["--discard=unmap", "--port"]).arg(address.port().to_string()).arg(file);
        Server::child("qemu-nbd", command, address, scratch)
    }

    /// nbd-server, with a file; in the foreground it would serve one client only.
    pub fn nbd_server() -> Result<Server> {
        let scratch = Scratch::new()?;
        let address = free_address()?;
        let file = scratch.sparse("disk.img", SIZE_BYTES)?;
        let generic =
            format!("[generic]\nlistenaddr = 127.0.0.1\nport = {}\nallowlist = true\n", address.port());
        let disk =
            format!("[disk]\nexportname = {}\nflush = true\nfua = true\ntrim = true\n", file.display());
        let config = scratch.text("nbd-server.conf", &(generic + &disk))?;
        let pid_file = scratch.join("pid");
        let mut command = Command::new("nbd-server");
        command.arg("-C").arg(&config).arg("-p").arg(&pid_file).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(command.status()?.success(), "nbd-server does not start");
        await_listening(address)?;
        let pid = fs::read_to_string(&pid_file)?.trim().parse().context("nbd-server's process id")?;
        let process = Process::Daemon(Pid::from_raw(pid));
        Ok(Server { name: "nbd-server", address, process, _scratch: scratch })
    }

    fn child(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        scratch: Scratch,
    ) -> Result<Server> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let server = Server { name, address, process: Process::Child(child), _scratch: scratch };
        await_listening(address)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URI of an export of that name.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.process {
            Process::Ringsan(_) => {}
            Process::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Daemon(pid) => {
                let _ = kill(*pid, Signal::SIGTERM);
            }
        }
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn await_listening(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < end, "nobody listens on {address} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
