//! What happened, line by line, for people: kept only while somebody wants to read it.
//!
//! The target's own log lines join it. Its one rule: what is not recorded costs nothing.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    static NOW: Cell<u64> = const { Cell::new(0) };
    static WHO: Cell<&'static str> = const { Cell::new("") };
}

/// Records from now on, in this thread.
pub fn start() {
    LINES.replace(Some(Vec::new()));
}

/// Ends recording and gives what was recorded.
pub fn take() -> Vec<String> {
    LINES.take().unwrap_or_default()
}

/// Whether lines are kept.
pub fn is_on() -> bool {
    LINES.with_borrow(Option::is_some)
}

/// Who acts from now on, and when.
pub fn scene(now: u64, who: &'static str) {
    NOW.set(now);
    WHO.set(who);
}

/// Adds a line, if lines are kept.
pub fn line(text: impl FnOnce() -> String) {
    if is_on() {
        let line = format!("{:>12.6} {:<3} {}", NOW.get() as f64 / 1e9, WHO.get(), text());
        LINES.with_borrow_mut(|lines| lines.as_mut().expect("looked at above").push(line));
    }
}

/// Takes the log lines of the target.
pub struct Listener;

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_on() && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(event.metadata().level().to_string());
        event.record(&mut words);
        line(|| words.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
