//! One volume as somebody declared it: in a file, by a flag, or through the admin API.
//!
//! Its one rule: nothing here looks at the machine; `survey` does.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::mirror::{MirrorDeclaration, ReplicasDraft};
use super::mistake::{At, Mistake, Origin, Slot, Wrong};
use super::section::{Section, Source, boolean, list_of, size, text, text_as};
use super::units::{parse_size, size_text};
use super::values::{self, BackingKind};
use crate::settings::FileCache;

/// Sizes are multiples of this, the smallest block that any client uses.
pub const SIZE_UNIT: u64 = 512;

/// A declared volume whose form is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Where it is declared.
    pub origin: Origin,
    /// 1 to 255 bytes.
    pub name: String,
    /// Where its bytes shall lie.
    pub place: Place,
    /// Its size; with the origin `Default` it counts only when the backing has to be made.
    pub size: Slot<u64>,
    /// For clients to read.
    pub description: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Client networks that may attach; empty for all.
    pub allow: Vec<IpNet>,
    /// Its replicas, where it has any.
    pub mirror: Option<MirrorDeclaration>,
}

/// A backing by name, not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anonymous memory.
    Memory,
    /// Whatever is, or shall be, at a path.
    Path {
        /// The path.
        path: PathBuf,
        /// What it is said to be; `None` to see for ourselves.
        kind: Option<BackingKind>,
        /// For files.
        cache: FileCache,
    },
}

/// A volume in the admin API and in the state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// A path, or `memory`; left out, a file in the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<PathBuf>,
    /// `file`, `block`, `nvme` or `memory`; left out, what the path is.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// `auto`, `direct` or `buffered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// Client networks.
    #[serde(default)]
    pub allow: Vec<String>,
    /// For clients to read.
    #[serde(default)]
    pub description: String,
    /// The nodes that hold a copy each, this one among them; empty for a volume without replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// `continue` or `suspend`: what a lost peer does to writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_peer_loss: Option<String>,
    /// A peer that is silent for so long is lost, as in `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_timeout: Option<String>,
}

/// A volume of which only the single values have been checked.
#[derive(Clone, Debug)]
pub struct VolumeDraft {
    origin: Origin,
    flawed: bool,
    name: Slot<String>,
    backing: Slot<PathBuf>,
    kind: Slot<BackingKind>,
    size: Slot<u64>,
    cache: Slot<FileCache>,
    read_only: Slot<bool>,
    allow: Slot<Vec<IpNet>>,
    description: Slot<String>,
    mirror: ReplicasDraft,
}

impl VolumeDraft {
    /// Nothing but its origin.
    pub fn new(origin: Origin) -> VolumeDraft {
        VolumeDraft {
            origin,
            flawed: false,
            name: None,
            backing: None,
            kind: None,
            size: None,
            cache: None,
            read_only: None,
            allow: None,
            description: None,
            mirror: ReplicasDraft::default(),
        }
    }

    /// The volume of `ringsan serve` without arguments.
    pub fn default_disk() -> VolumeDraft {
        let at = |value| Some(At::new(value, Origin::Default));
        VolumeDraft {
            name: at("disk0".to_owned()),
            size: Some(At::new(1 << 30, Origin::Default)),
            ..Self::new(Origin::Default)
        }
    }

    /// Reads one `[[volume]]`.
    pub fn read(
        source: &Source,
        table: &DeTable<'_>,
        offset: usize,
        mistakes: &mut Vec<Mistake>,
    ) -> VolumeDraft {
        let mut draft = VolumeDraft::new(source.origin(offset));
        let already = mistakes.len();
        let mut section = Section::new(source, "[[volume]]", table, mistakes);
        section.read("name", &mut draft.name, text_as(checked_name));
        let is_memory = table.get("backing").is_some_and(|value| value.get_ref().as_str() == Some("memory"));
        if is_memory {
            section.read("backing", &mut draft.backing, |value| text(value).map(PathBuf::from));
        } else {
            section.read_path("backing", &mut draft.backing);
        }
        section.read("type", &mut draft.kind, text_as(values::parse_backing_kind));
        section.read("size", &mut draft.size, |value| checked_size(size(value)?));
        section.read("cache", &mut draft.cache, text_as(values::parse_cache));
        section.read("read_only", &mut draft.read_only, boolean);
        section.read("allow", &mut draft.allow, list_of(|value| values::parse_network(text(value)?)));
        section.read("description", &mut draft.description, text_as(checked_description));
        draft.mirror.read(&mut section);
        section.finish();
        draft.flawed = mistakes.len() > already;
        draft
    }

    /// Whether mistakes in it have been reported, so that what follows from them need not be.
    pub fn is_flawed(&self) -> bool {
        self.flawed
    }

    /// Reads `NAME[=BACKING][,size=20G][,readonly][,cache=…][,type=…][,allow=CIDR][,replicas=A+B]…`.
    pub fn parse_flag(spec: &str) -> Result<VolumeDraft, Wrong> {
        let origin = Origin::Flag(format!("--volume {spec}"));
        let mut parts = spec.split(',');
        let head = parts.next().expect("split yields at least one part");
        let (name, backing) =
            head.split_once('=').map_or((head, None), |(name, backing)| (name, Some(backing)));
        let mut draft = VolumeDraft::new(origin);
        draft.name = draft.set(checked_name(name)?);
        match backing {
            Some("") => return Err(Wrong::new("the backing is empty", "write NAME=PATH or NAME=memory")),
            Some(backing) => draft.backing = draft.set(PathBuf::from(backing)),
            None => {}
        }
        for part in parts {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            draft.set_option(key, value)?;
        }
        Ok(draft)
    }

    /// The same from a request to the admin API or a record in the state directory.
    pub fn from_spec(spec: &VolumeSpec) -> Result<VolumeDraft, Wrong> {
        let mut draft = VolumeDraft::new(Origin::Api);
        draft.name = draft.set(checked_name(&spec.name)?);
        draft.backing = spec.backing.clone().and_then(|path| draft.set(path));
        draft.kind = spec
            .kind
            .as_deref()
            .map(values::parse_backing_kind)
            .transpose()?
            .and_then(|kind| draft.set(kind));
        draft.size = spec.size_bytes.map(checked_size).transpose()?.and_then(|size| draft.set(size));
        draft.cache =
            spec.cache.as_deref().map(values::parse_cache).transpose()?.and_then(|cache| draft.set(cache));
        draft.read_only = draft.set(spec.read_only);
        let networks =
            spec.allow.iter().map(|network| values::parse_network(network)).collect::<Result<_, _>>()?;
        draft.allow = draft.set(networks);
        draft.description = draft.set(checked_description(&spec.description)?);
        draft.mirror = ReplicasDraft::from_spec(spec, &draft.origin)?;
        Ok(draft)
    }

    /// Puts the values together; a volume without a backing lies in `data_dir`.
    pub fn declare(self, data_dir: &Path) -> Result<Declaration, Mistake> {
        let here = self.origin.clone();
        let name = self.name.ok_or_else(|| {
            Wrong::new("the volume has no name", "add name = \"…\"; clients attach it by that name").at(&here)
        })?;
        let declared_memory = self.kind.as_ref().is_some_and(|kind| kind.value == BackingKind::Memory);
        let said_memory = self.backing.as_ref().is_some_and(|backing| backing.value == Path::new("memory"));
        let place = if declared_memory || said_memory {
            Self::declare_memory(&name.value, &self.kind, &self.backing, &self.size, &here)?
        } else {
            let path = match self.backing {
                Some(backing) => backing.value,
                None => default_path(data_dir, &name.value).map_err(|wrong| wrong.at(&here))?,
            };
            let cache = self.cache.map(|cache| cache.value).unwrap_or_default();
            let path = std::path::absolute(&path).unwrap_or(path);
            Place::Path { path, kind: self.kind.map(|kind| kind.value), cache }
        };
        let read_only = self.read_only.is_some_and(|at| at.value);
        let mirror = self.mirror.declare(&name.value, read_only)?;
        Ok(Declaration {
            origin: here,
            name: name.value,
            place,
            size: self.size,
            description: self.description.map(|at| at.value).unwrap_or_default(),
            read_only,
            allow: self.allow.map(|at| at.value).unwrap_or_default(),
            mirror,
        })
    }

    fn declare_memory(
        name: &str,
        kind: &Slot<BackingKind>,
        backing: &Slot<PathBuf>,
        size: &Slot<u64>,
        here: &Origin,
    ) -> Result<Place, Mistake> {
        if let Some(kind) = kind.as_ref().filter(|kind| kind.value != BackingKind::Memory) {
            let cause = format!("volume `{name}` says backing memory and type {}", kind.value.name());
            return Err(Wrong::new(cause, "drop the type, or write ./memory for a file of that name")
                .at(&kind.origin));
        }
        if let Some(backing) = backing.as_ref().filter(|backing| backing.value != Path::new("memory")) {
            let cause =
                format!("volume `{name}` is of type memory and has the path {}", backing.value.display());
            return Err(Wrong::new(cause, "drop one of the two").at(&backing.origin));
        }
        match size {
            None => {
                let cause = format!("volume `{name}` lies in memory and has no size");
                Err(Wrong::new(cause, "add a size, as in size=2G").at(here))
            }
            Some(_) => Ok(Place::Memory),
        }
    }

    fn set<T>(&self, value: T) -> Slot<T> {
        Some(At::new(value, self.origin.clone()))
    }

    fn set_option(&mut self, key: &str, value: Option<&str>) -> Result<(), Wrong> {
        let needed =
            || value.ok_or_else(|| Wrong::new(format!("`{key}` has no value"), format!("write {key}=…")));
        match key {
            "size" => self.size = self.set(checked_size(parse_size(needed()?)?)?),
            "type" => self.kind = self.set(values::parse_backing_kind(needed()?)?),
            "cache" => self.cache = self.set(values::parse_cache(needed()?)?),
            "readonly" | "read_only" => {
                self.read_only = self.set(value.map_or(Ok(true), values::parse_boolean)?);
            }
            "description" => self.description = self.set(checked_description(needed()?)?),
            "allow" => {
                let network = values::parse_network(needed()?)?;
                let origin = self.origin.clone();
                self.allow.get_or_insert_with(|| At::new(Vec::new(), origin)).value.push(network);
            }
            _ if self.mirror.set_option(key, value, &self.origin)? => {}
            _ => {
                let cause = format!("a volume has no option `{key}`");
                let remedy = "known are size, type, cache, readonly, allow, description, replicas, on_peer_loss, \
                              peer_timeout";
                return Err(Wrong::new(cause, remedy));
            }
        }
        Ok(())
    }
}

/// A name that clients, files and logs can carry.
pub fn checked_name(name: &str) -> Result<String, Wrong> {
    let remedy = "a name has 1 to 255 bytes, no control characters, no blank at either end";
    let cause = match name {
        "" => "the volume's name is empty".to_owned(),
        _ if name.len() > 255 => format!("the volume's name is {} bytes long", name.len()),
        _ if name.chars().any(char::is_control) => format!("the name {name:?} contains a control character"),
        _ if name.trim() != name => format!("the name {name:?} begins or ends with a blank"),
        _ => return Ok(name.to_owned()),
    };
    Err(Wrong::new(cause, remedy))
}

/// A size that a volume can have.
pub fn checked_size(bytes: u64) -> Result<u64, Wrong> {
    let largest = i64::MAX as u64 / SIZE_UNIT * SIZE_UNIT;
    match bytes {
        0 => Err(Wrong::new("the size is zero", "give at least 512 bytes")),
        _ if bytes > largest => {
            Err(Wrong::new(format!("the size {bytes} is too large"), format!("the largest is {largest}")))
        }
        _ if !bytes.is_multiple_of(SIZE_UNIT) => {
            let below = bytes / SIZE_UNIT * SIZE_UNIT;
            let nearest = if below == 0 || bytes - below > SIZE_UNIT / 2 { below + SIZE_UNIT } else { below };
            let cause = format!("the size {bytes} is not a multiple of 512");
            Err(Wrong::new(cause, format!("the nearest that is: {}", size_text(nearest))))
        }
        _ => Ok(bytes),
    }
}

/// What NBD carries: at most 4096 bytes, and a line of a log.
fn checked_description(text: &str) -> Result<String, Wrong> {
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return Err(Wrong::new(
            "the description is too long or not one line",
            "at most 4096 bytes without control characters",
        ));
    }
    Ok(text.to_owned())
}

fn default_path(data_dir: &Path, name: &str) -> Result<PathBuf, Wrong> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with('.') || name.len() > 200 || !name.chars().all(is_plain) {
        let cause = format!("volume `{name}` has no backing, and its name cannot be a file's");
        return Err(Wrong::new(cause, "name a backing, or use letters, digits, '.', '_' and '-' only"));
    }
    Ok(data_dir.join(format!("{name}.img")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(spec: &str) -> Result<Declaration, String> {
        let draft = VolumeDraft::parse_flag(spec).map_err(|wrong| wrong.to_string())?;
        draft.declare(Path::new("data")).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn a_flag_declares_a_file_with_its_options() {
        let volume = declared("db=/srv/db.img,size=20G,readonly,cache=direct,allow=10.0.0.0/8,allow=::1")
            .expect("declared");
        assert_eq!(volume.name, "db");
        assert_eq!(volume.size.expect("size").value, 20 << 30);
        assert!(volume.read_only);
        assert_eq!(volume.allow.len(), 2);
        let expected = Place::Path { path: "/srv/db.img".into(), kind: None, cache: FileCache::Direct };
        assert_eq!(volume.place, expected);
    }

    #[test]
    fn a_volume_without_backing_lies_in_the_data_directory() {
        let Place::Path { path, .. } = declared("db,size=1G").expect("declared").place else {
            panic!("no path")
        };
        assert!(path.is_absolute() && path.ends_with("data/db.img"), "{path:?}");
        assert!(declared("a b,size=1G").expect_err("no file name").contains("cannot be a file's"));
    }

    #[test]
    fn memory_needs_a_size_and_no_path() {
        assert_eq!(declared("m=memory,size=2G").expect("declared").place, Place::Memory);
        assert_eq!(declared("m,type=memory,size=2G").expect("declared").place, Place::Memory);
        for wrong in ["m=memory", "m=memory,size=1G,type=file", "m=/x,type=memory,size=1G"] {
            assert!(declared(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_sizes_name_the_nearest_right_one() {
        for (size, nearest) in [("1000", "1K"), ("700", "512"), ("1", "512"), ("800", "1K")] {
            let error = declared(&format!("d=memory,size={size}")).expect_err("unaligned");
            assert!(error.ends_with(&format!(": {nearest}")), "{error}");
        }
        assert!(declared("d=memory,size=0").expect_err("zero").contains("zero"));
        assert!(declared("d=memory,size=9E").expect_err("large").contains("too large"));
    }

    #[test]
    fn names_are_1_to_255_bytes_without_control_characters() {
        for good in ["a", "disk 0", "größe", "a/b", &"x".repeat(255)] {
            assert!(checked_name(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a\n", "\u{7f}", &"x".repeat(256)] {
            assert!(checked_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_specification_round_trips_through_json_and_toml() {
        let spec = VolumeSpec {
            name: "db".into(),
            backing: Some("/srv/db.img".into()),
            size_bytes: Some(1 << 30),
            allow: vec!["10.0.0.0/8".into()],
            ..VolumeSpec::default()
        };
        let json = serde_json::to_string(&spec).expect("json");
        assert_eq!(serde_json::from_str::<VolumeSpec>(&json).expect("json"), spec);
        let toml = toml::to_string(&spec).expect("toml");
        assert_eq!(toml::from_str::<VolumeSpec>(&toml).expect("toml"), spec);
    }
}
