//! Binary values in text: hexadecimal after 0x, or base64 after 0b (RFC 7143 §6.1).
//!
//! Its one rule: the length is checked before anything is stored.

/// Reads a binary value of at most `bytes_max` bytes; `None` where it is malformed or longer.
pub fn decode_binary(value: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    match prefix {
        "0x" | "0X" => decode_hex(digits.as_bytes(), bytes_max),
        "0b" | "0B" => decode_base64(digits.as_bytes(), bytes_max),
        _ => None,
    }
}

/// Writes one the way that every initiator reads: libiscsi knows no base64.
pub fn encode_binary(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("0x");
    bytes.iter().for_each(|byte| write!(out, "{byte:02x}").expect("a string takes everything"));
    out
}

/// An odd number of digits begins with half a byte.
fn decode_hex(digits: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len().div_ceil(2) > bytes_max {
        return None;
    }
    let value = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    let (head, pairs) = digits.split_at(digits.len() % 2);
    let head = head.iter().map(value);
    let pairs = pairs.chunks_exact(2).map(|pair| Some(value(&pair[0])? << 4 | value(&pair[1])?));
    head.chain(pairs).collect()
}

/// Padding may be left out; bits beyond the last byte must be zero.
fn decode_base64(digits: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let padding = digits.iter().rev().take_while(|digit| **digit == b'=').count();
    let (digits, _) = digits.split_at(digits.len() - padding);
    let is_whole = padding <= 2 && (padding == 0 || (digits.len() + padding).is_multiple_of(4));
    if digits.is_empty() || !is_whole || digits.len() % 4 == 1 || digits.len() / 4 * 3 > bytes_max {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let bits = group.iter().try_fold(0, |bits: u32, digit| Some(bits << 6 | base64_value(*digit)?))?;
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        let (kept, spare) = bytes[1..].split_at(group.len() - 1);
        if spare.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    (out.len() <= bytes_max).then_some(out)
}

fn base64_value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}
