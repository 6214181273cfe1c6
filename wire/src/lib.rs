//! NBD as values and machines.
