//! The settings as they were written, each with its place, before defaults and cross-checks.
//!
//! Files are read into one draft, in order; a flag then overrides what files say. Its one rule: a setting
//! made in two files is a mistake that names both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::iscsi::draft::IscsiDraft;
use super::mirror::draft::{MirrorDraft, PeersDraft};
use super::mistake::{Mistake, Slot, Wrong};
use super::section::{Section, Source, boolean, count, list_of, size, table_of, text, text_as};
use super::units::{parse_duration, parse_size};
use super::values;
use super::volume::VolumeDraft;
use crate::settings::{Poll, Portal, TlsMode};

/// Everything that can be set.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Draft {
    pub node: NodeDraft,
    pub cores: CoresDraft,
    pub nbd: NbdDraft,
    pub iscsi: IscsiDraft,
    pub peers: PeersDraft,
    pub mirror: MirrorDraft,
    pub volumes: Vec<VolumeDraft>,
}

/// `[node]`
#[derive(Default)]
#[allow(missing_docs)]
pub struct NodeDraft {
    pub name: Slot<String>,
    pub data_dir: Slot<PathBuf>,
    pub state_dir: Slot<PathBuf>,
    pub admin: Slot<Option<SocketAddr>>,
    pub admin_token_file: Slot<PathBuf>,
    pub stop_timeout: Slot<Duration>,
}

/// `[cores]`
#[derive(Default)]
#[allow(missing_docs)]
pub struct CoresDraft {
    pub cpus: Slot<Vec<usize>>,
    pub poll: Slot<Poll>,
    pub poll_time: Slot<Duration>,
    pub arena: Slot<u64>,
    pub zero_copy_send: Slot<Option<u64>>,
    pub without: Slot<Vec<String>>,
}

/// `[nbd]`
#[derive(Default)]
#[allow(missing_docs)]
pub struct NbdDraft {
    pub portals: Slot<Vec<Portal>>,
    pub tls: Slot<TlsMode>,
    pub tls_directory: Slot<PathBuf>,
    pub tls_certificate: Slot<PathBuf>,
    pub tls_key: Slot<PathBuf>,
    pub tls_client_ca: Slot<PathBuf>,
    pub tls_verify_clients: Slot<bool>,
    pub default_export: Slot<String>,
    pub connections_max: Slot<u64>,
    pub handshake_timeout: Slot<Duration>,
    pub stall_timeout: Slot<Duration>,
    pub requests_max: Slot<u64>,
    pub inflight_bytes_max: Slot<u64>,
}

impl Draft {
    /// Adds what `source` says.
    pub fn read(&mut self, source: &Source, mistakes: &mut Vec<Mistake>) {
        let (document, errors) = DeTable::parse_recoverable(&source.text);
        let already = mistakes.len();
        self.read_document(source, document.get_ref(), mistakes);
        let semantic = mistakes.split_off(already);
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            let wrong = Wrong::new(format!("not TOML: {}", error.message()), "mend the syntax (see toml.io)");
            mistakes.push(source.mistake(offset, wrong));
        }
        let syntax_lines: Vec<_> = mistakes[already..].iter().map(line_of).collect();
        mistakes.extend(semantic.into_iter().filter(|mistake| !syntax_lines.contains(&line_of(mistake))));
    }

    fn read_document(&mut self, source: &Source, document: &DeTable<'_>, mistakes: &mut Vec<Mistake>) {
        for (key, value) in document {
            let offset = key.span().start;
            let name = key.get_ref().as_ref();
            if name == "volume" {
                self.read_volumes(source, value.get_ref(), offset, mistakes);
                continue;
            }
            let is_section = matches!(name, "node" | "cores" | "nbd" | "iscsi" | "peers" | "mirror");
            let table = match table_of(name, value) {
                Ok(table) if is_section => table,
                Err(wrong) if is_section => {
                    mistakes.push(source.mistake(offset, wrong));
                    continue;
                }
                _ => {
                    let wrong = Wrong::new(format!("there is no section or setting `{name}`"), SECTIONS);
                    mistakes.push(source.mistake(offset, wrong));
                    continue;
                }
            };
            match name {
                "node" => self.node.read(Section::new(source, "[node]", table, mistakes)),
                "cores" => self.cores.read(Section::new(source, "[cores]", table, mistakes)),
                "iscsi" => self.iscsi.read(Section::new(source, "[iscsi]", table, mistakes)),
                "mirror" => self.mirror.read(Section::new(source, "[mirror]", table, mistakes)),
                "peers" => self.peers.read(source, table, mistakes),
                _ => self.nbd.read(Section::new(source, "[nbd]", table, mistakes)),
            }
        }
    }

    fn read_volumes(
        &mut self,
        source: &Source,
        value: &DeValue<'_>,
        offset: usize,
        mistakes: &mut Vec<Mistake>,
    ) {
        let members = value.as_array().map(|members| members.iter().collect::<Vec<_>>()).unwrap_or_default();
        if members.is_empty() && value.as_array().is_none_or(|members| !members.is_empty()) {
            let wrong =
                Wrong::new("`volume` is one table", "write [[volume]], with two brackets, for each volume");
            mistakes.push(source.mistake(offset, wrong));
        }
        for member in members {
            match member.get_ref().as_table() {
                Some(table) => {
                    self.volumes.push(VolumeDraft::read(source, table, member.span().start, mistakes))
                }
                None => {
                    let wrong =
                        Wrong::new("a volume is not a table", "write [[volume]] and its settings below");
                    mistakes.push(source.mistake(member.span().start, wrong));
                }
            }
        }
    }
}

const SECTIONS: &str = "known are [node], [cores], [nbd], [iscsi], [peers], [mirror] and [[volume]]";

impl NodeDraft {
    fn read(&mut self, mut section: Section<'_>) {
        section.read("name", &mut self.name, text_as(node_name));
        section.read_path("data_dir", &mut self.data_dir);
        section.read_path("state_dir", &mut self.state_dir);
        section.read("admin", &mut self.admin, text_as(values::parse_admin));
        section.read_path("admin_token_file", &mut self.admin_token_file);
        section.read("stop_timeout", &mut self.stop_timeout, text_as(parse_duration));
        section.finish();
    }
}

impl CoresDraft {
    fn read(&mut self, mut section: Section<'_>) {
        section.read("cpus", &mut self.cpus, cpus);
        section.read("poll", &mut self.poll, text_as(values::parse_poll));
        section.read("poll_time", &mut self.poll_time, text_as(parse_duration));
        section.read("arena", &mut self.arena, size);
        section.read("zero_copy_send", &mut self.zero_copy_send, text_as(values::parse_size_or_off));
        section.read("without", &mut self.without, list_of(|value| text(value).map(str::to_owned)));
        section.finish();
    }
}

impl NbdDraft {
    fn read(&mut self, mut section: Section<'_>) {
        section.read("portals", &mut self.portals, list_of(|value| values::parse_portal(text(value)?)));
        section.read("tls", &mut self.tls, text_as(values::parse_tls_mode));
        section.read_path("tls_directory", &mut self.tls_directory);
        section.read_path("tls_certificate", &mut self.tls_certificate);
        section.read_path("tls_key", &mut self.tls_key);
        section.read_path("tls_client_ca", &mut self.tls_client_ca);
        section.read("tls_verify_clients", &mut self.tls_verify_clients, boolean);
        section.read("default_export", &mut self.default_export, |value| text(value).map(str::to_owned));
        section.read("connections_max", &mut self.connections_max, count);
        section.read("handshake_timeout", &mut self.handshake_timeout, text_as(parse_duration));
        section.read("stall_timeout", &mut self.stall_timeout, text_as(parse_duration));
        section.read("requests_max", &mut self.requests_max, count);
        section.read("inflight_bytes_max", &mut self.inflight_bytes_max, |value| match value.as_str() {
            Some(text) => parse_size(text),
            None => count(value),
        });
        section.finish();
    }
}

/// A node's name: what a label in metrics and a file name can carry.
pub fn node_name(name: &str) -> Result<String, Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 63 || !name.chars().all(is_plain) {
        return Err(Wrong::new(
            format!("{name:?} cannot be a node's name"),
            "use 1 to 63 letters, digits, '.', '_', '-'",
        ));
    }
    Ok(name.to_owned())
}

fn cpus(value: &DeValue<'_>) -> Result<Vec<usize>, Wrong> {
    match value {
        DeValue::String(text) => values::parse_cpus(text),
        _ => values::unique_cpus(list_of(|cpu| count(cpu).map(|cpu| cpu as usize))(value)?),
    }
}

fn line_of(mistake: &Mistake) -> Option<usize> {
    match mistake.origin {
        super::mistake::Origin::File { line, .. } => Some(line),
        _ => None,
    }
}
