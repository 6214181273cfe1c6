//! A guest machine that runs a script of tests/vm, and may ask the host for something while it does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};

use crate::scratch::Scratch;
use crate::skip::skip;
use crate::tool::{Tool, said};

/// One guest at a time: each keeps two CPUs busy.
static TURN: Mutex<()> = Mutex::new(());

/// A guest to be started.
pub struct Guest {
    vmrun: Tool,
    _turn: MutexGuard<'static, ()>,
}

impl Guest {
    /// One that runs `script` (of tests/vm), with more options of vmrun. `None`, and that is said, where there is no
    /// virtual machine.
    pub fn new(options: &[&str], script: &str) -> Option<Guest> {
        if std::env::var_os("RINGSAN_VM").is_none() && skip("boots a virtual machine: tests/run vm") {
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm");
        let vmrun = folder.join("vmrun");
        let check = Tool::new(&vmrun).arg("check").output();
        if !check.is_ok_and(|output| output.status.success())
            && skip("no virtual machine here: see tests/vm/prepare")
        {
            return None;
        }
        // an emulated machine on busy cores is slow: the limits only end what hangs
        let vmrun = Tool::new(vmrun).args(["--timeout", "480"]).args(options).seconds(510);
        Some(Guest { vmrun: vmrun.arg(folder.join(script)), _turn: turn })
    }

    /// Runs it to its end; what it printed.
    pub fn run<A: AsRef<std::ffi::OsStr>>(self, args: impl IntoIterator<Item = A>) -> Result<String> {
        finish(&self.vmrun.args(args))
    }
}

fn finish(vmrun: &Tool) -> Result<String> {
    let mut output = vmrun.output()?;
    if died_at_its_start(&said(&output)) {
        println!("the guest's kernel died before it began with the script: once more");
        output = vmrun.output()?;
    }
    let text = said(&output);
    ensure!(output.status.success(), "{text}");
    ensure!(text.contains("== done"), "the guest did not come to its end:\n{text}");
    Ok(text)
}

/// An emulated kernel now and then dies while it starts, for a reason of its emulator's.
fn died_at_its_start(text: &str) -> bool {
    let has_begun = text.lines().any(|line| line.starts_with("== "));
    text.contains("the VM ended before the script did") && !has_begun
}

/// What a guest may ask the host for, by `hostcall NAME`.
pub struct Calls {
    calls: PathBuf,
    answers: PathBuf,
    hooks: Vec<String>,
}

impl Calls {
    /// These names.
    pub fn new(scratch: &Scratch, names: &[&str]) -> Result<Calls> {
        let (calls, answers) = (scratch.pipe("calls")?, scratch.pipe("answers")?);
        let hook = |name: &&str| {
            format!("{name}=echo {name} >{} && head -n 1 {}", calls.display(), answers.display())
        };
        let hooks = names.iter().map(hook).collect();
        Ok(Calls { calls, answers, hooks })
    }

    /// Options of vmrun.
    pub fn options(&self) -> Vec<&str> {
        self.hooks.iter().flat_map(|hook| ["--hook", hook]).collect()
    }

    /// Runs `guest`, and does what it asks for by `act`, on this thread.
    pub fn run<A: AsRef<std::ffi::OsStr>>(
        &self,
        guest: Guest,
        args: impl IntoIterator<Item = A>,
        mut act: impl FnMut(&str) -> Result<()>,
    ) -> Result<String> {
        // opened for both, none waits for its other side, nor loses what has not been read yet
        let open = |path| fs::File::options().read(true).write(true).open(path);
        let (mut answers, calls, mut end) = (open(&self.answers)?, open(&self.calls)?, open(&self.calls)?);
        let vmrun = guest.vmrun.args(args);
        std::thread::scope(|scope| {
            let guest = scope.spawn(move || {
                let result = finish(&vmrun);
                writeln!(end, "end").map(|()| result)
            });
            let mut acted = Ok(());
            for call in BufReader::new(calls).lines() {
                match call?.as_str() {
                    "end" => break,
                    call if acted.is_ok() => acted = act(call),
                    _ => {}
                }
                writeln!(answers, "done")?;
            }
            let said = guest.join().expect("the guest's thread does not panic")?;
            acted.and(said)
        })
    }
}
