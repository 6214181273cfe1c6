//! Whole configurations: files, folders of snippets, flags, and every mistake at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::settings::{IscsiAuthentication, Poll, TlsMode};

/// A folder with configuration files.
pub(super) struct Folder(pub(super) tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary directory"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        self.file_with_mode(name, text, 0o600)
    }

    pub(super) fn file_with_mode(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        path
    }

    /// What `text` means as `ringsan.toml` of this folder, or every mistake in it.
    pub(super) fn load(&self, text: &str) -> Result<Config, Vec<String>> {
        self.load_with_mode(text, 0o600)
    }

    pub(super) fn load_with_mode(&self, text: &str, mode: u32) -> Result<Config, Vec<String>> {
        said(load(Some(&self.file_with_mode("ringsan.toml", text, mode)), |_| {}), self.0.path())
    }
}

fn load_text(text: &str) -> Result<Config, Vec<String>> {
    Folder::new().load(text)
}

fn said<T>(result: Result<T, Vec<Mistake>>, folder: &Path) -> Result<T, Vec<String>> {
    let prefix = format!("{}/", folder.display());
    result
        .map_err(|mistakes| mistakes.iter().map(|mistake| mistake.to_string().replace(&prefix, "")).collect())
}

#[test]
fn the_example_has_every_setting_and_no_mistake() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/ringsan.toml");
    let text = fs::read_to_string(example).expect("the example is there");
    load_text(&text).map(drop).expect("as shipped");
    let folder = Folder::new();
    for name in ["host1.secret", "host2.secret", "san.secret", "discovery.secret", "mirror.key"] {
        folder.file(name, &format!("secret of {name}, which is a long one\n").replace(' ', "-"));
    }
    let everything: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|line| !line.starts_with([' ', '#'])).unwrap_or(line).to_owned()
                + "\n"
        })
        .filter(|line| !line.contains("tls_") && !line.contains("token") && !line.contains("host's name"))
        .collect();
    let everything = everything.replace("cpus = [1]", "").replacen("[node]", "[node]\nname = \"a\"", 1);
    let config = said(load(Some(&folder.file("ringsan.toml", &everything)), |_| {}), folder.0.path());
    let config = config.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!((config.volumes.len(), config.iscsi.targets.len(), config.mirror.peers.len()), (1, 1, 2));
    assert_eq!(config.volumes[0].mirror.as_ref().map(|mirror| mirror.replicas.value.len()), Some(2));
}

#[test]
fn defaults_are_bounded_and_modest() {
    let config = load_text("").expect("an empty file is right");
    assert_eq!(config.cores.poll, Poll::Adaptive);
    assert_eq!(config.cores.cpus.len(), 1);
    assert_eq!(config.nbd.tls, TlsMode::Off);
    assert_eq!((config.nbd.connections_max, config.nbd.requests_max), (1024, 128));
    assert_eq!(config.nbd.inflight_bytes_max, 32 << 20);
    let iscsi = &config.iscsi;
    assert_eq!((iscsi.settings.connections_max, iscsi.settings.queue_depth), (1024, 128));
    assert_eq!((iscsi.every_volume, iscsi.block_bytes, iscsi.portals.is_none()), (true, 512, true));
    assert_eq!(iscsi.authentication, IscsiAuthentication::default());
    assert_eq!(config.node.admin.map(|admin| admin.address.to_string()).as_deref(), Some("127.0.0.1:9810"));
    assert!(config.volumes.is_empty());
    assert_eq!(load(None, |_| {}).expect("no file").volumes[0].name, "disk0");
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = "\
[node]
admin = 5
colour = \"red\"
[cores]
cpus = [1, 1]
poll = \"sometimes\"
[nbd]
portals = [\"127.0.0.1:1\", \"nowhere\"]
requests_max = 0
[[volume]]
backing = \"memory\"
size = \"1000\"
[[volume]]
name = \"b\"
sise = \"1G\"
[volumes]
";
    let mistakes = load_text(text).err().expect("mistakes");
    let places: Vec<_> =
        mistakes.iter().map(|mistake| mistake.split(": ").next().expect("a place")).collect();
    let expected = [
        "ringsan.toml:2:9",
        "ringsan.toml:3:1",
        "ringsan.toml:5:8",
        "ringsan.toml:6:8",
        "ringsan.toml:8:11",
        "ringsan.toml:9:16",
        "ringsan.toml:12:8",
        "ringsan.toml:15:1",
        "ringsan.toml:16:2",
    ];
    assert_eq!(places, expected, "{mistakes:#?}");
    assert!(mistakes.iter().all(|mistake| mistake.contains("; ")), "{mistakes:#?}");
}

#[test]
fn broken_syntax_does_not_hide_other_mistakes() {
    let mistakes = load_text("[node]\nname = \n[nbd]\ntls = \"maybe\"\n").err().expect("mistakes");
    assert!(mistakes[0].starts_with("ringsan.toml:2:") && mistakes[0].contains("not TOML"), "{mistakes:#?}");
    assert!(mistakes[1].starts_with("ringsan.toml:4:7"), "{mistakes:#?}");
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
}

#[test]
fn snippets_add_volumes_and_conflicts_name_both_files() {
    let folder = Folder::new();
    let file =
        folder.file("ringsan.toml", "[nbd]\nrequests_max = 5\n[[volume]]\nname = \"a\"\nsize = \"1M\"\n");
    folder.file("ringsan.d/20.toml", "[[volume]]\nname = \"c\"\nsize = \"1M\"\n");
    folder.file("ringsan.d/10.toml", "[[volume]]\nname = \"b\"\nsize = \"1M\"\n");
    folder.file("ringsan.d/readme.txt", "not TOML");
    let config = said(load(Some(&file), |_| {}), folder.0.path()).expect("no mistake");
    let names: Vec<_> = config.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);

    folder.file("ringsan.d/30.toml", "[nbd]\nrequests_max = 6\n[[volume]]\nname = \"a\"\nsize = \"1M\"\n");
    let mistakes = said(load(Some(&file), |_| {}), folder.0.path()).err().expect("conflicts");
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert!(
        mistakes[0].contains("30.toml:2:16") && mistakes[0].contains("ringsan.toml:2:16"),
        "{mistakes:#?}"
    );
    assert!(mistakes[1].contains("30.toml:3:1") && mistakes[1].contains("ringsan.toml:3:1"), "{mistakes:#?}");
}

#[test]
fn a_flag_overrides_a_file() {
    let folder = Folder::new();
    let file = folder.file("ringsan.toml", "[nbd]\nrequests_max = 5\nstall_timeout = \"5s\"\n");
    let flag = |value| Some(At::new(value, Origin::Flag("--requests-max".into())));
    let config = load(Some(&file), |draft| draft.nbd.requests_max = flag(7)).expect("no mistake");
    assert_eq!((config.nbd.requests_max, config.nbd.stall_timeout.as_secs()), (7, 5));
}

#[test]
fn paths_in_a_file_count_from_its_folder() {
    let folder = Folder::new();
    let file = folder
        .file("etc/ringsan.toml", "[[volume]]\nname = \"a\"\nbacking = \"x/../a.img\"\nsize = \"1M\"\n");
    let config = load(Some(&file), |_| {}).expect("no mistake");
    let volume::Place::Path { path, .. } = &config.volumes[0].place else { panic!("no path") };
    assert!(path.starts_with(folder.0.path().join("etc")), "{path:?}");
}

#[test]
fn an_admin_address_that_others_reach_needs_a_token() {
    let mistakes = load_text("[node]\nadmin = \"0.0.0.0:9810\"\n").err().expect("refused");
    assert!(mistakes[0].contains("admin_token_file"), "{mistakes:?}");
    assert!(load_text("[node]\nadmin = \"off\"\n").expect("off").node.admin.is_none());
    let mistakes = load_text("[node]\nadmin = \"127.0.0.1:10809\"\n[nbd]\nportals = \"127.0.0.1:10809\"\n");
    assert!(mistakes.err().expect("the same address")[0].contains("another port"));
}

#[test]
fn check_looks_at_the_machine_too_and_makes_nothing() {
    let folder = Folder::new();
    let text = "[[volume]]\nname = \"a\"\nsize = 7\n[[volume]]\nname = \"b\"\nbacking = \"gone.img\"\n";
    let file = folder.file("ringsan.toml", text);
    let (_, mistakes) = examine(&file);
    let mistakes = said(Err::<(), _>(mistakes), folder.0.path()).expect_err("mistakes");
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert!(mistakes[0].starts_with("ringsan.toml:3:8"), "{mistakes:#?}");
    assert!(mistakes[1].starts_with("ringsan.toml:4:1") && mistakes[1].contains("gone.img"), "{mistakes:#?}");
    assert_eq!(fs::read_dir(folder.0.path()).expect("readable").count(), 1);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[\\[?(node|cores|nbd|iscsi|iscsi.target|iscsi.discovery|iscsi.target.lun|peers|mirror|volume)\\]?\\]\n|(users|mutual|lun|target|discovery|replicas|portal|peer_timeout|key_file) = |[a-z_]{1,12} = |\"[^\"\n]{0,20}\"|[0-9]{1,24}|[,\\[\\]{}#=.\n\"'é-]){0,40}") {
        let mut mistakes = Vec::new();
        let source = Source { path: Path::new("any.toml").into(), text, open_to_others: None };
        let mut draft = Draft::default();
        draft.read(&source, &mut mistakes);
        let defaults = Defaults { data_dir: "data".into(), disk0: false };
        resolve::resolve_into(draft, &defaults, &mut mistakes);
        for mistake in mistakes {
            proptest::prop_assert_eq!(mistake.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn no_flag_makes_its_reader_panic(text in "\\PC{0,60}", number in "[0-9.]{0,40}[a-zA-Z]{0,4}") {
        let _ = volume::VolumeDraft::parse_flag(&text);
        let _ = values::parse_portal(&text);
        let _ = values::parse_iscsi_portal(&text);
        let _ = values::parse_advertised(&text);
        let _ = values::parse_peer(&text);
        let _ = values::parse_mirror_portal(&text);
        let _ = iscsi::name::parse_target(&text);
        let _ = iscsi::name::parse_initiator(&text);
        let _ = values::parse_cpus(&text);
        let _ = values::parse_network(&text);
        let _ = units::parse_size(&number);
        let _ = units::parse_duration(&number);
    }
}
