//! What the target's answers come to.
//!
//! Its one rule: a result that no function of ours and theirs could have is an error, never taken over.

use crate::iscsi::parameters::{DigestPolicy, Parameters};
use crate::iscsi::pdu::LoginResponse;
use crate::iscsi::text::{IRRELEVANT, parse_number};

use super::{InitiatorError, InitiatorLogin, LoggedIn};

impl InitiatorLogin {
    pub(super) fn logged_in(&self, response: &LoginResponse) -> Result<LoggedIn, InitiatorError> {
        Ok(LoggedIn {
            tsih: response.tsih,
            parameters: self.parameters()?,
            target_alias: self.said.get("TargetAlias").cloned().unwrap_or_default(),
            portal_group: self.number("TargetPortalGroupTag", 0, 65_535)?.map(|tag| tag as u16),
            cmd_sn: self.wishes.cmd_sn,
            max_cmd_sn: response.max_cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            said: self.said.clone(),
        })
    }

    fn parameters(&self) -> Result<Parameters, InitiatorError> {
        let offers = &self.wishes.offers;
        let mut parameters = Parameters {
            own_max_recv_data_segment_length: offers.own_max_recv_data_segment_length,
            header_digest: self.digest("HeaderDigest", offers.header_digest)?,
            data_digest: self.digest("DataDigest", offers.data_digest)?,
            ..Parameters::default()
        };
        parameters.initial_r2t = self.answered("InitialR2T").is_none_or(|value| value == "Yes");
        parameters.immediate_data = self.answered("ImmediateData").is_none_or(|value| value == "Yes");
        let lengths = [
            ("MaxRecvDataSegmentLength", 0x00ff_ffff, &mut parameters.max_recv_data_segment_length),
            ("MaxBurstLength", offers.max_burst_length, &mut parameters.max_burst_length),
            ("FirstBurstLength", offers.first_burst_length, &mut parameters.first_burst_length),
        ];
        for (key, most, place) in lengths {
            *place = self.number(key, 512, most)?.unwrap_or(*place);
        }
        let outstanding = self.number("MaxOutstandingR2T", 1, offers.max_outstanding_r2t.into())?;
        parameters.max_outstanding_r2t = outstanding.unwrap_or(1) as u16;
        parameters.default_time2wait = self.number("DefaultTime2Wait", 2, 3600)?.unwrap_or(2) as u16;
        parameters.default_time2retain = self.number("DefaultTime2Retain", 0, 0)?.unwrap_or(0) as u16;
        // Where it was irrelevant, the default may be longer than a burst (§13.14).
        parameters.first_burst_length = parameters.first_burst_length.min(parameters.max_burst_length);
        Ok(parameters)
    }

    fn answered(&self, key: &str) -> Option<&str> {
        self.said.get(key).map(String::as_str).filter(|value| *value != IRRELEVANT)
    }

    fn number(&self, key: &str, least: u32, most: u32) -> Result<Option<u32>, InitiatorError> {
        let Some(value) = self.answered(key) else { return Ok(None) };
        let number = parse_number(value).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or(InitiatorError::Protocol("a number beyond the offer"))
    }

    fn digest(&self, key: &str, policy: DigestPolicy) -> Result<bool, InitiatorError> {
        match (self.answered(key).unwrap_or("None"), policy) {
            ("None", DigestPolicy::Off | DigestPolicy::Allowed) => Ok(false),
            ("CRC32C", DigestPolicy::Allowed | DigestPolicy::Required) => Ok(true),
            _ => Err(InitiatorError::Protocol("a digest that was not offered")),
        }
    }
}
