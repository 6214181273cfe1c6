//! What must hold, watched from outside: the machines are asked nothing that a mover would not see.
//!
//! Its one rule: a check that cannot be sure stays silent.

pub(crate) mod history;
pub(crate) mod rules;

pub(crate) use history::Sectors;
pub(crate) use rules::Rules;
