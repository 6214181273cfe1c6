//! Clocks that leap forward, or seem to go back.
//!
//! Its one rule: an odd clock costs time, never a promise.

use replication::*;

use crate::cluster::MS;

fn alone(now: Time) -> Replica {
    let mut config = ReplicaConfig::new(ReplicaId(0), vec!["a".to_owned()], NodeId([1; 16]), 1 << 20);
    config.blank = true;
    Replica::open(config, Stored::default(), now).expect("it is new")
}

/// Steps a machine at some time; metadata is on disk at once. When it wants to be woken.
fn step(replica: &mut Replica, event: Event, now: Time) -> Option<Time> {
    let (mut events, mut wake) = (vec![event], None);
    while let Some(event) = events.pop() {
        let mut effects = Vec::new();
        replica.step(event, now, &mut effects);
        for effect in effects {
            match effect {
                Effect::WriteMetadata { op, .. } => events.push(Event::MetadataDone { op, result: Ok(()) }),
                Effect::WakeAt(at) => wake = Some(at),
                _ => {}
            }
        }
    }
    wake
}

#[test]
fn an_earlier_time_is_taken_for_the_last_one() {
    let last = Time(60_000 * MS);
    let mut replica = alone(Time(1));
    step(&mut replica, Event::Tick, Time(1));
    step(&mut replica, Event::Tick, last);
    for earlier in [Time(0), Time(1), Time(last.0 - 1)] {
        let wake = step(&mut replica, Event::Tick, earlier);
        assert!(wake.is_none_or(|at| at > last), "{wake:?}");
        assert!(replica.leads());
    }
}

#[test]
fn a_leader_alone_serves_on_after_a_leap() {
    let mut replica = alone(Time(1));
    step(&mut replica, Event::Tick, Time(1));
    for leap in [MS, 1_000 * MS, 60_000 * MS, u64::MAX / 2, u64::MAX] {
        step(&mut replica, Event::Tick, Time(leap));
        assert!(replica.serves_here());
    }
}
