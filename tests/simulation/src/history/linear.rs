//! Whether the answers about one sector fit one register: each request took effect at one moment between its
//! sending and its answer.
//!
//! All possible states are followed through time. Its one rule: nothing is decided before an answer forces it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Asked, Loss, Request};

/// Requests under way at once, beyond which a sector is not judged.
const PENDING_MAX: usize = 60;
/// The same for the states that it may be in.
const STATES_MAX: usize = 5_000;

/// One step of the register.
enum Step {
    Read(u64),
    Write(u64),
    /// A write that no read has seen: another change follows it at once, whichever that is, or it is the last.
    Unseen(u64),
    /// Any of these values, or the one that is there.
    Lose(Vec<u64>),
}

struct Operation {
    step: Step,
    begins: u64,
    /// `u64::MAX`: perhaps never.
    ends: u64,
}

/// What it holds after a write that no read has seen.
const UNSEEN: u64 = u64::MAX;

/// What the register may hold, and which pending operations have taken effect.
type State = (u64, u64);

/// Judges one sector.
pub fn check(
    sector: usize,
    requests: &[&Request],
    flushes: &[(u64, u64)],
    losses: &[Loss],
) -> Result<(), String> {
    let mut operations: Vec<Operation> = requests.iter().filter_map(|one| operation(sector, one)).collect();
    settle_unanswered(&mut operations);
    set_unseen_apart(&mut operations);
    for (number, loss) in losses.iter().enumerate() {
        let seen = seen_since(loss.since, &operations);
        let mut left = candidates(requests, flushes, losses, number);
        left.retain(|tag| seen.contains(tag));
        let step = Step::Lose(left);
        operations.push(Operation { step, begins: loss.since, ends: loss.until });
    }
    match follow(&operations) {
        Ok(()) => Ok(()),
        Err(at) => Err(complaint(sector, &operations, at)),
    }
}

fn operation(sector: usize, request: &Request) -> Option<Operation> {
    let ends = request.answered.unwrap_or(u64::MAX);
    let step = match &request.asked {
        Asked::Read(tags) => {
            request.answered?;
            Step::Read(tags[sector - request.first])
        }
        Asked::Write(tag) => Step::Write(*tag),
        Asked::Flush => return None,
    };
    Some(Operation { step, begins: request.sent, ends })
}

/// An unanswered write that nobody has seen may as well not have happened; one that was seen has happened by then.
fn settle_unanswered(operations: &mut Vec<Operation>) {
    let reads: Vec<(u64, u64)> = operations
        .iter()
        .filter_map(|operation| match operation.step {
            Step::Read(tag) => Some((tag, operation.ends)),
            _ => None,
        })
        .collect();
    operations.retain_mut(|operation| match operation.step {
        Step::Write(tag) if operation.ends == u64::MAX && tag != 0 => {
            let seen = reads.iter().filter(|(read, _)| *read == tag).map(|(_, at)| *at).min();
            operation.ends = seen.unwrap_or(u64::MAX);
            seen.is_some()
        }
        _ => true,
    });
}

fn set_unseen_apart(operations: &mut [Operation]) {
    let seen = seen_since(0, operations);
    for operation in operations {
        if let Step::Write(tag) = operation.step
            && !seen.contains(&tag)
        {
            operation.step = Step::Unseen(tag);
        }
    }
}

/// What reads have seen since then: everything else that may be there is the same to them.
fn seen_since(since: u64, operations: &[Operation]) -> BTreeSet<u64> {
    let late = operations.iter().filter(|operation| operation.ends >= since);
    late.filter_map(|operation| if let Step::Read(tag) = operation.step { Some(tag) } else { None }).collect()
}

/// What a loss may leave: nothing that was surely overwritten by something durable.
fn candidates(requests: &[&Request], flushes: &[(u64, u64)], losses: &[Loss], last: usize) -> Vec<u64> {
    let tag_of = |request: &Request| match request.asked {
        Asked::Write(tag) => Some(tag),
        _ => None,
    };
    let writes = || requests.iter().filter(|one| tag_of(one).is_some());
    let durable = writes().filter(|one| is_durable(one, flushes, &losses[..=last]));
    let durable_since = durable.map(|one| one.sent).max();
    let is_kept = |request: &&&Request| {
        durable_since.is_none_or(|since| request.answered.is_none_or(|answered| answered >= since))
    };
    let mut tags: Vec<u64> = writes().filter(is_kept).filter_map(|one| tag_of(one)).collect();
    if durable_since.is_none() {
        tags.push(0);
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Whether a write was made durable before the first of these losses that could have taken it, the last at the latest.
fn is_durable(write: &Request, flushes: &[(u64, u64)], losses: &[Loss]) -> bool {
    let Some(answered) = write.answered else { return false };
    let dangers = losses.iter().filter(|loss| loss.until > write.sent);
    if dangers.clone().any(|loss| loss.of_anything) {
        return false;
    }
    let Some(deadline) = dangers.map(|loss| loss.since).min() else { return false };
    let is_flushed = |(sent, done): &(u64, u64)| *sent >= answered && *done <= deadline;
    (write.durable && answered <= deadline) || flushes.iter().any(is_flushed)
}

fn follow(operations: &[Operation]) -> Result<(), u64> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * operations.len());
    for (index, operation) in operations.iter().enumerate() {
        moments.push((operation.begins, false, index));
        if operation.ends < u64::MAX {
            moments.push((operation.ends, true, index));
        }
    }
    moments.sort_unstable();
    let mut pending: Vec<Option<usize>> = Vec::new();
    let mut states: BTreeSet<State> = BTreeSet::from([(0, 0)]);
    for (time, is_end, index) in moments {
        if !is_end {
            match pending.iter().position(Option::is_none) {
                Some(place) => pending[place] = Some(index),
                None if pending.len() < PENDING_MAX => pending.push(Some(index)),
                None => return Ok(()),
            }
            continue;
        }
        let place = pending.iter().position(|one| *one == Some(index)).expect("what ends has begun");
        let Some(reached) = reach(states, &pending, operations, place) else { return Ok(()) };
        states = reached;
        pending[place] = None;
        if states.is_empty() {
            return Err(time);
        }
    }
    Ok(())
}

/// All states in which the operation at `place` has taken effect, which is forgotten then; `None` for too many.
fn reach(
    from: BTreeSet<State>,
    pending: &[Option<usize>],
    operations: &[Operation],
    place: usize,
) -> Option<BTreeSet<State>> {
    let mut seen: BTreeSet<State> = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let mut next: Vec<State> = from.into_iter().collect();
    // They go before any change, where they cost nothing.
    let unseen = pending.iter().enumerate().filter_map(|(slot, index)| {
        let is_unseen = matches!(operations[(*index)?].step, Step::Unseen(_));
        is_unseen.then_some(1 << slot)
    });
    let unseen: u64 = unseen.sum();
    while let Some((value, done)) = next.pop() {
        let done = absorb(value, done, pending, operations);
        if !seen.insert((value, done)) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return None;
        }
        if done & (1 << place) != 0 {
            reached.insert((value, done & !(1 << place)));
            continue;
        }
        for (slot, index) in pending.iter().enumerate() {
            let Some(index) = index.filter(|_| done & (1 << slot) == 0) else { continue };
            match &operations[index].step {
                Step::Read(_) => {}
                Step::Write(tag) => next.push((*tag, done | 1 << slot | unseen)),
                Step::Unseen(_) => next.push((UNSEEN, done | unseen)),
                // Before its end it is of use only to a read that is under way.
                Step::Lose(tags) if slot != place => {
                    let waits = |tag: &&u64| reads(**tag, done, pending, operations);
                    let wanted = tags.iter().filter(waits);
                    next.extend(wanted.map(|tag| (*tag, done | 1 << slot | unseen)));
                }
                Step::Lose(tags) => {
                    next.push((value, done | 1 << slot));
                    next.extend(tags.iter().map(|tag| (*tag, done | 1 << slot | unseen)));
                }
            }
        }
    }
    Some(reached)
}

/// Whether a read under way sees this value.
fn reads(value: u64, done: u64, pending: &[Option<usize>], operations: &[Operation]) -> bool {
    let mut open = pending.iter().enumerate().filter(|(slot, _)| done & (1 << slot) == 0);
    open.any(|(_, index)| {
        index.is_some_and(|index| matches!(operations[index].step, Step::Read(tag) if tag == value))
    })
}

/// Reads that see this value take effect at once: that costs nothing.
fn absorb(value: u64, mut done: u64, pending: &[Option<usize>], operations: &[Operation]) -> u64 {
    for (slot, index) in pending.iter().enumerate() {
        if let Some(index) = index
            && matches!(operations[*index].step, Step::Read(tag) if tag == value)
        {
            done |= 1 << slot;
        }
    }
    done
}

fn complaint(sector: usize, operations: &[Operation], at: u64) -> String {
    let mut text = format!(
        "sector {sector}: no single copy could have answered as was answered until {:.6} s:",
        at as f64 / 1e9
    );
    let mut told: Vec<&Operation> = operations.iter().filter(|one| one.begins <= at).collect();
    told.sort_by_key(|one| one.begins);
    for one in &told[told.len().saturating_sub(24)..] {
        let ends =
            if one.ends == u64::MAX { "never".to_owned() } else { format!("{:.6}", one.ends as f64 / 1e9) };
        let begins = one.begins as f64 / 1e9;
        let _ = match &one.step {
            Step::Read(tag) => write!(text, "\n    {begins:.6} to {ends}: read {tag}"),
            Step::Write(tag) | Step::Unseen(tag) => write!(text, "\n    {begins:.6} to {ends}: wrote {tag}"),
            Step::Lose(tags) => {
                write!(text, "\n    {begins:.6} to {ends}: may have been lost, leaving one of {tags:?}")
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tag: u64, sent: u64, answered: Option<u64>) -> Request {
        Request { asked: Asked::Write(tag), first: 0, sectors: 1, durable: false, sent, answered }
    }

    fn read(tag: u64, sent: u64, answered: u64) -> Request {
        Request { asked: Asked::Read(vec![tag]), ..write(0, sent, Some(answered)) }
    }

    fn judge(requests: &[Request], flushes: &[(u64, u64)], losses: &[Loss]) -> bool {
        check(0, &requests.iter().collect::<Vec<_>>(), flushes, losses).is_ok()
    }

    #[test]
    fn answers_that_fit_one_copy_pass_and_others_do_not() {
        assert!(judge(&[write(1, 0, Some(10)), read(0, 5, 6), read(1, 7, 8), read(1, 11, 12)], &[], &[]));
        assert!(!judge(&[write(1, 0, Some(10)), read(1, 5, 6), read(0, 7, 8)], &[], &[]), "time runs back");
        assert!(!judge(&[write(1, 0, Some(10)), read(0, 11, 12)], &[], &[]), "an acknowledged write is gone");
        assert!(judge(&[write(1, 0, None), read(0, 50, 60), read(1, 70, 80)], &[], &[]), "late, but lawful");
        assert!(!judge(&[write(1, 0, None), read(1, 50, 60), read(0, 70, 80)], &[], &[]));
        assert!(!judge(&[read(7, 0, 1)], &[], &[]), "never written");
    }

    #[test]
    fn a_loss_takes_what_was_not_flushed_and_no_more() {
        let loss = [Loss { since: 20, until: 30, of_anything: false }];
        let requests = [write(1, 0, Some(5)), write(2, 6, Some(10)), read(1, 40, 41)];
        assert!(judge(&requests, &[], &loss));
        assert!(judge(&requests, &[(5, 8)], &loss));
        assert!(!judge(&requests, &[(11, 12)], &loss), "what was flushed is gone");
        assert!(!judge(&requests, &[], &[]));
    }

    #[test]
    fn a_flush_does_not_save_what_was_lost_before_it() {
        let losses = [20, 50].map(|since| Loss { since, until: since + 10, of_anything: false });
        let requests = [write(1, 0, Some(5)), write(2, 6, Some(10)), read(1, 31, 32), read(1, 70, 71)];
        assert!(judge(&requests, &[(40, 41)], &losses));
        let late = [write(1, 0, Some(5)), write(2, 6, Some(10)), write(3, 35, Some(36)), read(1, 31, 32)];
        assert!(judge(&late, &[(40, 41)], &losses));
    }
}
