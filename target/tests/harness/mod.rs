//! The real binary in a folder of its own, on ports that the kernel chose.
//!
//! Its one rule: a test waits for lines and answers, never for time to pass.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ringsan");

/// A folder for one test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("written");
        path
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("readable");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// `ringsan WORDS…` in this folder.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("RINGSAN_ADMIN").env_remove("RINGSAN_LOG").env_remove("NOTIFY_SOCKET");
        command
    }

    /// Runs `ringsan WORDS…` to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("ringsan runs")
    }

    /// Runs `ringsan serve WORDS…` on free ports, which must refuse: its exit code and its one line.
    pub fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(&serve_words(words)).output().expect("ringsan runs");
        let line = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(line.lines().count(), 1, "more or less than a line:\n{line}");
        assert!(output.stdout.is_empty(), "it was not refused");
        (output.status.code().expect("an exit code"), line)
    }

    /// Starts `ringsan serve WORDS…` on free ports and waits until it is ready.
    pub fn serve(&self, words: &[&str]) -> Node {
        Node::spawn(self.command(&serve_words(words)))
    }
}

fn serve_words<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let mut all = vec!["serve"];
    all.extend(words);
    if words.contains(&"--config") {
        return all;
    }
    for (flag, other) in [("--admin", ""), ("--nbd", ""), ("--iscsi", "--no-iscsi")] {
        if !words.contains(&flag) && !words.contains(&other) {
            all.extend([flag, "127.0.0.1:0"]);
        }
    }
    all
}

/// A running node.
pub struct Node {
    child: Child,
    output: BufReader<ChildStdout>,
    ready: Vec<String>,
}

impl Node {
    /// Waits until the node that `command` starts is ready.
    pub fn spawn(mut command: Command) -> Node {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ringsan starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = Vec::new();
        while !is_last(&ready) {
            let mut line = String::new();
            if output.read_line(&mut line).expect("readable") == 0 {
                let mut said = String::new();
                child.stderr.take().expect("piped").read_to_string(&mut said).expect("readable");
                panic!("the node did not start: {said}");
            }
            ready.push(line.trim_end().to_owned());
        }
        Node { child, output, ready }
    }

    /// What it printed when it was ready.
    pub fn ready(&self) -> &[String] {
        &self.ready
    }

    fn address(&self, what: &str) -> String {
        let line = self.ready.iter().find_map(|line| line.trim().strip_prefix(what));
        line.expect("the address is printed").trim().to_owned()
    }

    pub fn admin(&self) -> String {
        self.address("admin")
    }

    pub fn nbd(&self) -> SocketAddr {
        self.address("nbd").parse().expect("a TCP portal")
    }

    pub fn iscsi(&self) -> SocketAddr {
        self.address("iscsi").parse().expect("a portal")
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> Value {
        let status = self.control(&["status", "--json", "--over", "0s"]).expect("its status");
        serde_json::from_str(&status).expect("JSON")
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// `ringsan WORDS…` as its client: standard output, or the one line of the error.
    pub fn control(&self, words: &[&str]) -> Result<String, String> {
        let output =
            Command::new(BINARY).args(words).args(["--admin", &self.admin()]).output().expect("it runs");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The volume of this name in `GET /v1/volumes`.
    pub fn volume(&self, name: &str) -> Option<Value> {
        let volumes = self.control(&["volume", "ls", "--json"]).expect("listed");
        let volumes: Vec<Value> = serde_json::from_str(&volumes).expect("JSON");
        volumes.into_iter().find(|volume| volume["name"] == name)
    }

    /// An HTTP request to its admin API: the status and the body.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.admin()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = agent.run(request.body(body.to_owned()).expect("a request")).expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    /// Ends it as the service manager does: its exit code and its log.
    pub fn stop(mut self) -> (i32, String) {
        self.signal(Signal::SIGTERM);
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("readable");
        let mut rest = String::new();
        let _ = self.output.read_to_string(&mut rest);
        (self.child.wait().expect("it ends").code().expect("an exit code"), log)
    }
}

/// The lines that show how to attach come last, those of iSCSI behind those of NBD, or the hint that there is no
/// volume.
fn is_last(ready: &[String]) -> bool {
    let has_iscsi = ready.iter().any(|line| {
        line.trim().strip_prefix("iscsi ").is_some_and(|address| !address.trim().starts_with("off"))
    });
    let last = if has_iscsi { "qemu-img info iscsi://" } else { "qemu-img info" };
    ready.last().is_some_and(|line| line.contains(last) || line.contains("no volume"))
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails unless an NBD server greets at `address`.
pub fn assert_greets(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"NBDMAGIC");
}
