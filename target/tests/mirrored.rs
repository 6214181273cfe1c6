//! Mirrored volumes as a node starts, reloads, makes and removes them: what is made, what is told, what is refused.

mod harness;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::{Folder, Node};

const ALONE: &str = "db=db.img,size=1M,replicas=a";
const WITH_B: &str = "db=db.img,size=1M,replicas=a+b";

fn words<'w>(name: &'w str, volume: &'w str) -> Vec<&'w str> {
    vec!["--name", name, "--mirror", "127.0.0.1:0", "--volume", volume]
}

/// Where it takes links, if it does.
fn link_portal(node: &Node) -> Option<String> {
    let status = node.status();
    let portals = status["portals"].as_array().expect("a list").iter();
    let mut addresses = portals.filter(|portal| portal["protocol"] == "mirror");
    addresses.next().map(|portal| portal["address"].as_str().expect("text").to_owned())
}

fn uuid(node: &Node, volume: &str) -> String {
    node.volume(volume).expect("served")["uuid"].as_str().expect("text").to_owned()
}

fn metadata(folder: &Folder, node: &Node) -> PathBuf {
    folder.path().join(format!("ringsan-data/state/mirror/{}.meta", uuid(node, "db")))
}

/// Asks until `is_so`.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asked_until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < asked_until, "never: {what}");
    }
}

#[test]
fn one_address_links_two_nodes_that_share_a_key_and_a_volume() {
    let (first, second) = (Folder::new(), Folder::new());
    for folder in [&first, &second] {
        let key = folder.file("mirror.key", "VkO9gs6hYDuf0dUKOFkI4OiqGTEBxEUzOMJXLFCtbOo=\n");
        fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours alone");
    }
    let key = ["--mirror-key-file", "mirror.key"];
    let a = first.serve(&[words("a", WITH_B), key.to_vec()].concat());
    let peer = format!("a={}", link_portal(&a).expect("it takes links"));
    let b = second.serve(&[words("b", WITH_B), key.to_vec(), vec!["--peer", &peer]].concat());
    assert_eq!(uuid(&a, "db"), uuid(&b, "db"));
    let is_linked = |node: &Node, peer: usize| {
        node.volume("db").expect("served")["mirror"]["replicas"][peer]["link"]["up"] == true
    };
    wait_until("a and b are linked", || is_linked(&a, 1) && is_linked(&b, 0));
    let remarks = a.status()["remarks"].to_string();
    assert!(remarks.contains("`b` has no address"), "{remarks}");
    assert_eq!(b.status()["remarks"].as_array().map(Vec::len), Some(0));
}

#[test]
fn links_are_taken_while_a_volume_has_replicas() {
    let folder = Folder::new();
    let node = folder.serve(&words("a", "plain=memory,size=1M"));
    assert_eq!(link_portal(&node), None);
    for volume in ["one", "two"] {
        let create = ["volume", "create", volume, "--backing", "memory", "--size", "1M"];
        node.control(&[&create[..], &["--replica", "a", "--replica", "b"]].concat()).expect("created");
    }
    let portal = link_portal(&node);
    assert!(portal.is_some());
    node.control(&["volume", "rm", "one"]).expect("removed");
    assert_eq!(link_portal(&node), portal);
    node.control(&["volume", "rm", "two"]).expect("removed");
    assert_eq!(link_portal(&node), None);
}

#[test]
fn a_volume_of_the_admin_api_stays_mirrored_and_goes_with_its_metadata() {
    let folder = Folder::new();
    let node = folder.serve(&words("a", "plain=memory,size=1M"));
    let create = ["volume", "create", "db", "--size", "1M", "--replica", "a", "--replica", "b"];
    node.control(&[&create[..], &["--on-peer-loss", "suspend"]].concat()).expect("created");
    let (before, metadata) = (uuid(&node, "db"), metadata(&folder, &node));
    node.stop();
    let node = folder.serve(&words("a", "plain=memory,size=1M"));
    assert_eq!(uuid(&node, "db"), before);
    assert!(link_portal(&node).is_some());
    assert!(metadata.exists());
    node.stop();

    let node = folder.serve(&words("c", "plain=memory,size=1M"));
    let volume = node.volume("db").expect("known");
    let reason = volume["unavailable"].as_str().expect("not served");
    assert!(reason.contains("this node is called `c`, which is none of `replicas`: a, b"), "{reason}");
    node.stop();

    let node = folder.serve(&words("a", "plain=memory,size=1M"));
    node.control(&["volume", "rm", "db", "--delete-data"]).expect("removed");
    assert!(!metadata.exists());
    assert!(!folder.path().join("ringsan-data/db.img").exists());
}

#[test]
fn a_volume_that_this_node_has_no_part_in_is_not_made() {
    let folder = Folder::new();
    let (code, line) = folder.refused(&words("c", WITH_B));
    assert_eq!(code, 2);
    assert!(line.contains("this node is called `c`"), "{line}");
    let node = folder.serve(&words("c", "plain=memory,size=1M"));
    let create = ["volume", "create", "db", "--size", "1M", "--replica", "a", "--replica", "b"];
    let error = node.control(&create).expect_err("refused");
    assert!(error.contains("this node is called `c`"), "{error}");
    assert_eq!(link_portal(&node), None);
    assert!(!folder.path().join("ringsan-data/db.img").exists());
}

#[test]
fn a_start_that_fails_leaves_no_metadata() {
    let folder = Folder::new();
    let busy = folder.path().join("busy.img");
    fs::write(&busy, vec![0; 1 << 20]).expect("written");
    let other = Folder::new();
    let _holder = other.serve(&["--volume", &format!("x={}", busy.display())]);
    let (code, line) = folder.refused(&[words("a", ALONE), vec!["--volume", "b=busy.img"]].concat());
    assert_eq!(code, 1);
    assert!(line.contains("busy.img"), "{line}");
    assert_eq!(folder.names(), ["busy.img"], "something was left behind");
}

#[test]
fn a_copy_that_has_lost_its_backing_is_not_made_anew_unasked() {
    let folder = Folder::new();
    let node = folder.serve(&words("a", ALONE));
    let metadata = metadata(&folder, &node);
    node.stop();
    fs::remove_file(folder.path().join("db.img")).expect("removed");
    let (code, line) = folder.refused(&words("a", ALONE));
    assert_eq!(code, 1);
    assert!(line.contains("mounted") && line.contains(&format!("rm {}", metadata.display())), "{line}");
    assert!(!folder.path().join("db.img").exists());
    fs::remove_file(metadata).expect("as it was told");
    folder.serve(&words("a", ALONE));
}

#[test]
fn a_busy_portal_of_links_is_named_and_nothing_is_made() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("address").to_string();
    let (code, line) = folder.refused(&["--name", "a", "--mirror", &address, "--volume", ALONE]);
    assert_eq!(code, 1);
    assert!(line.contains(&address) && line.contains("--mirror"), "{line}");
    assert_eq!(folder.names(), [""; 0], "something was made");
}

struct Configured {
    folder: Folder,
    node: Node,
}

impl Configured {
    fn start(volume: &str) -> Configured {
        let folder = Folder::new();
        let file = folder.file("ringsan.toml", &Self::text("", volume));
        let node = folder.serve(&["--config", &file.display().to_string()]);
        Configured { folder, node }
    }

    fn text(peers: &str, volume: &str) -> String {
        format!(
            "[node]\nname = \"a\"\nadmin = \"127.0.0.1:0\"\ndata_dir = \"data\"\n[nbd]\nportals = \"127.0.0.1:0\"\n\
             [iscsi]\nportals = \"off\"\n[mirror]\nportal = \"127.0.0.1:0\"\n[peers]\n{peers}\n{volume}\n"
        )
    }

    fn reload(&self, peers: &str, volume: &str) -> Result<String, String> {
        self.folder.file("ringsan.toml", &Self::text(peers, volume));
        self.node.control(&["reload"])
    }
}

const PLAIN: &str = "[[volume]]\nname = \"plain\"\nsize = \"1M\"\n";
const DB: &str = "[[volume]]\nname = \"db\"\nsize = \"1M\"\nreplicas = [\"a\", \"b\"]\n";

#[test]
fn a_reload_adds_mirrored_volumes_and_takes_over_where_peers_are() {
    let run = Configured::start(PLAIN);
    assert_eq!(link_portal(&run.node), None);
    let both = PLAIN.to_owned() + DB;
    let said = run.reload("", &both).expect("reloaded");
    assert!(said.contains("`db` is served") && said.contains("portal 127.0.0.1:0 is open"), "{said}");
    let said = run.reload("b = \"127.0.0.1:9\"", &both).expect("reloaded");
    assert_eq!(said, "where the peers of volume `db` are, for new links\n");
    assert_eq!(run.reload("b = \"127.0.0.1:9\"", &both).expect("reloaded"), "nothing changed\n");
    let said = run.reload("", PLAIN).expect("reloaded");
    assert!(said.contains("`db` is no longer served") && said.contains("is closed"), "{said}");
    assert_eq!(link_portal(&run.node), None);
}

#[test]
fn what_a_mirror_is_told_at_its_start_only_needs_a_restart() {
    let run = Configured::start(DB);
    let before = uuid(&run.node, "db");
    let three = DB.replace("[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]");
    for changed in [three.clone(), DB.replace("replicas = [\"a\", \"b\"]", "")] {
        let said = run.reload("", &changed).expect("reloaded");
        let expected = "the replicas of volume `db` changed: takes effect at the next start\n";
        assert_eq!(said, expected, "{changed}");
        assert_eq!(uuid(&run.node, "db"), before);
    }
    assert_eq!(run.reload("", DB).expect("reloaded"), "nothing changed\n");
    let run = Configured::start(&three);
    let said = run.reload("", &(three + "on_peer_loss = \"suspend\"\n")).expect("reloaded");
    assert!(said.contains("`on_peer_loss` of volume `db`") && said.contains("at the next start"), "{said}");
}

#[test]
fn what_becomes_of_lost_peers_changes_while_a_mirror_runs() {
    let run = Configured::start(DB);
    let before = uuid(&run.node, "db");
    for (line, expected) in [
        ("peer_timeout = \"2s\"\n", "on_peer_loss = \"continue\" and peer_timeout = \"2s\""),
        ("on_peer_loss = \"suspend\"\n", "on_peer_loss = \"suspend\" and peer_timeout = \"1s\""),
        ("", "on_peer_loss = \"continue\" and peer_timeout = \"1s\""),
    ] {
        let changed = DB.to_owned() + line;
        let said = run.reload("", &changed).expect("reloaded");
        assert_eq!(said, format!("volume `db` has {expected}; give its other nodes the same\n"));
        assert_eq!(run.reload("", &changed).expect("reloaded"), "nothing changed\n");
        assert_eq!(uuid(&run.node, "db"), before);
    }
}

#[test]
fn a_mirrored_volume_keeps_its_size() {
    let run = Configured::start(DB);
    let error = run.reload("", &DB.replace("1M", "2M")).expect_err("refused");
    assert!(error.contains("ringsan.toml") && error.contains("ringsan-nbd copy"), "{error}");
    let error = run.node.control(&["volume", "resize", "db", "2M"]).expect_err("refused");
    assert!(error.contains("mirrored"), "{error}");
    let size = fs::metadata(run.folder.path().join("data/db.img")).expect("there").len();
    assert_eq!(size, 1 << 20);
}

#[test]
fn check_tells_what_may_not_be_meant() {
    let folder = Folder::new();
    let file = folder.file("ringsan.toml", &Configured::text("", DB)).display().to_string();
    let output = folder.run(&["check", "--config", &file]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("no mistakes"), "{said}");
    assert!(said.contains("key_file") && said.contains("`b` has no address"), "{said}");
}
