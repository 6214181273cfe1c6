//! Starting and stopping: what is made, what is refused, and that a refusal leaves nothing.

mod harness;

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use harness::{Folder, Node, assert_greets};
use nix::sys::signal::Signal;

#[test]
fn without_arguments_a_disk_is_made_and_its_lines_can_be_pasted() {
    let folder = Folder::new();
    let node = folder.serve(&[]);
    assert_greets(node.nbd());
    let uri = format!("nbdinfo nbd://{}/disk0", node.nbd());
    assert!(node.ready().iter().any(|line| line.trim() == uri), "{:#?}", node.ready());
    let disk = fs::metadata(folder.path().join("ringsan-data/disk0.img")).expect("made");
    assert_eq!(disk.len(), 1 << 30);
    let (code, log) = node.stop();
    assert_eq!(code, 0, "{log}");
    let again = folder.serve(&[]);
    assert!(again.volume("disk0").is_some());
}

#[test]
fn a_killed_node_can_be_started_again_at_once() {
    let folder = Folder::new();
    let node = folder.serve(&[]);
    let address = node.nbd();
    assert_greets(address);
    drop(node);
    let again = folder.serve(&["--nbd", &address.to_string()]);
    assert_greets(again.nbd());
}

#[test]
fn a_uuid_never_changes() {
    let folder = Folder::new();
    let uuid = |node: &Node| node.volume("disk0").expect("served")["uuid"].clone();
    let node = folder.serve(&[]);
    let first = uuid(&node);
    node.stop();
    assert_eq!(uuid(&folder.serve(&[])), first);
}

#[test]
fn a_busy_portal_is_named_and_nothing_is_made() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("address").to_string();
    for flag in ["--nbd", "--admin"] {
        let (code, line) = folder.refused(&["--volume", "a=a.img,size=1M", flag, &address]);
        assert_eq!(code, 1);
        assert!(line.contains(&address), "{line}");
        assert_eq!(folder.names(), [""; 0], "something was made");
    }
}

#[test]
fn a_volume_that_cannot_be_leaves_no_trace_of_the_others() {
    let folder = Folder::new();
    let socket = format!("unix:{}/nbd.sock", folder.path().display());
    let words = ["--nbd", &socket, "--volume", "a=a.img,size=1M", "--volume", "b=b.img"];
    let (code, line) = folder.refused(&words);
    assert_eq!(code, 1);
    assert!(line.contains("b.img"), "{line}");
    assert_eq!(folder.names(), [""; 0], "something was made");
}

#[test]
fn a_failure_after_files_were_made_takes_them_back() {
    let folder = Folder::new();
    // The second volume passes every look at it and cannot be opened: a writer holds its lease away.
    fs::write(folder.path().join("busy.img"), vec![0; 1 << 20]).expect("written");
    let other = Folder::new();
    let busy = folder.path().join("busy.img").display().to_string();
    let _holder = other.serve(&["--volume", &format!("x={busy}")]);
    let (code, line) = folder.refused(&["--volume", "a=a.img,size=1M", "--volume", "b=busy.img"]);
    assert_eq!(code, 1);
    assert!(line.contains("busy.img"), "{line}");
    assert_eq!(folder.names(), ["busy.img"], "something was left behind");
}

#[test]
fn a_state_directory_in_use_is_refused() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let (code, line) = folder.refused(&["--volume", "b=memory,size=1M"]);
    assert_eq!(code, 1);
    assert!(line.contains("in use") && line.contains(&node.pid().to_string()), "{line}");
}

#[test]
fn an_existing_file_of_another_size_is_refused_untouched() {
    let folder = Folder::new();
    let file = folder.file("letters.img", &"x".repeat(1024));
    let (code, line) = folder.refused(&["--volume", "a=letters.img,size=1M"]);
    assert_eq!(code, 1);
    assert!(line.contains("letters.img") && line.contains("leave the size out"), "{line}");
    assert_eq!(fs::read_to_string(file).expect("readable"), "x".repeat(1024));
    assert_eq!(folder.names(), ["letters.img"]);
}

#[test]
fn sockets_that_were_handed_over_are_served() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let mut command = Command::new("sh");
    let serve = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --no-iscsi --admin off --volume a=memory,size=1M";
    command.args(["-c", serve, env!("CARGO_BIN_EXE_ringsan")]).current_dir(folder.path());
    command.stdin(OwnedFd::from(listener));
    let node = Node::spawn(command);
    assert_eq!(node.nbd(), address);
    assert_greets(address);
    assert_eq!(node.stop().0, 0);
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_stop() {
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let told = || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).expect("told");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command =
        folder.command(&["serve", "--nbd", "127.0.0.1:0", "--no-iscsi", "--admin", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let node = Node::spawn(command);
    assert_eq!(told(), "READY=1\n");
    node.signal(Signal::SIGHUP);
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), "READY=1\n");
    assert_eq!(node.stop().0, 0);
    assert_eq!(told(), "STOPPING=1\n");
}

#[test]
fn the_control_thread_keeps_off_the_cores() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M", "--cores", "0"]);
    let allowed = |task: &str| {
        let status = fs::read_to_string(format!("/proc/{}/{task}status", node.pid())).expect("readable");
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.expect("the kernel tells").trim().to_owned()
    };
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) {
        assert!(!allowed("").starts_with('0'), "{}", allowed(""));
    }
    let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).expect("readable");
    let pinned = tasks.filter(|task| {
        let name = task.as_ref().expect("task").file_name().to_string_lossy().into_owned();
        allowed(&format!("task/{name}/")) == "0"
    });
    assert_eq!(pinned.count(), 1);
}

#[test]
fn a_file_made_anew_is_a_new_volume() {
    let folder = Folder::new();
    let uuid = |node: &Node| node.volume("a").expect("served")["uuid"].clone();
    let node = folder.serve(&["--volume", "a=a.img,size=1M"]);
    let first = uuid(&node);
    node.stop();
    let (code, line) = folder.refused(&["--volume", "a=b.img,size=1M"]);
    assert!(code == 1 && line.contains("a.img") && line.contains("b.img"), "{line}");
    fs::remove_file(folder.path().join("a.img")).expect("removed");
    assert_ne!(uuid(&folder.serve(&["--volume", "a=a.img,size=1M"])), first);
    assert_eq!(fs::read_dir(folder.path().join("ringsan-data/state/volumes")).expect("readable").count(), 1);
}
