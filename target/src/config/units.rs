//! Sizes and durations as people write them: `20G`, `512M`, `10s`, `50us`.
//!
//! Sizes are in binary units, whatever the spelling (`G`, `GB` and `GiB` are all 2^30). Durations always
//! need a unit. Its one rule: what `size_text` prints, `parse_size` reads back as the same number.

use std::time::Duration;

use super::mistake::Wrong;

const SIZES: [(&str, u32); 7] = [("", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40), ("P", 50), ("E", 60)];
const TIMES: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Bytes from `4096`, `512M`, `20G`, `1.5T`, `20GiB`.
pub fn parse_size(text: &str) -> Result<u64, Wrong> {
    let wrong =
        || Wrong::new(format!("`{text}` is not a size"), "write bytes or a binary unit, as in 20G or 512M");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let unit = unit.to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit);
    let (_, shift) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let too_large =
        || Wrong::new(format!("the size `{text}` is too large"), "the largest is 8E, less one block");
    scaled(number, 1 << shift).ok_or_else(wrong)?.ok_or_else(too_large)
}

/// A duration from `10s`, `50us`, `1.5ms`, `2m`.
pub fn parse_duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("`{text}` is not a duration"),
            "write a number and ns, us, ms, s, m or h, as in 10s",
        )
    };
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let (_, nanoseconds) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let nanoseconds = scaled(number, *nanoseconds).flatten().ok_or_else(wrong)?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// The shortest exact spelling: `20G`, `1536M`, `1000`.
pub fn size_text(bytes: u64) -> String {
    let exact = SIZES.iter().rev().find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    let (unit, shift) = exact.unwrap_or(&SIZES[0]);
    format!("{}{unit}", bytes >> shift)
}

/// For tables: exact where that is short, else rounded to a tenth, `1.4 GiB`.
pub fn size_rounded(bytes: u64) -> String {
    let (unit, shift) = SIZES.iter().rev().find(|(_, shift)| bytes >> shift > 0).unwrap_or(&SIZES[0]);
    if unit.is_empty() {
        return format!("{bytes} B");
    }
    let value = bytes as f64 / (1u64 << shift) as f64;
    if value.fract() == 0.0 { format!("{value} {unit}iB") } else { format!("{value:.1} {unit}iB") }
}

/// A duration in the largest unit that keeps it exact: `10s`, `50us`.
pub fn duration_text(duration: Duration) -> String {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let exact = TIMES.iter().rev().find(|(_, unit)| nanoseconds != 0 && nanoseconds.is_multiple_of(*unit));
    let (unit, size) = exact.unwrap_or(&TIMES[3]);
    format!("{}{unit}", nanoseconds / size)
}

fn split_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// `number` (digits, perhaps with a fraction) times `unit`: outer `None` for no number or a fraction of a
/// single unit, inner for an overflow.
fn scaled(number: &str, unit: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok()?;
    let part = match fraction {
        "" if number.contains('.') => return None,
        "" => 0,
        digits if digits.len() > 9 => return None,
        digits => {
            let scaled = digits.parse::<u128>().ok()? * u128::from(unit);
            let scale = 10u128.pow(digits.len() as u32);
            if unit == 1 && scaled % scale != 0 {
                return None;
            }
            scaled / scale
        }
    };
    let total = whole.checked_mul(u128::from(unit)).and_then(|bytes| bytes.checked_add(part));
    Some(total.and_then(|bytes| u64::try_from(bytes).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_in_binary_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("20G", 20 << 30),
            ("512MiB", 512 << 20),
            ("1.5k", 1536),
            ("2 TB", 2 << 40),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.G", "12Q", "1e3", "0x10", "99999999999E"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_duration("1.5ms"), Ok(Duration::from_micros(1500)));
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("10 days").is_err());
    }

    #[test]
    fn printed_sizes_and_durations_read_back() {
        for bytes in [0, 1, 512, 1000, 1536, 20 << 30, (1 << 40) + 512, u64::MAX] {
            assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
        for nanoseconds in [0, 50_000, 1_500_000, 10_000_000_000, 3_600_000_000_000] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
        assert_eq!(size_text(20 << 30), "20G");
        assert_eq!(size_rounded(1_500_000_000), "1.4 GiB");
        assert_eq!(duration_text(Duration::from_micros(50)), "50us");
    }
}
