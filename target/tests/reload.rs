//! Reloads: what changed is applied, a mistake changes nothing, what needs a restart is said.

mod harness;

use std::fs;

use harness::{Folder, Node, assert_greets};

struct Configured {
    folder: Folder,
    node: Node,
}

fn text(nbd: &str, volumes: &str) -> String {
    let node = "[node]\nadmin = \"127.0.0.1:0\"\ndata_dir = \"data\"";
    format!("{node}\n[nbd]\n{nbd}\n{volumes}\n[iscsi]\nportals = \"off\"\n")
}

fn volume(name: &str, rest: &str) -> String {
    format!("[[volume]]\nname = \"{name}\"\n{rest}\n")
}

impl Configured {
    fn start(volumes: &str) -> Configured {
        let folder = Folder::new();
        let file = folder.file("ringsan.toml", &text("portals = \"127.0.0.1:0\"", volumes));
        let node = folder.serve(&["--config", &file.display().to_string()]);
        Configured { folder, node }
    }

    fn reload(&self, volumes: &str) -> Result<String, String> {
        self.reload_with("portals = \"127.0.0.1:0\"", volumes)
    }

    fn reload_with(&self, nbd: &str, volumes: &str) -> Result<String, String> {
        self.folder.file("ringsan.toml", &text(nbd, volumes));
        self.node.control(&["reload"])
    }

    fn size(&self, name: &str) -> Option<u64> {
        self.node.volume(name)?["facts"]["size_bytes"].as_u64()
    }
}

#[test]
fn volumes_are_added_grown_relabelled_and_removed() {
    let a = volume("a", "size = \"1M\"");
    let run = Configured::start(&a);
    assert_eq!(run.reload(&a).expect("reloaded"), "nothing changed\n");
    let grown = volume("a", "size = \"2M\"\ndescription = \"larger\"");
    let said = run.reload(&(grown.clone() + &volume("b", "size = \"1M\""))).expect("reloaded");
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!((run.size("a"), run.size("b")), (Some(2 << 20), Some(1 << 20)));
    let said = run.reload(&grown).expect("reloaded");
    assert!(said.contains("`b` is no longer served"), "{said}");
    assert!(run.folder.path().join("data/b.img").exists(), "the data stays");
    assert_eq!(run.size("b"), None);
}

#[test]
fn a_mistake_changes_nothing() {
    let run = Configured::start(&volume("a", "size = \"1M\""));
    let wrong = volume("a", "size = \"1M\"\ncolour = 1") + &volume("b", "size = \"1M\"");
    let error = run.reload(&wrong).expect_err("refused");
    assert!(error.contains("ringsan.toml:9:1"), "{error}");
    assert_eq!(run.size("b"), None);
    assert!(!run.folder.path().join("data/b.img").exists());
}

#[test]
fn shrinking_by_reload_is_refused_with_the_way_to_do_it() {
    let run = Configured::start(&volume("a", "size = \"2M\""));
    let error = run.reload(&volume("a", "size = \"1M\"")).expect_err("refused");
    assert!(error.contains("ringsan volume resize a 1M --shrink"), "{error}");
    run.reload(&volume("a", "")).expect("without a size");
    run.node.control(&["volume", "resize", "a", "1M", "--shrink"]).expect("shrunk");
    run.reload(&volume("a", "size = \"1M\"")).expect("declared again");
    assert_eq!(run.size("a"), Some(1 << 20));
}

#[test]
fn portals_open_and_close() {
    let a = volume("a", "size = \"1M\"");
    let run = Configured::start(&a);
    let socket = run.folder.path().join("nbd.sock");
    let both = format!("portals = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    let said = run.reload_with(&both, &a).expect("reloaded");
    assert!(said.contains("nbd.sock is open"), "{said}");
    std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
    let said = run.reload(&a).expect("reloaded");
    assert!(said.contains("nbd.sock is closed"), "{said}");
    assert!(!socket.exists());
    assert_greets(run.node.nbd());
}

#[test]
fn a_volume_may_be_renamed_on_its_backing() {
    let run = Configured::start(&volume("a", "backing = \"disk.img\"\nsize = \"1M\""));
    run.reload(&volume("b", "backing = \"disk.img\"")).expect("reloaded");
    assert_eq!((run.size("a"), run.size("b")), (None, Some(1 << 20)));
}

#[test]
fn a_busy_portal_changes_nothing() {
    let a = volume("a", "size = \"1M\"");
    let run = Configured::start(&a);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("address");
    let nbd = format!("portals = [\"127.0.0.1:0\", \"{address}\"]");
    let error = run.reload_with(&nbd, &(a + &volume("b", "size = \"1M\""))).expect_err("refused");
    assert!(error.contains(&address.to_string()), "{error}");
    assert_eq!(run.size("b"), None);
    assert!(!run.folder.path().join("data/b.img").exists());
}

#[test]
fn what_needs_a_restart_is_said() {
    let a = volume("a", "size = \"1M\"");
    let run = Configured::start(&a);
    let said = run.reload(&(a + "[cores]\npoll = \"off\"\n")).expect("reloaded");
    assert!(said.contains("[cores] changed: takes effect at the next start"), "{said}");
}

#[test]
fn a_name_made_by_the_admin_api_cannot_be_declared_with_other_bytes() {
    let a = volume("a", "size = \"1M\"");
    let run = Configured::start(&a);
    run.node.control(&["volume", "create", "b", "--backing", "memory", "--size", "1M"]).expect("created");
    let error = run.reload(&(a.clone() + &volume("b", "size = \"1M\""))).expect_err("refused");
    assert!(error.contains("ringsan volume rm b"), "{error}");
    fs::remove_file(run.folder.path().join("data/b.img")).expect_err("no file was made");
    assert_eq!(run.reload(&a).expect("reloaded"), "nothing changed\n");
}

#[test]
fn a_volume_is_not_made_anew_while_its_bytes_lie_elsewhere() {
    let run = Configured::start(&volume("a", "backing = \"one.img\"\nsize = \"1M\""));
    let uuid = run.node.volume("a").expect("served")["uuid"].clone();
    let moved = volume("a", "backing = \"two.img\"\nsize = \"1M\"");
    let error = run.reload(&moved).expect_err("refused");
    assert!(error.contains("one.img") && error.contains("mv "), "{error}");
    fs::rename(run.folder.path().join("one.img"), run.folder.path().join("two.img")).expect("moved");
    run.reload(&moved).expect("reloaded");
    assert_eq!(run.node.volume("a").expect("served")["uuid"], uuid);
}
