//! Frames, messages and handshakes, as bytes.

mod frames;
mod handshake;
mod samples;
