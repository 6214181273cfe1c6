//! Counts operations in flight in two generations, so that one can wait for all that began before a moment
//! without stopping those that begin after it.

use std::cell::Cell;

use reactor::sync::WaitList;

/// The operations of one volume.
#[derive(Default)]
pub struct Generations {
    running: [Cell<usize>; 2],
    current: Cell<usize>,
    ended: WaitList,
}

/// One operation; dropping it ends it.
pub struct Running<'a> {
    generations: &'a Generations,
    generation: usize,
}

impl Generations {
    /// An operation begins.
    pub fn begin(&self) -> Running<'_> {
        let generation = self.current.get();
        self.running[generation].set(self.running[generation].get() + 1);
        Running { generations: self, generation }
    }

    /// Waits for the operations that have begun before now.
    pub async fn settled(&self) {
        // Those of the other generation may still be waited for by an earlier call: they count too.
        let before = self.current.get();
        self.wait(1 - before).await;
        self.current.set(1 - before);
        self.wait(before).await;
    }

    async fn wait(&self, generation: usize) {
        while self.running[generation].get() > 0 {
            self.ended.wait().await;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let running = &self.generations.running[self.generation];
        running.set(running.get() - 1);
        if running.get() == 0 {
            self.generations.ended.wake_all();
        }
    }
}
