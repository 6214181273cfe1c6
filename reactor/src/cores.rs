//! One core per CPU: a pinned thread with its rings, tasks and buffers; and messages to it.
//!
//! A core shares nothing. Others leave messages in its inbox and ring its doorbell; that is the only way in.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::executor::{Core, Idle};
use crate::uring::{Doorbell, UringDriver, UringSettings};

/// How a core is made.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// How it waits.
    pub idle: Idle,
    /// How long the kernel may take to let go of everything at the end.
    pub drain: Duration,
    /// The rings and buffers.
    pub uring: UringSettings,
}

/// Leaves messages for a core.
pub struct Sender<T>(Arc<Queue<T>>);

struct Queue<T> {
    state: Mutex<QueueState<T>>,
    doorbell: Doorbell,
}

struct QueueState<T> {
    messages: VecDeque<T>,
    closed: bool,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Leaves `message`; gives it back when the core has ended.
    pub fn send(&self, message: T) -> Result<(), T> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(message);
        }
        state.messages.push_back(message);
        drop(state);
        self.0.doorbell.ring();
        Ok(())
    }
}

impl<T> Queue<T> {
    fn new(doorbell: Doorbell) -> Arc<Queue<T>> {
        let state = Mutex::new(QueueState { messages: VecDeque::new(), closed: false });
        Arc::new(Queue { state, doorbell })
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A core's end of its messages.
pub struct Inbox<T> {
    queue: Arc<Queue<T>>,
    core: Core,
}

impl<T> Inbox<T> {
    /// The next message, in the order of sending.
    pub async fn next(&self) -> T {
        loop {
            if let Some(message) = self.queue.lock().messages.pop_front() {
                return message;
            }
            self.core.doorbell().await;
        }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.closed = true;
        let unread = std::mem::take(&mut state.messages);
        drop(state);
        drop(unread);
    }
}

/// An inbox for a core that is driven by hand, with this doorbell.
pub fn inbox<T>(core: &Core, doorbell: Doorbell) -> (Sender<T>, Inbox<T>) {
    let queue = Queue::new(doorbell);
    (Sender(queue.clone()), Inbox { queue, core: core.clone() })
}

/// Starts a core that runs `main` and ends with it. Returns when its rings stand, or says why they do not.
/// Should the kernel not let go of the core's memory in the end, the process aborts: freeing it would
/// be worse.
pub fn start<T, F>(
    settings: CoreSettings,
    main: impl FnOnce(Core, Inbox<T>) -> F + Send + 'static,
) -> io::Result<(Sender<T>, JoinHandle<()>)>
where
    T: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let doorbell = Doorbell::new()?;
    let queue = Queue::new(doorbell.clone());
    let sender = Sender(queue.clone());
    let (ready, made) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("core-{}", settings.cpu)).spawn(move || {
        let made = pin(settings.cpu).and_then(|()| UringDriver::new(&settings.uring, doorbell));
        let (driver, arena) = match made {
            Ok(parts) => parts,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        let core = Core::new(Box::new(driver), arena);
        let main = main(core.clone(), Inbox { queue, core: core.clone() });
        if let Err(kept) = core.run(main, settings.idle, settings.drain) {
            tracing::error!(cpu = settings.cpu, kept, "the kernel did not finish all operations; aborting");
            std::process::abort();
        }
    })?;
    made.recv().unwrap_or_else(|_| Err(io::Error::other("the core's thread ended at once")))?;
    Ok((sender, thread))
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).map_err(|_| io::Error::other(format!("CPU {cpu} is beyond what the system can name")))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|errno| io::Error::other(format!("cannot pin a thread to CPU {cpu}: {errno}")))
}
