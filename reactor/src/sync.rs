//! Waiting for one another: for tasks of one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::executor::TaskRef;

/// Tasks that wait for something to change. Woken ones look again; a wake-up may be in vain.
#[derive(Default)]
pub struct WaitList {
    waiting: RefCell<Vec<TaskRef>>,
}

impl WaitList {
    /// Waits for the next wake-up.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        let mut waited = false;
        poll_fn(move |cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.join(cx);
            Poll::Pending
        })
    }

    /// Adds the task of `cx`, for hand-written futures.
    pub fn join(&self, cx: &mut Context<'_>) {
        self.waiting.borrow_mut().push(TaskRef::of(cx));
    }

    /// Wakes all that wait now.
    #[inline]
    pub fn wake_all(&self) {
        // To be woken is to be queued: nobody comes to wait meanwhile.
        self.waiting.borrow_mut().drain(..).for_each(|task| task.wake());
    }
}

/// A bounded number of permits, given in the order of asking.
pub struct Gate {
    free: Cell<usize>,
    total: usize,
    queue: RefCell<VecDeque<u64>>,
    next_ticket: Cell<u64>,
    waiting: WaitList,
}

impl Gate {
    /// A gate of `permits`.
    pub fn new(permits: usize) -> Rc<Gate> {
        Rc::new(Gate {
            free: Cell::new(permits),
            total: permits,
            queue: RefCell::default(),
            next_ticket: Cell::new(0),
            waiting: WaitList::default(),
        })
    }

    /// `count` permits (no more than there are in all), when those who asked before have theirs.
    pub async fn enter(self: &Rc<Self>, count: usize) -> Permit {
        assert!(count <= self.total, "nobody asks for more than there is");
        if self.queue.borrow().is_empty() && self.free.get() >= count {
            return self.grant(count);
        }
        let ticket = Ticket::draw(self);
        while self.queue.borrow().front() != Some(&ticket.number) || self.free.get() < count {
            self.waiting.wait().await;
        }
        drop(ticket);
        self.grant(count)
    }

    /// Permits that are out.
    pub fn taken(&self) -> usize {
        self.total - self.free.get()
    }

    /// Waits until all permits are back.
    pub async fn idle(&self) {
        while self.taken() > 0 {
            self.waiting.wait().await;
        }
    }

    fn grant(self: &Rc<Self>, count: usize) -> Permit {
        self.free.set(self.free.get() - count);
        Permit { gate: self.clone(), count }
    }
}

struct Ticket<'a> {
    gate: &'a Gate,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn draw(gate: &'a Gate) -> Ticket<'a> {
        let number = gate.next_ticket.get();
        gate.next_ticket.set(number + 1);
        gate.queue.borrow_mut().push_back(number);
        Ticket { gate, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.gate.queue.borrow_mut().retain(|&number| number != self.number);
        self.gate.waiting.wake_all();
    }
}

/// Permits of a gate; dropping gives them back.
pub struct Permit {
    gate: Rc<Gate>,
    count: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.free.set(self.gate.free.get() + self.count);
        self.gate.waiting.wake_all();
    }
}

/// One value, from one task to another.
pub fn one_shot<T>() -> (Giver<T>, Taker<T>) {
    let shared =
        Rc::new(OneShot { value: Cell::new(None), closed: Cell::new(false), waiting: WaitList::default() });
    (Giver(shared.clone()), Taker(shared))
}

struct OneShot<T> {
    value: Cell<Option<T>>,
    closed: Cell<bool>,
    waiting: WaitList,
}

/// Gives the value.
pub struct Giver<T>(Rc<OneShot<T>>);

impl<T> Giver<T> {
    /// Gives it.
    pub fn give(self, value: T) {
        self.0.value.set(Some(value));
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.waiting.wake_all();
    }
}

/// Takes the value; `None` when the giver went without.
pub struct Taker<T>(Rc<OneShot<T>>);

impl<T> Future for Taker<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.0.value.take() {
            Some(value) => Poll::Ready(Some(value)),
            None if self.0.closed.get() => Poll::Ready(None),
            None => {
                self.0.waiting.join(cx);
                Poll::Pending
            }
        }
    }
}
