//! What a process prints, line by line, for whoever waits for a line or for its end.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The lines so far, and how many streams may still bring more.
#[derive(Default)]
pub struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    open: usize,
}

impl Log {
    /// Reads `stream` to its end, on a thread of its own.
    pub fn follow(self: &Arc<Log>, stream: impl Read + Send + 'static) {
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

    /// All of it.
    pub fn text(&self) -> String {
        self.state().text()
    }

    /// Waits for a line that is `wanted`; an error when the process ends first.
    pub fn wait_for(&self, patience: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let line = self.wait_for_line_or_end(patience, what, wanted)?;
        line.with_context(|| format!("the process ended before {what}:\n{}", self.text()))
    }

    /// Waits for a line that is `wanted`, or for the end of the process, then `None`.
    pub fn wait_for_line_or_end(
        &self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let found = |state: &State| state.lines.iter().find(|line| wanted(line)).cloned();
        let is_waiting = |state: &mut State| state.open > 0 && found(state).is_none();
        let waited = self.changed.wait_timeout_while(self.state(), patience, is_waiting);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!timeout.timed_out(), "no {what} after {patience:?}:\n{}", state.text());
        Ok(found(&state))
    }

    /// Waits for the end of the process.
    pub fn wait_for_end(&self, patience: Duration) -> Result<()> {
        self.wait_for_line_or_end(patience, "end of the process", |_| false).map(drop)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
