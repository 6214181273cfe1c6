//! An NBD client: exports over TCP, unix sockets and TLS, on io_uring, with many requests in flight.
//!
//! ```no_run
//! use nbd_client::{Client, ConnectOptions, Error, Uri, runtime};
//!
//! fn main() -> Result<(), Error> {
//!     runtime::block_on(async {
//!         let uri: Uri = "nbd://localhost/db".parse()?;
//!         let client = Client::connect(&uri, &ConnectOptions::default()).await?;
//!         let (result, block) = client.write(0, vec![7; 4096], false).await;
//!         result?;
//!         client.flush().await?;
//!         let (result, block) = client.read(0, block).await;
//!         result?;
//!         assert!(block.iter().all(|byte| *byte == 7));
//!         client.disconnect().await
//!     })
//! }
//! ```
//! Its one rule: a buffer moves into a request and comes back with the result, whatever happened.
#![forbid(unsafe_code)]

pub mod attach;
pub mod bench;
mod client;
pub mod copy;
mod error;
mod export;
pub mod runtime;
mod uri;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use client::fuzz_replies;
pub use client::{Client, ConnectOptions, KernelSocket, Zero, describe, dial_kernel_socket, list};
pub use error::{Error, Kind};
pub use export::{BlockSizes, Export, ExportSummary, Extent};
pub use uri::{Address, Endpoint, Tls, Uri};
pub use wire::nbd::transmission::{Errno, TransmissionFlags};
