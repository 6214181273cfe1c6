//! Lists of key=value pairs, as login and text PDUs carry them (RFC 7143 §6.1).
//!
//! ```text
//! InitiatorName=iqn.2005-03.org.example:host\0SessionType=Normal\0
//! ```
//! Its one rule: what a stranger sends is bounded before it is stored, and stands for itself: nothing is copied.

use crate::nbd::handshake::option::quoted;

/// The longest key (§6.1).
pub const KEY_BYTES_MAX: usize = 63;
/// The longest text that is collected over several PDUs.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Offered, but nobody here knows it.
pub const NOT_UNDERSTOOD: &str = "NotUnderstood";
/// Known, but without meaning beside what else was agreed.
pub const IRRELEVANT: &str = "Irrelevant";
/// Known, but the value is unlawful or unacceptable.
pub const REJECT: &str = "Reject";

/// What is taken of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All of it.
    pub text_bytes_max: usize,
    /// The number of pairs.
    pub pairs_max: usize,
    /// One value.
    pub value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { text_bytes_max: TEXT_BYTES_MAX, pairs_max: 128, value_bytes_max: 8192 }
    }
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// More than anyone needs.
    #[error("the text is longer than {0} bytes")]
    TooLong(usize),
    /// More than anyone needs.
    #[error("the text has more than {0} keys")]
    TooManyPairs(usize),
    /// Something else stands where a pair should.
    #[error("{} where key=value is due", quoted(.0))]
    NotAPair(String),
    /// A key of characters or of a length that the standard does not allow.
    #[error("{} is no key", quoted(.0))]
    BadKey(String),
    /// A value that is too long.
    #[error("the value of {key} is longer than {bytes_max} bytes")]
    ValueTooLong {
        /// Its key.
        key: String,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A value that is not UTF-8.
    #[error("the value of {0} is no text")]
    NotUtf8(String),
    /// A key may stand in a text once.
    #[error("{0} stands there twice")]
    Twice(String),
}

/// The pairs of one text, in their order; no key twice.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pairs<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Pairs<'a> {
    /// Reads a whole text. Its last pair may lack its NUL.
    pub fn parse(text: &'a [u8], limits: Limits) -> Result<Pairs<'a>, TextError> {
        if text.len() > limits.text_bytes_max {
            return Err(TextError::TooLong(limits.text_bytes_max));
        }
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for pair in text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            if pairs.len() == limits.pairs_max {
                return Err(TextError::TooManyPairs(limits.pairs_max));
            }
            let (key, value) = parse_pair(pair, limits.value_bytes_max)?;
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(TextError::Twice(key.to_owned()));
            }
            pairs.push((key, value));
        }
        Ok(Pairs { pairs })
    }

    /// The pairs in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.pairs.iter().copied()
    }

    /// The value of a key, if it stands there.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

fn parse_pair(pair: &[u8], value_bytes_max: usize) -> Result<(&str, &str), TextError> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
    let equals = pair.iter().position(|byte| *byte == b'=');
    let (key, value) = pair.split_at(equals.ok_or_else(|| TextError::NotAPair(shown(pair)))?);
    let is_key = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(|byte| is_key_byte(*byte));
    let key = match str::from_utf8(key) {
        Ok(key) if is_key => key,
        _ => return Err(TextError::BadKey(shown(key))),
    };
    let value = &value[1..];
    if value.len() > value_bytes_max {
        return Err(TextError::ValueTooLong { key: key.to_owned(), bytes_max: value_bytes_max });
    }
    let value = str::from_utf8(value).map_err(|_| TextError::NotUtf8(key.to_owned()))?;
    Ok((key, value))
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-+@_/#".contains(&byte)
}

/// Appends a pair of ours.
pub fn put_pair(out: &mut Vec<u8>, key: &str, value: &str) {
    debug_assert!(!value.contains('\0') && key.len() <= KEY_BYTES_MAX, "{key}={value}");
    for part in [key, "=", value, "\0"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Gathers a text over PDUs whose C bit says that it goes on.
#[derive(Debug, Default)]
pub struct Collector {
    text: Vec<u8>,
}

impl Collector {
    /// Takes what one PDU brought: `None` while the text goes on, else all of it.
    ///
    /// After an error the collector is empty again.
    pub fn add(&mut self, data: &[u8], continues: bool) -> Result<Option<Vec<u8>>, TextError> {
        if self.text.len() + data.len() > TEXT_BYTES_MAX {
            self.text = Vec::new();
            return Err(TextError::TooLong(TEXT_BYTES_MAX));
        }
        self.text.extend_from_slice(data);
        Ok((!continues).then(|| std::mem::take(&mut self.text)))
    }

    /// Whether a text is under way.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// A number of the standard's text: decimal, or hexadecimal after 0x (§6.1).
pub fn parse_number(value: &str) -> Option<u64> {
    let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |digits| (digits, 16));
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_plain { None } else { u64::from_str_radix(digits, radix).ok() }
}
