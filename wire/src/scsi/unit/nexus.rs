//! What a unit keeps for each nexus: pending unit attentions, rights, and what it asked for.
//!
//! Its one rule: a unit attention is pending once, however often it was raised, so the queue is bounded.

use crate::scsi::copy::Outcomes;
use crate::scsi::port::Path;
use crate::scsi::reservation::Rights;
use crate::scsi::{Sense, SenseKey, additional};

#[derive(Debug)]
pub(super) struct Nexus {
    pub path: Path,
    /// What the persistent reservation lets it do; kept here because every command asks.
    pub rights: Rights,
    pub luns: Vec<u64>,
    pub prevents_removal: bool,
    pub copies: Outcomes,
    pub deferred: Option<Sense>,
    attentions: Vec<(u8, u8)>,
    knows_luns: bool,
}

impl Nexus {
    pub fn new(path: Path, rights: Rights) -> Nexus {
        Nexus {
            path,
            rights,
            luns: vec![0],
            prevents_removal: false,
            copies: Outcomes::default(),
            deferred: None,
            attentions: vec![additional::POWER_ON_RESET_OCCURRED],
            knows_luns: false,
        }
    }

    /// What the next command is told, whatever it asks for.
    #[inline]
    pub fn take_pending(&mut self) -> Option<Sense> {
        if self.deferred.is_none() && self.attentions.is_empty() {
            return None;
        }
        self.deferred.take().or_else(|| Some(Sense::new(SenseKey::UnitAttention, self.attentions.remove(0))))
    }

    /// This unit attention, if it is pending.
    pub fn take(&mut self, code: (u8, u8)) -> Option<Sense> {
        let place = self.attentions.iter().position(|pending| *pending == code)?;
        Some(Sense::new(SenseKey::UnitAttention, self.attentions.remove(place)))
    }

    /// Raises a unit attention.
    pub fn tell(&mut self, code: (u8, u8)) {
        if !self.attentions.contains(&code) {
            self.attentions.push(code);
        }
    }

    /// A reset says more than all that was pending (SAM-5 5.14.2).
    pub fn reset(&mut self, code: (u8, u8)) {
        self.attentions = vec![code];
        self.prevents_removal = false;
        self.copies = Outcomes::default();
        self.deferred = None;
    }

    pub fn set_luns(&mut self, luns: &[u64]) {
        if self.luns != luns {
            self.luns = luns.to_vec();
            if self.knows_luns {
                self.tell(additional::REPORTED_LUNS_DATA_HAS_CHANGED);
            }
        }
        self.knows_luns = true;
    }

    /// REPORT LUNS was answered (SPC-4 6.33).
    pub fn luns_were_told(&mut self) {
        self.attentions.retain(|code| *code != additional::REPORTED_LUNS_DATA_HAS_CHANGED);
    }
}
