//! `benches compare` measures ringsan beside other NBD and iSCSI servers; `benches load` drives any
//! one of them.
//!
//! README.md in this crate's folder tells how, and what the figures mean.
#![forbid(unsafe_code)]

mod address;
mod arguments;
mod backing;
mod binary;
mod chart;
mod compare;
mod connection;
mod contest;
mod count;
mod cpu;
mod experiment;
mod fio;
mod floor;
mod generator;
mod interrupt;
mod iscsi;
mod judgement;
mod load;
mod machine;
mod nbd;
mod outgoing;
mod peers;
mod process;
mod protocol;
mod quiet;
mod report;
mod sample;
mod scenario;
mod server;
mod stage;
mod statistics;
mod stream;
mod talk;
mod tally;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match arguments::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}
