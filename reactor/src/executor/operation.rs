//! An operation as a future: started when first polled, abandoned when dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Core, Slot};
use crate::op::{Completion, Op, Token};

/// An operation, from its start to its completion.
pub(crate) struct Operation(OperationState);

enum OperationState {
    Unstarted(Op),
    Started(Core, usize),
    Finished,
}

impl Operation {
    pub(crate) fn new(op: Op) -> Operation {
        Operation(OperationState::Unstarted(op))
    }
}

impl Future for Operation {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        match std::mem::replace(&mut self.0, OperationState::Finished) {
            OperationState::Unstarted(op) => {
                let core = Core::of(cx);
                let task = core.0.current.get();
                let key = core.0.slots.borrow_mut().insert(Slot::Pending(task));
                let started = core.0.driver.borrow_mut().start(Token(key as u32), op);
                if let Some(completion) = started {
                    core.0.slots.borrow_mut().remove(key);
                    return Poll::Ready(completion);
                }
                self.0 = OperationState::Started(core, key);
                Poll::Pending
            }
            OperationState::Started(core, key) => {
                let mut slots = core.0.slots.borrow_mut();
                if let Slot::Done(_) = slots[key] {
                    let Slot::Done(completion) = slots.remove(key) else { unreachable!("looked at above") };
                    return Poll::Ready(completion);
                }
                slots[key] = Slot::Pending(core.0.current.get());
                drop(slots);
                self.0 = OperationState::Started(core, key);
                Poll::Pending
            }
            OperationState::Finished => panic!("an operation is not polled after its completion"),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let OperationState::Started(core, key) = &self.0 {
            let mut slots = core.0.slots.borrow_mut();
            let done = match slots[*key] {
                Slot::Pending(_) => std::mem::replace(&mut slots[*key], Slot::Abandoned),
                _ => slots.remove(*key),
            };
            drop(slots);
            drop(done);
        }
    }
}
