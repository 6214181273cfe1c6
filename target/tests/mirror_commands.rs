//! The commands that show and steer mirrors, on volumes that have none and on two nodes that mirror one.

mod harness;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use harness::{Folder, Node};

/// `ringsan WORDS…`, asked until the answer contains `part`.
fn says(node: &Node, words: &[&str], part: &str) -> String {
    let asked_until = Instant::now() + Duration::from_secs(60);
    loop {
        let (Ok(text) | Err(text)) = node.control(words);
        if text.contains(part) {
            return text;
        }
        assert!(Instant::now() < asked_until, "never {part}, but\n{text}");
    }
}

#[test]
fn what_has_no_mirror_says_so() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    for words in [&["promote", "a"][..], &["demote", "a"], &["verify", "a"], &["discard", "a@n"]] {
        let error = node.control(words).expect_err("refused");
        assert!(error.contains("volume `a` is not mirrored") && error.lines().count() == 1, "{error}");
        let words: Vec<_> = words.iter().map(|word| word.replace('a', "b")).collect();
        let words = [words[0].replace('b', "a"), words[1].replace('n', "x")];
        let error = node.control(&[words[0].as_str(), words[1].as_str()]).expect_err("refused");
        assert!(error.contains("there is no volume `b`"), "{error}");
    }
    assert_eq!(node.control(&["explain"]).expect("asked"), "no volume is mirrored, and all are served\n");
    assert!(node.control(&["explain", "a"]).expect("asked").starts_with("a: not mirrored"));
    let status = node.control(&["status", "a", "--over", "0s"]).expect("asked");
    assert!(status.starts_with("volume a, 1 MiB on memory (memory)"), "{status}");
    assert!(node.control(&["status", "b", "--over", "0s"]).expect_err("unknown").contains("no volume `b`"));
}

#[test]
fn commands_with_a_wrong_body_or_copy_are_refused() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let (status, body) = node.http("POST", "/v1/volumes/a/promote", &[], "{\"forced\": true}");
    assert_eq!(status, 400, "{body}");
    let (status, body) = node.http("GET", "/v1/volumes/a/promote", &[], "");
    assert_eq!(status, 405, "{body}");
    assert!(node.control(&["discard", "a"]).expect_err("no node").contains("as in db@b"));
}

/// Two nodes that mirror `db`.
struct Pair {
    folders: [Folder; 2],
    configs: [String; 2],
}

impl Pair {
    fn new() -> Pair {
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners = [free(), free()];
        let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("bound").port());
        let config = |name: &str| {
            format!(
                "[node]\nname = \"{name}\"\nadmin = \"127.0.0.1:0\"\ndata_dir = \"data\"\n[nbd]\nportals = [\"127.0.0.1:0\"]\n[iscsi]\n\
                 portals = \"off\"\n[peers]\na = \"127.0.0.1:{}\"\nb = \"127.0.0.1:{}\"\n[[volume]]\nname = \"db\"\n\
                 backing = \"db.img\"\nsize = \"4M\"\nreplicas = [\"a\", \"b\"]\n",
                ports[0], ports[1]
            )
        };
        let folders = [Folder::new(), Folder::new()];
        for folder in &folders {
            // With data in it, no copy counts as new after a restart.
            std::fs::write(folder.path().join("db.img"), vec![7; 4 << 20]).expect("written");
        }
        Pair { folders, configs: [config("a"), config("b")] }
    }

    fn start(&self, which: usize) -> Node {
        let config = self.folders[which].file("ringsan.toml", &self.configs[which]);
        let config = config.display().to_string();
        self.folders[which].serve(&["--config", &config])
    }

    /// Both nodes, with a leading and both in sync.
    fn led_by_a(&self) -> [Node; 2] {
        let nodes = [self.start(0), self.start(1)];
        says(&nodes[0], &["promote", "db"], "it leads already");
        says(&nodes[0], &["explain", "db"], "db: in sync on a, b\n");
        nodes
    }
}

#[test]
fn an_operator_follows_and_steers_a_pair() {
    let pair = Pair::new();
    let [a, b] = pair.led_by_a();
    let status = says(&a, &["status", "db", "--over", "0s"], "leader a");
    assert!(status.contains("in-sync set a, b") && status.contains("REPLICA"), "{status}");
    assert!(a.control(&["status", "--over", "0s"]).expect("asked").contains("leader, 2 of 2 in sync"));
    says(&b, &["status", "--over", "0s"], "follows a, 2 of 2 in sync");

    assert!(a.control(&["promote", "db"]).expect_err("refused").contains("it leads already"));
    assert!(b.control(&["demote", "db"]).expect_err("refused").contains("b does not lead, a does"));
    assert!(
        a.control(&["discard", "db@b"]).expect_err("refused").contains("run `ringsan discard db@b` on b")
    );
    assert!(a.control(&["discard", "db@c"]).expect_err("refused").contains("no replica on c"));

    let verified = a.control(&["verify", "db"]).expect("equal");
    assert!(verified.contains("4 MiB compared on a, b: no differences"), "{verified}");
    let (_, metrics) = a.http("GET", "/metrics", &[], "");
    for line in ["ringsan_mirror_leader{volume=\"db\"} 1", "ringsan_mirror_in_sync_replicas{volume=\"db\"} 2"]
    {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
}

#[test]
fn the_lead_is_handed_over_and_a_copy_given_up_on_its_own_node() {
    let pair = Pair::new();
    let [a, b] = pair.led_by_a();
    assert!(a.control(&["discard", "db@a"]).expect_err("refused").contains("`ringsan demote db` first"));
    let demoted = a.control(&["demote", "db"]).expect("demoted");
    assert!(demoted.starts_with("db: a no longer leads; "), "{demoted}");
    says(&b, &["promote", "db"], "it leads already");
    says(&b, &["explain"], "db: in sync on a, b\n");
    let discarded = a.control(&["discard", "db@a"]).expect("discarded");
    assert!(
        discarded.contains("giving up the copy on a: what it holds beyond the others is lost"),
        "{discarded}"
    );
    says(&b, &["explain", "db"], "db: in sync on a, b\n");
}

#[test]
fn without_its_leader_a_node_is_promoted_by_force_only_and_says_what_is_lost() {
    let pair = Pair::new();
    let [a, b] = pair.led_by_a();
    a.signal(nix::sys::signal::Signal::SIGKILL);
    says(&b, &["status", "db", "--over", "0s"], "this node b: CONSISTENT");
    let explained = b.control(&["explain", "db"]).expect("asked");
    assert!(explained.contains("hears of no leader") && explained.contains("db: a: "), "{explained}");
    let refused = b.control(&["promote", "db"]).expect_err("a may have gone on");
    assert!(refused.contains("a may have gone on without this copy"), "{refused}");
    let promoted = b.control(&["promote", "db", "--force"]).expect("forced");
    assert!(promoted.starts_with("db: b leads at epoch"), "{promoted}");
    says(&b, &["status", "db", "--over", "0s"], "this node b: leader, 1 of 2 in sync");
}

#[test]
fn a_split_brain_is_told_on_both_sides_and_ends_when_one_copy_is_given_up() {
    let pair = Pair::new();
    let [a, b] = pair.led_by_a();
    drop(b);
    says(&a, &["status", "db", "--over", "0s"], "this node a: leader, 1 of 2 in sync");
    drop(a);
    let b = pair.start(1);
    says(&b, &["promote", "db", "--force"], "it leads already");
    let a = pair.start(0);
    for (node, other) in [(&a, "b"), (&b, "a")] {
        let told = says(node, &["explain", "db"], &format!("db: {other}: split brain"));
        assert!(told.contains("Our history: ") && told.contains("Its history: "), "{told}");
    }
    assert!(b.control(&["status", "db", "--over", "0s"]).expect("asked").contains("split brain"));
    // Whether the old leader leads its branch again is not this test's matter; what leads is not given up.
    let _ = a.control(&["demote", "db"]);
    says(&a, &["discard", "db@a"], "db: the copy on a has yielded");
    says(&a, &["status", "db", "--over", "0s"], "this node a: follows b, 2 of 2 in sync");
    says(&b, &["explain", "db"], "db: in sync on a, b\n");
}
