//! Cause and next step for all that is not in sync: the machine's own words, and what it cannot know: why there is no
//! link, what a comparison has found, and how volume and nodes are called.
//!
//! Its one rule: whoever is not in sync has a line.

use super::{leads, name_of};
use crate::config::units::size_rounded;
use crate::snapshot::{LinkSnapshot, MirrorSnapshot};
use crate::status::refusal_text;

/// A line for each thing to know; none if all is well.
pub(super) fn lines(volume: &str, now: &MirrorSnapshot) -> Vec<String> {
    let status = &now.status;
    let mut lines: Vec<String> = now.explanation.iter().map(|line| with_names(line, volume, now)).collect();
    for link in now.links.iter().filter(|link| !link.is_up && !link.trouble.is_empty()) {
        add_trouble(&mut lines, link);
    }
    for peer in status.peers.iter().filter(|peer| !peer.in_sync && !status.in_sync.is_empty()) {
        let name = name_of(&status.names, peer.peer);
        if !lines.iter().any(|line| is_about(line, &name)) {
            let leader =
                status.leader.map_or("the node that leads".to_owned(), |id| name_of(&status.names, id));
            lines.push(format!("{name}: not in sync; `ringsan explain {volume}` on {leader} says why"));
        }
    }
    lines.extend(differences(volume, now));
    lines
}

/// Commands as they can be pasted, and refusals with the names of nodes.
fn with_names(line: &str, volume: &str, now: &MirrorSnapshot) -> String {
    let names = &now.status.names;
    let promotion = now.status.promotion.iter().filter_map(|promotion| promotion.as_ref().err());
    let refusals = now.status.peers.iter().filter_map(|peer| peer.refusal.as_ref()).chain(promotion);
    let line = refusals.fold(line.to_owned(), |line, refusal| {
        line.replace(&refusal.to_string(), &refusal_text(refusal, volume, names))
    });
    with_units(&line)
        .replace("`ringsan promote`", &format!("`ringsan promote {volume}`"))
        .replace("`ringsan promote --force`", &format!("`ringsan promote {volume} --force`"))
        .replace("`ringsan discard`", &format!("`ringsan discard {volume}@NODE`"))
}

/// Numbers of bytes as people read them.
fn with_units(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for index in (1..words.len()).rev() {
        if let (Ok(bytes), Some(rest)) = (words[index - 1].parse(), words[index].strip_prefix("bytes")) {
            words[index] = size_rounded(bytes) + rest;
            words.remove(index - 1);
        }
    }
    words.join(" ")
}

/// Puts the reason for a missing link where the missing link is told of.
fn add_trouble(lines: &mut Vec<String>, link: &LinkSnapshot) {
    let LinkSnapshot { peer, trouble, is_advised, .. } = link;
    let unlinked = format!("{peer}: not linked");
    match lines.iter_mut().find(|line| line.starts_with(&unlinked)) {
        Some(line) if *is_advised => *line = format!("{unlinked}: {trouble}"),
        Some(line) => *line = format!("{unlinked} ({trouble}){}", &line[unlinked.len()..]),
        None => lines.push(format!("{peer}: no link: {trouble}")),
    }
}

fn is_about(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
}

/// What was found and left; only while this node leads, since another leader may have mended it.
fn differences(volume: &str, now: &MirrorSnapshot) -> Option<String> {
    let found = now.verification.as_ref().filter(|found| !found.is_running && !found.repairs)?;
    (found.differing_bytes > 0 && leads(now.status.role)).then(|| {
        format!(
            "the last comparison found differences in regions of {}: `ringsan verify {volume} --repair` sends the \
             leader's bytes there",
            size_rounded(found.differing_bytes)
        )
    })
}
