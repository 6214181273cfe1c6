//! key=value lists.
