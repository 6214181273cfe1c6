//! Tasks, the ready queue, and the turn of the loop of one core.
//!
//! There are no wakers: whoever completes something names the task. A future finds its core through
//! the context that it is polled with, so it must be polled by this executor and no other.

mod idle;
mod operation;
mod sleep;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use slab::Slab;

use crate::buffer::Arena;
use crate::driver::{Counters, Driver, Moment, Wait};
use crate::handle::{Handle, Path};
use crate::op::{Completion, Token};
use crate::sync::WaitList;

pub use idle::Idle;
use idle::Waiting;
pub(crate) use operation::Operation;
pub use sleep::Sleep;

/// Tasks polled before completions are looked for again.
const POLLS_PER_TURN: usize = 256;

/// A core, as its own tasks see it.
#[derive(Clone)]
pub struct Core(Rc<Inner>);

struct Inner {
    driver: RefCell<Box<dyn Driver>>,
    arena: Rc<Arena>,
    tasks: RefCell<Slab<Task>>,
    generations: Cell<u64>,
    ready: RefCell<VecDeque<TaskId>>,
    current: Cell<TaskId>,
    slots: RefCell<Slab<Slot>>,
    timers: RefCell<BTreeMap<(Moment, u64), TaskId>>,
    timer_numbers: Cell<u64>,
    turn_started: Cell<Moment>,
    doorbell: WaitList,
    /// Kept between turns for its memory.
    completions: RefCell<Vec<(Token, Completion)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TaskId {
    index: usize,
    generation: u64,
}

struct Task {
    generation: u64,
    queued: bool,
    /// Out while it is being polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

enum Slot {
    Pending(TaskId),
    Done(Completion),
    /// The future is gone; what the operation owned is dropped with its completion.
    Abandoned,
}

impl Core {
    /// A core over `driver`, whose payload buffers come from `arena`.
    pub fn new(driver: Box<dyn Driver>, arena: Rc<Arena>) -> Core {
        let now = driver.now();
        Core(Rc::new(Inner {
            driver: RefCell::new(driver),
            arena,
            tasks: RefCell::default(),
            generations: Cell::new(1),
            ready: RefCell::default(),
            current: Cell::new(TaskId { index: 0, generation: 0 }),
            slots: RefCell::default(),
            timers: RefCell::default(),
            timer_numbers: Cell::new(0),
            turn_started: Cell::new(now),
            doorbell: WaitList::default(),
            completions: RefCell::default(),
        }))
    }

    /// Runs `main` and all that it spawns, until `main` is done; then drops the other tasks and waits until
    /// the kernel has let go of everything, for at most `drain`. `Err` holds the operations that it kept.
    pub fn run(
        &self,
        main: impl Future<Output = ()> + 'static,
        idle: Idle,
        drain: Duration,
    ) -> Result<(), usize> {
        let finished = Rc::new(Cell::new(false));
        let flag = finished.clone();
        self.spawn(async move {
            main.await;
            flag.set(true);
        });
        let mut waiting = Waiting::new(idle, self.turn_started());
        while !finished.get() {
            self.turn(&mut waiting, &finished);
        }
        self.drop_tasks();
        self.drain(drain)
    }

    /// One turn without waiting, for a driver that says itself when to look again: takes completions and timers that
    /// are due, then runs what is ready. `true`: more is ready already.
    pub fn step(&self) -> bool {
        self.harvest(Wait::No);
        self.fire_timers();
        self.run_ready();
        !self.0.ready.borrow().is_empty()
    }

    /// When the next sleeper wants to be woken.
    pub fn next_timer(&self) -> Option<Moment> {
        self.0.timers.borrow().keys().next().map(|&(at, _)| at)
    }

    /// Drops all tasks. What they had started stays with the driver.
    pub fn end(&self) {
        self.drop_tasks();
    }

    /// Starts a task and polls it once, so that one which never has to wait costs no turn.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let generation = self.0.generations.get();
        self.0.generations.set(generation + 1);
        let task = Task { generation, queued: false, future: Some(Box::pin(future)) };
        let index = self.0.tasks.borrow_mut().insert(task);
        self.poll_task(TaskId { index, generation });
    }

    /// The buffers of this core.
    pub fn arena(&self) -> &Rc<Arena> {
        &self.0.arena
    }

    /// The time.
    pub fn now(&self) -> Moment {
        self.0.driver.borrow().now()
    }

    /// When the completions of this turn were harvested: a time stamp that costs nothing.
    pub fn turn_started(&self) -> Moment {
        self.0.turn_started.get()
    }

    /// Takes a descriptor in.
    pub fn adopt(&self, fd: OwnedFd, path: Path) -> Handle {
        self.0.driver.borrow_mut().adopt(fd, path)
    }

    /// A stream socket that can be connected to `address`.
    pub fn socket(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        self.0.driver.borrow_mut().socket(address)
    }

    /// Who is at the other end of a connected socket; `None` for one that has no address.
    pub fn peer(&self, socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        self.0.driver.borrow().peer(socket)
    }

    /// Fills `out` with random bytes, fit for keys.
    pub fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.0.driver.borrow_mut().random(out)
    }

    /// The driver's counters.
    pub fn counters(&self) -> Counters {
        self.0.driver.borrow().counters()
    }

    /// The kernel features in use and missed, for people.
    pub fn features(&self) -> Vec<String> {
        self.0.driver.borrow().features()
    }

    /// Waits until another thread rings.
    pub(crate) async fn doorbell(&self) {
        self.0.doorbell.wait().await;
    }

    fn turn(&self, waiting: &mut Waiting, finished: &Cell<bool>) {
        self.run_ready();
        if finished.get() {
            return;
        }
        if !self.0.ready.borrow().is_empty() {
            self.harvest(Wait::No);
            self.fire_timers();
            return waiting.worked(self.turn_started());
        }
        // After a turn without work the time is that of its harvest.
        let now = if waiting.spins() { self.turn_started() } else { self.now() };
        let wait = waiting.decide(now, self.next_timer());
        let worked = self.harvest(wait);
        let fired = self.fire_timers();
        waiting.learn(worked || fired, wait, now, self.turn_started());
        if waiting.is_due_to_yield(self.turn_started()) {
            std::thread::yield_now();
            waiting.has_yielded(self.now());
        }
    }

    fn run_ready(&self) {
        for _ in 0..POLLS_PER_TURN {
            let Some(id) = self.0.ready.borrow_mut().pop_front() else { break };
            self.poll_task(id);
        }
    }

    fn poll_task(&self, id: TaskId) {
        let Some(mut future) = self.take_future(id) else { return };
        let outer = self.0.current.replace(id);
        let waker = self.waker();
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.0.current.set(outer);
        match poll {
            Poll::Pending => {
                if let Some(task) = self.0.tasks.borrow_mut().get_mut(id.index) {
                    task.future = Some(future);
                }
            }
            Poll::Ready(()) => {
                drop(self.0.tasks.borrow_mut().remove(id.index));
                drop(future);
            }
        }
    }

    fn take_future(&self, id: TaskId) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let mut tasks = self.0.tasks.borrow_mut();
        let task = tasks.get_mut(id.index).filter(|task| task.generation == id.generation)?;
        task.queued = false;
        task.future.take()
    }

    fn wake(&self, id: TaskId) {
        let mut tasks = self.0.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(id.index) else { return };
        if task.generation == id.generation && !std::mem::replace(&mut task.queued, true) {
            self.0.ready.borrow_mut().push_back(id);
        }
    }

    fn harvest(&self, wait: Wait) -> bool {
        let mut out = self.0.completions.take();
        let (harvest, now) = {
            let mut driver = self.0.driver.borrow_mut();
            let harvest = driver.harvest(wait, &mut out);
            (harvest, driver.now())
        };
        self.0.turn_started.set(now);
        if harvest.rung {
            self.0.doorbell.wake_all();
        }
        let worked = harvest.rung || !out.is_empty();
        for (token, completion) in out.drain(..) {
            self.complete(token, completion);
        }
        self.0.completions.replace(out);
        worked
    }

    fn complete(&self, token: Token, completion: Completion) {
        let mut slots = self.0.slots.borrow_mut();
        let slot = slots.get_mut(token.0 as usize).expect("a slot lives until its completion");
        match std::mem::replace(slot, Slot::Done(completion)) {
            Slot::Pending(task) => {
                drop(slots);
                self.wake(task);
            }
            Slot::Abandoned => {
                let slot = slots.remove(token.0 as usize);
                drop(slots);
                drop(slot);
            }
            Slot::Done(_) => unreachable!("an operation completes once"),
        }
    }

    fn fire_timers(&self) -> bool {
        let now = self.turn_started();
        let mut fired = false;
        loop {
            let mut timers = self.0.timers.borrow_mut();
            let Some(entry) = timers.first_entry().filter(|entry| entry.key().0 <= now) else { break };
            let task = entry.remove();
            drop(timers);
            self.wake(task);
            fired = true;
        }
        fired
    }

    fn drop_tasks(&self) {
        loop {
            let tasks: Vec<Task> = self.0.tasks.borrow_mut().drain().collect();
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        self.0.ready.borrow_mut().clear();
        self.0.timers.borrow_mut().clear();
    }

    fn drain(&self, bound: Duration) -> Result<(), usize> {
        let deadline = self.now() + bound;
        while self.0.driver.borrow().in_flight() > 0 {
            if self.now() >= deadline {
                return Err(self.0.driver.borrow().in_flight());
            }
            self.0.driver.borrow_mut().cancel_all();
            self.harvest(Wait::Until(self.now() + Duration::from_millis(10)));
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        let raw = RawWaker::new(Rc::as_ptr(&self.0).cast(), &VTABLE);
        // SAFETY: the functions of VTABLE do nothing, so any data pointer and any thread is fine; `Core::of` alone looks
        // at the pointer, and only while `poll_task` holds the core.
        unsafe { Waker::from_raw(raw) }
    }

    /// The core that polls with `cx`.
    pub(crate) fn of(cx: &Context<'_>) -> Core {
        assert!(std::ptr::eq(cx.waker().vtable(), &VTABLE), "futures of a core are polled by their core");
        let inner = cx.waker().data().cast::<Inner>();
        // SAFETY: the vtable says that `poll_task` made the pointer, from an Rc that it holds while it polls, and that
        // this is its own waker and no clone.
        unsafe { Rc::increment_strong_count(inner) };
        // SAFETY: as above; the count taken there is owned by the new Rc.
        Core(unsafe { Rc::from_raw(inner) })
    }
}

/// Of the waker that a task is polled with.
static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|_| RawWaker::new(std::ptr::null(), &CLONED), |_| (), |_| (), |_| ());

/// Of its clones, which may outlive the core and go to other threads: they name no core.
static CLONED: RawWakerVTable =
    RawWakerVTable::new(|_| RawWaker::new(std::ptr::null(), &CLONED), |_| (), |_| (), |_| ());

/// A task, to wake it.
pub(crate) struct TaskRef {
    core: Core,
    id: TaskId,
}

impl TaskRef {
    pub(crate) fn of(cx: &Context<'_>) -> TaskRef {
        let core = Core::of(cx);
        let id = core.0.current.get();
        TaskRef { core, id }
    }

    pub(crate) fn wake(&self) {
        self.core.wake(self.id);
    }
}
