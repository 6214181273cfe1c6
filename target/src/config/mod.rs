//! The configuration: files and flags in, values that cannot be wrong in form out.
//!
//! A draft collects what was written (`draft`, `section`), `resolve` adds defaults and cross-checks,
//! `survey` looks at the machine. Its one rule: reading a configuration changes nothing, and tells every
//! mistake at once.

pub mod draft;
pub mod iscsi;
pub mod mirror;
pub mod mistake;
pub mod private;
pub mod resolve;
pub mod section;
pub mod survey;
pub mod tls;
pub mod token;
pub mod units;
pub mod values;
pub mod volume;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::settings::{CoreSettings, NbdSettings, Portal};
use draft::Draft;
use iscsi::IscsiConfig;
use mirror::MirrorConfig;
use mistake::{At, Mistake, Origin, Wrong};
use resolve::Defaults;
use section::Source;
use survey::Surveyed;
use tls::TlsFiles;
use token::Token;
use volume::Declaration;

/// What a node shall do.
pub struct Config {
    /// The files it was read from.
    pub files: Vec<PathBuf>,
    /// The node itself.
    pub node: NodeConfig,
    /// Its cores.
    pub cores: CoreSettings,
    /// Where it listens for NBD; `None` when nothing was said.
    pub portals: Option<Vec<At<Portal>>>,
    /// What holds for its clients.
    pub nbd: NbdSettings,
    /// Where `nbd.tls_server` came from.
    pub tls_files: Option<TlsFiles>,
    /// Changes when the certificates do.
    pub tls_fingerprint: Vec<u8>,
    /// The iSCSI front.
    pub iscsi: IscsiConfig,
    /// Links between nodes.
    pub mirror: MirrorConfig,
    /// The declared volumes.
    pub volumes: Vec<Declaration>,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// For people and metrics.
    pub name: String,
    /// Where volumes without a backing lie.
    pub data_dir: PathBuf,
    /// Where the node remembers what must survive it.
    pub state_dir: PathBuf,
    /// Where the admin API listens, if anywhere.
    pub admin: Option<AdminConfig>,
    /// The bound of a graceful stop.
    pub stop_timeout: Duration,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its clients must show.
    pub token: Option<Token>,
}

/// Reads `file` and what lies in `ringsan.d` beside it, lets `flags` override, and adds defaults.
pub fn load(file: Option<&Path>, flags: impl FnOnce(&mut Draft)) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let config = read(file, flags, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(sorted(mistakes)) }
}

/// Reads `file` as `load` does and looks at the machine too: the configuration as far as it can be
/// understood, and every mistake in it.
pub fn examine(file: &Path) -> (Config, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let config = read(Some(file), |_| {}, &mut mistakes);
    survey::survey_all(&config.volumes, &config.node.data_dir, &mut mistakes);
    (config, sorted(mistakes))
}

fn read(file: Option<&Path>, flags: impl FnOnce(&mut Draft), mistakes: &mut Vec<Mistake>) -> Config {
    let mut draft = Draft::default();
    let mut files = Vec::new();
    for source in read_sources(file, mistakes) {
        draft.read(&source, mistakes);
        files.push(source.path.to_path_buf());
    }
    flags(&mut draft);
    let data_dir = if file.is_some() { "/var/lib/ringsan" } else { "ringsan-data" };
    let defaults = Defaults { data_dir: data_dir.into(), disk0: file.is_none() };
    let config = resolve::resolve_into(draft, &defaults, mistakes);
    Config { files, ..config }
}

impl Config {
    /// What is no mistake and yet may not be meant.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.iscsi.remarks(&self.volumes);
        remarks.extend(self.mirror.remarks(&self.node.name, &self.volumes));
        remarks
    }

    /// Looks at the backings of the declared volumes.
    pub fn survey(&self) -> Result<Vec<Surveyed>, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let surveyed = survey::survey_all(&self.volumes, &self.node.data_dir, &mut mistakes);
        if mistakes.is_empty() { Ok(surveyed) } else { Err(sorted(mistakes)) }
    }
}

fn read_sources(file: Option<&Path>, mistakes: &mut Vec<Mistake>) -> Vec<Source> {
    let Some(file) = file else { return Vec::new() };
    let mut paths = vec![file.to_owned()];
    let folder = file.parent().unwrap_or(Path::new("")).join("ringsan.d");
    match snippets(&folder) {
        Ok(snippets) => paths.extend(snippets),
        Err(wrong) => mistakes.push(wrong.at(&place(&folder))),
    }
    let mut sources = Vec::new();
    for path in paths {
        match read_source(&path) {
            Ok(source) => sources.push(source),
            Err(error) => {
                let wrong = Wrong::new(
                    format!("the file cannot be read: {error}"),
                    "check the path and its permissions",
                );
                mistakes.push(wrong.at(&place(&path)));
            }
        }
    }
    sources
}

fn read_source(path: &Path) -> std::io::Result<Source> {
    let text = fs::read_to_string(path)?;
    let open_to_others = private::open_to_others(&fs::metadata(path)?);
    Ok(Source { path: path.into(), text, open_to_others })
}

fn snippets(folder: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Wrong::new(format!("the folder cannot be read: {error}"), "check its permissions"));
        }
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    paths.sort();
    Ok(paths)
}

fn place(path: &Path) -> Origin {
    Origin::File { path: path.into(), line: 1, column: 1 }
}

fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort_by_key(|mistake| match &mistake.origin {
        Origin::File { path, line, column } => (path.to_path_buf(), *line, *column),
        _ => (PathBuf::new(), 0, 0),
    });
    mistakes
}

#[cfg(test)]
mod tests;
