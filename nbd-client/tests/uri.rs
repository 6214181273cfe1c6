//! What URIs mean, and what is said of those that mean nothing.

use std::path::PathBuf;

use nbd_client::{Address, Tls, Uri};

fn parsed(text: &str) -> Uri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    text.parse::<Uri>().expect_err(text).to_string()
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

#[test]
fn export_names_are_those_of_the_specification() {
    for (text, export) in [
        ("nbd://example.com/disk", "disk"),
        ("nbd+unix:///disk?socket=sock", "disk"),
        ("nbd://example.com/", ""),
        ("nbd://example.com", ""),
        ("nbd://example.com//disk", "/disk"),
        ("nbd://example.com/hello%20world", "hello world"),
        ("NBD://example.com/a+b", "a+b"),
        ("nbd+unix://?socket=sock", ""),
    ] {
        assert_eq!(parsed(text).export(), export, "{text}");
    }
}

#[test]
fn hosts_have_ports() {
    for (text, address) in [
        ("nbd://h", tcp("h", 10809)),
        ("nbd://h:/x", tcp("h", 10809)),
        ("nbd://h:1/x", tcp("h", 1)),
        ("nbd://127.0.0.1:65535/x", tcp("127.0.0.1", 65535)),
        ("nbd://[::1]/x", tcp("::1", 10809)),
        ("nbd://[fe80::1]:99/x", tcp("fe80::1", 99)),
        ("nbd+unix:///x?socket=/run/a%20b", Address::Unix(PathBuf::from("/run/a b"))),
        ("nbd+unix:///x?socket=%00abstract", Address::Unix(PathBuf::from("\0abstract"))),
    ] {
        assert_eq!(parsed(text).endpoints()[0].address, address, "{text}");
    }
}

#[test]
fn several_hosts_are_endpoints_of_one_export() {
    let uri = parsed("nbd://a,b:7,[::1]/db");
    let addresses: Vec<Address> = uri.endpoints().iter().map(|endpoint| endpoint.address.clone()).collect();
    assert_eq!(addresses, [tcp("a", 10809), tcp("b", 7), tcp("::1", 10809)]);
    assert!(uri.endpoints().iter().all(|endpoint| endpoint.export == "db" && endpoint.tls.is_none()));
}

#[test]
fn tls_is_as_the_parameters_say() {
    let all = "nbds://h/x?tls-type=x509&tls-certificates=/etc/pki&tls-hostname=name&tls-verify-peer=0";
    let tls =
        Tls { certificates: Some("/etc/pki".into()), hostname: Some("name".into()), verify_peer: false };
    assert_eq!(parsed(all).endpoints()[0].tls, Some(tls));
    let plain = Tls { certificates: None, hostname: None, verify_peer: true };
    assert_eq!(parsed("nbds+unix:///x?socket=s").endpoints()[0].tls, Some(plain));
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    for (text, cause, remedy) in [
        ("localhost", "it has no scheme", "write nbd://"),
        ("http://a/b", "\"http\" is none of NBD's", "write nbd://"),
        ("nbd:///x", "a host is missing", "write nbd://"),
        ("nbd://a,,b/x", "a host is missing", "write nbd://"),
        ("nbd://a,b,a/x", "host a:10809 is there twice", "name each server once"),
        ("nbd://h:0/x", "no port between 1 and 65535", "HOST:PORT"),
        ("nbd://h:65536/x", "no port between", "HOST:PORT"),
        ("nbd://h:+1/x", "no port between", "HOST:PORT"),
        ("nbd://::1/x", "no port between", "in brackets"),
        ("nbd://[h]/x", "no IPv6 address", "[::1]"),
        ("nbd://[::1/x", "no IPv6 address", "[::1]"),
        ("nbd+unix:///x", "names no socket", "add ?socket=PATH"),
        ("nbd+unix://h/x?socket=s", "a unix socket has no host", "three slashes"),
        ("nbd://h/x?socket=s", "another scheme", "nbd+unix://"),
        ("nbd://h/x?tls-certificates=d", "no effect", "nbds://"),
        ("nbds://h/x?tls-psk-file=f", "pre-shared keys", "tls-certificates=FOLDER"),
        ("nbds://me@h/x", "\"me\" is for pre-shared keys", "leave it out"),
        ("nbds://h/x?tls-type=psk", "pre-shared keys", "tls-certificates=FOLDER"),
        ("nbds://h/x?tls-type=anon", "\"anon\" is not supported", "tls-certificates=FOLDER"),
        ("nbds://h/x?tls-verify-peer=maybe", "\"maybe\"", "write 0 or 1"),
        ("nbd://h/x?colour=red", "\"colour\" is not known", "known are socket"),
        ("nbds://h/x?tls-hostname=a&tls-hostname=b", "there twice", "give it once"),
        ("nbd://h/x#y", "fragment", "%23"),
        ("nbd://h/%4", "without two hexadecimal digits", "%25"),
        ("nbd://h/%+4", "without two hexadecimal digits", "%25"),
        ("nbd://h/%ff", "is not UTF-8", "in UTF-8"),
        ("nbd://h/a%00b", "contains NUL", "no server"),
    ] {
        let said = refused(text);
        assert!(said.contains(cause) && said.contains(remedy), "{text}: {said}");
        assert!(said.contains(&format!("{text:?}")), "the URI itself is named: {said}");
    }
    let long = format!("nbd://h/{}", "x".repeat(4097));
    assert!(refused(&long).contains("longer than 4096 bytes"));
}

#[test]
fn a_uri_is_printed_as_it_can_be_parsed() {
    for text in [
        "nbd://a:10809,[::1]:7/db",
        "nbds://h:10809/a%20b%3F?tls-certificates=/etc/pki&tls-hostname=x&tls-verify-peer=0",
        "nbds+unix:////slash?socket=/run/s%26",
        "nbd+unix:///?socket=%00abstract",
    ] {
        assert_eq!(parsed(text).to_string(), text);
        assert_eq!(parsed(&parsed(text).to_string()), parsed(text));
    }
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_parser_panic(text in "(nbds?(\\+unix)?://)?[a-z0-9:@/?&=%,\\[\\]#é.-]{0,40}") {
        if let Ok(uri) = text.parse::<Uri>() {
            proptest::prop_assert_eq!(uri.to_string().parse::<Uri>().ok(), Some(uri));
        }
    }
}
