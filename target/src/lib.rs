//! The daemon `ringsan`: wiring between the reactor, the protocols and the stores.
//!
//! Cores run `serve_core`; everything that may block or wait (configuration, admin HTTP, signals) runs
//! on the control thread and talks to cores by `message::Ask`.
#![forbid(unsafe_code)]

pub mod config;
pub mod fault;
pub mod message;
pub mod serve_core;
pub mod serve_nbd;
pub mod settings;
pub mod snapshot;
pub mod store;
