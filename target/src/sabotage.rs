//! Deliberate bugs of the kind that machines cannot have: for tests that show that simulated nodes find them.
//!
//! Its one rule: without the feature `sabotage`, which only tests turn on, none of them is compiled in.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A wake-up that the machine has asked for is lost, now and then.
    LoseTick,
    /// The machine is told that bytes are written before they are.
    TellBeforeWritten,
    /// The machine is told that bytes are durable, and they are not.
    TellBeforeDurable,
    /// The same of its metadata.
    MetadataInCache,
    /// A payload is given back when it is on its way to the first peer.
    ReleaseEarly,
    /// A payload is never given back, now and then.
    ReleaseNever,
    /// The end of a link is not noted.
    KeepDeadLink,
    /// What was queued while a send was under way is thrown away.
    DropQueued,
    /// A request's task is not woken, now and then.
    LoseNews,
    /// A client's write is answered when it has begun.
    AnswerBeforeWritten,
    /// Writes of parts of a block do not wait for one another.
    ShareBlocks,
    /// An answered request keeps its place among those that a client may have under way.
    KeepPlace,
}

#[cfg(feature = "sabotage")]
mod switch {
    use std::cell::Cell;

    use super::Sabotage;

    thread_local! {
        static ON: Cell<Option<Sabotage>> = const { Cell::new(None) };
        static TIMES: Cell<u64> = const { Cell::new(0) };
    }

    /// Of so many chances, one is taken by bugs that show now and then.
    const NOW_AND_THEN: u64 = 50;

    impl Sabotage {
        /// All of them.
        pub const ALL: [Sabotage; 12] = [
            Sabotage::LoseTick,
            Sabotage::TellBeforeWritten,
            Sabotage::TellBeforeDurable,
            Sabotage::MetadataInCache,
            Sabotage::ReleaseEarly,
            Sabotage::ReleaseNever,
            Sabotage::KeepDeadLink,
            Sabotage::DropQueued,
            Sabotage::LoseNews,
            Sabotage::AnswerBeforeWritten,
            Sabotage::ShareBlocks,
            Sabotage::KeepPlace,
        ];

        /// The nodes of this thread have this bug from now on, or none.
        pub fn set(bug: Option<Sabotage>) {
            ON.set(bug);
            TIMES.set(0);
        }

        /// Whether it is on.
        pub fn is_on(self) -> bool {
            ON.get() == Some(self)
        }

        /// Whether it is on and shows this time.
        pub fn shows(self) -> bool {
            if !self.is_on() {
                return false;
            }
            TIMES.set(TIMES.get() + 1);
            TIMES.get().is_multiple_of(NOW_AND_THEN)
        }
    }
}

#[cfg(not(feature = "sabotage"))]
impl Sabotage {
    /// Whether it is on: never.
    #[inline]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether it shows this time: never.
    #[inline]
    pub const fn shows(self) -> bool {
        false
    }
}
