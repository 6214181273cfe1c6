//! The full feature phase of a session, rule by rule, and against a model.

mod data_out;
mod harness;
mod management;
mod model;
mod order;
mod responses;
mod text;
