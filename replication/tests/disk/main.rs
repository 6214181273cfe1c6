//! The metadata file: there and back, torn, rotten, foreign, and byte for byte as it is documented.

mod image;
mod refused;
mod round_trip;
mod torn;
