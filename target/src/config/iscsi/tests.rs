//! `[iscsi]` from text: targets, logical units, CHAP users, inheritance, and what is refused.

use std::fs;

use wire::iscsi::chap::Secret;
use wire::iscsi::parameters::DigestPolicy;

use super::*;
use crate::config::tests::Folder;

fn iscsi(text: &str) -> IscsiConfig {
    let loaded = Folder::new().load(&format!("[iscsi]\n{text}"));
    loaded.unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).iscsi
}

/// The one mistake in `text`, which follows a line `[iscsi]`.
fn mistake(text: &str) -> String {
    let mistakes = Folder::new().load(&format!("[iscsi]\n{text}")).err().expect("a mistake");
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    mistakes.into_iter().next().expect("one")
}

const HOST1: &str = "{ name = \"host1\", secret = \"0123456789abcdef\" }";
const SAN: &str = "{ name = \"san\", secret = \"fedcba9876543210\" }";

fn names(authentication: &IscsiAuthentication) -> (Vec<&str>, Option<&str>) {
    let users = authentication.users.iter().map(|user| user.name.as_str()).collect();
    (users, authentication.own.as_ref().map(|own| own.name.as_str()))
}

#[test]
fn targets_have_logical_units_with_their_own_properties() {
    let config = iscsi(
        "block_size = 4096
[[iscsi.target]]
name = \"a\"
alias = \"größe\"
lun = [{ volume = \"x\" }, { volume = \"y y\", read_only = true, removable = true, block_size = 512 }]
[[iscsi.target]]
name = \"naa.52004567ba64678d\"
[[iscsi.target.lun]]
volume = \"z\"
number = 300
",
    );
    let [a, b] = &config.targets[..] else { panic!("two targets") };
    assert_eq!((a.name.as_str(), a.alias.as_str()), ("iqn.2026-11.io.ringsan:a", "größe"));
    let plain = LunDeclaration { volume: "x".into(), read_only: false, removable: false, block_bytes: 4096 };
    let odd = LunDeclaration { volume: "y y".into(), read_only: true, removable: true, block_bytes: 512 };
    assert_eq!(a.luns, BTreeMap::from([(0, plain.clone()), (1, odd)]));
    assert_eq!(b.name, "naa.52004567ba64678d");
    assert_eq!(b.luns, BTreeMap::from([(300, LunDeclaration { volume: "z".into(), ..plain })]));
    assert!(config.declares("z") && !config.declares("a"));
}

#[test]
fn a_target_has_the_access_of_all_targets_unless_it_says_its_own() {
    let lun = |volume| format!("lun = [{{ volume = \"{volume}\" }}]");
    let config = iscsi(&format!(
        "users = [{HOST1}]
mutual = {SAN}
initiators = [\"iqn.1993-08.org.debian:01:HOST1\"]
allow = \"10.0.0.0/8\"
[[iscsi.target]]
name = \"inherits\"
{}
[[iscsi.target]]
name = \"open\"
users = []
initiators = []
allow = []
{}
[[iscsi.target]]
name = \"own\"
users = [{{ name = \"host2\", secret = \"0123456789abcdef2\" }}]
{}
",
        lun("a"),
        lun("b"),
        lun("c"),
    ));
    let [inherits, open, own] = &config.targets[..] else { panic!("three targets") };
    assert_eq!(names(&inherits.authentication), (vec!["host1"], Some("san")));
    assert_eq!(inherits.initiators, ["iqn.1993-08.org.debian:01:host1"]);
    assert_eq!((inherits.allow.len(), &config.allow), (1, &inherits.allow));
    assert_eq!(names(&open.authentication), (vec![], None));
    assert!(open.initiators.is_empty() && open.allow.is_empty());
    assert_eq!(names(&own.authentication), (vec!["host2"], Some("san")));
    assert_eq!(names(&config.settings.discovery), (vec![], None));
}

#[test]
fn discovery_has_users_of_its_own() {
    let config = iscsi(&format!("[iscsi.discovery]\nusers = [{HOST1}]\nmutual = {SAN}"));
    assert_eq!(names(&config.settings.discovery), (vec!["host1"], Some("san")));
    assert_eq!(names(&config.authentication), (vec![], None));
}

#[test]
fn a_secret_comes_from_the_first_line_of_its_file() {
    let folder = Folder::new();
    folder.file_with_mode("host1.secret", " sixteen bytes ok\r\nmore\n", 0o400);
    let text = "[iscsi]\nusers = [{ name = \"host1\", secret_file = \"host1.secret\" }]\n";
    let config = folder.load_with_mode(text, 0o644).expect("no secret stands in it");
    assert_eq!(config.iscsi.authentication.users[0].secret, Secret::new(*b" sixteen bytes ok"));
    assert!(!format!("{:?}", config.iscsi.authentication).contains("sixteen"));
}

#[test]
fn secrets_in_files_that_others_can_read_are_refused() {
    let folder = Folder::new();
    folder.file_with_mode("host1.secret", "0123456789abcdef\n", 0o640);
    let text = "[iscsi]\nusers = [{ name = \"host1\", secret_file = \"host1.secret\" }]\n";
    let mistakes = folder.load(text).err().expect("refused");
    assert!(mistakes[0].contains("ringsan.toml:2:") && mistakes[0].contains("chmod 600"), "{mistakes:#?}");
    let text = format!("[iscsi]\nusers = [{HOST1}, {SAN}]\n");
    let mistakes = folder.load_with_mode(&text, 0o604).err().expect("refused");
    assert_eq!(mistakes.len(), 1, "said once a file: {mistakes:#?}");
    assert!(mistakes[0].contains("(mode 604)") && mistakes[0].contains("secret_file"), "{mistakes:#?}");
    assert!(folder.load(&text).is_ok());
}

#[test]
fn a_secret_is_not_waited_for() {
    let folder = Folder::new();
    nix::unistd::mkfifo(&folder.0.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    let text = "[iscsi]\nusers = [{ name = \"host1\", secret_file = \"pipe\" }]\n";
    let mistakes = folder.load(text).err().expect("refused");
    assert!(mistakes[0].contains("ringsan.toml:2:") && mistakes[0].contains("is no file"), "{mistakes:#?}");
}

#[test]
fn secrets_have_12_to_255_bytes_and_no_mistake_shows_one() {
    for (secret, cause) in
        [("hunter2", "7 bytes"), (&"x".repeat(256)[..], "256 bytes"), ("tab\\tabbed secret", "control")]
    {
        let mistake = mistake(&format!("users = [{{ name = \"host1\", secret = \"{secret}\" }}]"));
        assert!(mistake.contains(cause) && mistake.contains("12 to 255 bytes"), "{mistake}");
        assert!(!mistake.contains(secret) && !mistake.contains("tabbed"), "{mistake}");
    }
    iscsi(&format!("users = [{{ name = \"host1\", secret = \"{}\" }}]", "x".repeat(12)));
}

#[test]
fn what_cannot_be_said_together_is_told_with_its_line() {
    let lun = "lun = [{ volume = \"x\" }]";
    let target = |name: &str, rest: &str| format!("[[iscsi.target]]\nname = \"{name}\"\n{rest}\n");
    let cases = [
        (format!("users = [{HOST1}, {HOST1}]"), "ringsan.toml:2:9", "there twice"),
        (format!("mutual = {SAN}"), "ringsan.toml:2:", "without users"),
        (format!("users = [{HOST1}]\nmutual = {HOST1}"), "ringsan.toml:3:", "same secret"),
        (
            format!("users = [{HOST1}]\nmutual = {HOST1}\n") + &target("a", lun),
            "ringsan.toml:3:",
            "same secret",
        ),
        (
            format!("users = [{HOST1}]\nmutual = {SAN}\n") + &target("a", &format!("users = [{SAN}]\n{lun}")),
            "ringsan.toml:6:",
            "same secret",
        ),
        (
            "users = [{ name = \"a\", secret = \"0123456789ab\", secret_file = \"x\" }]".to_owned(),
            "ringsan.toml:2:",
            "remove one",
        ),
        ("users = [{ name = \"a\" }]".to_owned(), "ringsan.toml:2:", "has no secret"),
        (
            "users = [{ name = \"a\", secret_file = \"gone\" }]".to_owned(),
            "ringsan.toml:2:",
            "gone cannot be read",
        ),
        ("users = [\"a\"]".to_owned(), "ringsan.toml:2:10", "a CHAP user is a text"),
        ("users = \"a\"".to_owned(), "ringsan.toml:2:9", "a list of tables"),
        ("users = [{ nmae = \"a\" }]".to_owned(), "ringsan.toml:2:", "has no setting `nmae`"),
        (target("a", ""), "ringsan.toml:2:1", "no logical unit"),
        (format!("[[iscsi.target]]\n{lun}"), "ringsan.toml:2:1", "has no name"),
        (target("a", lun) + &target("a", "lun = [{ volume = \"y\" }]"), "ringsan.toml:5:1", "too"),
        (target("A", lun), "ringsan.toml:3:8", "lower case: iqn.2026-11.io.ringsan:a"),
        (target("a_b", lun), "ringsan.toml:3:8", "contains '_'"),
        (target("a", "lun = [{ number = 16384, volume = \"x\" }]"), "ringsan.toml:4:", "the last is 16383"),
        (
            target("a", "lun = [{ volume = \"x\" }, { number = 0, volume = \"y\" }]"),
            "ringsan.toml:4:",
            "LUN 0 is volume `x`",
        ),
        (
            target("a", "lun = [{ volume = \"x\" }, { volume = \"x\" }]"),
            "ringsan.toml:4:",
            "once in a target",
        ),
        (target("a", "lun = [{}]"), "ringsan.toml:4:8", "has no volume"),
        (
            target("a", "lun = [{ volume = \"x\", block_size = 1024 }]"),
            "ringsan.toml:4:",
            "choose 512 or 4096",
        ),
        (
            target("a", lun) + &target("b", "lun = [{ volume = \"x\", read_only = true }]"),
            "ringsan.toml:5:1",
            "the same read_only",
        ),
        ("portals = []".to_owned(), "ringsan.toml:2:11", "127.0.0.1:3260"),
        ("portals = \"unix:/run/x\"".to_owned(), "ringsan.toml:2:11", "over TCP"),
        ("portals = [\"127.0.0.1\", \"127.0.0.1:3260\"]".to_owned(), "ringsan.toml:2:11", "named twice"),
        ("portals = \"127.0.0.1:9810\"".to_owned(), "ringsan.toml:2:11", "the admin address too"),
        (
            "portals = \"127.0.0.1:1\"\n[nbd]\nportals = \"127.0.0.1:1\"".to_owned(),
            "ringsan.toml:2:11",
            "an NBD portal too",
        ),
        ("iqn_prefix = \"iqn.2026.io\"".to_owned(), "ringsan.toml:2:14", "a year and month"),
        ("initiators = \"host1\"".to_owned(), "ringsan.toml:2:14", "is not an iSCSI name"),
        (
            "first_burst_length = \"2M\"\nmax_burst_length = \"4M\"".to_owned(),
            "ringsan.toml:2:22",
            "out of bounds",
        ),
        (
            "first_burst_length = \"1M\"\nmax_burst_length = \"512K\"".to_owned(),
            "ringsan.toml:2:22",
            "more than `max_burst_length`",
        ),
        ("max_burst_length = \"16M\"".to_owned(), "ringsan.toml:2:20", "from 512 to 16777215"),
        (
            "max_burst_length = \"8M\"\ninflight_bytes_max = \"1M\"".to_owned(),
            "ringsan.toml:3:22",
            "less than `max_burst_length`",
        ),
        ("queue_depth = 0".to_owned(), "ringsan.toml:2:15", "out of bounds"),
        ("data_digest = \"yes\"".to_owned(), "ringsan.toml:2:15", "off, allowed, required"),
        ("target = 5".to_owned(), "ringsan.toml:2:10", "a list of tables"),
        ("discovery = 5".to_owned(), "ringsan.toml:2:13", "write a table"),
    ];
    for (text, place, cause) in cases {
        let mistake = mistake(&text);
        assert!(mistake.starts_with(place) && mistake.contains(cause), "{text}\n{mistake}");
        assert_eq!(mistake.lines().count(), 1, "{mistake}");
    }
}

#[test]
fn targets_add_up_over_snippets() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("ringsan.d")).expect("made");
    let target =
        |name: &str| format!("[[iscsi.target]]\nname = \"{name}\"\nlun = [{{ volume = \"{name}\" }}]\n");
    folder.file_with_mode("ringsan.d/b.toml", &format!("{}{}", target("b"), target("c")), 0o600);
    let config = folder.load(&target("a")).expect("no mistake");
    assert_eq!(config.iscsi.targets.len(), 3);
    folder.file_with_mode("ringsan.d/c.toml", &format!("[iscsi]\nqueue_depth = 3\n{}", target("a")), 0o600);
    let mistakes =
        folder.load(&format!("[iscsi]\nqueue_depth = 2\n{}", target("a"))).err().expect("conflicts");
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert!(
        mistakes.iter().all(|mistake| mistake.contains("c.toml") && mistake.contains("ringsan.toml:")),
        "{mistakes:#?}"
    );
}

#[test]
fn portals_are_off_or_named() {
    assert_eq!(iscsi("portals = \"off\"").portals, Some(Vec::new()));
    let portals = iscsi("portals = [\"10.0.0.1\", \"[::]:1\"]").portals.expect("named");
    let portals: Vec<_> = portals.iter().map(|at| crate::config::values::portal_text(&at.value)).collect();
    assert_eq!(portals, ["10.0.0.1:3260", "[::]:1"]);
}

#[test]
fn limits_come_into_what_is_offered() {
    let settings = iscsi("header_digest = \"required\"\ndata_digest = \"off\"\nmax_burst_length = \"128K\"\ninitial_r2t = true").settings;
    let offers = &settings.offers;
    assert_eq!((offers.header_digest, offers.data_digest), (DigestPolicy::Required, DigestPolicy::Off));
    assert_eq!(
        (offers.max_burst_length, offers.first_burst_length, offers.initial_r2t),
        (131_072, 131_072, true)
    );
}

#[test]
fn a_logical_unit_without_a_volume_is_remarked_on() {
    let folder = Folder::new();
    let text = "[[iscsi.target]]\nname = \"a\"\nlun = [{ volume = \"x\" }, { volume = \"y\" }]\n[[volume]]\nname = \"x\"\nsize = \"1M\"\n";
    let config = folder.load(text).expect("no mistake");
    let remarks = config.iscsi.remarks(&config.volumes);
    assert_eq!(remarks.len(), 1);
    assert!(
        remarks[0].contains("ringsan.toml:1:1") && remarks[0].contains("`y`") && remarks[0].contains("LUN 1"),
        "{remarks:?}"
    );
}

#[test]
fn a_volume_whose_name_another_target_takes_is_remarked_on() {
    let folder = Folder::new();
    let volume = |name: &str| format!("[[volume]]\nname = \"{name}\"\nsize = \"1M\"\n");
    let target = "[[iscsi.target]]\nname = \"y\"\nlun = [{ volume = \"x\" }]\n";
    let text = format!("{target}{}{}", volume("x"), volume("y"));
    let config = folder.load(&text).expect("no mistake");
    let remarks = config.iscsi.remarks(&config.volumes);
    assert!(remarks.len() == 1 && remarks[0].contains("ringsan.toml:1:1"), "{remarks:?}");
    let config = folder.load(&format!("[iscsi]\nevery_volume = false\n{text}")).expect("no mistake");
    assert!(config.iscsi.remarks(&config.volumes).is_empty());
}
