//! The daemon as a process: started on ports of its own, ready when it says so, stopped by its process id.
//!
//! The binary is the one that RINGSAN_BIN names, else a release build made (or found fresh) on first use.
//! When a test fails, the daemon's log is printed with it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Scratch;
use crate::certificates::Certificates;
use crate::nbd::Client;
use crate::tool::Tool;

/// Longer than any start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a daemon that a failed test leaves behind.
const PATIENCE_DROP: Duration = Duration::from_secs(5);

/// How to start a daemon.
#[derive(Clone)]
pub struct Launch {
    folder: PathBuf,
    nbd: SocketAddr,
    admin: SocketAddr,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    nbd_settings: String,
    tables: String,
    listens: bool,
}

impl Launch {
    /// A daemon with one core, its state in `scratch`, on free ports of 127.0.0.1.
    pub fn new(scratch: &Scratch) -> Launch {
        Launch {
            folder: scratch.path().to_owned(),
            nbd: free_address(),
            admin: free_address(),
            args: Vec::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
            nbd_settings: String::new(),
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

    /// The file of its configuration.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("ringsan.toml")
    }

    /// Writes the configuration as it stands now.
    pub fn write_config(&self) -> Result<()> {
        let text = format!("[nbd]\n{}\n{}", self.nbd_settings, self.tables);
        fs::write(self.config_path(), text).context("writing the configuration")
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
        let mut target = self.spawn()?;
        let decided = |log: &Lines| log.open == 0 || log.lines.iter().any(|line| is_ready(line));
        drop(target.log.wait_until("the refusal", decided)?);
        let said = target.log.text();
        ensure!(!said.lines().any(is_ready), "it was not refused:\n{said}");
        let ended = target.wait()?;
        ensure!(ended.code() == Some(status), "ended with {ended}, not {status}:\n{said}");
        Ok(said)
    }

    fn spawn(self) -> Result<Target> {
        self.write_config()?;
        let mut words: Vec<String> = self.prefix.clone();
        words.push(binary()?.display().to_string());
        words.extend(["serve", "--config"].map(str::to_owned));
        words.push(self.config_path().display().to_string());
        words.extend(["--data-dir".to_owned(), self.folder.join("data").display().to_string()]);
        words.extend(["--admin".to_owned(), self.admin.to_string()]);
        if self.listens {
            words.extend(["--nbd".to_owned(), self.nbd.to_string()]);
        }
        words.extend(self.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.iter().cloned()).current_dir(&self.folder);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().context("its output is piped")?);
        log.follow(child.stderr.take().context("its output is piped")?);
        Ok(Target { child, log, launch: self })
    }
}

/// A running daemon.
pub struct Target {
    child: Child,
    log: Arc<Log>,
    launch: Launch,
}

impl Target {
    /// The address of its TCP portal.
    pub fn address(&self) -> SocketAddr {
        self.launch.nbd
    }

    /// The NBD URI of an export.
    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.launch.nbd)
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
        self.log.wait_for("the ready line", is_ready).map(drop)
    }

    /// All that it printed so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of its output that contains one of these texts.
    pub fn await_log(&self, texts: &[&str]) -> Result<String> {
        self.log.wait_for(&texts.join(" or "), |line| texts.iter().any(|text| line.contains(text)))
    }

    /// Runs the command line client against its admin portal: `ringsan WORDS…`.
    pub fn control(&self, words: &[&str]) -> Result<Tool> {
        Ok(Tool::new(binary()?).args(words).args(["--admin", &self.launch.admin.to_string()]))
    }

    /// What its admin portal answers to a GET.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.launch.admin);
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

    fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.log.wait_until("end of the daemon", |lines| lines.open == 0)?);
        Ok(self.child.wait()?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // not for ever: the kernel lets nothing end that waits for a stuck disk
        let ended = |log: &Lines| log.open == 0;
        if self.log.wait_until_in(PATIENCE_DROP, "end", ended).is_ok() {
            let _ = self.child.wait();
        }
        if let Some(folder) = std::env::var_os("RINGSAN_TEST_LOGS") {
            let name = format!("{}-{}.log", std::thread::current().name().unwrap_or("test"), self.child.id());
            let _ = fs::write(Path::new(&folder).join(name.replace(':', "-")), self.log.text());
        }
        eprintln!("--- log of ringsan {} ---\n{}---", self.child.id(), self.log.text());
    }
}

/// What a process printed, line by line.
#[derive(Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    open: usize,
}

impl Log {
    fn follow(self: &Arc<Log>, stream: impl Read + Send + 'static) {
        self.state().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(|line| line.ok()) {
                log.state().lines.push(line);
                log.changed.notify_all();
            }
            log.state().open -= 1;
            log.changed.notify_all();
        });
    }

    fn state(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.state().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let found = |lines: &Lines| lines.lines.iter().find(|line| wanted(line)).cloned();
        let state = self.wait_until(what, |lines| lines.open == 0 || found(lines).is_some())?;
        found(&state).with_context(|| format!("the daemon ended before {what}:\n{}", state.lines.join("\n")))
    }

    fn wait_until(&self, what: &str, wanted: impl Fn(&Lines) -> bool) -> Result<MutexGuard<'_, Lines>> {
        self.wait_until_in(PATIENCE, what, wanted)
    }

    fn wait_until_in(
        &self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Lines) -> bool,
    ) -> Result<MutexGuard<'_, Lines>> {
        let waited = self.changed.wait_timeout_while(self.state(), patience, |lines| !wanted(lines));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!timeout.timed_out(), "no {what} after {patience:?}:\n{}", state.lines.join("\n"));
        Ok(state)
    }
}

fn is_ready(line: &str) -> bool {
    line.starts_with("ringsan ") && line.contains(" serves on CPU ")
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
    match BINARY.get_or_init(|| find_binary().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

fn find_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RINGSAN_BIN") {
        return fs::canonicalize(&path).with_context(|| format!("RINGSAN_BIN={}", path.display()));
    }
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let build = ["build", "--release", "--package", "ringsan", "--message-format", "json"];
    let messages = Tool::new("cargo").args(build).folder(&tree).seconds(1200).ok()?;
    let executables = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path =
        executables.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.context("cargo names the executable that it built")
}
