//! The machine under ringsan.
