//! The admin API and its client: volumes that come and go, reloads, and who is let in.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::Folder;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef0123";

fn size(volume: &Value) -> u64 {
    volume["facts"]["size_bytes"].as_u64().expect("a size")
}

#[test]
fn a_created_volume_comes_back_after_a_restart() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    node.control(&["volume", "create", "größe 1", "--backing", "memory", "--size", "2M"]).expect("created");
    node.control(&["volume", "create", "b", "--size", "3M", "--description", "kept"]).expect("created");
    let made = node.volume("b").expect("listed");
    assert_eq!((size(&made), made["declared_at"].as_str()), (3 << 20, Some("the admin API")));
    node.stop();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let back = node.volume("b").expect("it came back");
    assert_eq!((&back["uuid"], &back["description"]), (&made["uuid"], &json!("kept")));
    assert_eq!(size(&node.volume("größe 1").expect("it came back")), 2 << 20);
}

#[test]
fn a_volume_that_cannot_come_back_does_not_stop_the_others() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    node.control(&["volume", "create", "b", "--size", "3M"]).expect("created");
    node.stop();
    let file = folder.path().join("ringsan-data/b.img");
    fs::rename(&file, folder.path().join("away")).expect("moved");
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let gone = node.volume("b").expect("it is listed");
    assert!(gone["unavailable"].as_str().is_some_and(|reason| reason.contains("b.img")), "{gone}");
    assert!(node.control(&["status"]).expect("status").contains("NOT SERVED"));
    node.control(&["volume", "rm", "b"]).expect("it can be removed");
    assert!(!file.exists());
}

#[test]
fn removing_keeps_the_data_unless_told_otherwise() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let file = folder.path().join("b.img");
    let path = file.display().to_string();
    node.control(&["volume", "create", "b", "--backing", &path, "--size", "1M"]).expect("created");
    node.control(&["volume", "rm", "b"]).expect("removed");
    assert!(file.exists());
    let error = node.control(&["volume", "create", "b", "--backing", &path, "--size", "1M"]);
    assert!(error.expect_err("the file is foreign now").contains("exists already"));
    node.control(&["volume", "create", "b", "--backing", &path]).expect("served as it is");
    node.control(&["volume", "rm", "b", "--delete-data"]).expect("removed");
    assert!(!file.exists());
}

#[test]
fn shrinking_must_be_meant() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    node.control(&["volume", "create", "b", "--size", "4M"]).expect("created");
    node.control(&["volume", "resize", "b", "8M"]).expect("grown");
    assert!(node.control(&["volume", "resize", "b", "2M"]).expect_err("refused").contains("--shrink"));
    assert_eq!(size(&node.volume("b").expect("listed")), 8 << 20);
    node.control(&["volume", "resize", "b", "2M", "--shrink"]).expect("shrunk");
    assert_eq!(fs::metadata(folder.path().join("ringsan-data/b.img")).expect("there").len(), 2 << 20);
    assert!(node.control(&["volume", "resize", "b", "1000"]).expect_err("unaligned").contains("nearest"));
}

#[test]
fn two_volumes_never_share_a_backing() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=a.img,size=1M"]);
    let path = folder.path().join("a.img");
    fs::hard_link(&path, folder.path().join("link.img")).expect("linked");
    for name in ["a.img", "link.img"] {
        let path = folder.path().join(name).display().to_string();
        let error = node.control(&["volume", "create", "b", "--backing", &path]).expect_err("refused");
        assert!(error.contains("volume `a` has the backing"), "{error}");
    }
}

#[test]
fn what_is_declared_is_changed_where_it_is_declared() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=a.img,size=1M"]);
    for words in [&["volume", "rm", "a"][..], &["volume", "resize", "a", "2M"]] {
        let error = node.control(words).expect_err("refused");
        assert!(error.contains("--volume a=a.img,size=1M"), "{error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
    }
}

#[test]
fn errors_are_json_with_a_kind() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let cases = [
        ("GET", "/v1/volumes/none", "", 404, "not_found"),
        ("DELETE", "/v1/volumes/none", "", 404, "not_found"),
        ("GET", "/nowhere", "", 404, "not_found"),
        ("PUT", "/v1/status", "", 405, "invalid"),
        ("GET", "/v1/status?window=soon", "", 400, "invalid"),
        ("POST", "/v1/volumes", "{", 400, "invalid"),
        ("POST", "/v1/volumes", r#"{"name": "x", "colour": 1}"#, 400, "invalid"),
        ("POST", "/v1/volumes", r#"{"name": "x", "size_bytes": 1000}"#, 400, "invalid"),
        ("POST", "/v1/volumes", r#"{"name": "a", "size_bytes": 1048576}"#, 409, "conflict"),
        ("PATCH", "/v1/volumes/a", r#"{"size_bytes": 2097152}"#, 409, "conflict"),
    ];
    for (method, path, body, status, kind) in cases {
        let (answered, text) = node.http(method, path, &[], body);
        let error: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (answered, error["error"]["kind"].as_str()),
            (status, Some(kind)),
            "{method} {path}: {text}"
        );
        assert!(error["error"]["message"].is_string());
    }
    let (status, _) = node.http("POST", "/v1/volumes", &[], &" ".repeat(100_000));
    assert_eq!(status, 413);
}

#[test]
fn a_web_page_is_refused() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    assert_eq!(node.http("GET", "/v1/status", &[], "").0, 200);
    assert_eq!(node.http("POST", "/v1/reload", &[("Origin", "http://page.example")], "").0, 403);
    assert_eq!(node.http("GET", "/v1/status", &[("Host", "page.example:9810")], "").0, 403);
}

#[test]
fn a_token_is_asked_for_where_it_is_set() {
    let folder = Folder::new();
    let file = folder.file("token", TOKEN);
    let path = file.display().to_string();
    let (code, line) = folder.refused(&["--admin-token-file", &path]);
    assert!(code == 1 && line.contains("chmod 600"), "{line}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let node = folder.serve(&["--volume", "a=memory,size=1M", "--admin-token-file", &path]);
    assert!(node.control(&["volume", "ls"]).expect_err("refused").contains("--token-file"));
    assert_eq!(node.http("GET", "/healthz", &[], "").0, 200);
    assert_eq!(node.http("GET", "/metrics", &[("Authorization", "Bearer wrong")], "").0, 401);
    assert_eq!(node.http("GET", "/metrics", &[("Authorization", &format!("Bearer {TOKEN}"))], "").0, 200);
    assert!(node.control(&["volume", "ls", "--token-file", &path]).expect("let in").contains("memory"));
}

#[test]
fn other_machines_are_not_let_in_without_a_token() {
    let folder = Folder::new();
    let (code, line) = folder.refused(&["--admin", "0.0.0.0:0"]);
    assert!(code == 2 && line.contains("--admin-token-file"), "{line}");
}

#[test]
fn metrics_come_in_both_formats() {
    let folder = Folder::new();
    let node = folder.serve(&["--volume", "a=memory,size=1M"]);
    let (_, classic) = node.http("GET", "/metrics", &[], "");
    assert!(classic.contains("# TYPE ringsan_core_system_calls_total counter"), "{classic}");
    let (_, open) =
        node.http("GET", "/metrics", &[("Accept", "application/openmetrics-text;version=1.0.0")], "");
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(open.contains("ringsan_volume_size_bytes{volume=\"a\"} 1048576"), "{open}");
}

#[test]
fn a_client_of_no_target_says_so_in_a_line() {
    let folder = Folder::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address");
    let output = folder.run(&["status", "--admin", &address.to_string()]);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(line.contains(&address.to_string()) && line.contains("ringsan serve"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}
