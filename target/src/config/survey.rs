//! What a declared backing turns out to be on this machine, before anything is opened or made.
//!
//! Its one rule: it looks only; two volumes on the same bytes, a size that does not fit, a path that
//! cannot be, are found here, so that nothing has been created when the operator reads of them.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::mistake::{Mistake, Origin, Wrong};
use super::units::size_text;
use super::values::{BackingKind, cache_name};
use super::volume::{Declaration, Place, SIZE_UNIT, VolumeSpec};
use crate::settings::Backing;

/// A declaration and what it stands on.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// The declaration.
    pub declaration: Declaration,
    /// The backing to open.
    pub backing: Backing,
    /// Set when the file has to be made, with this size.
    pub create_bytes: Option<u64>,
    /// Bytes of an existing file or device, as far as it can be told without opening it.
    pub existing_bytes: Option<u64>,
    /// Two backings with one identity are the same bytes.
    pub identity: Identity,
}

/// What makes two backings the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A file: device and inode.
    File(u64, u64),
    /// A file that is not there yet.
    Missing(PathBuf),
    /// A block device's number.
    Block(u64),
    /// An NVMe namespace, by controller and namespace number as the kernel names them (`0n1`).
    Namespace(String),
    /// Memory is never the same.
    Memory,
}

impl Surveyed {
    /// Whether these are the bytes that `identity` stands for.
    pub fn is_on(&self, identity: &Identity) -> bool {
        self.identity != Identity::Memory && self.identity == *identity
    }
}

/// Looks at every backing; mistakes are added to `mistakes`.
pub fn survey_all(declarations: &[Declaration], made: &Path, mistakes: &mut Vec<Mistake>) -> Vec<Surveyed> {
    let mut surveyed: Vec<Surveyed> = Vec::new();
    for declaration in declarations {
        match survey(declaration, made) {
            Err(wrong) => mistakes.push(wrong.on_machine().at(&declaration.origin)),
            Ok(found) => match same_bytes(&found, &surveyed) {
                Some(wrong) => mistakes.push(wrong.at(&declaration.origin)),
                None => surveyed.push(found),
            },
        }
    }
    surveyed
}

/// What to say when `found` lies on the bytes of one of `others`.
pub fn same_bytes(found: &Surveyed, others: &[Surveyed]) -> Option<Wrong> {
    let other = others.iter().find(|other| found.is_on(&other.identity))?;
    let (name, other) = (&found.declaration.name, &other.declaration.name);
    let cause =
        format!("volumes `{other}` and `{name}` have the same backing, {}", backing_text(&found.backing));
    Some(Wrong::new(cause, "give each volume a backing of its own"))
}

/// Looks at one. `made` is a folder that will be made when it is missing: the data directory.
pub fn survey(declaration: &Declaration, made: &Path) -> Result<Surveyed, Wrong> {
    let Place::Path { path, kind, .. } = &declaration.place else {
        return Ok(Surveyed {
            declaration: declaration.clone(),
            backing: Backing::Memory,
            create_bytes: None,
            existing_bytes: None,
            identity: Identity::Memory,
        });
    };
    match fs::metadata(path) {
        Ok(metadata) => existing(declaration, path, *kind, &metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => missing(declaration, path, *kind, made),
        Err(error) => {
            let cause = format!("{} cannot be looked at: {error}", path.display());
            Err(Wrong::new(cause, "check the path and its permissions"))
        }
    }
}

/// The identity of a backing that may have been made since it was surveyed.
pub fn identity_now(volume: &Surveyed) -> Identity {
    match (&volume.identity, &volume.backing) {
        (Identity::Missing(_), Backing::File { path, .. }) => fs::metadata(path)
            .map(|metadata| identity_of(path, BackingKind::File, &metadata))
            .unwrap_or_else(|_| volume.identity.clone()),
        (identity, _) => identity.clone(),
    }
}

/// A backing, for people.
pub fn backing_text(backing: &Backing) -> String {
    match backing {
        Backing::File { path, .. } | Backing::Block { path } | Backing::Nvme { path } => {
            path.display().to_string()
        }
        Backing::Memory => "memory".to_owned(),
    }
}

/// A volume as the admin API and the state directory write it.
pub fn spec_of(volume: &Surveyed) -> VolumeSpec {
    let declaration = &volume.declaration;
    let (backing, cache) = match &volume.backing {
        Backing::File { path, cache } => (path.clone(), Some(cache_name(*cache).to_owned())),
        Backing::Block { path } | Backing::Nvme { path } => (path.clone(), None),
        Backing::Memory => (PathBuf::from("memory"), None),
    };
    let is_memory = volume.backing == Backing::Memory;
    let mut spec = VolumeSpec {
        name: declaration.name.clone(),
        backing: Some(backing),
        kind: Some(backing_kind(&volume.backing).name().to_owned()),
        size_bytes: declaration.size.as_ref().map(|size| size.value).filter(|_| is_memory),
        cache,
        read_only: declaration.read_only,
        allow: declaration.allow.iter().map(ToString::to_string).collect(),
        description: declaration.description.clone(),
        ..VolumeSpec::default()
    };
    if let Some(mirror) = &declaration.mirror {
        mirror.write_to(&mut spec);
    }
    spec
}

/// A remembered volume of which nothing can be found out, for status to name.
pub fn unseen(spec: &VolumeSpec) -> Surveyed {
    let path = spec.backing.clone().unwrap_or_default();
    Surveyed {
        declaration: Declaration {
            origin: Origin::Api,
            name: spec.name.clone(),
            place: Place::Path { path: path.clone(), kind: None, cache: Default::default() },
            size: None,
            description: spec.description.clone(),
            read_only: spec.read_only,
            allow: Vec::new(),
            mirror: None,
        },
        backing: Backing::File { path: path.clone(), cache: Default::default() },
        create_bytes: None,
        existing_bytes: None,
        identity: Identity::Missing(path),
    }
}

/// What kind a backing is.
pub fn backing_kind(backing: &Backing) -> BackingKind {
    match backing {
        Backing::File { .. } => BackingKind::File,
        Backing::Block { .. } => BackingKind::Block,
        Backing::Nvme { .. } => BackingKind::Nvme,
        Backing::Memory => BackingKind::Memory,
    }
}

fn existing(
    declaration: &Declaration,
    path: &Path,
    said: Option<BackingKind>,
    metadata: &Metadata,
) -> Result<Surveyed, Wrong> {
    let kind = kind_at(path, metadata)?;
    if let Some(said) = said.filter(|said| *said != kind) {
        let cause = format!("{} is of type {}, not {}", path.display(), kind.name(), said.name());
        return Err(Wrong::new(cause, "correct the type or the path, or leave the type out"));
    }
    check_access(declaration, path)?;
    let existing_bytes = match kind {
        BackingKind::File => Some(metadata.len()),
        _ => device_bytes(metadata),
    };
    check_existing_size(declaration, path, kind, existing_bytes)?;
    Ok(Surveyed {
        declaration: declaration.clone(),
        backing: backing_of(declaration, path, kind),
        create_bytes: None,
        existing_bytes,
        identity: identity_of(path, kind, metadata),
    })
}

fn missing(
    declaration: &Declaration,
    path: &Path,
    said: Option<BackingKind>,
    made: &Path,
) -> Result<Surveyed, Wrong> {
    let shown = path.display();
    // A slip in a device's name must not become a file in memory; /dev/shm is there for files.
    let is_for_devices = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    if is_for_devices || said.is_some_and(|said| said != BackingKind::File) {
        return Err(Wrong::new(
            format!("there is no device {shown}"),
            "list the devices with `lsblk` or `nvme list`",
        ));
    }
    let Some(size) = &declaration.size else {
        let cause = format!("{shown} of volume `{}` does not exist", declaration.name);
        return Err(Wrong::new(cause, "correct the path, or give a size to have the file made"));
    };
    if declaration.read_only {
        let cause = format!("{shown} of the read-only volume `{}` does not exist", declaration.name);
        return Err(Wrong::new(cause, "correct the path, or let the volume be written"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder_is_made = folder == made && !folder.exists();
    if !folder_is_made && !folder.is_dir() {
        let cause = format!("the folder {} for {shown} does not exist", folder.display());
        return Err(Wrong::new(cause, format!("run: mkdir -p {}", folder.display())));
    }
    if !folder_is_made && access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let cause = format!("{shown} cannot be made: {} may not be written", folder.display());
        return Err(Wrong::new(cause, "change its permissions, or choose another folder"));
    }
    let folder = folder.canonicalize().unwrap_or(folder.to_owned());
    Ok(Surveyed {
        declaration: declaration.clone(),
        backing: backing_of(declaration, path, BackingKind::File),
        create_bytes: Some(size.value),
        existing_bytes: None,
        identity: Identity::Missing(folder.join(path.file_name().unwrap_or_default())),
    })
}

fn kind_at(path: &Path, metadata: &Metadata) -> Result<BackingKind, Wrong> {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        Ok(BackingKind::File)
    } else if file_type.is_block_device() {
        Ok(BackingKind::Block)
    } else if file_type.is_char_device()
        && kernel_name("char", metadata).is_some_and(|name| name.starts_with("ng"))
    {
        Ok(BackingKind::Nvme)
    } else if file_type.is_dir() {
        Err(Wrong::new(format!("{} is a folder", path.display()), "name a file in it"))
    } else {
        let cause = format!("{} is neither a file nor a disk", path.display());
        Err(Wrong::new(cause, "name a regular file, a block device, or /dev/ngXnY"))
    }
}

fn check_access(declaration: &Declaration, path: &Path) -> Result<(), Wrong> {
    let wanted =
        if declaration.read_only { AccessFlags::R_OK } else { AccessFlags::R_OK | AccessFlags::W_OK };
    access(path, wanted).map_err(|errno| {
        let verb = if declaration.read_only { "read" } else { "read and written" };
        let cause = format!("{} cannot be {verb}: {}", path.display(), errno.desc());
        Wrong::new(cause, "change its permissions, or serve it read-only if it can be read")
    })
}

fn check_existing_size(
    declaration: &Declaration,
    path: &Path,
    kind: BackingKind,
    existing: Option<u64>,
) -> Result<(), Wrong> {
    let Some(existing) = existing else { return Ok(()) };
    let shown = path.display();
    if kind == BackingKind::File && existing == 0 {
        return Err(Wrong::new(
            format!("{shown} is empty"),
            format!("remove it, or run: truncate -s 1G {shown}"),
        ));
    }
    if !existing.is_multiple_of(SIZE_UNIT) {
        let cause = format!("{shown} has {existing} bytes, which is not a multiple of {SIZE_UNIT}");
        let nearest = existing.next_multiple_of(SIZE_UNIT);
        return Err(Wrong::new(cause, format!("run: truncate -s {nearest} {shown}")));
    }
    match &declaration.size {
        Some(size) if size.value != existing && size.origin != Origin::Default => {
            let cause = format!(
                "{shown} has {existing} bytes ({}), volume `{}` asks for {}",
                size_text(existing),
                declaration.name,
                size_text(size.value)
            );
            let as_it_is = "leave the size out to serve it as it is";
            let remedy = match size.value > existing && kind == BackingKind::File {
                true => format!("{as_it_is}, or grow it: truncate -s {} {shown}", size.value),
                false => format!("{as_it_is}, or name another path"),
            };
            Err(Wrong::new(cause, remedy))
        }
        _ => Ok(()),
    }
}

fn backing_of(declaration: &Declaration, path: &Path, kind: BackingKind) -> Backing {
    let path = path.to_owned();
    match (kind, &declaration.place) {
        (BackingKind::File, Place::Path { cache, .. }) => Backing::File { path, cache: *cache },
        (BackingKind::Block, _) => Backing::Block { path },
        (BackingKind::Nvme, _) => Backing::Nvme { path },
        _ => Backing::Memory,
    }
}

fn identity_of(path: &Path, kind: BackingKind, metadata: &Metadata) -> Identity {
    let namespace = |name: String, prefix: &str| {
        name.strip_prefix(prefix).map(|rest| Identity::Namespace(rest.to_owned()))
    };
    match kind {
        BackingKind::File => Identity::File(metadata.dev(), metadata.ino()),
        BackingKind::Nvme => kernel_name("char", metadata)
            .and_then(|name| namespace(name, "ng"))
            .unwrap_or_else(|| Identity::Missing(path.to_owned())),
        BackingKind::Block => kernel_name("block", metadata)
            .and_then(|name| namespace(name, "nvme"))
            .unwrap_or(Identity::Block(metadata.rdev())),
        BackingKind::Memory => Identity::Memory,
    }
}

/// The kernel's name of a device node, whatever the node is called.
fn kernel_name(class: &str, metadata: &Metadata) -> Option<String> {
    let link = fs::read_link(device_link(class, metadata)).ok()?;
    link.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn device_bytes(metadata: &Metadata) -> Option<u64> {
    let sectors = fs::read_to_string(device_link("block", metadata).join("size")).ok()?;
    sectors.trim().parse::<u64>().ok().map(|sectors| sectors * 512)
}

fn device_link(class: &str, metadata: &Metadata) -> PathBuf {
    let (major, minor) = (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    PathBuf::from(format!("/sys/dev/{class}/{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::volume::VolumeDraft;

    fn look(spec: &str) -> Result<Surveyed, String> {
        let draft = VolumeDraft::parse_flag(spec).map_err(|wrong| wrong.to_string())?;
        let declaration = draft.declare(Path::new("/nowhere")).map_err(|mistake| mistake.to_string())?;
        survey(&declaration, Path::new("/nowhere")).map_err(|wrong| wrong.to_string())
    }

    fn file_of(bytes: u64) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("disk.img");
        fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("made");
        let path = path.to_str().expect("UTF-8").to_owned();
        (directory, path)
    }

    #[test]
    fn an_existing_file_is_served_with_its_own_size() {
        let (_directory, path) = file_of(1 << 20);
        let found = look(&format!("d={path}")).expect("surveyed");
        assert_eq!((found.create_bytes, found.existing_bytes), (None, Some(1 << 20)));
        assert!(matches!(found.backing, Backing::File { .. }));
        assert!(look(&format!("d={path},size=1M")).is_ok());
    }

    #[test]
    fn an_existing_file_of_another_size_is_refused() {
        let (_directory, path) = file_of(1 << 20);
        let error = look(&format!("d={path},size=2M")).expect_err("refused");
        assert!(
            error.contains("1M") && error.contains("2M") && error.contains("leave the size out"),
            "{error}"
        );
    }

    #[test]
    fn empty_and_unaligned_files_are_refused() {
        let (_directory, path) = file_of(0);
        assert!(look(&format!("d={path}")).expect_err("empty").contains("is empty"));
        let (_directory, path) = file_of(1000);
        assert!(look(&format!("d={path}")).expect_err("unaligned").contains("truncate -s 1024"));
    }

    #[test]
    fn a_missing_file_needs_a_size_and_a_folder() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("new.img").display().to_string();
        assert!(look(&format!("d={path}")).expect_err("no size").contains("give a size"));
        assert_eq!(look(&format!("d={path},size=1M")).expect("surveyed").create_bytes, Some(1 << 20));
        assert!(
            look("d=/no/such/folder/x,size=1M").expect_err("no folder").contains("mkdir -p /no/such/folder")
        );
        assert!(look("d=/dev/no-such-disk,size=1M").expect_err("no device").contains("no device"));
    }

    #[test]
    fn folders_and_odd_devices_are_refused() {
        assert!(look("d=/tmp").expect_err("folder").contains("is a folder"));
        assert!(look("d=/dev/null").expect_err("device").contains("neither a file nor a disk"));
    }

    #[test]
    fn a_hard_link_is_the_same_backing() {
        let (directory, path) = file_of(4096);
        let link = directory.path().join("link.img");
        fs::hard_link(&path, &link).expect("linked");
        let first = look(&format!("a={path}")).expect("surveyed");
        let second = look(&format!("b={}", link.display())).expect("surveyed");
        assert!(same_bytes(&second, &[first]).expect("same").to_string().contains("`a` and `b`"));
    }
}
