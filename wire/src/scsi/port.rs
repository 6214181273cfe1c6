//! The two ends of a nexus, and how SCSI writes them down (SPC-4 7.6.4.6, 7.8.6).

/// The initiator's end: its name and the session's initiator part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitiatorPort {
    /// The iSCSI name.
    pub name: String,
    /// The ISID of its session.
    pub isid: [u8; 6],
}

/// The target's end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetPort {
    /// The target's iSCSI name.
    pub target_name: String,
    /// The target portal group tag.
    pub portal_group: u16,
    /// RELATIVE TARGET PORT IDENTIFIER; from 1.
    pub relative_port: u16,
}

/// Both ends: what a registration belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path {
    pub initiator: InitiatorPort,
    pub target: TargetPort,
}

/// Names an initiator in parameter data (SPC-4 7.6.4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TransportId {
    pub name: String,
    /// `None` means every port of the initiator.
    pub isid: Option<[u8; 6]>,
}

/// FORMAT 01b and PROTOCOL IDENTIFIER 5: a name with its ISID. FORMAT 00b: a name alone.
const ISCSI: u8 = 0x05;
const WITH_ISID: u8 = 0x45;
/// RFC 7143 4.2.7.1.
const NAME_BYTES_MAX: usize = 223;
const SEPARATOR: &str = ",i,0x";

impl InitiatorPort {
    /// Appends the TransportID: zero-terminated and padded, ADDITIONAL LENGTH at least 20.
    pub(super) fn put_transport_id(&self, out: &mut Vec<u8>) {
        let [a, b, c, d, e, f] = self.isid;
        let text = format!("{}{SEPARATOR}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}", self.name);
        let length = (text.len() + 1).next_multiple_of(4).max(20);
        out.extend_from_slice(&[WITH_ISID, 0]);
        out.extend_from_slice(&(length as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out.resize(out.len() + length - text.len(), 0);
    }
}

impl TransportId {
    /// The TransportID at the front of `data`, and what follows it.
    pub fn parse(data: &[u8]) -> Option<(TransportId, &[u8])> {
        let (&[format, _, high, low], rest) = data.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (text, rest) = rest.split_at_checked(length)?;
        if length < 20 || !length.is_multiple_of(4) {
            return None;
        }
        let end = text.iter().position(|byte| *byte == 0)?;
        let text = str::from_utf8(&text[..end]).ok()?.to_ascii_lowercase();
        let (name, isid) = match format {
            ISCSI => (text, None),
            WITH_ISID => {
                let (name, isid) = text.split_once(SEPARATOR)?;
                (name.to_owned(), Some(parse_isid(isid)?))
            }
            _ => return None,
        };
        (1..=NAME_BYTES_MAX).contains(&name.len()).then_some((TransportId { name, isid }, rest))
    }

    pub fn names(&self, port: &InitiatorPort) -> bool {
        self.name == port.name && self.isid.is_none_or(|isid| isid == port.isid)
    }
}

fn parse_isid(hex: &str) -> Option<[u8; 6]> {
    if hex.len() != 12 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let [_, _, isid @ ..] = u64::from_str_radix(hex, 16).ok()?.to_be_bytes();
    Some(isid)
}
