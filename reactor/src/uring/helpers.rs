//! A few threads for what only blocking system calls can do. Bounded; idle ones wait.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::op::Token;
use crate::uring::Doorbell;

/// Threads of one core at the most.
const THREADS_MAX: usize = 4;

type Call = Box<dyn FnOnce() -> io::Result<u64> + Send>;

pub(super) struct Helpers {
    shared: Arc<Shared>,
    threads: usize,
    doorbell: Doorbell,
    failed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wanted: Condvar,
    idle: AtomicUsize,
    finished: Mutex<Vec<(Token, io::Result<u64>)>>,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<(Token, Call)>,
    closed: bool,
}

impl Helpers {
    pub(super) fn new(doorbell: Doorbell) -> Helpers {
        let shared = Shared {
            queue: Mutex::default(),
            wanted: Condvar::new(),
            idle: AtomicUsize::new(0),
            finished: Mutex::default(),
        };
        Helpers { shared: Arc::new(shared), threads: 0, doorbell, failed: false }
    }

    pub(super) fn run(&mut self, token: Token, call: Call) {
        if self.shared.idle.load(Ordering::Acquire) == 0 && self.threads < THREADS_MAX {
            let shared = self.shared.clone();
            let doorbell = self.doorbell.clone();
            let made =
                std::thread::Builder::new().name("helper".into()).spawn(move || serve(&shared, &doorbell));
            match made {
                Ok(_) => self.threads += 1,
                Err(error) if self.threads == 0 => return self.fail(token, error),
                Err(_) => {}
            }
        }
        lock(&self.shared.queue).calls.push_back((token, call));
        self.shared.wanted.notify_one();
    }

    /// Finishes `token` with `error`, without a thread.
    pub(super) fn fail(&mut self, token: Token, error: io::Error) {
        lock(&self.shared.finished).push((token, Err(error)));
        self.failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn finished(&mut self) -> Vec<(Token, io::Result<u64>)> {
        self.failed = false;
        std::mem::take(&mut *lock(&self.shared.finished))
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.wanted.notify_all();
    }
}

fn serve(shared: &Shared, doorbell: &Doorbell) {
    while let Some((token, call)) = next(shared) {
        let result = call();
        lock(&shared.finished).push((token, result));
        doorbell.ring();
    }
}

fn next(shared: &Shared) -> Option<(Token, Call)> {
    let mut queue = lock(&shared.queue);
    loop {
        if let Some(call) = queue.calls.pop_front() {
            return Some(call);
        }
        if queue.closed {
            return None;
        }
        shared.idle.fetch_add(1, Ordering::AcqRel);
        queue = shared.wanted.wait(queue).unwrap_or_else(PoisonError::into_inner);
        shared.idle.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
