//! A server process: started on its core, found by its socket, measured, and stopped by its process id.
//!
//! Rule: what was started here is stopped here, whatever happens in between.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::address::{Address, Endpoint, Name};
use crate::cpu;
use crate::floor::VOLUME;
use crate::interrupt;
use crate::load::Load;
use crate::process;
use crate::protocol::Protocol;
use crate::talk::dial;

/// The iSCSI target of our volume.
pub const TARGET: &str = "iqn.2026-11.io.ringsan:disk";

const START_MAX: Duration = Duration::from_secs(20);
const SETUP_MAX: Duration = Duration::from_secs(5);
const STOP_MAX: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How a server is started.
pub struct Launch {
    /// The command.
    pub command: Command,
    /// Where a server writes its process id that insists on leaving for the background.
    pub pid_file: Option<PathBuf>,
    /// What tells it afterwards what to serve, in this order.
    pub setup: Vec<Command>,
    /// The unit that it serves over iSCSI.
    pub lun: u16,
    /// It keeps its core busy although nobody asks for anything.
    pub spins: bool,
    /// What ends it.
    pub stop: Signal,
}

/// A running server.
pub struct Server {
    /// Its name in tables.
    pub name: String,
    /// Its volume.
    pub address: Address,
    child: Child,
    pid: i32,
    spins: bool,
    stop: Signal,
}

/// While this lives, a server runs that would else be held back so as not to disturb the others.
pub struct Awake<'a>(&'a Server);

impl From<Command> for Launch {
    fn from(command: Command) -> Launch {
        Launch { command, pid_file: None, setup: Vec::new(), lun: 0, spins: false, stop: Signal::SIGTERM }
    }
}

impl Server {
    /// Starts it on `cpus` with its output in `log`, and waits until `address` can be attached.
    pub fn start(name: &str, launch: Launch, address: Address, cpus: &[usize], log: &Path) -> Result<Server> {
        let Launch { mut command, pid_file, setup, spins, stop, .. } = launch;
        let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = cpu::pinned(cpus, || {
            interrupt::spawn(&mut command).with_context(|| format!("cannot run {program}"))
        })?;
        let pid = child.id() as i32;
        // What spins is held back only once it is ready.
        let mut server = Server { name: name.into(), address, child, pid, spins: false, stop };
        for command in setup {
            server.set_up(command, log)?;
        }
        server.await_ready(pid_file.is_some(), log)?;
        if let Some(pid_file) = pid_file {
            let pid = fs::read_to_string(&pid_file).with_context(|| format!("no {}", pid_file.display()))?;
            server.pid = pid.trim().parse().with_context(|| format!("{pid:?} is no process id"))?;
        }
        server.spins = spins;
        server.hold_back()?;
        Ok(server)
    }

    /// Lets it run, if it is one that is held back else.
    pub fn wake(&self) -> Result<Awake<'_>> {
        if self.spins {
            self.signal(Signal::SIGCONT)?;
        }
        Ok(Awake(self))
    }

    /// It and what it forked.
    pub fn pids(&self) -> Result<Vec<i32>> {
        process::family(self.pid)
    }

    fn hold_back(&self) -> Result<()> {
        if self.spins { self.signal(Signal::SIGSTOP) } else { Ok(()) }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }

    /// Runs `command` until it succeeds: the server may not listen to it yet.
    fn set_up(&mut self, mut command: Command, log: &Path) -> Result<()> {
        let began = Instant::now();
        loop {
            self.check_running(false, log)?;
            let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
            if output.status.success() {
                return Ok(());
            }
            if began.elapsed() > SETUP_MAX {
                bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            sleep(LOOK_AGAIN);
        }
    }

    fn check_running(&mut self, may_leave: bool, log: &Path) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) if !(may_leave && status.success()) => {
                bail!("{} ended with {status}: {}", self.name, last_line(log));
            }
            _ => Ok(()),
        }
    }

    fn await_ready(&mut self, may_leave: bool, log: &Path) -> Result<()> {
        let began = Instant::now();
        loop {
            self.check_running(may_leave, log)?;
            match dial(&self.address, &Load::random_4k(0, 1)) {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > START_MAX => {
                    bail!("{} does not answer: {error:#}; it said: {}", self.name, last_line(log));
                }
                Err(_) => sleep(LOOK_AGAIN),
            }
        }
    }

    fn stop(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut signal = self.stop;
        if self.spins {
            // Held back, it would not notice.
            self.signal(Signal::SIGCONT)?;
        }
        while process::is_running(self.pid) {
            self.signal(signal)?;
            sleep(LOOK_AGAIN);
            if began.elapsed() > STOP_MAX {
                signal = Signal::SIGKILL;
            }
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.hold_back() {
            eprintln!("cannot hold back {}: {error:#}", self.0.name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop {} (process {}): {error:#}", self.name, self.pid);
        }
    }
}

/// A loopback port that is free at this moment.
pub fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// Our volume at `portal`, of servers that can be told what to call it.
pub fn volume_at(protocol: Protocol, portal: SocketAddr) -> Address {
    let name = match protocol {
        Protocol::Nbd => Name::Export(VOLUME.into()),
        Protocol::Iscsi => Name::Unit { target: TARGET.into(), lun: 0 },
    };
    Address { endpoint: Endpoint::Tcp(portal), name }
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().into()
}
