//! The daemon as a process: ready when it says so, stopped by its process id, its log printed when a test fails.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Launch;
use crate::iscsi;
use crate::launch::binary;
use crate::log::Log;
use crate::nbd::Client;
use crate::tool::Tool;

/// Longer than any start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a daemon that a failed test leaves behind.
const PATIENCE_DROP: Duration = Duration::from_secs(5);

/// A running daemon.
pub struct Target {
    child: Child,
    log: Arc<Log>,
    launch: Launch,
}

impl Target {
    /// Starts `command`, which is `launch`.
    pub fn spawn(mut command: Command, launch: Launch) -> Result<Target> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().context("its output is piped")?);
        log.follow(child.stderr.take().context("its output is piped")?);
        Ok(Target { child, log, launch })
    }

    /// The address of its TCP portal.
    pub fn address(&self) -> SocketAddr {
        self.launch.address()
    }

    /// The NBD URI of an export.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.launch.address())
    }

    /// The address of its iSCSI portal.
    pub fn iscsi_address(&self) -> SocketAddr {
        self.launch.iscsi_address()
    }

    /// The iSCSI URL of a volume's own target.
    pub fn iscsi_url(&self, volume: &str) -> String {
        self.iscsi_url_of(&iscsi::target_name(volume), 0)
    }

    /// The iSCSI URL of a LUN.
    pub fn iscsi_url_of(&self, target_name: &str, lun: u16) -> String {
        format!("iscsi://{}/{target_name}/{lun}", self.iscsi_address())
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready.
    pub fn await_ready(&self) -> Result<()> {
        self.log.wait_for(PATIENCE, "the ready line", is_ready).map(drop)
    }

    /// All that it printed so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of its output that contains one of these texts.
    pub fn await_log(&self, texts: &[&str]) -> Result<String> {
        self.log.wait_for(PATIENCE, &texts.join(" or "), |line| texts.iter().any(|text| line.contains(text)))
    }

    /// Runs the command line client against its admin portal: `ringsan WORDS…`.
    pub fn control(&self, words: &[&str]) -> Result<Tool> {
        Ok(Tool::new(binary()?).args(words).args(["--admin", &self.launch.admin().to_string()]))
    }

    /// What its admin portal answers to a GET.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.launch.admin());
        ureq::get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string()).context(url)
    }

    /// Waits until what `GET /v1/status` answers is `wanted`: the daemon tells nobody of changes.
    pub fn await_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.get("/v1/status")?;
            if wanted(&serde_json::from_str(&status)?) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{what} after {PATIENCE:?}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it counts so many clients.
    pub fn await_clients(&self, wanted: usize) -> Result<()> {
        self.await_status(&format!("{wanted} clients"), |status| {
            status["clients"].as_array().is_some_and(|list| list.len() == wanted)
        })
    }

    /// Fails unless a new iSCSI initiator can write and read.
    pub fn assert_serves_iscsi(&self, volume: &str) -> Result<()> {
        let login = iscsi::Login::to(&iscsi::target_name(volume)).initiator("iqn.2026-11.test:witness");
        let mut client = login.attach(self.iscsi_address())?;
        client.write(8, &[9; 4096])?;
        ensure!(client.read(8, 8)? == [9; 4096], "an initiator of {volume} reads something else");
        client.logout()
    }

    /// Fails unless a new client can write and read.
    pub fn assert_serves(&self, export: &str) -> Result<()> {
        let mut client = Client::attach(self.address(), export)?;
        client.write(4096, &[9; 4096])?;
        ensure!(client.read(4096, 4096)? == [9; 4096], "a client of {export} reads something else");
        Ok(())
    }

    /// Resident bytes now.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line =
            status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS of a live process")?;
        Ok(line.split_whitespace().nth(1).context("VmRSS has a number")?.parse::<u64>()? * 1024)
    }

    /// Fails unless it runs.
    pub fn assert_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended with {status}"),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid().cast_signed()), signal)?)
    }

    /// Ends it in order, which must succeed.
    pub fn stop(mut self) -> Result<Launch> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait()?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        Ok(self.launch.clone())
    }

    /// Waits for its end, which was asked for; how it ended.
    pub fn await_end(mut self) -> Result<ExitStatus> {
        self.wait()
    }

    /// Ends it as a power cut ends a process.
    pub fn kill(mut self) -> Result<Launch> {
        self.signal(Signal::SIGKILL)?;
        self.wait()?;
        Ok(self.launch.clone())
    }

    /// Waits for its end, which must come before it is ready; how it ended, and what it said.
    pub fn await_refusal(mut self) -> Result<(ExitStatus, String)> {
        let ready = self.log.wait_for_line_or_end(PATIENCE, "refusal", is_ready)?;
        ensure!(ready.is_none(), "it was not refused:\n{}", self.log());
        Ok((self.wait()?, self.log()))
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        self.log.wait_for_end(PATIENCE)?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // not for ever: the kernel lets nothing end that waits for a stuck disk
        if self.log.wait_for_end(PATIENCE_DROP).is_ok() {
            let _ = self.child.wait();
        }
        if let Some(folder) = std::env::var_os("RINGSAN_TEST_LOGS") {
            let name = format!("{}-{}.log", std::thread::current().name().unwrap_or("test"), self.child.id());
            let _ = fs::write(Path::new(&folder).join(name.replace(':', "-")), self.log.text());
        }
        eprintln!("--- log of ringsan {} ---\n{}---", self.child.id(), self.log.text());
    }
}

fn is_ready(line: &str) -> bool {
    line.starts_with("ringsan ") && line.contains(" serves on CPU ")
}
