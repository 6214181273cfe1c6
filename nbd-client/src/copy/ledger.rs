//! Which segments of an image have been copied, kept in a file so that an interrupted copy can go on.
//!
//! Its one rule: what the file says is copied was durable at the destination before the file said so.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Grows when the file's form changes.
const FORMAT: u32 = 1;
/// The file is at least so long, for what is to be noted when the disk is full.
const ROOM_BYTES: usize = 16 << 10;

/// Which thing a source or a destination is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// How it is called.
    pub(super) place: String,
    /// How large it is.
    pub(super) size_bytes: u64,
    /// What else tells it from others, and for a source from its earlier content.
    pub(super) mark: String,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    format: u32,
    source: Identity,
    destination: Identity,
    segment_bytes: u64,
    /// First and number of segments that are copied.
    done: Vec<(u64, u64)>,
}

/// What has been copied.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    source: Identity,
    destination: Identity,
    segment_bytes: u64,
    done: Vec<bool>,
    saved: Instant,
    every: Duration,
}

impl Ledger {
    /// Nothing is copied. A later save goes to `path`, and is due after `every`.
    pub(super) fn new(
        path: PathBuf,
        (source, destination): (Identity, Identity),
        segment_bytes: u64,
        every: Duration,
    ) -> Ledger {
        let count = source.size_bytes.div_ceil(segment_bytes);
        let done = vec![false; usize::try_from(count).expect("segments are as long as it takes to be few")];
        Ledger { path, source, destination, segment_bytes, done, saved: Instant::now(), every }
    }

    /// Takes over what `saved` says; an error says why that is of no use.
    pub(super) fn resume(&mut self, saved: &Saved) -> Result<(), String> {
        compare("the source", &saved.source, &self.source)?;
        compare("the destination", &saved.destination, &self.destination)?;
        if saved.format != FORMAT || saved.segment_bytes == 0 {
            return Err(format!("{} has another form than this version writes", self.path.display()));
        }
        self.segment_bytes = saved.segment_bytes;
        let count = usize::try_from(self.source.size_bytes.div_ceil(self.segment_bytes));
        let count = count.map_err(|_| "too many segments".to_owned())?;
        self.done = vec![false; count];
        for &(first, number) in &saved.done {
            let end = first.checked_add(number).filter(|end| *end <= count as u64);
            let end = end.ok_or_else(|| format!("{} contradicts itself", self.path.display()))?;
            self.done[first as usize..end as usize].fill(true);
        }
        Ok(())
    }

    /// Where segment `index` lies.
    pub(super) fn range(&self, index: usize) -> Range<u64> {
        let start = index as u64 * self.segment_bytes;
        start..(start + self.segment_bytes).min(self.source.size_bytes)
    }

    /// How many segments there are.
    pub(super) fn count(&self) -> usize {
        self.done.len()
    }

    /// The segments that are still to be copied.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        self.done.iter().enumerate().filter(|(_, done)| !**done).map(|(index, _)| index)
    }

    /// The segments that are copied.
    pub(super) fn copied(&self) -> impl Iterator<Item = usize> {
        self.done.iter().enumerate().filter(|(_, done)| **done).map(|(index, _)| index)
    }

    /// How many bytes are copied.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.copied().map(|index| self.range(index)).map(|range| range.end - range.start).sum()
    }

    /// Segment `index` is written; it counts once the destination has been flushed.
    pub(super) fn note(&mut self, index: usize) {
        self.done[index] = true;
    }

    /// What to save now, if it is time: after a flush that begins after this call.
    pub(super) fn due(&mut self, now: Instant) -> Option<Saved> {
        (now.duration_since(self.saved) >= self.every).then(|| {
            self.saved = now;
            self.snapshot()
        })
    }

    /// What to save.
    pub(super) fn snapshot(&self) -> Saved {
        let mut done: Vec<(u64, u64)> = Vec::new();
        for index in self.copied().map(|index| index as u64) {
            match done.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                _ => done.push((index, 1)),
            }
        }
        let (source, destination) = (self.source.clone(), self.destination.clone());
        Saved { format: FORMAT, source, destination, segment_bytes: self.segment_bytes, done }
    }

    /// Where it is kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Saved {
    /// What `path` says; `None` if there is no such file.
    pub(super) fn load(path: &Path) -> io::Result<Option<Saved>> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Puts it into the place of `path`, wholly or not at all; on a full disk over what is there, which has room
    /// for that, and which nobody believes if it is torn.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = Path::new(&beside);
        let mut text = serde_json::to_vec(self)?;
        text.resize(text.len().max(ROOM_BYTES), b' ');
        match write(beside, &text).and_then(|()| fs::rename(beside, path)) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                fs::remove_file(beside)?;
                let file = fs::OpenOptions::new().write(true).open(path)?;
                file.write_all_at(&text, 0)?;
                file.sync_data()
            }
            result => result,
        }
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text)?;
    file.sync_data()
}

fn compare(what: &str, then: &Identity, now: &Identity) -> Result<(), String> {
    if then.place != now.place {
        return Err(format!("{what} was {}", then.place));
    }
    if then.size_bytes != now.size_bytes {
        return Err(format!("{what} had {} bytes and has {} now", then.size_bytes, now.size_bytes));
    }
    if then.mark != now.mark {
        return Err(format!("{what} has changed since"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(place: &str, mark: &str) -> Identity {
        Identity { place: place.into(), size_bytes: 1000, mark: mark.into() }
    }

    fn ledger() -> Ledger {
        let sides = (identity("a", "1"), identity("b", "2"));
        Ledger::new("state".into(), sides, 64, Duration::ZERO)
    }

    #[test]
    fn what_was_copied_is_known_again() {
        let mut first = ledger();
        [0, 1, 2, 7, 15].into_iter().for_each(|index| first.note(index));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        first.snapshot().save(&path).expect("saved");
        let mut second = ledger();
        let saved = Saved::load(&path).expect("readable").expect("there");
        second.resume(&saved).expect("the same copy");
        assert_eq!(second.copied().collect::<Vec<_>>(), [0, 1, 2, 7, 15]);
        assert_eq!(second.copied_bytes(), 4 * 64 + (1000 - 15 * 64));
        assert_eq!(second.missing().count(), 11);
    }

    #[test]
    fn a_shorter_state_over_a_longer_one_is_read_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let long = Saved { done: (0..5000).map(|n| (n * 2, 1)).collect(), ..ledger().snapshot() };
        long.save(&path).expect("saved");
        assert_eq!(Saved::load(&path).expect("readable"), Some(long));
        ledger().snapshot().save(&path).expect("saved");
        assert_eq!(Saved::load(&path).expect("readable"), Some(ledger().snapshot()));
    }

    #[test]
    fn another_source_or_destination_is_refused_with_the_reason() {
        let saved = ledger().snapshot();
        for (place, mark, size_bytes, reason) in [
            ("c", "1", 1000, "was a"),
            ("a", "9", 1000, "changed"),
            ("a", "1", 999, "1000 bytes and has 999"),
        ] {
            let mut other = ledger();
            other.source = Identity { place: place.into(), mark: mark.into(), size_bytes };
            let said = other.resume(&saved).expect_err(reason);
            assert!(said.contains(reason), "{said}");
        }
        let mut other = ledger();
        other.destination.mark = "3".into();
        assert!(other.resume(&saved).expect_err("changed").starts_with("the destination"));
    }

    #[test]
    fn a_state_that_names_segments_beyond_the_end_is_refused() {
        for done in [(15, 2), (16, 1), (u64::MAX, 2)] {
            let saved = Saved { done: vec![done], ..ledger().snapshot() };
            assert!(ledger().resume(&saved).is_err(), "{done:?}");
        }
    }

    #[test]
    fn no_file_is_no_state_and_a_torn_file_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        assert_eq!(Saved::load(&path).expect("readable"), None);
        fs::write(&path, "{\"format\": 1, \"sou").expect("written");
        assert!(Saved::load(&path).is_err());
    }

    #[test]
    fn a_save_is_due_at_intervals() {
        let mut ledger = ledger();
        ledger.every = Duration::from_secs(10);
        let begin = ledger.saved;
        assert!(ledger.due(begin + Duration::from_secs(9)).is_none());
        assert!(ledger.due(begin + Duration::from_secs(10)).is_some());
        assert!(ledger.due(begin + Duration::from_secs(19)).is_none());
    }
}
