//! Waiting for a point in time. A sleep that is dropped leaves nothing behind.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Core;
use crate::driver::Moment;

/// A point in time to wait for.
pub struct Sleep {
    at: Moment,
    timer: Option<(Core, (Moment, u64))>,
}

impl Sleep {
    /// Until `at`.
    pub fn until(at: Moment) -> Sleep {
        Sleep { at, timer: None }
    }

    fn cancel(&mut self) {
        if let Some((core, key)) = self.timer.take() {
            core.0.timers.borrow_mut().remove(&key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = Core::of(cx);
        self.cancel();
        if core.turn_started() >= self.at {
            return Poll::Ready(());
        }
        let number = core.0.timer_numbers.get();
        core.0.timer_numbers.set(number + 1);
        let key = (self.at, number);
        core.0.timers.borrow_mut().insert(key, core.0.current.get());
        self.timer = Some((core, key));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
