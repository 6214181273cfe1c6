//! The first look at several servers of one URI: which of them answer, and whether all serve the same export.
//!
//! Its one rule: a server that does not answer soon is passed over; what another one would be refused for when a
//! lost connection is made again, it is refused for at once.

use std::time::Duration;

use super::{ConnectOptions, dial, identity};
use crate::error::{Error, Kind};
use crate::runtime;
use crate::uri::Uri;

/// For the servers to answer, all together.
const PATIENCE: Duration = Duration::from_secs(1);

/// In which order to connect to the servers: those first that have answered.
pub(super) async fn order(uri: &Uri, options: &ConnectOptions) -> Result<Vec<usize>, Error> {
    let endpoints = uri.endpoints();
    if endpoints.len() == 1 || options.is_further {
        return Ok((0..endpoints.len()).collect());
    }
    let quick = ConnectOptions { connect_timeout: options.connect_timeout.min(PATIENCE), ..options.clone() };
    let asked = endpoints.iter().map(|endpoint| {
        let (endpoint, options) = (endpoint.clone(), quick.clone());
        runtime::spawn(async move { dial::describe(&endpoint, &options).await })
    });
    let asked: Vec<_> = asked.collect();
    let (mut answered, mut silent, mut known) = (Vec::new(), Vec::new(), None);
    for (index, answer) in asked.into_iter().enumerate() {
        match answer.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
            Ok(export) => {
                identity::stands_for(
                    known.get_or_insert_with(|| export.clone()),
                    &export,
                    &endpoints[index],
                )?;
                answered.push(index);
            }
            Err(error) => silent.push((index, error)),
        }
    }
    // where nobody answers, the connection says why
    for (_, error) in silent.iter().filter(|_| !answered.is_empty()) {
        match error.kind() {
            Kind::Unreachable | Kind::Lost => tracing::debug!("{error}"),
            _ => tracing::warn!("{error} (passed over)"),
        }
    }
    answered.extend(silent.into_iter().map(|(index, _)| index));
    Ok(answered)
}
