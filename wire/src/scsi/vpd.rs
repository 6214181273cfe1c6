//! vpd
