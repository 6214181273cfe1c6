//! A volume's atomic commands, on every kind of store that can be made here.

mod cores;

use std::cell::Cell;
use std::rc::Rc;

use cores::{Cleared, contents, every_backing, on_core, settings, view, volume};
use reactor::Core;
use reactor::sync::WaitList;
use ringsan::settings::Backing;
use ringsan::volume::Volume;

const BLOCK: usize = 512;

fn on_every_backing<F>(name: &str, work: impl Fn(Core, Rc<Volume>) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let folder = tempfile::tempdir().expect("a folder");
    for backing in every_backing(folder.path(), name) {
        let cleared = Cleared(backing.clone());
        let work = work.clone();
        on_core(move |core| async move { work(core.clone(), open(&core, &backing)).await });
        drop(cleared);
    }
}

fn open(core: &Core, backing: &Backing) -> Rc<Volume> {
    volume(core, &settings(backing, 8 << 20))
}

#[test]
fn compare_and_write_says_where_the_bytes_differ_and_leaves_them() {
    on_every_backing("differ", |core, volume| async move {
        let offset = 3 * BLOCK as u64;
        volume.write(offset, view(&core, &[7; BLOCK]), false).await.expect("written");
        let mut expected = [7; BLOCK];
        expected[100] = 8;
        let found = volume.compare_and_write(offset, &expected, &[1; BLOCK], false).await.expect("compared");
        assert_eq!(found, Some(100));
        assert_eq!(contents(&core, &volume, offset, BLOCK).await, [7; BLOCK]);
        let found = volume.compare_and_write(offset, &[7; BLOCK], &[1; BLOCK], true).await.expect("compared");
        assert_eq!(found, None);
        assert_eq!(contents(&core, &volume, offset, BLOCK).await, [1; BLOCK]);
        assert_eq!(contents(&core, &volume, offset - 512, BLOCK).await, [0; BLOCK], "neighbours stay");
        assert_eq!(contents(&core, &volume, offset + 512, BLOCK).await, [0; BLOCK], "neighbours stay");
    });
}

/// Tasks that are still at work.
#[derive(Default)]
struct Party {
    left: Cell<usize>,
    gone: WaitList,
}

impl Party {
    fn leave(&self) {
        self.left.set(self.left.get() - 1);
        self.gone.wake_all();
    }

    async fn over(&self) {
        while self.left.get() > 0 {
            self.gone.wait().await;
        }
    }
}

/// Each task counts a block's number up by compare-and-write, others write the neighbours of the same physical
/// block and set bits there: no step may be lost.
#[test]
fn compare_and_write_loses_no_step_of_concurrent_writers() {
    const TASKS: u64 = 8;
    const STEPS: u64 = 25;
    on_every_backing("steps", |core, volume| async move {
        let party = Rc::new(Party::default());
        party.left.set(2 * TASKS as usize);
        for task in 0..TASKS {
            let (core_, volume_, party_) = (core.clone(), volume.clone(), party.clone());
            core.spawn(async move {
                for _ in 0..STEPS {
                    count_up(&core_, &volume_).await;
                }
                party_.leave();
            });
            let (core_, volume_, party_) = (core.clone(), volume.clone(), party.clone());
            core.spawn(async move {
                for step in 0..STEPS {
                    let neighbour = view(&core_, &[task as u8 + 1; BLOCK]);
                    volume_.write((1 + task) * BLOCK as u64, neighbour, false).await.expect("written");
                    let mut bits = [0; BLOCK];
                    bits[(task * STEPS + step) as usize / 8] = 1 << ((task * STEPS + step) % 8);
                    volume_.or_write(20 * BLOCK as u64, &bits, false).await.expect("set");
                }
                party_.leave();
            });
        }
        party.over().await;
        assert_eq!(number(&contents(&core, &volume, 0, BLOCK).await), TASKS * STEPS);
        let bits = contents(&core, &volume, 20 * BLOCK as u64, BLOCK).await;
        assert_eq!(bits.iter().map(|byte| byte.count_ones()).sum::<u32>(), (TASKS * STEPS) as u32);
        for task in 0..TASKS {
            let neighbour = contents(&core, &volume, (1 + task) * BLOCK as u64, BLOCK).await;
            assert_eq!(neighbour, [task as u8 + 1; BLOCK]);
        }
    });
}

async fn count_up(core: &Core, volume: &Volume) {
    loop {
        let before = contents(core, volume, 0, BLOCK).await;
        let mut after = before.clone();
        after[..8].copy_from_slice(&(number(&before) + 1).to_be_bytes());
        if volume.compare_and_write(0, &before, &after, false).await.expect("compared").is_none() {
            return;
        }
    }
}

fn number(block: &[u8]) -> u64 {
    u64::from_be_bytes(block[..8].try_into().expect("eight bytes"))
}

/// A whole-block writer writes nothing but what the block may hold between two steps: its value must never be
/// replaced by a step that compared with what was there before it.
#[test]
fn a_plain_write_never_falls_between_compare_and_write() {
    on_every_backing("plain", |core, volume| async move {
        let party = Rc::new(Party::default());
        party.left.set(2);
        let marks = Rc::new(Cell::new(0u64));
        let (core_, volume_, party_, marks_) = (core.clone(), volume.clone(), party.clone(), marks.clone());
        core.spawn(async move {
            // A mark goes into the first half; it counts when it is still there after the write.
            for mark in 1..=50u64 {
                let mut block = vec![0; 4096];
                block[..8].copy_from_slice(&mark.to_be_bytes());
                volume_.write(0, view(&core_, &block), false).await.expect("written");
                marks_.set(mark);
            }
            party_.leave();
        });
        let (core_, volume_, party_) = (core.clone(), volume.clone(), party.clone());
        core.spawn(async move {
            while marks.get() < 50 {
                let before = contents(&core_, &volume_, 0, 4096).await;
                let mut after = before.clone();
                after[8..16].copy_from_slice(&1u64.to_be_bytes());
                let seen = marks.get();
                let found = volume_.compare_and_write(0, &before, &after, false).await.expect("compared");
                let now = number(&contents(&core_, &volume_, 0, 8).await);
                assert!(now >= seen, "mark {seen} was undone to {now}, compared: {found:?}");
            }
            party_.leave();
        });
        party.over().await;
        assert_eq!(number(&contents(&core, &volume, 0, 8).await), 50);
    });
}
