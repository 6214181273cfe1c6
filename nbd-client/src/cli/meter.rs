//! How far a copy is, for people: a bar on a terminal, else a line now and then.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nbd_client::copy::Progress;

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A thread that draws; gone, and its bar with it, when dropped.
pub(super) struct Meter {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Draws on standard error from now on.
    pub(super) fn start(progress: &Arc<Progress>) -> Meter {
        let (end, ended) = mpsc::channel();
        let progress = Arc::clone(progress);
        let is_terminal = std::io::stderr().is_terminal();
        let thread = thread::spawn(move || {
            let mut face: Box<dyn Face> =
                if is_terminal { Box::new(Bar::new()) } else { Box::new(Lines::new()) };
            while ended.recv_timeout(face.every()) == Err(RecvTimeoutError::Timeout) {
                if progress.total_bytes() > 0 {
                    face.show(&progress);
                }
            }
        });
        Meter { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

trait Face {
    fn every(&self) -> Duration;
    fn show(&mut self, progress: &Progress);
}

struct Bar {
    bar: ProgressBar,
    verifies: Option<bool>,
}

impl Bar {
    fn new() -> Bar {
        let style = ProgressStyle::with_template(
            "{msg} {bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
        );
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Bar { bar: bar.with_style(style.expect("the template is right")), verifies: None }
    }
}

impl Face for Bar {
    fn every(&self) -> Duration {
        BAR_EVERY
    }

    fn show(&mut self, progress: &Progress) {
        let verifies = progress.verifies();
        if self.verifies.replace(verifies) != Some(verifies) {
            self.bar.set_message(phase(progress));
            self.bar.set_length(progress.total_bytes());
            self.bar.set_position(progress.passed_bytes());
            self.bar.reset_eta();
        }
        self.bar.set_position(progress.passed_bytes());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

struct Lines {
    /// When this phase was first seen, and how much had passed then.
    begin: Option<(bool, Instant, u64)>,
}

impl Lines {
    fn new() -> Lines {
        Lines { begin: None }
    }
}

impl Face for Lines {
    fn every(&self) -> Duration {
        if self.begin.is_none() { BAR_EVERY } else { LINE_EVERY }
    }

    fn show(&mut self, progress: &Progress) {
        let (passed, total) = (progress.passed_bytes(), progress.total_bytes());
        match self.begin {
            Some((verifies, since, before)) if verifies == progress.verifies() => {
                let line = line(passed, total, passed.saturating_sub(before), since.elapsed());
                eprintln!("{}: {line}", phase(progress));
            }
            _ => self.begin = Some((progress.verifies(), Instant::now(), passed)),
        }
    }
}

fn phase(progress: &Progress) -> &'static str {
    if progress.verifies() { "verifying" } else { "copying" }
}

fn line(passed: u64, total: u64, lately: u64, elapsed: Duration) -> String {
    let rate = lately as f64 / elapsed.as_secs_f64().max(0.001);
    let left = total.saturating_sub(passed) as f64 / rate.max(1.0);
    let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
    let rate = BinaryBytes(rate as u64);
    format!("{} of {}, {rate}/s, {} left", BinaryBytes(passed), BinaryBytes(total), HumanDuration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_time_left() {
        let text = line(1 << 30, 3 << 30, 1 << 30, Duration::from_secs(4));
        assert_eq!(text, "1.00 GiB of 3.00 GiB, 256.00 MiB/s, 8 seconds left");
    }

    #[test]
    fn nothing_done_yet_is_no_failure() {
        assert!(line(0, u64::MAX, 0, Duration::ZERO).contains("0 B/s"));
    }
}
