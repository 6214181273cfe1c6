//! iSCSI logins: texts, parameters, CHAP, the target's machine alone and against our own initiator.

mod authentication;
mod chap;
mod harness;
mod pair;
mod parameters;
mod refusals;
mod stages;
mod text;
