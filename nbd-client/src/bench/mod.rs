//! Load for an export, and what it takes.
