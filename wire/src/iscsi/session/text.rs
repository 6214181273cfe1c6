//! Text negotiation in the full feature phase: SendTargets and what may be declared again (RFC 7143 §6.2, §11.10).
//!
//! ```text
//! request C=1 … C=0 ─▶ answer, cut to what the initiator takes ─▶ response C=1 … C=0
//! ```
//! Its one rule: one exchange at a time, named by our transfer tag; a request without a tag begins anew.

use super::effect::Batch;
use super::{SendTargets, Session};
use crate::iscsi::parameters::Parameters;
use crate::iscsi::pdu::{Lun, NO_TAG, RejectReason, Request, Response, TextRequest, TextResponse};
use crate::iscsi::text::{Limits, Pairs, put_pair};

/// A negotiation under way.
#[derive(Debug)]
pub(super) struct Exchange {
    initiator_task_tag: u32,
    target_transfer_tag: u32,
    /// What the initiator has said so far, if it is to go on.
    heard: Vec<u8>,
    /// What we still have to say.
    unsaid: Vec<u8>,
    /// What holds once both have said all.
    parameters: Parameters,
}

/// One response.
struct Said {
    data: Vec<u8>,
    continues: bool,
    is_final: bool,
}

impl Session {
    pub(super) fn text(
        &mut self,
        request: &TextRequest,
        data: &[u8],
        sends: &dyn SendTargets,
        batch: &mut Batch<'_>,
    ) {
        match self.converse(request, data, sends) {
            Ok(said) => self.say(request, said, batch),
            Err(reason) => {
                self.exchange = None;
                let mut bhs = Vec::new();
                Request::Text(*request).encode(data.len(), &mut bhs);
                self.reject(reason, bhs, batch);
            }
        }
    }

    /// Takes part of a text, or a request for more of ours.
    fn converse(
        &mut self,
        request: &TextRequest,
        data: &[u8],
        sends: &dyn SendTargets,
    ) -> Result<Said, RejectReason> {
        let mut exchange = self.exchange_of(request)?;
        if request.continues && request.is_final || !exchange.unsaid.is_empty() && !data.is_empty() {
            return Err(RejectReason::ProtocolError);
        }
        if exchange.heard.len() + data.len() > self.settings.collect_bytes_max as usize {
            return Err(RejectReason::OutOfResources);
        }
        exchange.heard.extend_from_slice(data);
        if !request.continues && exchange.unsaid.is_empty() {
            let heard = std::mem::take(&mut exchange.heard);
            exchange.unsaid = self.answers(&heard, &mut exchange.parameters, sends)?;
        }
        let said = match request.continues {
            true => Said { data: Vec::new(), continues: false, is_final: false },
            false => exchange.next(request.is_final, self.parameters.max_recv_data_segment_length),
        };
        match said.is_final {
            true => self.parameters = exchange.parameters,
            false => self.exchange = Some(exchange),
        }
        Ok(said)
    }

    fn exchange_of(&mut self, request: &TextRequest) -> Result<Exchange, RejectReason> {
        let current = self.exchange.take();
        if request.target_transfer_tag == NO_TAG {
            return Ok(Exchange {
                initiator_task_tag: request.initiator_task_tag,
                target_transfer_tag: self.transfer_tag(),
                heard: Vec::new(),
                unsaid: Vec::new(),
                parameters: self.parameters.clone(),
            });
        }
        let is_same = |exchange: &Exchange| {
            exchange.target_transfer_tag == request.target_transfer_tag
                && exchange.initiator_task_tag == request.initiator_task_tag
        };
        current.filter(is_same).ok_or(RejectReason::InvalidPduField)
    }

    fn answers(
        &self,
        heard: &[u8],
        parameters: &mut Parameters,
        sends: &dyn SendTargets,
    ) -> Result<Vec<u8>, RejectReason> {
        let pairs = Pairs::parse(heard, Limits::default()).map_err(|_| RejectReason::ProtocolError)?;
        let mut out = Vec::new();
        for (key, value) in pairs.iter() {
            if key == "SendTargets" {
                self.send_targets(value, sends, &mut out)?;
            } else if let Some(answer) = parameters.redeclare(key, value) {
                put_pair(&mut out, key, answer);
            }
        }
        Ok(out)
    }

    /// Appendix C. In a normal session "All" and nothing both mean the target that it is a session of.
    fn send_targets(
        &self,
        value: &str,
        sends: &dyn SendTargets,
        out: &mut Vec<u8>,
    ) -> Result<(), RejectReason> {
        let is_name = ["iqn.", "eui.", "naa."].iter().any(|prefix| value.starts_with(prefix));
        let is_known = is_name || value == "All" || value.is_empty() && self.target_name.is_some();
        if !is_known {
            return Err(RejectReason::ProtocolError);
        }
        let is_visible = |name: &str| {
            self.target_name.as_deref().is_none_or(|own| own == name) && (!is_name || name == value)
        };
        for (name, addresses) in sends.targets().iter().filter(|(name, _)| is_visible(name)) {
            put_pair(out, "TargetName", name);
            addresses.iter().for_each(|address| put_pair(out, "TargetAddress", address));
        }
        Ok(())
    }

    fn say(&mut self, request: &TextRequest, said: Said, batch: &mut Batch<'_>) {
        let open = self.exchange.as_ref().map(|exchange| exchange.target_transfer_tag);
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        let response = TextResponse {
            is_final: said.is_final,
            continues: said.continues,
            lun: Lun::default(),
            initiator_task_tag: request.initiator_task_tag,
            target_transfer_tag: open.unwrap_or(NO_TAG),
            stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
        };
        batch.send(Response::Text(response), said.data);
    }
}

impl Exchange {
    /// As much as the initiator takes at once.
    fn next(&mut self, is_last_request: bool, bytes_max: u32) -> Said {
        let bytes = self.unsaid.len().min(bytes_max as usize);
        let rest = self.unsaid.split_off(bytes);
        let data = std::mem::replace(&mut self.unsaid, rest);
        let continues = !self.unsaid.is_empty();
        Said { data, continues, is_final: is_last_request && !continues }
    }
}
