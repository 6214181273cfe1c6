//! `[peers]`, `[mirror]` and replicas from text: what they mean, and what is refused.

use std::fs;

use super::*;
use crate::config::Config;
use crate::config::tests::Folder;
use crate::config::volume::VolumeDraft;

const KEY: &str = "VkO9gs6hYDuf0dUKOFkI4OiqGTEBxEUzOMJXLFCtbOo=\n";

/// Of node `a`.
fn load(folder: &Folder, text: &str) -> Result<Config, Vec<String>> {
    folder.load(&format!("[node]\nname = \"a\"\n{text}"))
}

fn mistake_in(folder: &Folder, text: &str) -> String {
    let mistakes = load(folder, text).err().expect("a mistake");
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    mistakes.into_iter().next().expect("one")
}

fn config(text: &str) -> Config {
    load(&Folder::new(), text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

fn mistake(text: &str) -> String {
    mistake_in(&Folder::new(), text)
}

fn volume(settings: &str) -> String {
    format!("[[volume]]\nname = \"db\"\nsize = \"1M\"\n{settings}\n")
}

fn mirror(settings: &str) -> MirrorDeclaration {
    config(&volume(settings)).volumes[0].mirror.clone().expect("mirrored")
}

#[test]
fn a_volume_with_replicas_is_mirrored_with_modest_defaults() {
    let mirror = mirror("replicas = [\"b\", \"a\"]");
    assert_eq!(mirror.replicas.value, ["b", "a"]);
    assert_eq!((mirror.on_peer_loss, mirror.peer_timeout), (OnPeerLoss::Continue, Duration::from_secs(1)));
    assert_eq!(mirror.place_of("a"), Ok(1));
    assert!(config(&volume("")).volumes[0].mirror.is_none());
}

#[test]
fn what_a_lost_peer_does_can_be_chosen() {
    let mirror = mirror("replicas = [\"a\", \"b\"]\non_peer_loss = \"suspend\"\npeer_timeout = \"50ms\"");
    assert_eq!((mirror.on_peer_loss, mirror.peer_timeout), (OnPeerLoss::Suspend, Duration::from_millis(50)));
    let error = mistake(&volume("replicas = [\"a\"]\non_peer_loss = \"panic\""));
    assert!(error.contains("choose one of continue, suspend"), "{error}");
    for time in ["49ms", "61s"] {
        let error = mistake(&volume(&format!("replicas = [\"a\"]\npeer_timeout = \"{time}\"")));
        assert!(error.starts_with("ringsan.toml:7:16") && error.contains("50ms to 60s"), "{error}");
    }
}

#[test]
fn a_mirror_of_one_is_ready_for_more() {
    assert_eq!(mirror("replicas = [\"a\"]").replicas.value, ["a"]);
    assert_eq!(mirror("replicas = \"a\"").replicas.value, ["a"]);
}

#[test]
fn lists_of_replicas_that_cannot_be_are_refused() {
    for (list, said) in [
        ("[]", "no replica is named"),
        ("[\"a\", \"b\", \"a\"]", "`a` is named twice"),
        ("[\"a\", \"b c\"]", "\"b c\" cannot be a node's name"),
        ("[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]", "at most 8"),
        ("[\"b\", \"c\"]", "this node is called `a`, which is none of `replicas`: b, c"),
    ] {
        let error = mistake(&volume(&format!("replicas = {list}")));
        assert!(error.starts_with("ringsan.toml:6:12: ") && error.contains(said), "{error}");
    }
}

#[test]
fn what_replicas_rule_out_or_need_is_said() {
    let error = mistake(&volume("replicas = [\"a\", \"b\"]\nread_only = true"));
    assert!(error.contains("read-only and has replicas"), "{error}");
    for alone in ["on_peer_loss = \"suspend\"", "peer_timeout = \"1s\""] {
        let error = mistake(&volume(alone));
        assert!(error.starts_with("ringsan.toml:6:") && error.contains("no replicas"), "{error}");
    }
}

#[test]
fn a_flag_and_the_admin_api_say_the_same_as_a_file() {
    let declared = |draft: VolumeDraft| draft.declare("data".as_ref()).expect("declared");
    let flag = "db,size=1M,replicas=a+b,on_peer_loss=suspend,peer_timeout=2s";
    let flag = declared(VolumeDraft::parse_flag(flag).expect("a volume"));
    let ours = flag.mirror.as_ref().expect("mirrored");
    assert_eq!((ours.replicas.value.len(), ours.peer_timeout), (2, Duration::from_secs(2)));
    let mut spec = crate::config::volume::VolumeSpec { name: "db".into(), ..Default::default() };
    ours.write_to(&mut spec);
    let back = declared(VolumeDraft::from_spec(&spec).expect("a volume")).mirror.expect("mirrored");
    assert_eq!((back.replicas.value, back.on_peer_loss), (ours.replicas.value.clone(), ours.on_peer_loss));
    assert_eq!(back.peer_timeout, ours.peer_timeout);
    for wrong in ["db,replicas", "db,replicas=", "db,replicas=a+", "db,replicas=a,peer_timeout=1h"] {
        assert!(VolumeDraft::parse_flag(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn peers_are_names_with_hosts_or_addresses() {
    let peers =
        config("[peers]\nb = \"10.0.0.2\"\nc = \"fd00::3\"\nd = \"san-d.example.org\"\n\"e.x\" = \"e:1\"\n");
    let addresses: Vec<_> = peers.mirror.peers.values().map(|at| at.value.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.2:9811", "[fd00::3]:9811", "san-d.example.org:9811", "e:1"]);
    for (line, said) in [
        ("b = 5", "peer `b`: it is a number"),
        ("b = \"10.0.0\"", "peer `b`: `10.0.0` is not an address of a node"),
        ("b = \"10.0.0.2:0\"", "is not an address"),
        ("b = \"0.0.0.0\"", "peer `b`: 0.0.0.0:9811 is where one listens"),
        ("\"b c\" = \"10.0.0.2\"", "cannot be a node's name"),
    ] {
        let error = mistake(&format!("[peers]\n{line}\n"));
        assert!(error.starts_with("ringsan.toml:4:") && error.contains(said), "{error}");
    }
    let error = mistake("[peers]\nb = \"10.0.0.2\"\nc = \"10.0.0.2:9811\"\n");
    assert!(error.starts_with("ringsan.toml:5:5") && error.contains("`b` and `c`"), "{error}");
}

#[test]
fn peers_add_up_over_files_and_are_named_once() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("ringsan.d")).expect("made");
    folder.file_with_mode("ringsan.d/c.toml", "[peers]\nc = \"10.0.0.3\"\n", 0o600);
    let config = load(&folder, "[peers]\nb = \"10.0.0.2\"\n").expect("no mistake");
    assert_eq!(config.mirror.peers.len(), 2);
    let error = mistake_in(&folder, "[peers]\nc = \"10.0.0.4\"\n");
    assert!(error.contains("c.toml:2:5") && error.contains("ringsan.toml:4:5"), "{error}");
}

#[test]
fn the_own_entry_says_where_the_node_listens_unless_the_portal_does() {
    let portal =
        |text: &str| config(text).mirror.portal.map(|at| crate::config::values::portal_text(&at.value));
    assert_eq!(portal(""), None);
    assert_eq!(portal("[peers]\nb = \"10.0.0.2\"\n"), None);
    assert_eq!(portal("[peers]\na = \"10.0.0.1\"\n").as_deref(), Some("10.0.0.1:9811"));
    assert_eq!(portal("[peers]\na = \"0.0.0.0:5\"\n").as_deref(), Some("0.0.0.0:5"));
    assert_eq!(portal("[peers]\na = \"san-a:5\"\n").as_deref(), Some("[::]:5"));
    let both = "[peers]\na = \"10.0.0.1\"\n[mirror]\nportal = \"127.0.0.1\"\n";
    assert_eq!(portal(both).as_deref(), Some("127.0.0.1:9811"));
    assert!(mistake("[mirror]\nportal = \"unix:/run/x\"\n").contains("over TCP"));
    let error = mistake("[nbd]\nportals = \"127.0.0.1:9811\"\n[mirror]\nportal = \"127.0.0.1\"\n");
    assert!(error.contains("is an NBD portal too"), "{error}");
}

#[test]
fn a_key_is_long_and_its_owners_alone() {
    let folder = Folder::new();
    let text = "[mirror]\nkey_file = \"mirror.key\"\n";
    assert!(mistake_in(&folder, text).contains("the key file mirror.key cannot be read"));
    folder.file_with_mode("mirror.key", KEY, 0o640);
    assert!(mistake_in(&folder, text).contains("chmod 600 mirror.key"));
    for wrong in ["", "short\n", "thirty-two bytes and more, but with blanks in it\n"] {
        folder.file_with_mode("mirror.key", wrong, 0o600);
        let error = mistake_in(&folder, text);
        assert!(error.starts_with("ringsan.toml:4:12") && error.contains("/dev/urandom"), "{error}");
    }
    folder.file_with_mode("mirror.key", KEY, 0o600);
    let config = load(&folder, text).expect("a key");
    assert_eq!(config.mirror.authentication.key.as_deref(), Some(KEY.trim().as_bytes()));
    let shown = format!("{:?}", config.mirror.authentication);
    assert!(!shown.contains("VkO9"), "{shown}");
}

/// A CA and the certificate of a node that it signed, in files.
fn certificates(folder: &Folder, name: &str) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("signed");
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let node = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = node.signed_by(&key, &issuer).expect("signed");
    folder.file_with_mode("ca.pem", &ca_certificate.pem(), 0o600);
    folder.file_with_mode("node.pem", &certificate.pem(), 0o600);
    folder.file_with_mode("node.key", &key.serialize_pem(), 0o600);
}

const TLS: &str = "[mirror]\ntls_certificate = \"node.pem\"\ntls_key = \"node.key\"\ntls_ca = \"ca.pem\"\n";

#[test]
fn certificates_name_their_node() {
    let folder = Folder::new();
    certificates(&folder, "a");
    let config = load(&folder, TLS).expect("they fit");
    assert!(config.mirror.authentication.tls.is_some());
    assert!(!config.mirror.tls_fingerprint.is_empty());
    certificates(&folder, "b");
    let error = mistake_in(&folder, TLS);
    assert!(error.contains("node.pem is not that of the node `a`"), "{error}");
}

#[test]
fn tls_needs_all_of_its_files() {
    let folder = Folder::new();
    certificates(&folder, "a");
    let error = mistake_in(&folder, "[mirror]\ntls_certificate = \"node.pem\"\ntls_key = \"node.key\"\n");
    assert!(error.contains("set tls_certificate, tls_key and tls_ca"), "{error}");
    fs::remove_file(folder.0.path().join("ca.pem")).expect("removed");
    assert!(mistake_in(&folder, TLS).contains("ca.pem cannot be used"));
}

#[test]
fn what_may_not_be_meant_is_remarked_on() {
    let folder = Folder::new();
    folder.file_with_mode("mirror.key", KEY, 0o600);
    let mirrored = volume("replicas = [\"a\", \"b\", \"c\"]");
    let remarks = |text: &str| load(&folder, text).expect("no mistake").remarks();
    let said = remarks(&format!("[peers]\nb = \"10.0.0.2\"\n{mirrored}"));
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("key_file"), "{said:#?}");
    assert!(said[1].contains("ringsan.toml:8:12") && said[1].contains("`c` has no address"), "{said:#?}");
    let key = "[mirror]\nkey_file = \"mirror.key\"\n";
    let peers = "[peers]\nb = \"10.0.0.2\"\nc = \"10.0.0.3\"\n";
    assert_eq!(remarks(&format!("{key}{peers}{mirrored}")), [""; 0]);
    let said = remarks(&volume("replicas = [\"a\"]"));
    assert!(
        said.len() == 1 && said[0].contains("`db` has one replica, on `a`"),
        "nobody to link to: {said:#?}"
    );
    let two = volume("replicas = [\"a\", \"b\"]\non_peer_loss = \"suspend\"");
    let said = remarks(&format!("{key}{peers}{two}"));
    assert!(said.len() == 1 && said[0].contains("writes wait while either node is away"), "{said:#?}");
}
