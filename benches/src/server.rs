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

use crate::address::{Address, Endpoint};
use crate::cpu;
use crate::dial::dial;
use crate::interrupt;
use crate::load::ReplyKind;
use crate::process;

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How a server is started.
pub struct Launch {
    /// The command.
    pub command: Command,
    /// Where a server writes its process id that insists on leaving for the background.
    pub pid_file: Option<PathBuf>,
}

/// A running server.
pub struct Server {
    /// Its name in tables.
    pub name: String,
    /// Its export.
    pub address: Address,
    child: Child,
    pid: i32,
}

impl From<Command> for Launch {
    fn from(command: Command) -> Launch {
        Launch { command, pid_file: None }
    }
}

impl Server {
    /// Starts it on `cpus` with its output in `log`, and waits until `address` can be attached.
    pub fn start(name: &str, launch: Launch, address: Address, cpus: &[usize], log: &Path) -> Result<Server> {
        let Launch { mut command, pid_file } = launch;
        let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = cpu::pinned(cpus, || {
            interrupt::spawn(&mut command).with_context(|| format!("cannot run {program}"))
        })?;
        let pid = child.id() as i32;
        let mut server = Server { name: name.into(), address, child, pid };
        server.await_ready(pid_file.is_some(), log)?;
        if let Some(pid_file) = pid_file {
            let pid = fs::read_to_string(&pid_file).with_context(|| format!("no {}", pid_file.display()))?;
            server.pid = pid.trim().parse().with_context(|| format!("{pid:?} is no process id"))?;
        }
        Ok(server)
    }

    /// It and what it forked.
    pub fn pids(&self) -> Result<Vec<i32>> {
        process::family(self.pid)
    }

    fn await_ready(&mut self, may_leave: bool, log: &Path) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if !(may_leave && status.success()) => {
                    bail!("{} ended with {status}: {}", self.name, last_line(log));
                }
                _ => {}
            }
            match dial(&self.address, ReplyKind::Simple) {
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
        let mut signal = Signal::SIGTERM;
        while process::is_running(self.pid) {
            kill(Pid::from_raw(self.pid), signal)?;
            sleep(LOOK_AGAIN);
            if began.elapsed() > STOP_MAX {
                signal = Signal::SIGKILL;
            }
        }
        self.child.wait()?;
        Ok(())
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

/// The export `disk` at `portal`.
pub fn export_at(portal: SocketAddr) -> Address {
    Address { endpoint: Endpoint::Tcp(portal), export: "disk".into() }
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().into()
}
