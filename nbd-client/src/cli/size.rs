//! Sizes and times as people write them: `4k`, `64M`; `10`, `500ms`, `2m`.

use std::time::Duration;

/// A number of bytes; k, M, G and T are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("not a size; write 4096, 4k or 1M".into()),
    };
    let number = digits.parse::<u64>().map_err(|_| "not a size; write 4096, 4k or 1M".to_owned())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(|| "out of range".into())
}

/// A time; seconds if nothing else is said.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("not a time; write 10, 500ms or 2m".into()),
    };
    let number = digits.parse::<f64>().map_err(|_| "not a time; write 10, 500ms or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| "out of range".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        for wrong in ["", "k", "4q", "-1", "0", "99999999999T", "1.5k"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1", "5 parsecs", "1e400"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
