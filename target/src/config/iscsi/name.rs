//! iSCSI names: which are lawful, and what a volume's target is called (RFC 7143 §4.2.7).
//!
//! Lawful here is what stringprep (RFC 3722) lets through of ASCII: lower-case letters, digits, `-`, `.`, `:`.
//! Its one rule: a volume's target name follows from the prefix and the volume's name alone, so that every
//! node that serves the volume finds the same one.

use crate::config::mistake::Wrong;

/// The longest iSCSI name, in bytes.
pub const NAME_BYTES_MAX: usize = 223;
/// What is left of a name for a volume's part of it.
const PREFIX_BYTES_MAX: usize = 128;
/// The prefix of targets that are not named in full.
pub const DEFAULT_PREFIX: &str = "iqn.2026-11.io.ringsan";

/// A target's prefix: `iqn.2026-11.io.ringsan`, or with parts of its own, `iqn.2026-11.org.example:site1`.
pub fn parse_prefix(text: &str) -> Result<String, Wrong> {
    if text.len() > PREFIX_BYTES_MAX {
        let cause = format!("the prefix has {} bytes", text.len());
        return Err(Wrong::new(
            cause,
            format!("at most {PREFIX_BYTES_MAX}, so that volumes' names fit behind"),
        ));
    }
    if !text.starts_with("iqn.") {
        return Err(Wrong::new(format!("`{text}` cannot be the beginning of targets' names"), IQN_REMEDY));
    }
    parse_target(text)
}

const IQN_REMEDY: &str =
    "write iqn., a year and month, a domain of yours backwards, as in iqn.2026-11.org.example";

/// A target's name in full: `iqn.2026-11.org.example:db`, `eui.` and 16 digits, or `naa.` and 16 or 32.
pub fn parse_target(text: &str) -> Result<String, Wrong> {
    if let Some(odd) = text.chars().find(|c| !is_lawful(*c)) {
        let cause = format!("the iSCSI name `{text}` contains {odd:?}");
        let lower = text.to_ascii_lowercase();
        let remedy = match lower.chars().all(is_lawful) {
            true => format!("names are in lower case: {lower}"),
            false => "use lower-case letters, digits, '-', '.' and ':' only".to_owned(),
        };
        return Err(Wrong::new(cause, remedy));
    }
    checked_form(text)?;
    Ok(text.to_owned())
}

/// An initiator's name, in lower case. Initiators get away with more than we ask of ourselves.
pub fn parse_initiator(text: &str) -> Result<String, Wrong> {
    if let Some(odd) = text.chars().find(|c| c.is_control() || c.is_whitespace() || !c.is_ascii()) {
        let cause = format!("the initiator's name {text:?} contains {odd:?}");
        return Err(Wrong::new(cause, "copy it from /etc/iscsi/initiatorname.iscsi of that host"));
    }
    let name = text.to_ascii_lowercase();
    checked_form(&name)?;
    Ok(name)
}

/// What a volume's own target is called: `PREFIX:NAME`, or, when the name cannot stand there as it is, with
/// what can of it and a checksum of the whole.
pub fn of_volume(prefix: &str, volume: &str) -> String {
    let room = NAME_BYTES_MAX - prefix.len() - 1;
    if volume.len() <= room && volume.chars().all(is_lawful) {
        return format!("{prefix}:{volume}");
    }
    let checksum = crc32c::crc32c(volume.as_bytes());
    let readable = volume.chars().map(|c| c.to_ascii_lowercase()).map(|c| if is_lawful(c) { c } else { '-' });
    let readable: String = readable.take(room - 9).collect();
    format!("{prefix}:{readable}:{checksum:08x}")
}

fn is_lawful(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':')
}

/// Whether it is of one of the three types, given its characters.
fn checked_form(name: &str) -> Result<(), Wrong> {
    if name.len() > NAME_BYTES_MAX {
        let cause = format!("the iSCSI name `{name}` has {} bytes", name.len());
        return Err(Wrong::new(cause, format!("the longest has {NAME_BYTES_MAX}")));
    }
    let is_hexadecimal = |digits: &str, lengths: &[usize]| {
        lengths.contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let wrong = |remedy: &str| Err(Wrong::new(format!("`{name}` is not an iSCSI name"), remedy));
    match name.split_once('.') {
        Some(("iqn", rest)) if is_authority(rest) => Ok(()),
        Some(("iqn", _)) => wrong(IQN_REMEDY),
        Some(("eui", digits)) if is_hexadecimal(digits, &[16]) => Ok(()),
        Some(("eui", _)) => wrong("write eui. and 16 hexadecimal digits"),
        Some(("naa", digits)) if is_hexadecimal(digits, &[16, 32]) => Ok(()),
        Some(("naa", _)) => wrong("write naa. and 16 or 32 hexadecimal digits"),
        _ => wrong(IQN_REMEDY),
    }
}

/// `2026-11.org.example`, and anything behind a colon.
fn is_authority(rest: &str) -> bool {
    let authority = rest.split_once(':').map_or(rest, |(authority, _)| authority);
    let Some((date, domain)) = authority.split_once('.') else { return false };
    let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    let is_date = date.split_once('-').is_some_and(|(year, month)| {
        is_number(year, 4) && is_number(month, 2) && ("01"..="12").contains(&month)
    });
    is_date && domain.split('.').all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_three_types_are_taken() {
        for name in [
            "iqn.2026-11.io.ringsan:db",
            "iqn.2026-11.io.ringsan",
            "iqn.1993-08.org.debian:01:4f5a:b.c-d",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(parse_target(name).as_deref(), Ok(name));
        }
        for name in [
            "",
            "db",
            "iqn.",
            "iqn.2026-13.io.ringsan",
            "iqn.2026.io",
            "iqn.2026-11.io..x",
            "eui.12",
            "naa.1",
            "iqn.2026-11.a:b_c",
            "iqn.2026-11.a b",
        ] {
            assert!(parse_target(name).is_err(), "{name}");
        }
        assert!(parse_target(&format!("iqn.2026-11.io:{}", "x".repeat(209))).is_err());
        let upper = parse_target("iqn.2026-11.io.ringsan:DB").expect_err("upper case");
        assert!(upper.remedy.ends_with("iqn.2026-11.io.ringsan:db"), "{upper}");
    }

    #[test]
    fn initiators_are_compared_in_lower_case() {
        assert_eq!(
            parse_initiator("iqn.1991-05.com.Microsoft:Host_1").as_deref(),
            Ok("iqn.1991-05.com.microsoft:host_1")
        );
        assert!(parse_initiator("iqn.1991-05.com.microsoft: host").is_err());
        assert!(parse_initiator("host").is_err());
    }

    #[test]
    fn a_lawful_volume_name_stands_as_it_is() {
        assert_eq!(of_volume(DEFAULT_PREFIX, "disk0"), "iqn.2026-11.io.ringsan:disk0");
    }

    #[test]
    fn other_volume_names_make_lawful_target_names_that_differ() {
        let names = ["DB", "db_1", "db-1", "db 1", "größe/1", &"x".repeat(255), &"y".repeat(255), "Db"];
        let mut targets: Vec<_> = names.iter().map(|name| of_volume(DEFAULT_PREFIX, name)).collect();
        for target in &targets {
            assert_eq!(parse_target(target).as_ref(), Ok(target));
        }
        assert_eq!(targets[0], format!("{DEFAULT_PREFIX}:db:{:08x}", crc32c::crc32c(b"DB")));
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), names.len());
    }

    proptest::proptest! {
        #[test]
        fn every_volume_name_makes_a_lawful_target_name(volume in "\\PC{1,120}", prefix in "iqn\\.2026-1[0-2](\\.[a-z]{1,20}){1,4}") {
            let prefix = parse_prefix(&prefix).expect("a lawful prefix");
            let name = of_volume(&prefix, &volume);
            proptest::prop_assert_eq!(parse_target(&name), Ok(name.clone()));
        }
    }
}
