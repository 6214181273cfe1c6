//! Names and numbers: a type for each, so that none is taken for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// Grows whenever the leader or the in-sync set of a volume changes. 0: nobody has ever led.
    Epoch(u64)
}
number! {
    /// A write's place in the order of its leader's term. Begins at 1.
    Seq(u64)
}
number! {
    /// One flush of all replicas, within a leader's term.
    FlushId(u64)
}
number! {
    /// A client's request, as the mover numbers it. Not used again until completed.
    RequestId(u64)
}
number! {
    /// A client's request on its way to the leader, as the forwarding replica numbers it. Grows.
    ForwardId(u64)
}
number! {
    /// An operator's command, as the mover numbers it.
    CommandId(u64)
}
number! {
    /// Local I/O or a metadata write that the machine has asked for. Comes back with its result, once.
    OpId(u64)
}
number! {
    /// Bytes that the mover holds. Whoever makes one gives it a new number.
    DataId(u64)
}
number! {
    /// One connection to one peer. Never used again.
    Session(u64)
}
number! {
    /// One run of a node's process: a random number that the mover draws at each start.
    Incarnation(u64)
}
number! {
    /// A node's monotonic clock, in nanoseconds. Means nothing on another node.
    Time(u64)
}

impl Epoch {
    /// The one after this.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl Time {
    /// So much later.
    pub fn after(self, nanoseconds: u64) -> Time {
        Time(self.0.saturating_add(nanoseconds))
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A volume's UUID: the same on all its replicas, and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeId(pub [u8; 16]);

/// A node's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

/// A replica: its place in the volume's list `replicas`, which is the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaId(pub u8);

impl ReplicaId {
    /// A volume has at most so many replicas.
    pub const COUNT_MAX: usize = 8;

    /// As an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {}", self.0)
    }
}

/// Some of a volume's replicas: bit n is replica n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSet(pub u8);

impl ReplicaSet {
    /// None.
    pub const EMPTY: ReplicaSet = ReplicaSet(0);

    /// Only this one.
    pub fn only(replica: ReplicaId) -> ReplicaSet {
        ReplicaSet(1 << replica.0)
    }

    /// The first `count`: all replicas of a volume that has so many.
    pub fn first(count: usize) -> ReplicaSet {
        assert!(count <= ReplicaId::COUNT_MAX, "a volume has at most {} replicas", ReplicaId::COUNT_MAX);
        ReplicaSet(((1u16 << count) - 1) as u8)
    }

    /// Whether it is among them.
    #[inline]
    pub fn contains(self, replica: ReplicaId) -> bool {
        self.0 >> replica.0 & 1 == 1
    }

    /// With this one.
    #[inline]
    #[must_use]
    pub fn with(self, replica: ReplicaId) -> ReplicaSet {
        ReplicaSet(self.0 | 1 << replica.0)
    }

    /// Without this one.
    #[inline]
    #[must_use]
    pub fn without(self, replica: ReplicaId) -> ReplicaSet {
        ReplicaSet(self.0 & !(1 << replica.0))
    }

    /// In either.
    #[inline]
    #[must_use]
    pub fn union(self, other: ReplicaSet) -> ReplicaSet {
        ReplicaSet(self.0 | other.0)
    }

    /// In both.
    #[inline]
    #[must_use]
    pub fn and(self, other: ReplicaSet) -> ReplicaSet {
        ReplicaSet(self.0 & other.0)
    }

    /// In this one and not in the other.
    #[inline]
    #[must_use]
    pub fn minus(self, other: ReplicaSet) -> ReplicaSet {
        ReplicaSet(self.0 & !other.0)
    }

    /// Whether each of the other is in this.
    #[inline]
    pub fn covers(self, other: ReplicaSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// How many.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In order.
    pub fn iter(self) -> impl Iterator<Item = ReplicaId> {
        (0..ReplicaId::COUNT_MAX as u8).map(ReplicaId).filter(move |&replica| self.contains(replica))
    }
}
