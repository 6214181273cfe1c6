//! Somebody else's program, run with a time limit; a failure prints its command line and all it said.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A program and its arguments.
pub struct Tool {
    name: OsString,
    args: Vec<OsString>,
    folder: Option<OsString>,
    seconds: u32,
}

impl Tool {
    /// `name`, found in PATH; it may run for two minutes.
    pub fn new(name: impl AsRef<OsStr>) -> Tool {
        Tool { name: name.as_ref().to_owned(), args: Vec::new(), folder: None, seconds: 120 }
    }

    /// The program.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Tool {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs in this folder.
    pub fn folder(mut self, path: &Path) -> Tool {
        self.folder = Some(path.as_os_str().to_owned());
        self
    }

    /// May run for so long.
    pub fn seconds(mut self, seconds: u32) -> Tool {
        self.seconds = seconds;
        self
    }

    /// Runs it, whatever becomes of it, unless it cannot be started or runs out of time.
    pub fn output(&self) -> Result<Output> {
        let output = self.command().output().with_context(|| format!("starting {}", self.line()))?;
        match output.status.code() {
            Some(124 | 137) => bail!("no end after {} s\n{}", self.seconds, self.report(&output)),
            Some(127) => bail!("not installed: {}", self.line()),
            _ => Ok(output),
        }
    }

    /// Runs it; it must succeed. What it printed to standard output.
    pub fn ok(&self) -> Result<String> {
        let output = self.output()?;
        if !output.status.success() {
            bail!("{}", self.report(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it; it must fail. All it printed.
    pub fn fails(&self) -> Result<String> {
        let output = self.output()?;
        if output.status.success() {
            bail!("succeeded, and should not have\n{}", self.report(&output));
        }
        Ok(said(&output))
    }

    fn command(&self) -> Command {
        // `timeout` kills what ignores its signal; Debian's Python comes first for the sake of nbdsh
        let path = format!("/usr/bin:/bin:/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("/usr/bin/timeout");
        command.arg("--kill-after=5").arg(self.seconds.to_string()).arg(&self.name).args(&self.args);
        command.env("PATH", path).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn line(&self) -> String {
        let words = std::iter::once(&self.name).chain(&self.args);
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn report(&self, output: &Output) -> String {
        format!("{}\n{}\n{}", self.line(), output.status, said(output))
    }
}

/// Standard output and error together.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A script for nbdsh, which connects to `uri` first; `h` is the handle.
pub fn nbdsh(uri: &str, script: &str) -> Tool {
    Tool::new("nbdsh").args(["-u", uri, "-c", script])
}

/// The same, with `setup` run before the connection is made.
pub fn nbdsh_after(setup: &str, uri: &str, script: &str) -> Tool {
    let connect = format!("h.connect_uri({uri:?})");
    Tool::new("nbdsh").args(["-c", setup, "-c", &connect, "-c", script])
}
