//! Persistent reservations against a model: any sequence of service actions, by any nexus, with any key.
//!
//! The model knows the standard's rules by nexus and by key, and nothing of how the unit keeps them.

mod scsi_common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use scsi_common::reservation::{
    APTPL, CLEAR, KINDS, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, RELEASE, RESERVE, change,
    keys, reservation,
};
use scsi_common::{A, B, C, DISK, attach, attentions, cdb10, identity, initiator, target, unit};
use wire::scsi::{NexusId, Unit};

#[derive(Clone, Copy, Debug)]
struct Step {
    nexus: NexusId,
    action: u8,
    kind: u8,
    key: u64,
    service_action_key: u64,
    persists: bool,
    reconnects: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let actions = [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE];
    let weighted = [actions.as_slice(), &[REGISTER_AND_IGNORE; 4], &[RESERVE; 2]].concat();
    let step = (
        select(vec![A, B, C]),
        select(weighted),
        select(KINDS.to_vec()),
        (0..4_u64, 0..4_u64),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    let step = step.prop_map(|(nexus, action, kind, (key, service_action_key), persists, reconnects)| Step {
        nexus,
        action,
        kind,
        key,
        service_action_key,
        persists,
        reconnects,
    });
    proptest::collection::vec(step, 1..40)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    keys: BTreeMap<NexusId, u64>,
    held: Option<(u8, NexusId)>,
    generation: u32,
    persists: bool,
}

fn is_all(kind: u8) -> bool {
    kind >= 7
}

impl Model {
    /// Carries the step out; whether it was accepted.
    fn step(&mut self, step: &Step) -> bool {
        let own = self.keys.get(&step.nexus).copied();
        let has_key = own == Some(step.key);
        match step.action {
            REGISTER if own.unwrap_or(0) != step.key => false,
            REGISTER | REGISTER_AND_IGNORE => {
                self.register(step);
                true
            }
            _ if !has_key => false,
            RESERVE => match self.held {
                None => {
                    self.held = Some((step.kind, step.nexus));
                    true
                }
                Some((kind, holder)) => kind == step.kind && (is_all(kind) || holder == step.nexus),
            },
            RELEASE => match self.held {
                Some((kind, holder)) if is_all(kind) || holder == step.nexus => {
                    if kind == step.kind {
                        self.held = None;
                    }
                    kind == step.kind
                }
                _ => true,
            },
            CLEAR => {
                self.keys.clear();
                self.held = None;
                self.generation += 1;
                true
            }
            _ => self.preempt(step),
        }
    }

    fn register(&mut self, step: &Step) {
        if step.service_action_key != 0 {
            self.keys.insert(step.nexus, step.service_action_key);
        } else if self.keys.remove(&step.nexus).is_none() {
            return;
        }
        self.generation += 1;
        self.persists = step.persists;
        self.drop_reservation_without_holder();
    }

    fn drop_reservation_without_holder(&mut self) {
        let Some((kind, holder)) = self.held else { return };
        let is_orphan = if is_all(kind) { self.keys.is_empty() } else { !self.keys.contains_key(&holder) };
        if is_orphan {
            self.held = None;
        }
    }

    fn preempt(&mut self, step: &Step) -> bool {
        let victims = step.service_action_key;
        let takes_over = match self.held {
            Some((kind, _)) if is_all(kind) => victims == 0,
            Some((_, holder)) => self.keys[&holder] == victims,
            None => false,
        };
        if takes_over {
            let everybody = victims == 0;
            self.keys.retain(|nexus, key| *nexus == step.nexus || !(everybody || *key == victims));
            self.held = Some((step.kind, step.nexus));
        } else {
            if victims == 0 || !self.keys.values().any(|key| *key == victims) {
                return false;
            }
            self.keys.retain(|_, key| *key != victims);
            self.drop_reservation_without_holder();
        }
        self.generation += 1;
        true
    }

    /// Whether `nexus` may read, and write.
    fn rights(&self, nexus: NexusId) -> (bool, bool) {
        let Some((kind, holder)) = self.held else { return (true, true) };
        let is_in = match kind {
            1 | 3 => holder == nexus,
            _ => self.keys.contains_key(&nexus),
        };
        (is_in || matches!(kind, 1 | 5 | 7), is_in)
    }

    fn shown(&self) -> Option<(u8, u64)> {
        self.held.map(|(kind, holder)| (kind, if is_all(kind) { 0 } else { self.keys[&holder] }))
    }
}

fn assert_alike(unit: &mut Unit, model: &Model) {
    let (generation, mut found) = keys(unit, A);
    let mut expected: Vec<u64> = model.keys.values().copied().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!((generation, found), (model.generation, expected));
    assert_eq!(reservation(unit, A), model.shown());
    for nexus in [A, B, C] {
        let reads = unit.begin(nexus, &cdb10(0x28, 0, 0, 1)).is_ok();
        let writes = unit.begin(nexus, &cdb10(0x2a, 0, 0, 1)).is_ok();
        assert_eq!((reads, writes), model.rights(nexus), "{nexus:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_sequence_ends_where_the_standard_says(steps in steps()) {
        let (mut unit, mut model, mut saved) = (unit(DISK), Model::default(), None);
        for step in &steps {
            let flags = if step.persists { APTPL } else { 0 };
            let keys = (step.key, step.service_action_key);
            let answer = change(&mut unit, step.nexus, step.action, step.kind, keys, flags);
            prop_assert_eq!(answer.result.is_ok(), model.step(step), "{:?}", step);
            saved = answer.save.or(saved);
            if step.reconnects {
                unit.detach(step.nexus);
                attach(&mut unit, step.nexus);
            }
            for nexus in [A, B, C] {
                attentions(&mut unit, nexus);
            }
            assert_alike(&mut unit, &model);
        }
        // After a restart there is what was to persist, and nothing else.
        if !model.persists {
            model = Model::default();
        }
        model.generation = 0;
        let mut unit = Unit::new(identity(), DISK, saved.as_deref()).expect("ours");
        for nexus in [A, B, C] {
            unit.attach(nexus, initiator(nexus), target());
            attentions(&mut unit, nexus);
        }
        assert_alike(&mut unit, &model);
    }
}
