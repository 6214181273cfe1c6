//! NBD as the harness speaks it: the generator's side, and the floor's.

mod dial;
pub mod floor;
mod replies;
mod talk;

pub use talk::dial;
