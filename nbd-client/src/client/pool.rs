//! All that one client has: its requests and its connections.
//!
//! Its one rule: a request is in one place at any time, and gets there by `dispatch` alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::ConnectOptions;
use super::dial::Dialled;
use super::keeper;
use super::link::{self, End, Link};
use super::request::Place;
use super::table::Table;
use crate::error::{Error, Kind};
use crate::export::Export;
use crate::runtime::{self, Instant, Notify};
use crate::uri::Uri;

/// For the server to hang up after our goodbye.
const PART_PATIENCE: Duration = Duration::from_secs(2);
/// How often requests are looked for that are still there, while we wait for their end.
const TICK: Duration = Duration::from_millis(100);

/// A client's insides.
pub(super) struct Pool {
    pub(super) uri: Uri,
    pub(super) options: ConnectOptions,
    pub(super) export: Export,
    pub(super) links: Vec<Link>,
    pub(super) table: RefCell<Table>,
    /// What was wrong with the last connection, or attempt at one.
    pub(super) trouble: RefCell<Option<Error>>,
    /// Why nothing works any more.
    failure: RefCell<Option<Error>>,
    /// We are about to leave, or have left.
    parting: Cell<bool>,
    /// Woken when requests are done and connections gone, while we are about to leave.
    pub(super) quiet: Notify,
    /// What each server's incarnation was when last met.
    incarnations: RefCell<BTreeMap<usize, Option<Uuid>>>,
    /// What the log says of servers that serve something else by now.
    changes: RefCell<BTreeMap<usize, String>>,
    /// The log says that no connection is left.
    is_cut_off: Cell<bool>,
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
            trouble: RefCell::default(),
            failure: RefCell::default(),
            parting: Cell::new(false),
            quiet: Notify::new(),
            incarnations: RefCell::new(incarnations),
            changes: RefCell::default(),
            is_cut_off: Cell::new(false),
        });
        let mut opened = Some(link::open(&pool, 0, dialled));
        for index in 0..links {
            runtime::spawn(keeper::keep(pool.clone(), index, endpoint, opened.take()));
        }
        runtime::spawn(keeper::watch(pool.clone()));
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

    pub(super) fn out_of_reach(&self) -> Error {
        let patience = self.options.reconnect_for;
        let again =
            if patience.is_zero() { String::new() } else { format!(" and not made again for {patience:?}") };
        let what = format!("the connection to {} was lost{again}", self.uri);
        match &*self.trouble.borrow() {
            Some(trouble) => Error::caused(Kind::Lost, what, trouble.clone()),
            None => Error::new(Kind::Lost, what).remedy("is the server running, and the network up?"),
        }
    }

    pub(super) fn note_concluded(&self) {
        if self.is_parting() {
            self.quiet.notify_one();
        }
    }

    /// Ends everything with `error`.
    pub(super) fn fail(&self, error: &Error) {
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

    /// A connection was lost. The log says so once, when it was the last one and will be made again.
    pub(super) fn note_lost(&self, error: &std::io::Error) {
        tracing::debug!("a connection to {} was lost: {error}", self.uri);
        let is_last = self.links.iter().all(|link| link.live.borrow().is_none());
        let is_news = is_last && !self.is_parting() && !self.options.reconnect_for.is_zero();
        if is_news && !self.options.is_further && !self.is_cut_off.replace(true) {
            tracing::warn!("the connection to {} was lost: {error}; it is dialed again", self.uri);
        }
    }

    /// The server at `endpoint` serves the export again.
    pub(super) fn note_back(&self, endpoint: usize) {
        self.changes.borrow_mut().remove(&endpoint);
        if self.is_cut_off.replace(false) {
            tracing::warn!("the connection to {} is back, with {}", self.uri, self.uri.endpoints()[endpoint]);
        }
    }

    /// The server at `endpoint` serves something else: told once for each change.
    pub(super) fn note_changed(&self, endpoint: usize, error: &Error) {
        let text = error.to_string();
        let told = self.changes.borrow_mut().insert(endpoint, text.clone());
        if told.as_ref() != Some(&text) && !self.options.is_further {
            tracing::warn!("{text}");
        }
    }

    /// Whether the server at `endpoint` is the one that we knew, as far as it tells.
    pub(super) fn lost_nothing(&self, endpoint: usize, incarnation: Option<Uuid>) -> bool {
        let mut incarnations = self.incarnations.borrow_mut();
        let known = incarnations.get(&endpoint).copied();
        // A server that does not know yet says nothing: what it says next is held against what it said before.
        if incarnation.is_some() || known.is_none() {
            incarnations.insert(endpoint, incarnation);
        }
        known.is_none_or(|known| known == incarnation)
    }

    /// What is to be done with the requests of a connection that ended: another one takes them, or they wait; or
    /// they fail with the client.
    pub(super) fn bereave(&self, index: usize) {
        self.links[index].queue.borrow_mut().clear();
        let theirs = |place| match place {
            Place::Queued(link) | Place::Sent(link, _) => link == index,
            Place::Nowhere | Place::Done => false,
        };
        let mut table = self.table.borrow_mut();
        if !self.export.can_multi_conn() {
            // What one connection has acknowledged, the flush of another need not make durable.
            table.doubt_unflushed();
        }
        let keys = table.keys(theirs);
        drop(table);
        for key in keys {
            match self.end_of_all() {
                None => self.dispatch(key),
                Some(error) => self.table.borrow_mut().finish(key, Err(error)),
            }
        }
    }

    fn end_of_all(&self) -> Option<Error> {
        let closed = || Error::new(Kind::Lost, format!("the client of {} was closed", self.uri));
        self.failure().or_else(|| self.is_parting().then(closed))
    }

    /// Those that waited for a connection.
    pub(super) fn unstrand(&self) {
        let keys = self.table.borrow().keys(|place| place == Place::Nowhere);
        keys.into_iter().for_each(|key| self.dispatch(key));
    }
}
