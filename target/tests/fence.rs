//! Commands that were aborted while their I/O hangs.

mod cores;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use cores::{on_core, settings, volume};
use reactor::Core;
use reactor::sync::WaitList;
use ringsan::scsi_unit::LogicalUnit;
use ringsan::settings::{Backing, IscsiLun};
use wire::scsi::NexusId;

async fn unit(core: &Core) -> Rc<LogicalUnit> {
    let settings = settings(&Backing::Memory, 1 << 20);
    let lun = IscsiLun {
        volume: settings.uuid,
        volume_name: settings.name.clone(),
        core: 0,
        read_only: false,
        removable: false,
        block_bytes: 512,
    };
    let nowhere = std::path::Path::new("/nonexistent/reservations");
    LogicalUnit::open(core, volume(core, &settings), &lun, nowhere).await.expect("nothing was saved")
}

/// A task that waits for passage, and what it has come to.
struct Waiter {
    passed: Cell<bool>,
    done: WaitList,
}

fn pass(core: &Core, unit: &Rc<LogicalUnit>, offset: u64, len: u64) -> Rc<Waiter> {
    let waiter = Rc::new(Waiter { passed: Cell::new(false), done: WaitList::default() });
    let (unit, told) = (unit.clone(), waiter.clone());
    core.spawn(async move {
        unit.passage(offset, len).await;
        told.passed.set(true);
        told.done.wake_all();
    });
    waiter
}

impl Waiter {
    async fn passes(&self) {
        while !self.passed.get() {
            self.done.wait().await;
        }
    }
}

/// A few turns of the loop.
async fn turns(core: &Core) {
    for _ in 0..5 {
        reactor::io::sleep(core, Duration::ZERO).await;
    }
}

#[test]
fn later_commands_wait_for_what_an_aborted_one_may_still_write() {
    on_core(|core| async move {
        let unit = unit(&core).await;
        let errand = unit.errand(NexusId(1));
        errand.writes_to(4096, 4096);
        assert!(!unit.is_fenced(), "a command that goes on holds nobody back");
        errand.abort();
        assert!(unit.is_fenced());
        pass(&core, &unit, 0, 4096).passes().await;
        pass(&core, &unit, 8192, 4096).passes().await;
        let overlapping = pass(&core, &unit, 8191, 10);
        turns(&core).await;
        assert!(!overlapping.passed.get());
        errand.end();
        overlapping.passes().await;
        assert!(!unit.is_fenced());
    });
}

#[test]
fn what_an_aborted_command_begins_to_write_is_fenced_too() {
    on_core(|core| async move {
        let unit = unit(&core).await;
        let errand = unit.errand(NexusId(1));
        errand.abort();
        errand.writes_to(0, 512);
        let waiter = pass(&core, &unit, 0, 1);
        turns(&core).await;
        assert!(!waiter.passed.get());
        drop(errand);
        waiter.passes().await;
    });
}

#[test]
fn a_command_that_waits_for_another_can_be_aborted() {
    on_core(|core| async move {
        let unit = unit(&core).await;
        let hung = unit.errand(NexusId(1));
        hung.writes_to(0, 512);
        hung.abort();
        let waiting = unit.errand(NexusId(2));
        let told = Rc::new((Cell::new(None), WaitList::default()));
        let (errand, tell) = (waiting.clone(), told.clone());
        core.spawn(async move {
            tell.0.set(Some(errand.passage(0, 512).await));
            tell.1.wake_all();
        });
        turns(&core).await;
        assert_eq!(told.0.get(), None);
        waiting.abort();
        while told.0.get().is_none() {
            told.1.wait().await;
        }
        assert_eq!(told.0.get(), Some(false), "it does not go on");
    });
}

#[test]
fn an_abort_that_comes_too_late_fences_nothing() {
    on_core(|core| async move {
        let unit = unit(&core).await;
        let errand = unit.errand(NexusId(1));
        errand.writes_to(0, 512);
        errand.end();
        errand.abort();
        assert!(!unit.is_fenced());
    });
}
