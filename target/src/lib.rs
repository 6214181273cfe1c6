//! The daemon `ringsan`: wiring between the reactor, the protocols and the stores.
//!
//! Cores run `serve_core`; everything that may block or wait (configuration, admin HTTP, signals) runs
//! on the control thread and talks to cores by `message::Ask`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod budget;
pub mod channel;
pub mod cli;
pub mod clients;
pub mod config;
pub mod fault;
pub mod generations;
pub mod heartbeat;
pub mod incoming;
pub mod listener;
pub mod local;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod node;
pub mod outbox;
pub mod placement;
pub mod portals;
pub mod range_lock;
pub mod sabotage;
pub mod scsi_unit;
pub mod serve_core;
pub mod serve_iscsi;
pub mod serve_mirror;
pub mod serve_nbd;
pub mod settings;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod store;
pub mod undo;
pub mod volume;
