//! The settings of iSCSI through the binary: what `check` says, which portals open, which targets there are.

mod harness;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use harness::{Folder, Node, assert_greets};
use serde_json::Value;

const DEFAULT_PORTAL: &str = "127.0.0.1:3260";

/// The text of a configuration with these lines in `[iscsi]`, on portals that the kernel chooses.
fn text(iscsi: &str) -> String {
    format!(
        "[node]\nadmin = \"127.0.0.1:0\"\ndata_dir = \"data\"\n[nbd]\nportals = \"127.0.0.1:0\"\n\
         [[volume]]\nname = \"a\"\nbacking = \"memory\"\nsize = \"1M\"\n\
         [[volume]]\nname = \"B b\"\nbacking = \"memory\"\nsize = \"1M\"\nallow = \"10.0.0.0/8\"\n\
         [iscsi]\n{iscsi}\n"
    )
}

fn private(folder: &Folder, text: &str) -> PathBuf {
    let file = folder.file("ringsan.toml", text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    file
}

fn served(folder: &Folder, iscsi: &str) -> Node {
    let file = private(folder, &text(iscsi));
    folder.serve(&["--config", &file.display().to_string()])
}

/// What `check` prints, and whether it finds no mistake.
fn checked(folder: &Folder, text: &str, mode: u32) -> (bool, String) {
    let file = private(folder, text);
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
    let output = folder.run(&["check", "--config", &file.display().to_string()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn targets(node: &Node) -> Vec<Value> {
    node.status()["iscsi"]["targets"].as_array().expect("a list").clone()
}

fn target_names(node: &Node) -> Vec<String> {
    targets(node).iter().map(|target| target["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn without_arguments_each_volume_is_a_target_and_its_lines_can_be_pasted() {
    let folder = Folder::new();
    let node = folder.serve(&[]);
    let portal = node.iscsi();
    TcpStream::connect(portal).expect("it listens");
    for line in [
        format!("iscsiadm -m discovery -t sendtargets -p {portal}"),
        format!("iscsiadm -m node -T iqn.2026-11.io.ringsan:disk0 -p {portal} --login"),
        format!("qemu-img info iscsi://{portal}/iqn.2026-11.io.ringsan:disk0/0"),
    ] {
        assert!(node.ready().iter().any(|printed| printed.trim() == line), "{line}: {:#?}", node.ready());
    }
    node.control(&["volume", "create", "Scratch", "--backing", "memory", "--size", "1M"]).expect("created");
    let names = target_names(&node);
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].starts_with("iqn.2026-11.io.ringsan:scratch:"), "{names:?}");
    node.control(&["volume", "rm", "Scratch"]).expect("removed");
    assert_eq!(target_names(&node), ["iqn.2026-11.io.ringsan:disk0"]);
    assert_eq!(node.stop().0, 0);
}

#[test]
fn a_declared_target_takes_its_volumes_from_those_that_stand_alone() {
    let folder = Folder::new();
    let node = served(
        &folder,
        "portals = \"127.0.0.1:0\"
[[iscsi.target]]
name = \"both\"
initiators = [\"iqn.1993-08.org.debian:01:HOST\"]
users = [{ name = \"host1\", secret = \"a secret of some length\" }]
lun = [{ volume = \"a\", block_size = 4096 }, { volume = \"B b\", number = 7, read_only = true }, { volume = \"c\" }]",
    );
    let [target] = &targets(&node)[..] else { panic!("one target") };
    assert_eq!(target["name"], "iqn.2026-11.io.ringsan:both");
    assert_eq!(target["authentication"], "chap");
    assert_eq!(target["initiators"][0], "iqn.1993-08.org.debian:01:host");
    assert_eq!(target["allow"][0][0], "10.0.0.0/8", "the volume's own list counts too");
    let luns: Vec<_> = target["luns"].as_array().expect("a list").iter().collect();
    assert_eq!(luns.len(), 2, "the volume `c` is not there: {luns:?}");
    assert_eq!((&luns[0]["lun"], &luns[0]["block_bytes"]), (&0.into(), &4096.into()));
    assert_eq!((&luns[1]["lun"], &luns[1]["read_only"]), (&7.into(), &true.into()));
    let shown = node.control(&["status", "--over", "0s"]).expect("shown");
    assert!(shown.contains("B b, read-only") && shown.contains("CHAP, restricted"), "{shown}");
    assert!(shown.contains("LUN 2 of iqn.2026-11.io.ringsan:both is not there"), "{shown}");
    let said = node.status().to_string() + &shown + &node.http("GET", "/metrics", &[], "").1;
    let (_, log) = node.stop();
    assert_eq!(log.matches("there is no volume `c`").count(), 1, "{log}");
    assert!(!(said + &log).contains("a secret"), "the secret was told");
}

#[test]
fn a_volume_whose_target_name_is_taken_is_remarked_on() {
    let folder = Folder::new();
    let node = served(&folder, "portals = \"127.0.0.1:0\"");
    let names = target_names(&node);
    let taken =
        names.iter().find_map(|name| name.strip_prefix("iqn.2026-11.io.ringsan:b-b:")).expect("of `B b`");
    let create = ["volume", "create", &format!("b-b:{taken}"), "--backing", "memory", "--size", "1M"];
    node.control(&create).expect("created, though it has no target");
    assert_eq!(target_names(&node), names);
    let remark = node.status()["iscsi"]["remarks"][0].as_str().expect("a remark").to_owned();
    assert!(remark.contains(&format!("volume `b-b:{taken}` has no target")), "{remark}");
}

#[test]
fn a_reload_says_what_it_changes_of_targets() {
    let folder = Folder::new();
    let portals = "portals = \"127.0.0.1:0\"";
    let target = |rest: &str| {
        format!("{portals}\n[[iscsi.target]]\nname = \"t\"\nlun = [{{ volume = \"a\" }}]\n{rest}")
    };
    let node = served(&folder, &target(""));
    let reload = |iscsi: &str| {
        private(&folder, &text(iscsi));
        node.control(&["reload"])
    };
    assert_eq!(reload(&target("")).expect("reloaded"), "nothing changed\n");
    let users = "users = [{ name = \"u\", secret = \"0123456789ab\" }]";
    let said = reload(&target(users)).expect("reloaded");
    assert!(said.contains(":t has other CHAP users") && said.lines().count() == 1, "{said}");
    let other = users.replace("ab\"", "ac\"");
    assert!(reload(&target(&other)).expect("reloaded").contains(":t has other CHAP users"), "another secret");
    let said = reload(&target(&format!("{other}\nallow = \"10.0.0.0/8\""))).expect("reloaded");
    assert!(said.contains(":t has changed"), "{said}");
    let said = reload(&format!("{portals}\nqueue_depth = 7")).expect("reloaded");
    assert!(said.contains(":t is no longer served") && said.contains("settings of iSCSI clients"), "{said}");
    assert_eq!(target_names(&node).len(), 2, "each volume stands alone again");
    let error = reload(&format!("{portals}\nqueue_depth = 0")).expect_err("refused");
    assert!(error.contains("ringsan.toml:17:15"), "{error}");
    let address = node.iscsi();
    let said = reload("portals = \"off\"\nevery_volume = false").expect("reloaded");
    assert!(
        said.contains("portal 127.0.0.1:0 is closed") && said.contains("targets that volumes are"),
        "{said}"
    );
    TcpListener::bind(address).expect("nobody listens there");
    assert_greets(node.nbd());
    assert!(target_names(&node).is_empty());
}

#[test]
fn a_named_portal_that_is_taken_is_an_error_and_nothing_is_made() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("address").to_string();
    let (code, line) = folder.refused(&["--volume", "a=a.img,size=1M", "--iscsi", &address]);
    assert_eq!(code, 1);
    assert!(line.contains(&address) && line.contains("--iscsi"), "{line}");
    assert_eq!(folder.names(), [""; 0], "something was made");
}

#[test]
fn the_default_portal_gives_way_and_says_so() {
    let folder = Folder::new();
    // Taken by us or by somebody else.
    let _taken = TcpListener::bind(DEFAULT_PORTAL);
    let node = served(&folder, "");
    assert!(node.ready().iter().any(|line| line.contains("iscsi   off: ")), "{:#?}", node.ready());
    assert_greets(node.nbd());
    let reason = node.status()["iscsi"]["unavailable"].as_str().expect("a reason").to_owned();
    assert!(reason.contains(DEFAULT_PORTAL), "{reason}");
    assert!(node.control(&["status", "--over", "0s"]).expect("shown").contains("iSCSI is off"));
    assert_eq!(node.control(&["reload"]).expect("reloaded"), "nothing changed\n");
    let (code, log) = node.stop();
    assert!(code == 0 && log.contains("iSCSI is off"), "{log}");
}

#[test]
fn wrong_flags_are_usage() {
    let folder = Folder::new();
    let cases: [(&[&str], &str); 4] = [
        (&["--iscsi", "unix:/run/x"], "over TCP"),
        (&["--iscsi", "san.example:3260"], "IP address"),
        (&["--iscsi", "127.0.0.1:0", "--no-iscsi"], "--no-iscsi"),
        (&["--iscsi-advertise", "a b"], "a b"),
    ];
    for (words, named) in cases {
        let (code, line) = folder.refused(words);
        assert!(code == 2 && line.contains(named), "{words:?}: {line}");
    }
}

#[test]
fn a_socket_named_iscsi_that_was_handed_over_serves_iscsi() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let mut command = Command::new("sh");
    let serve = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=iscsi LISTEN_PID=$$ exec \"$0\" serve \
                 --nbd 127.0.0.1:0 --admin off --volume a=memory,size=1M";
    command.args(["-c", serve, env!("CARGO_BIN_EXE_ringsan")]).current_dir(folder.path());
    command.stdin(OwnedFd::from(listener));
    let node = Node::spawn(command);
    assert_eq!(node.iscsi(), address);
    assert_ne!(node.nbd(), address);
    assert_eq!(node.stop().0, 0);
}

#[test]
fn check_tells_every_mistake_of_iscsi_with_its_line_and_remedy() {
    let folder = Folder::new();
    let iscsi = "users = [{ name = \"u\", secret = \"short\" }]
[[iscsi.target]]
name = \"UPPER\"
lun = [{ volume = \"a\" }]
[[iscsi.target]]
name = \"empty\"
colour = 1
[[iscsi.target]]
name = \"x\"
lun = [{ volume = \"a\", number = 99999 }]";
    let (fine, said) = checked(&folder, &text(iscsi), 0o600);
    assert!(!fine, "{said}");
    let expected = [
        (":16:33: ", "12 to 255 bytes"),
        (":18:8: ", "lower case"),
        (":22:1: ", "known are name, alias"),
        (":25:33: ", "the last is 16383"),
    ];
    assert_eq!(said.lines().count(), expected.len(), "{said}");
    for (line, (place, remedy)) in said.lines().zip(expected) {
        assert!(line.contains(place) && line.contains(remedy), "{place} {remedy}: {line}");
    }
    assert_eq!(folder.names(), ["ringsan.toml"], "something was made");
}

#[test]
fn check_refuses_secrets_that_others_can_read_and_remarks_on_missing_volumes() {
    let folder = Folder::new();
    let users = "users = [{ name = \"u\", secret = \"0123456789ab\" }]";
    let (fine, said) = checked(&folder, &text(users), 0o644);
    assert!(!fine && said.contains("chmod 600") && !said.contains("0123456789ab"), "{said}");
    let (fine, said) = checked(&folder, &text(users), 0o600);
    assert!(fine, "{said}");
    let missing = "[[iscsi.target]]\nname = \"t\"\nlun = [{ volume = \"nobody\" }]";
    let (fine, said) = checked(&folder, &text(missing), 0o644);
    assert!(fine && said.contains("note: ") && said.contains("`nobody`"), "{said}");
}
