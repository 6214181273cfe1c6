//! What the state directory remembers of volumes, held against what is declared now.
//!
//! Its one rule: a UUID belongs to bytes. A file that is made anew is a new volume, whatever its name, and no
//! new file takes the name of a volume whose bytes still lie elsewhere.

use std::path::Path;

use sha1::{Digest, Sha1};
use uuid::Uuid;

use crate::config::Config;
use crate::config::mistake::{Mistake, Wrong};
use crate::config::survey::{self, Surveyed, backing_text};
use crate::config::volume::VolumeDraft;
use crate::state::{Owner, Record, State};

/// The identity of a volume that is about to be served.
pub fn identity(volume: &Surveyed, state: &State) -> Uuid {
    match (&volume.declaration.mirror, volume.create_bytes) {
        (Some(mirror), _) => mirrored_identity(&volume.declaration.name, &mirror.replicas.value),
        (None, Some(_)) => Uuid::new_v4(),
        (None, None) => state.uuid_of(&volume.declaration.name),
    }
}

/// The identity of a mirrored volume: on each of its nodes the same, from what all of them are told (UUIDv5).
fn mirrored_identity(name: &str, replicas: &[String]) -> Uuid {
    const NAMESPACE: Uuid = Uuid::from_u128(0x6d1c_1f0e_53a4_4c4e_9b52_0c6f_1d7a_e0b7);
    let mut hash = Sha1::new_with_prefix(NAMESPACE.as_bytes());
    hash.update(name);
    for replica in replicas {
        hash.update([0]);
        hash.update(replica);
    }
    let digest: [u8; 20] = hash.finalize().into();
    uuid::Builder::from_sha1_bytes(digest[..16].try_into().expect("16 bytes")).into_uuid()
}

/// What the state directory keeps of a volume.
pub fn record_of(volume: &Surveyed, uuid: Uuid, owner: Owner) -> Record {
    Record { uuid, owner, volume: survey::spec_of(volume) }
}

/// What to say of a volume that would be made anew while its bytes lie where it was last served from.
pub fn left_behind(volume: &Surveyed, state: &State) -> Option<Wrong> {
    volume.create_bytes?;
    let name = &volume.declaration.name;
    if volume.declaration.mirror.is_some() {
        let metadata = state.replica_files(identity(volume, state)).metadata();
        if metadata.exists() {
            return Some(lost_copy(volume, &metadata));
        }
    }
    let before = state.record(name)?.volume.backing.as_ref()?;
    let now = backing_text(&volume.backing);
    if *before == *now || !before.is_absolute() || !before.exists() {
        return None;
    }
    let before = before.display();
    let cause = format!("volume `{name}` lies at {before}, and there is nothing at {now}");
    Some(Wrong::new(cause, format!("move it (mv {before} {now}), or choose another name for a new volume")))
}

/// A copy whose metadata says that it has been part of the volume, and whose bytes are not there.
fn lost_copy(volume: &Surveyed, metadata: &Path) -> Wrong {
    let (name, now) = (&volume.declaration.name, backing_text(&volume.backing));
    let cause =
        format!("the copy of the mirrored volume `{name}` has lost its backing: there is nothing at {now}");
    let remedy = format!(
        "bring it back (is its file system mounted?); or, to have the copy made anew from its peers, run: rm {}",
        metadata.display()
    );
    Wrong::new(cause, remedy)
}

/// A record, and what became of its backing, or why it cannot be served.
pub type Remembered = (Record, Result<Surveyed, String>);

/// The volumes that the admin API made, as far as the configuration does not declare them; mistakes are what
/// the configuration must not do to remembered volumes.
pub fn remembered(
    config: &Config,
    surveyed: &[Surveyed],
    state: &State,
) -> Result<Vec<Remembered>, Vec<Mistake>> {
    let mut remembered = Vec::new();
    let mut mistakes: Vec<Mistake> = surveyed
        .iter()
        .filter_map(|volume| {
            left_behind(volume, state).map(|wrong| wrong.on_machine().at(&volume.declaration.origin))
        })
        .collect();
    let mut all = surveyed.to_vec();
    for record in state.api_volumes() {
        if let Some(declared) = all.iter().find(|volume| volume.declaration.name == record.volume.name) {
            mistakes.extend(usurped(declared, record));
            continue;
        }
        let found = survey_record(record, config).and_then(|found| match survey::same_bytes(&found, &all) {
            Some(wrong) => Err(wrong.to_string()),
            None => Ok(found),
        });
        all.extend(found.clone());
        remembered.push((record.clone(), found));
    }
    if mistakes.is_empty() { Ok(remembered) } else { Err(mistakes) }
}

fn survey_record(record: &Record, config: &Config) -> Result<Surveyed, String> {
    let draft = VolumeDraft::from_spec(&record.volume).map_err(|wrong| wrong.to_string())?;
    let declaration = draft.declare(&config.node.data_dir).map_err(|mistake| mistake.to_string())?;
    if let Some(mirror) = &declaration.mirror {
        mirror.place_of(&config.node.name).map_err(|wrong| wrong.to_string())?;
    }
    survey::survey(&declaration, &config.node.data_dir).map_err(|wrong| wrong.to_string())
}

/// A declaration may take a volume of the admin API over, but not put other bytes under its name.
fn usurped(declared: &Surveyed, record: &Record) -> Option<Mistake> {
    let spec = survey::spec_of(declared);
    (spec.backing != record.volume.backing).then(|| {
        let name = &record.volume.name;
        let cause = format!("volume `{name}` was created through the admin API with another backing");
        Wrong::new(cause, format!("rename this one, or run: ringsan volume rm {name}"))
            .at(&declared.declaration.origin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrored_volume_has_one_identity_on_all_nodes_for_ever() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let identity = mirrored_identity("db", &names(&["a", "b"]));
        assert_eq!(identity.to_string(), "6c529a74-c011-5556-a53b-4015f04ed773");
        assert_eq!(identity.get_version_num(), 5);
        assert_ne!(identity, mirrored_identity("db", &names(&["b", "a"])));
        assert_ne!(identity, mirrored_identity("dba", &names(&["b"])));
    }
}
