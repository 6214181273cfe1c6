//! Mistakes in the configuration: where, what, and what to do about it.
//!
//! Reading goes on after a mistake, so that `check` tells all of them at once. Its one rule: a mistake
//! prints as one line.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file; line and column count from 1.
    File {
        /// The file.
        path: Arc<Path>,
        /// Its line.
        line: usize,
        /// Its column, in characters.
        column: usize,
    },
    /// By this flag of the command line.
    Flag(String),
    /// By a request to the admin API, now or before the last restart.
    Api,
    /// Nowhere: it is the default.
    Default,
}

impl Origin {
    /// How something of this origin came about: `is declared at ringsan.toml:3:1`.
    pub fn came_about(&self) -> String {
        match self {
            Origin::File { .. } => format!("is declared at {self}"),
            Origin::Flag(_) => format!("is declared by {self}"),
            Origin::Api => "was created through the admin API".to_owned(),
            Origin::Default => "is served when nothing else is declared".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Api => f.write_str("the admin API"),
            Origin::Default => f.write_str("the default"),
        }
    }
}

/// A value and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it was set.
    pub origin: Origin,
}

impl<T> At<T> {
    /// `value`, set at `origin`.
    pub fn new(value: T, origin: Origin) -> At<T> {
        At { value, origin }
    }
}

/// A setting that may not have been made.
pub type Slot<T> = Option<At<T>>;

/// What is wrong with one value, before it is known where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The thing and the cause.
    pub cause: String,
    /// The next step.
    pub remedy: String,
    /// The machine is at odds with it, not the form.
    pub on_machine: bool,
}

impl Wrong {
    /// A wrong value, and how to put it right.
    pub fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Wrong {
        Wrong { cause: cause.into(), remedy: remedy.into(), on_machine: false }
    }

    /// The same, when the value is well-formed and the machine does not fit it.
    pub fn on_machine(self) -> Wrong {
        Wrong { on_machine: true, ..self }
    }

    /// The same, found at `origin`.
    pub fn at(self, origin: &Origin) -> Mistake {
        Mistake {
            origin: origin.clone(),
            cause: self.cause,
            remedy: self.remedy,
            on_machine: self.on_machine,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", one_line(&self.cause), one_line(&self.remedy))
    }
}

impl std::error::Error for Wrong {}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub origin: Origin,
    /// The thing and the cause.
    pub cause: String,
    /// The next step.
    pub remedy: String,
    /// The machine is at odds with it, not the form.
    pub on_machine: bool,
}

impl Mistake {
    /// Whether the command line is wrong, rather than a file or the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self.origin, Origin::Flag(_)) && !self.on_machine
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.origin, one_line(&self.cause), one_line(&self.remedy))
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
