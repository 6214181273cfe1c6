//! The result of every operational key: what an initiator offers against what this target is ready for.
//!
//! Its one rule: what was never offered has the standard's default; where that is more than we are ready
//! for, we offer the key ourselves before the stage ends.

use crate::iscsi::text::{IRRELEVANT, REJECT, parse_number, put_pair};

use super::{DigestPolicy, Key, Offers, Parameters};

const TIME_TO_RETAIN_SECONDS: u16 = 0;
const PROTOCOL_LEVEL: u64 = 1;

/// Why two sides cannot agree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// A declared value that is unlawful, or no number.
    #[error("{key}={value} is unlawful")]
    Unlawful {
        /// The key.
        key: &'static str,
        /// What the peer said.
        value: String,
    },
    /// What one side offers the other cannot accept.
    #[error("{key}={value} is not acceptable here, where {wanted} is wanted")]
    Unacceptable {
        /// The key.
        key: &'static str,
        /// What the peer said.
        value: String,
        /// What would do.
        wanted: String,
    },
    /// Our own offer went unanswered.
    #[error("{0} was offered and not answered")]
    Unanswered(&'static str),
}

/// The negotiation of the operational keys of one login.
#[derive(Debug)]
pub struct Negotiation {
    offers: Offers,
    is_discovery: bool,
    parameters: Parameters,
    /// Keys with a result, in the order of their answers.
    results: Vec<(Key, String)>,
    /// What we offered, and have no answer to yet.
    proposed: Vec<(Key, String)>,
    /// Answered last, for it depends on other keys of the same text.
    first_burst_offer: Option<String>,
    has_declared: bool,
}

impl Negotiation {
    /// Begins with the standard's defaults. Initiators use no digests for discovery, and there nothing is lost
    /// without them: they are required in normal sessions only.
    pub fn new(mut offers: Offers, is_discovery: bool) -> Negotiation {
        for digest in [&mut offers.header_digest, &mut offers.data_digest] {
            if is_discovery && *digest == DigestPolicy::Required {
                *digest = DigestPolicy::Allowed;
            }
        }
        Negotiation {
            offers,
            is_discovery,
            parameters: Parameters::default(),
            results: Vec::new(),
            proposed: Vec::new(),
            first_burst_offer: None,
            has_declared: false,
        }
    }

    /// Takes one pair of the initiator; the answer, if one is due, is appended to `out`.
    ///
    /// After the last pair of a text call `end_of_text`.
    pub fn take(&mut self, key: Key, value: &str, out: &mut Vec<u8>) -> Result<(), NegotiationError> {
        if let Some(at) = self.proposed.iter().position(|(proposed, _)| *proposed == key) {
            let (_, offered) = self.proposed.remove(at);
            return self.take_answer(key, value, &offered);
        }
        if self.is_discovery && key.needs_normal_session() {
            put_pair(out, key.name(), IRRELEVANT);
            return Ok(());
        }
        match key {
            Key::FirstBurstLength => self.first_burst_offer = Some(value.to_owned()),
            Key::MaxRecvDataSegmentLength => {
                self.parameters.max_recv_data_segment_length = declared_length(key, value)?;
                self.note(key, value);
            }
            _ => self.answer(key, value, out)?,
        }
        Ok(())
    }

    /// Answers what depends on the whole text, and declares what we take, once.
    pub fn end_of_text(&mut self, may_declare: bool, out: &mut Vec<u8>) -> Result<(), NegotiationError> {
        if let Some(value) = self.first_burst_offer.take() {
            if self.is_first_burst_irrelevant() {
                put_pair(out, Key::FirstBurstLength.name(), IRRELEVANT);
            } else {
                self.answer(Key::FirstBurstLength, &value, out)?;
            }
        }
        if may_declare && !self.has_declared {
            self.has_declared = true;
            let own = self.offers.own_max_recv_data_segment_length;
            self.parameters.own_max_recv_data_segment_length = own;
            put_pair(out, Key::MaxRecvDataSegmentLength.name(), &own.to_string());
        }
        Ok(())
    }

    /// Whether something is still to be offered from our side.
    pub fn has_wishes(&self) -> bool {
        self.wishes().next().is_some()
    }

    /// Offers what is left to offer, and says whether there was anything to wait for.
    pub fn propose(&mut self, out: &mut Vec<u8>) -> Result<bool, NegotiationError> {
        if let Some((key, _)) = self.proposed.first() {
            return Err(NegotiationError::Unanswered(key.name()));
        }
        self.proposed = self.wishes().collect();
        for (key, value) in &self.proposed {
            put_pair(out, key.name(), value);
        }
        Ok(!self.proposed.is_empty())
    }

    /// What both sides agreed on.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = self.parameters.clone();
        parameters.first_burst_length = parameters.first_burst_length.min(parameters.max_burst_length);
        parameters
    }

    /// The keys with a result, for people.
    pub fn results(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.results.iter().map(|(key, value)| (key.name().to_owned(), value.clone()))
    }

    fn answer(&mut self, key: Key, value: &str, out: &mut Vec<u8>) -> Result<(), NegotiationError> {
        match self.result(key, value)? {
            Some(result) => {
                put_pair(out, key.name(), &result);
                self.accept(key, &result);
                self.note(key, &result);
            }
            None => put_pair(out, key.name(), REJECT),
        }
        Ok(())
    }

    /// The result of the key's function, `None` where the offer is unlawful.
    fn result(&self, key: Key, value: &str) -> Result<Option<String>, NegotiationError> {
        Ok(match key {
            Key::HeaderDigest => Some(digest(key, value, self.offers.header_digest)?),
            Key::DataDigest => Some(digest(key, value, self.offers.data_digest)?),
            Key::InitialR2T => either(value, |offered| offered || self.offers.initial_r2t),
            Key::ImmediateData => either(value, |offered| offered && self.offers.immediate_data),
            Key::DataPduInOrder | Key::DataSequenceInOrder => either(value, |_| true),
            Key::IfMarker | Key::OfMarker => either(value, |_| false),
            Key::IfMarkInt | Key::OfMarkInt => None,
            Key::TaskReporting => first_of(value, &["RFC3720"]),
            Key::DefaultTime2Wait => number(key, value).map(|offered| offered.to_string()),
            _ => number(key, value).map(|offered| offered.min(self.own_maximum(key)).to_string()),
        })
    }

    /// The most that we agree to, for keys whose result is the smaller value.
    fn own_maximum(&self, key: Key) -> u64 {
        match key {
            Key::MaxBurstLength => self.offers.max_burst_length.into(),
            Key::FirstBurstLength => {
                self.offers.first_burst_length.min(self.parameters.max_burst_length).into()
            }
            Key::MaxOutstandingR2T => self.offers.max_outstanding_r2t.into(),
            Key::DefaultTime2Retain => TIME_TO_RETAIN_SECONDS.into(),
            Key::MaxConnections => 1,
            Key::ErrorRecoveryLevel => 0,
            Key::IscsiProtocolLevel => PROTOCOL_LEVEL,
            _ => panic!("the result of {} is no minimum", key.name()),
        }
    }

    /// Makes a result of ours, or one that was checked, the one that holds.
    fn accept(&mut self, key: Key, result: &str) {
        let parameters = &mut self.parameters;
        let number = parse_number(result).unwrap_or(0);
        let (long, short) = (number as u32, number as u16);
        match key {
            Key::HeaderDigest => parameters.header_digest = result == CRC32C,
            Key::DataDigest => parameters.data_digest = result == CRC32C,
            Key::InitialR2T => parameters.initial_r2t = result == "Yes",
            Key::ImmediateData => parameters.immediate_data = result == "Yes",
            Key::MaxBurstLength => parameters.max_burst_length = long,
            Key::FirstBurstLength => parameters.first_burst_length = long,
            Key::MaxOutstandingR2T => parameters.max_outstanding_r2t = short,
            Key::DefaultTime2Wait => parameters.default_time2wait = short,
            Key::DefaultTime2Retain => parameters.default_time2retain = short,
            _ => {}
        }
    }

    /// The initiator's answer to an offer of ours: the result of the key's function, which we check.
    fn take_answer(&mut self, key: Key, value: &str, offered: &str) -> Result<(), NegotiationError> {
        let is_smaller = || number(key, value) <= parse_number(offered);
        let is_fine = match key {
            Key::MaxBurstLength | Key::FirstBurstLength => number(key, value).is_some() && is_smaller(),
            _ => value == offered,
        };
        if !is_fine && value != IRRELEVANT {
            let wanted = offered.to_owned();
            return Err(NegotiationError::Unacceptable { key: key.name(), value: value.to_owned(), wanted });
        }
        if is_fine {
            self.accept(key, value);
        }
        self.note(key, value);
        Ok(())
    }

    /// Keys that were not negotiated, and whose default is not what we are ready for.
    fn wishes(&self) -> impl Iterator<Item = (Key, String)> + '_ {
        let (offers, now) = (&self.offers, &self.parameters);
        let is_normal = !self.is_discovery;
        let first_burst_max = now.first_burst_length.min(now.max_burst_length);
        let is_unasked = is_normal && !(now.initial_r2t && !(now.immediate_data && offers.immediate_data));
        let wishes = [
            (Key::HeaderDigest, offers.header_digest == DigestPolicy::Required, CRC32C.to_owned()),
            (Key::DataDigest, offers.data_digest == DigestPolicy::Required, CRC32C.to_owned()),
            (Key::ImmediateData, is_normal && !offers.immediate_data, "No".to_owned()),
            (
                Key::MaxBurstLength,
                is_normal && offers.max_burst_length < now.max_burst_length,
                offers.max_burst_length.to_string(),
            ),
            (
                Key::FirstBurstLength,
                is_unasked && offers.first_burst_length < first_burst_max,
                offers.first_burst_length.to_string(),
            ),
        ];
        let is_open = |key: &Key| !self.results.iter().any(|(done, _)| done == key);
        wishes
            .into_iter()
            .filter(move |(key, is_due, _)| *is_due && is_open(key))
            .map(|(key, _, value)| (key, value))
    }

    /// Without unsolicited data there is no first burst (§13.14).
    fn is_first_burst_irrelevant(&self) -> bool {
        self.parameters.initial_r2t && !self.parameters.immediate_data
    }

    /// A key that is negotiated anew in a later stage has its last result.
    fn note(&mut self, key: Key, value: &str) {
        self.results.retain(|(other, _)| *other != key);
        self.results.push((key, value.to_owned()));
    }
}

const CRC32C: &str = "CRC32C";

/// The first of the initiator's list that the policy allows.
fn digest(key: Key, value: &str, policy: DigestPolicy) -> Result<String, NegotiationError> {
    let allowed: &[&str] = match policy {
        DigestPolicy::Off => &["None"],
        DigestPolicy::Allowed => &["None", CRC32C],
        DigestPolicy::Required => &[CRC32C],
    };
    first_of(value, allowed).ok_or_else(|| NegotiationError::Unacceptable {
        key: key.name(),
        value: value.to_owned(),
        wanted: allowed.join(" or "),
    })
}

/// The first item of an offered list that is among the known ones.
fn first_of(list: &str, known: &[&str]) -> Option<String> {
    list.split(',').find(|item| known.contains(item)).map(str::to_owned)
}

fn either(value: &str, function: impl Fn(bool) -> bool) -> Option<String> {
    let offered = match value {
        "Yes" => true,
        "No" => false,
        _ => return None,
    };
    Some(if function(offered) { "Yes" } else { "No" }.to_owned())
}

fn number(key: Key, value: &str) -> Option<u64> {
    parse_number(value).filter(|number| key.range().contains(number))
}

/// A declared value has no answer but the end of the login (§7.12).
pub(super) fn declared_length(key: Key, value: &str) -> Result<u32, NegotiationError> {
    let length = number(key, value).and_then(|number| u32::try_from(number).ok());
    length.ok_or_else(|| NegotiationError::Unlawful { key: key.name(), value: value.to_owned() })
}
