//! All that one client has: its requests, its connections, and the tasks that keep them.
//!
//! Its one rule: a request is in one place at any time, and gets there by `dispatch` alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::ConnectOptions;
use super::dial::{self, Dialled};
use super::identity;
use super::link::{self, End, Link};
use super::request::Place;
use super::table::Table;
use crate::error::{Error, Kind};
use crate::export::Export;
use crate::runtime::{self, Instant, Notify};
use crate::uri::Uri;

/// Between attempts to connect again.
const REDIAL_MIN: Duration = Duration::from_millis(20);
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// For the server to hang up after our goodbye.
const PART_PATIENCE: Duration = Duration::from_secs(2);
/// How often waiting requests and silent servers are looked at.
const TICK: Duration = Duration::from_millis(100);

/// A client's insides.
pub(super) struct Pool {
    pub(super) uri: Uri,
    pub(super) options: ConnectOptions,
    pub(super) export: Export,
    pub(super) links: Vec<Link>,
    pub(super) table: RefCell<Table>,
    /// Why nothing works any more.
    failure: RefCell<Option<Error>>,
    /// We are about to leave, or have left.
    parting: Cell<bool>,
    /// Woken when requests are done and connections gone, while we are about to leave.
    quiet: Notify,
    /// What each server's incarnation was when last met.
    incarnations: RefCell<BTreeMap<usize, Option<Uuid>>>,
}

impl Pool {
    /// The first connection, to the endpoint of that index, is there; the others are made by their keepers.
    pub(super) fn start(
        uri: Uri,
        options: ConnectOptions,
        links: usize,
        first: (usize, Dialled),
    ) -> Rc<Pool> {
        let (endpoint, dialled) = first;
        let incarnations = BTreeMap::from([(endpoint, dialled.export.incarnation)]);
        let pool = Rc::new(Pool {
            uri,
            options,
            export: dialled.export.clone(),
            links: (0..links).map(|_| Link::default()).collect(),
            table: RefCell::default(),
            failure: RefCell::default(),
            parting: Cell::new(false),
            quiet: Notify::new(),
            incarnations: RefCell::new(incarnations),
        });
        let mut dialled = Some(dialled);
        for index in 0..links {
            runtime::spawn(keep(pool.clone(), index, endpoint, dialled.take()));
        }
        runtime::spawn(watch(pool.clone()));
        pool
    }

    pub(super) fn is_parting(&self) -> bool {
        self.parting.get()
    }

    /// Why no request can be taken, if so.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    /// Brings a request to the connection with the least to do.
    pub(super) fn dispatch(&self, key: usize) {
        let live = self.links.iter().enumerate().filter(|(_, link)| link.live.borrow().is_some());
        let Some((index, link)) = live.min_by_key(|(_, link)| link.load()) else {
            return self.strand(key);
        };
        self.table.borrow_mut().slot(key).place = Place::Queued(index);
        link.queue.borrow_mut().push_back(key);
        link.wake.notify_one();
    }

    /// No connection is there: the request waits for one.
    fn strand(&self, key: usize) {
        let mut table = self.table.borrow_mut();
        let slot = table.slot(key);
        slot.place = Place::Nowhere;
        if slot.abandoned {
            return table.abandon(key);
        }
        let limit = Instant::now() + self.options.reconnect_for;
        let give_up_at = *slot.give_up_at.get_or_insert(limit);
        if self.options.reconnect_for.is_zero() || give_up_at <= Instant::now() {
            let error = self.failure().unwrap_or_else(|| self.out_of_reach());
            table.finish(key, Err(error));
        }
    }

    fn out_of_reach(&self) -> Error {
        let what = format!("the connection to {} was lost", self.uri);
        let patience = self.options.reconnect_for;
        if patience.is_zero() {
            return Error::new(Kind::Lost, what);
        }
        Error::new(Kind::Lost, format!("{what}, and could not be made again for {patience:?}"))
    }

    pub(super) fn note_concluded(&self) {
        if self.is_parting() {
            self.quiet.notify_one();
        }
    }

    /// Ends everything with `error`.
    fn fail(&self, error: &Error) {
        self.failure.borrow_mut().get_or_insert_with(|| error.clone());
        self.links.iter().for_each(|link| link.queue.borrow_mut().clear());
        let mut table = self.table.borrow_mut();
        // What was sent comes back from its own keeper.
        for key in table.keys(|place| matches!(place, Place::Nowhere | Place::Queued(_))) {
            table.finish(key, Err(error.clone()));
        }
        drop(table);
        self.hang_up();
    }

    fn hang_up(&self) {
        for link in &self.links {
            if let Some(live) = &*link.live.borrow() {
                live.end(End::Parted);
            }
            link.wake.notify_one();
        }
        self.quiet.notify_one();
    }

    /// Ends all connections at once.
    pub(super) fn close(&self) {
        self.parting.set(true);
        self.hang_up();
    }

    /// Waits for what is in flight, and says goodbye on every connection.
    pub(super) async fn part(&self) {
        while self.failure().is_none() && !self.table.borrow().is_empty() {
            // Looked at again now and then: nobody tells of requests that are given up.
            let _ = runtime::timeout(TICK, self.quiet.notified()).await;
        }
        self.parting.set(true);
        self.links.iter().for_each(|link| link.wake.notify_one());
        let gone = async {
            while self.links.iter().any(|link| link.live.borrow().is_some()) {
                self.quiet.notified().await;
            }
        };
        let _ = runtime::timeout(PART_PATIENCE, gone).await;
        self.close();
    }

    /// Whether the server at `endpoint` is the one that we knew, as far as it tells.
    fn lost_nothing(&self, endpoint: usize, incarnation: Option<Uuid>) -> bool {
        let known = self.incarnations.borrow_mut().insert(endpoint, incarnation);
        known.is_none_or(|known| known == incarnation)
    }

    /// The requests of a connection that ended go to another one, or wait.
    fn replay(&self, index: usize) {
        self.links[index].queue.borrow_mut().clear();
        let mut table = self.table.borrow_mut();
        if !self.export.can_multi_conn() {
            // What one connection has acknowledged, the flush of another need not make durable.
            table.doubt_unflushed();
        }
        let theirs =
            |place| place == Place::Queued(index) || matches!(place, Place::Sent(link, _) if link == index);
        let keys = table.keys(theirs);
        drop(table);
        keys.into_iter().for_each(|key| self.dispatch(key));
    }

    /// Those that waited for a connection.
    pub(super) fn unstrand(&self) {
        let keys = self.table.borrow().keys(|place| place == Place::Nowhere);
        keys.into_iter().for_each(|key| self.dispatch(key));
    }
}

/// Keeps link `index` connected until the client is gone.
async fn keep(pool: Rc<Pool>, index: usize, endpoint: usize, mut dialled: Option<Dialled>) {
    // Further connections begin at further servers.
    let mut next = (endpoint + index) % pool.uri.endpoints().len();
    let mut pause = REDIAL_MIN;
    while !pool.is_parting() && pool.failure().is_none() {
        let connection = match dialled.take() {
            Some(connection) => connection,
            None => match redial(&pool, &mut next).await {
                Some(connection) => connection,
                None => break,
            },
        };
        let before = pool.links[index].progress.get();
        let end = link::serve(&pool, index, connection).await;
        pool.quiet.notify_one();
        let fruitless = pool.links[index].progress.get() == before;
        match end {
            End::Violated(violation) => {
                let what = format!("the server of {} broke the NBD protocol", pool.uri);
                pool.fail(&Error::caused(Kind::Protocol, what, violation));
            }
            End::Lost(error) => {
                tracing::debug!("a connection to {} was lost: {error}", pool.uri);
            }
            End::Parted => {}
        }
        abandon_or_replay(&pool, index);
        pause = if fruitless { (pause * 2).min(REDIAL_MAX) } else { REDIAL_MIN };
        if fruitless {
            // Where a request itself makes the server hang up, nobody is helped by haste.
            runtime::sleep(pause).await;
        }
    }
}

fn abandon_or_replay(pool: &Pool, index: usize) {
    let failure = pool.failure().or_else(|| {
        pool.is_parting().then(|| Error::new(Kind::Lost, format!("the client of {} was closed", pool.uri)))
    });
    let Some(failure) = failure else { return pool.replay(index) };
    let theirs =
        |place| place == Place::Queued(index) || matches!(place, Place::Sent(link, _) if link == index);
    let mut table = pool.table.borrow_mut();
    for key in table.keys(theirs) {
        table.finish(key, Err(failure.clone()));
    }
}

/// A new connection to the same export, on any of the servers. `None`: the client is gone.
async fn redial(pool: &Rc<Pool>, next: &mut usize) -> Option<Dialled> {
    let endpoints = pool.uri.endpoints();
    let (mut pause, mut changed) = (REDIAL_MIN, 0);
    if pool.options.reconnect_for.is_zero() && pool.links.iter().all(|link| link.live.borrow().is_none()) {
        pool.fail(&pool.out_of_reach());
    }
    for attempt in 1.. {
        if pool.is_parting() || pool.failure().is_some() {
            return None;
        }
        let endpoint = *next;
        *next = (endpoint + 1) % endpoints.len();
        let result = dial::dial(&endpoints[endpoint], &pool.options).await;
        let checked = result.and_then(|dialled| {
            identity::same(&pool.export, &dialled.export, &endpoints[endpoint]).map(|()| dialled)
        });
        match checked {
            Ok(dialled) => {
                if !pool.lost_nothing(endpoint, dialled.export.incarnation) {
                    pool.table.borrow_mut().doubt_unflushed();
                }
                *next = endpoint;
                return Some(dialled);
            }
            Err(error) if error.kind() == Kind::Changed => {
                tracing::warn!("{error}");
                changed += 1;
                if changed == endpoints.len() {
                    pool.fail(&error);
                    return None;
                }
            }
            Err(error) => tracing::debug!("{error}"),
        }
        if attempt % endpoints.len() == 0 {
            changed = 0;
            runtime::sleep(pause).await;
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }
    None
}

/// Gives up what waits too long, and servers that say nothing.
async fn watch(pool: Rc<Pool>) {
    let mut last: Vec<(u64, Instant)> = pool.links.iter().map(|_| (0, Instant::now())).collect();
    while !pool.is_parting() && pool.failure().is_none() {
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
                live.end(End::Lost(std::io::Error::new(std::io::ErrorKind::TimedOut, what)));
            }
        }
    }
}
