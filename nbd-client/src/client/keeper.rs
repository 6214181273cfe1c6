//! The tasks that keep a client's connections: one for each link, and one that looks at the clock.
//!
//! Its one rule: what was lost is made again only with a server that serves the same export.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::ConnectOptions;
use super::dial::{self, Dialled};
use super::identity;
use super::link::{self, End, Opened};
use super::pool::Pool;
use crate::error::{Error, Kind};
use crate::runtime::{self, Instant};

/// Between attempts to connect again.
const REDIAL_MIN: Duration = Duration::from_millis(20);
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// After connections on which nothing was answered: haste helps nobody where a request makes the server hang up.
const FRUITLESS_MAX: Duration = Duration::from_millis(500);
/// For one of several servers, before the next one is tried.
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
/// How often waiting requests and silent servers are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Keeps link `index` connected until the client is gone.
pub(super) async fn keep(pool: Rc<Pool>, index: usize, endpoint: usize, mut opened: Option<Opened>) {
    // Further connections begin at further servers.
    let mut next = (endpoint + index) % pool.uri.endpoints().len();
    let mut pause = REDIAL_MIN;
    loop {
        // One that is there is served even if we leave at once: the server is owed a goodbye.
        let opened = match opened.take() {
            Some(opened) => opened,
            None if is_over(&pool) => break,
            None => match redial(&pool, &mut next).await {
                Some(dialled) => link::open(&pool, index, dialled),
                None => break,
            },
        };
        let before = pool.links[index].progress.get();
        let end = link::serve(&pool, index, opened).await;
        note_end(&pool, end);
        pool.bereave(index);
        pool.quiet.notify_one();
        if pool.links[index].progress.get() != before {
            pause = REDIAL_MIN;
        } else {
            runtime::sleep(pause).await;
            pause = (pause * 2).min(FRUITLESS_MAX);
        }
    }
}

fn is_over(pool: &Pool) -> bool {
    pool.is_parting() || pool.failure().is_some()
}

fn note_end(pool: &Pool, end: End) {
    match end {
        End::Parted => {}
        End::Lost(error) => {
            pool.note_lost(&error);
            let error = Error::caused(Kind::Lost, "the connection broke", error);
            *pool.trouble.borrow_mut() = Some(error.remedy("is the server running, and the network up?"));
        }
        End::Violated(violation) => {
            let what = format!("the server of {} broke the NBD protocol", pool.uri);
            pool.fail(&Error::caused(Kind::Protocol, what, violation));
        }
    }
}

/// A new connection to the same export, on any of the servers. `None`: the client is gone.
async fn redial(pool: &Pool, next: &mut usize) -> Option<Dialled> {
    let is_alone = pool.links.iter().all(|link| link.live.borrow().is_none());
    if pool.options.reconnect_for.is_zero() && is_alone {
        pool.fail(&pool.out_of_reach());
    }
    let mut pause = REDIAL_MIN;
    while !is_over(pool) {
        let mut changes = Vec::new();
        for _ in pool.uri.endpoints() {
            let endpoint = *next;
            match attempt(pool, endpoint, pause).await {
                Ok(dialled) => {
                    pool.note_back(endpoint);
                    return Some(dialled);
                }
                Err(error) if error.kind() == Kind::Changed => {
                    pool.note_changed(endpoint, &error);
                    changes.push(error);
                }
                Err(error) => {
                    tracing::debug!("{error}");
                    *pool.trouble.borrow_mut() = Some(error);
                }
            }
            *next = (endpoint + 1) % pool.uri.endpoints().len();
        }
        if changes.len() == pool.uri.endpoints().len() {
            pool.fail(&changes[0]);
        }
        runtime::sleep(pause).await;
        pause = (pause * 2).min(REDIAL_MAX);
    }
    None
}

/// One of several servers is waited for the longer, the longer the last pause was.
async fn attempt(pool: &Pool, endpoint: usize, pause: Duration) -> Result<Dialled, Error> {
    let patience = match pool.uri.endpoints() {
        [_] => pool.options.connect_timeout,
        _ => pool.options.connect_timeout.min(FIRST_PATIENCE.max(pause * 8)),
    };
    let options = ConnectOptions { connect_timeout: patience, ..pool.options.clone() };
    let address = &pool.uri.endpoints()[endpoint];
    let dialled = dial::dial(address, &options).await?;
    identity::same(&pool.export, &dialled.export, address)?;
    if !pool.lost_nothing(endpoint, dialled.export.incarnation) {
        pool.table.borrow_mut().doubt_unflushed();
    }
    Ok(dialled)
}

/// Gives up what waits too long, and servers that say nothing.
pub(super) async fn watch(pool: Rc<Pool>) {
    let mut last: Vec<(u64, Instant)> = pool.links.iter().map(|_| (0, Instant::now())).collect();
    while !is_over(&pool) {
        runtime::sleep(TICK).await;
        let now = Instant::now();
        let overdue = pool.table.borrow().overdue(now);
        for key in overdue {
            pool.table.borrow_mut().finish(key, Err(pool.out_of_reach()));
        }
        for (link, (progress, since)) in pool.links.iter().zip(&mut last) {
            if link.in_flight.get() == 0 || link.progress.get() != *progress {
                (*progress, *since) = (link.progress.get(), now);
            } else if now - *since >= pool.options.stall_timeout
                && let Some(live) = &*link.live.borrow()
            {
                *since = now;
                let what = format!("no reply for {:?}", pool.options.stall_timeout);
                live.end(End::Lost(io::Error::new(io::ErrorKind::TimedOut, what)));
            }
        }
    }
}
