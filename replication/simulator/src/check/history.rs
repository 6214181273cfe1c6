//! Whether the reads and writes of each sector have an order that explains them.
//!
//! Every write has a value of its own. A write and the reads that saw it are a cluster: it had happened at `first`
//! (the earliest end among them) and was still there at `last` (the latest beginning). After Gibbons and Korach,
//! there is an order if and only if no two clusters with `first < last` overlap, and none with `last < first` lies
//! within one of those.
//! After a loss of power, what was not flushed may be back as it was: each of those values begins anew.
//! Its one rule: a write that was not answered with success may have happened, at any time from its beginning on.

use std::ops::Range;

const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Write {
    value: u64,
    began: u64,
    /// `NEVER`: not answered with success.
    ended: u64,
    durable: bool,
    zero: bool,
    /// The earliest end of a read that saw it.
    read_first: u64,
    /// The latest beginning of one.
    read_last: u64,
    /// A loss of power may have brought it back then; 0: none has.
    returned: u64,
}

impl Write {
    /// When it had happened for certain.
    fn first(&self) -> u64 {
        self.ended.min(self.read_first)
    }

    fn zone(&self) -> Option<Zone> {
        if self.first() == NEVER {
            return None;
        }
        let first = if self.returned > 0 && self.ended == NEVER && self.was_answered() {
            self.returned
        } else {
            self.first()
        };
        Some(Zone { value: self.value, first, last: self.began.max(self.read_last) })
    }

    fn was_answered(&self) -> bool {
        self.returned == self.began
    }
}

#[derive(Clone, Copy, Debug)]
struct Zone {
    value: u64,
    first: u64,
    last: u64,
}

#[derive(Clone, Debug, Default)]
struct Sector {
    writes: Vec<Write>,
    zones: Vec<Zone>,
    /// It had become zero for certain then, at the latest.
    zero_since: u64,
}

#[derive(Debug)]
pub(crate) struct Sectors {
    sectors: Vec<Sector>,
    /// Whatever had been answered then is durable.
    flushed: u64,
    rolled_back: u64,
    /// An operator has forced something: nothing is known until all copies are one again.
    pub(crate) suspended: bool,
}

impl Sectors {
    pub(crate) fn new(sectors: u64) -> Sectors {
        let sectors = vec![Sector::default(); sectors as usize];
        Sectors { sectors, flushed: 0, rolled_back: 0, suspended: false }
    }

    pub(crate) fn write_begins(&mut self, value: u64, at: Range<usize>, began: u64, zero: bool) {
        for sector in &mut self.sectors[at] {
            sector.writes.push(Write {
                value,
                began,
                ended: NEVER,
                durable: false,
                zero,
                read_first: NEVER,
                read_last: 0,
                returned: 0,
            });
        }
    }

    pub(crate) fn write_ends(&mut self, value: u64, at: Range<usize>, ended: u64, durable: bool) {
        if self.suspended {
            return;
        }
        for sector in &mut self.sectors[at] {
            // The answer may be older than the loss that it has outlived, on its way through another node.
            let rolled_back = self.rolled_back;
            if let Some(write) = sector.find(value).filter(|write| durable || write.began > rolled_back) {
                write.ended = ended;
                write.durable = durable;
            }
        }
    }

    /// A flush that began then has been answered with success.
    pub(crate) fn flush_ends(&mut self, began: u64) {
        if !self.suspended && began > self.rolled_back {
            self.flushed = self.flushed.max(began);
        }
    }

    /// A read has been answered with this value of a sector; what is wrong with it, if anything is at once.
    pub(crate) fn read_ends(&mut self, at: usize, value: u64, began: u64, ended: u64) -> Option<String> {
        if self.suspended || began < self.rolled_back {
            return None;
        }
        let sector = &mut self.sectors[at];
        if value == 0 {
            return sector.zero_seen(began).map(|text| format!("sector {at}: {text}"));
        }
        let Some(write) = sector.find(value) else {
            return Some(format!("sector {at}: read {value}, which was never written there"));
        };
        if write.zero || write.began > ended {
            return Some(format!("sector {at}: read {value} before it was written"));
        }
        if began >= write.returned {
            write.read_first = write.read_first.min(ended);
            write.read_last = write.read_last.max(began);
        }
        None
    }

    /// A term begins on a copy that may have lost what was not flushed; forced: that may have lost anything.
    pub(crate) fn roll_back(&mut self, now: u64, forced: bool) {
        self.rolled_back = now;
        let flushed = if forced { 0 } else { self.flushed };
        for sector in self.sectors.iter_mut().filter(|sector| !sector.writes.is_empty()) {
            sector.roll_back(now, flushed, forced);
        }
    }

    /// At the end: whether each sector has an order.
    pub(crate) fn judge(&mut self) -> Option<String> {
        let judged = self.sectors.iter_mut().enumerate();
        judged.filter_map(|(at, sector)| sector.judge().map(|text| format!("sector {at}: {text}"))).next()
    }
}

impl Sector {
    fn find(&mut self, value: u64) -> Option<&mut Write> {
        let index = self.writes.binary_search_by_key(&value, |write| write.value).ok()?;
        Some(&mut self.writes[index])
    }

    /// Zeros have no value of their own: some write of zeros, or the beginning, has to explain it.
    fn zero_seen(&self, began: u64) -> Option<String> {
        let mut since = self.zero_since;
        for write in self.writes.iter().filter(|write| write.zero) {
            if write.ended == NEVER {
                return None;
            }
            since = since.max(write.ended);
        }
        let over = self.writes.iter().find(|write| {
            !write.zero && write.began > since && write.returned == 0 && write.first() < began
        })?;
        Some(format!(
            "read zeros, but write {} came after the last zeros (done by {since}) and was done by {}",
            over.value,
            over.first()
        ))
    }

    fn roll_back(&mut self, now: u64, flushed: u64, forced: bool) {
        let durable_began = |write: &Write| {
            let done = if write.was_answered() { write.read_first } else { write.ended };
            (done != NEVER && (write.durable || done <= flushed)).then_some(write.began)
        };
        let surely = if forced { None } else { self.writes.iter().filter_map(durable_began).max() };
        let surely = surely.unwrap_or(0);
        let may_return = |write: &Write| {
            let first = write.first();
            let never = first == NEVER && !write.was_answered();
            !never && (first >= surely || forced)
        };
        let zero_returns = self.zero_since >= surely || forced;
        let count = self.writes.iter().filter(|write| may_return(write)).count() + usize::from(zero_returns);
        if count <= 1 && !forced {
            return;
        }
        let mut zeros = zero_returns;
        for write in &mut self.writes {
            if !may_return(write) {
                continue;
            }
            let answered = write.ended != NEVER || write.was_answered();
            self.zones.extend(write.zone());
            zeros |= write.zero && answered;
            write.began = now;
            write.ended = NEVER;
            write.durable = false;
            write.read_first = NEVER;
            write.read_last = 0;
            // One that is not answered may still come at any time; another only at once.
            write.returned = if answered { now } else { now + 1 };
        }
        self.writes.retain(|write| !(write.zero && write.was_answered()));
        if zeros {
            self.zero_since = now;
        }
    }

    fn judge(&mut self) -> Option<String> {
        if self.writes.is_empty() && self.zones.is_empty() {
            return None;
        }
        let mut zones = std::mem::take(&mut self.zones);
        zones.extend(self.writes.iter().filter_map(Write::zone));
        let mut forward: Vec<Zone> = zones.iter().copied().filter(|zone| zone.first < zone.last).collect();
        forward.sort_unstable_by_key(|zone| zone.first);
        for pair in forward.windows(2) {
            if pair[1].first < pair[0].last {
                return Some(format!(
                    "{} was there from {} to {}, and {} from {} to {}: both at once",
                    pair[0].value, pair[0].first, pair[0].last, pair[1].value, pair[1].first, pair[1].last
                ));
            }
        }
        zones.iter().filter(|zone| zone.last <= zone.first).find_map(|zone| {
            let index = forward.partition_point(|around| around.first < zone.last).checked_sub(1)?;
            let around = forward[index];
            (zone.first < around.last).then(|| {
                format!(
                    "{} was there from {} to {}, but {} was written in between, from {} to {}",
                    around.value, around.first, around.last, zone.value, zone.last, zone.first
                )
            })
        })
    }
}
