//! The text of a URI, taken apart (RFC 3986) and put together.
//!
//! ```text
//! nbd[s]://[user@]host[:port][,host[:port]]*/[export][?query]
//! nbd[s]+unix://[/[export]]?socket=path[&query]
//! ```

use std::net::Ipv6Addr;
use std::path::PathBuf;

use wire::nbd::transmission::STRING_BYTES_MAX;

use super::{Address, Endpoint, PORT, Tls};
use crate::error::{Error, Kind};

const FORM: &str = "write nbd://HOST[:PORT]/EXPORT, nbds://… for TLS, or nbd+unix:///EXPORT?socket=PATH";

pub(super) fn uri(text: &str) -> Result<Vec<Endpoint>, Error> {
    let wrong =
        |cause: String| Error::new(Kind::Uri, format!("{text:?} cannot be used as an NBD URI: {cause}"));
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| wrong("it has no scheme".to_owned()).remedy(FORM))?;
    let (secure, unix) = match scheme.to_ascii_lowercase().as_str() {
        "nbd" => (false, false),
        "nbds" => (true, false),
        "nbd+unix" => (false, true),
        "nbds+unix" => (true, true),
        known if known.starts_with("nbd+") || known.starts_with("nbds+") => {
            return Err(wrong(format!("the scheme {scheme:?} is not supported here")).remedy(FORM));
        }
        _ => return Err(wrong(format!("the scheme {scheme:?} is none of NBD's")).remedy(FORM)),
    };
    if rest.contains('#') {
        return Err(wrong("it has a fragment".to_owned()).remedy("write # as %23"));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let told = |(cause, remedy): Wrong| wrong(cause).remedy(remedy);
    let query = Query::parse(query).map_err(told)?;
    let tls = query.tls(secure).map_err(told)?;
    let export = export(path).map_err(told)?;
    let addresses = if unix { query.socket(authority) } else { query.hosts(authority) };
    Ok(addresses
        .map_err(told)?
        .into_iter()
        .map(|address| Endpoint { address, export: export.clone(), tls: tls.clone() })
        .collect())
}

const PARAMETERS: &str = "known are socket, tls-certificates, tls-hostname, tls-verify-peer and tls-type";

/// What is wrong, and the next step.
type Wrong = (String, &'static str);

#[derive(Default)]
struct Query {
    socket: Option<String>,
    certificates: Option<String>,
    hostname: Option<String>,
    verify_peer: Option<String>,
    tls_type: Option<String>,
    psk: bool,
}

impl Query {
    fn parse(text: &str) -> Result<Query, Wrong> {
        let mut query = Query::default();
        for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let place = match name {
                "socket" => &mut query.socket,
                "tls-certificates" => &mut query.certificates,
                "tls-hostname" => &mut query.hostname,
                "tls-verify-peer" => &mut query.verify_peer,
                "tls-type" => &mut query.tls_type,
                "tls-psk-file" | "tls-username" => {
                    query.psk = true;
                    continue;
                }
                _ => return Err((format!("the parameter {name:?} is not known"), PARAMETERS)),
            };
            if place.replace(decoded(value)?).is_some() {
                return Err((format!("the parameter {name:?} is there twice"), "give it once"));
            }
        }
        Ok(query)
    }

    fn tls(&self, secure: bool) -> Result<Option<Tls>, Wrong> {
        const X509: &str = "use certificates: tls-certificates=FOLDER";
        if self.psk || self.tls_type.as_deref() == Some("psk") {
            return Err(("pre-shared keys are not supported here".to_owned(), X509));
        }
        if let Some(kind) = self.tls_type.as_deref().filter(|kind| *kind != "x509") {
            return Err((format!("TLS of type {kind:?} is not supported here"), X509));
        }
        let parameters = [&self.certificates, &self.hostname, &self.verify_peer, &self.tls_type];
        if !secure && parameters.iter().any(|parameter| parameter.is_some()) {
            let cause = "its TLS parameters would have no effect".to_owned();
            return Err((cause, "begin it with nbds:// (or nbds+unix://), which demands TLS"));
        }
        let verify_peer = match self.verify_peer.as_deref() {
            None | Some("1" | "true") => true,
            Some("0" | "false") => false,
            Some(other) => return Err((format!("tls-verify-peer={other:?}"), "write 0 or 1")),
        };
        let certificates = self.certificates.as_ref().map(PathBuf::from);
        Ok(secure.then(|| Tls { certificates, hostname: self.hostname.clone(), verify_peer }))
    }

    fn socket(&self, authority: &str) -> Result<Vec<Address>, Wrong> {
        let Some(socket) = self.socket.as_deref().filter(|socket| !socket.is_empty()) else {
            return Err(("it names no socket".to_owned(), "add ?socket=PATH"));
        };
        if !authority.is_empty() {
            let cause = format!("a unix socket has no host, and {authority:?} stands where one would");
            return Err((cause, "write three slashes: nbd+unix:///EXPORT?socket=PATH"));
        }
        Ok(vec![Address::Unix(PathBuf::from(socket))])
    }

    fn hosts(&self, authority: &str) -> Result<Vec<Address>, Wrong> {
        if self.socket.is_some() {
            return Err(("a socket needs another scheme".to_owned(), "begin it with nbd+unix://"));
        }
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if !user.is_empty() {
            let cause = format!("the user name {user:?} is for pre-shared keys only");
            return Err((cause, "leave it out"));
        }
        let addresses = hosts.split(',').map(host).collect::<Result<Vec<Address>, Wrong>>()?;
        let named_twice = (1..addresses.len()).find(|&at| addresses[..at].contains(&addresses[at]));
        match named_twice {
            Some(at) => {
                let endpoint = Endpoint { address: addresses[at].clone(), export: String::new(), tls: None };
                Err((format!("host {endpoint} is there twice"), "name each server once"))
            }
            None => Ok(addresses),
        }
    }
}

fn host(text: &str) -> Result<Address, Wrong> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let closed = rest.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok());
            closed.ok_or_else(|| (format!("{text:?} is no IPv6 address"), "write it like [::1]:10809"))?
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.is_empty() && text.matches(':').count() < 2 {
        return Err(("a host is missing".to_owned(), FORM));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => PORT,
        Some("") => PORT,
        digits => match digits.and_then(port_number) {
            Some(port) => port,
            None => {
                let cause = format!("{text:?} has no port between 1 and 65535");
                return Err((cause, "write HOST:PORT; an IPv6 address in brackets"));
            }
        },
    };
    let host = decoded(host)?;
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || "/,@[]?#%&=".contains(c);
    if host.contains(is_odd) || host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        return Err((format!("{host:?} is no host"), FORM));
    }
    Ok(Address::Tcp { host, port })
}

fn port_number(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|port| is_plain && *port != 0)
}

fn export(path: &str) -> Result<String, Wrong> {
    let export = decoded(path)?;
    if export.len() > STRING_BYTES_MAX {
        let cause = format!("its export's name is longer than {STRING_BYTES_MAX} bytes");
        return Err((cause, "no server has one of that length"));
    }
    if export.contains('\0') {
        return Err(("its export's name contains NUL".to_owned(), "no server has one of that name"));
    }
    Ok(export)
}

fn decoded(text: &str) -> Result<String, Wrong> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(|| bad_escape(text))?;
        let digits =
            str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.ok_or_else(|| bad_escape(text))?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| (format!("{text:?} is not UTF-8"), "write it in UTF-8"))
}

fn bad_escape(text: &str) -> Wrong {
    (format!("{text:?} has a % without two hexadecimal digits"), "write % itself as %25")
}

/// All but RFC 3986's unreserved characters, and the slash, as %XX.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte.into())
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
