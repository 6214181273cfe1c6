//! `[peers]` and `[mirror]` as they were written, each setting with its place.
//!
//! Its one rule: peers add up over files; each is named once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeTable;

use crate::config::draft::node_name;
use crate::config::mistake::{At, Mistake, Origin, Slot, Wrong};
use crate::config::section::{Section, Source, text, text_as};
use crate::config::values;
use crate::settings::Portal;

/// `[peers]`
#[derive(Default)]
pub struct PeersDraft {
    /// `host:port` by name.
    pub addresses: BTreeMap<String, At<String>>,
}

/// `[mirror]`
#[derive(Default)]
#[allow(missing_docs)]
pub struct MirrorDraft {
    pub portal: Slot<Portal>,
    pub key_file: Slot<PathBuf>,
    pub tls_certificate: Slot<PathBuf>,
    pub tls_key: Slot<PathBuf>,
    pub tls_ca: Slot<PathBuf>,
}

impl PeersDraft {
    /// Adds what `table` says: a name and an address each.
    pub fn read(&mut self, source: &Source, table: &DeTable<'_>, mistakes: &mut Vec<Mistake>) {
        for (key, value) in table {
            let origin = source.origin(value.span().start);
            let name = key.get_ref().as_ref();
            let peer = node_name(name).and_then(|name| {
                let address = text(value.get_ref()).and_then(values::parse_peer);
                let named =
                    |wrong: Wrong| Wrong { cause: format!("peer `{name}`: {}", wrong.cause), ..wrong };
                Ok((name.clone(), address.map_err(named)?))
            });
            match (peer, self.addresses.get(name)) {
                (Err(wrong), _) => mistakes.push(wrong.at(&origin)),
                (Ok(_), Some(earlier)) => {
                    let cause = format!("the peer `{name}` is named at {} too", earlier.origin);
                    mistakes.push(Wrong::new(cause, "remove one of them").at(&origin));
                }
                (Ok((name, address)), None) => drop(self.addresses.insert(name, At::new(address, origin))),
            }
        }
    }

    /// Adds what a flag says, which overrides what files say.
    pub fn set(&mut self, flag: PeerFlag) {
        let origin = Origin::Flag(format!("--peer {}={}", flag.name, flag.address));
        self.addresses.insert(flag.name, At::new(flag.address, origin));
    }
}

/// One peer from the command line.
#[derive(Clone, Debug)]
pub struct PeerFlag {
    name: String,
    address: String,
}

/// `NAME=HOST[:PORT]`.
pub fn parse_peer_flag(flag: &str) -> Result<PeerFlag, Wrong> {
    let Some((name, address)) = flag.split_once('=') else {
        return Err(Wrong::new(format!("`{flag}` is not a name and an address"), "write NAME=HOST:PORT"));
    };
    Ok(PeerFlag { name: node_name(name)?, address: values::parse_peer(address)? })
}

impl MirrorDraft {
    /// Adds what `section` says.
    pub fn read(&mut self, mut section: Section<'_>) {
        section.read("portal", &mut self.portal, text_as(values::parse_mirror_portal));
        section.read_path("key_file", &mut self.key_file);
        section.read_path("tls_certificate", &mut self.tls_certificate);
        section.read_path("tls_key", &mut self.tls_key);
        section.read_path("tls_ca", &mut self.tls_ca);
        section.finish();
    }
}
