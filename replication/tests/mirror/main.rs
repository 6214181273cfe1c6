//! The mirror's rules, one behaviour a test, on a few machines in one loop.
#![forbid(unsafe_code)]

mod clocks;
mod cluster;
mod copies;
mod crash;
mod operators;
mod orders;
mod rules;
mod seeds;
mod slow;
mod terms;
mod times;
mod writes;
