//! The daemon and its command line; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringsan::cli::run()
}
