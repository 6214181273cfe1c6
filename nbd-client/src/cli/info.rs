//! `info`: everything that a server says of an export, and where it has data.

use std::fmt::Write;

use clap::Args;
use nbd_client::{
    Client, ConnectOptions, Error, Export, Extent, TransmissionFlags as Has, Uri, describe, runtime,
};
use serde_json::{Value, json};

use wire::nbd::handshake::LABEL_NAMESPACE;

use super::Failure;
use super::list::printable;

/// Extents asked for at a time, so that a large export does not keep us waiting without a word.
const MAP_BYTES: u64 = 64 << 30;

/// What the flags are called here, in the order of the protocol.
const FLAGS: [(Has, &str); 11] = [
    (Has::READ_ONLY, "read-only"),
    (Has::SEND_FLUSH, "flush"),
    (Has::SEND_FUA, "fua"),
    (Has::ROTATIONAL, "rotational"),
    (Has::SEND_TRIM, "trim"),
    (Has::SEND_WRITE_ZEROES, "zero"),
    (Has::SEND_FAST_ZERO, "fast-zero"),
    (Has::SEND_DF, "dont-fragment"),
    (Has::CAN_MULTI_CONN, "multi-conn"),
    (Has::SEND_CACHE, "cache"),
    (Has::BLOCK_STATUS_PAYLOAD, "status-payload"),
];

/// Tells everything that the server says of an export
#[derive(Args)]
pub(super) struct InfoArgs {
    /// The export
    #[arg(value_name = "URI")]
    uri: Uri,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Tell where there is data, holes and zeroes
    #[arg(long)]
    map: bool,
}

pub(super) fn run(args: InfoArgs) -> Result<(), Failure> {
    let mut text = String::new();
    let (mut servers, mut failed) = (Vec::new(), None);
    for endpoint in args.uri.endpoints() {
        let uri = Uri::from(endpoint.clone());
        let options = ConnectOptions::default();
        let told = runtime::block_on(async {
            let export = describe(endpoint, &options).await?;
            let map = if args.map { Some(map(&uri, &options).await?) } else { None };
            Ok::<_, Error>((export, map))
        });
        let (export, map) = match told {
            Ok(told) => told,
            Err(error) => {
                Failure::add(&mut failed, error.into());
                continue;
            }
        };
        if args.json {
            let mut value = export_json(&export);
            value["uri"] = json!(uri.to_string());
            if let Some(map) = map {
                value["map"] = json!(map);
            }
            servers.push(value);
        } else {
            text += &paragraph(&uri, &export);
            text += &map.as_deref().map(map_lines).unwrap_or_default();
        }
    }
    if args.json && !servers.is_empty() {
        let value = if args.uri.endpoints().len() == 1 { servers.remove(0) } else { json!(servers) };
        text = format!("{value:#}\n");
    }
    super::print(&text)?;
    failed.map_or(Ok(()), Err)
}

async fn map(uri: &Uri, options: &ConnectOptions) -> Result<Vec<Extent>, Error> {
    let client = Client::connect(uri, options).await?;
    let size_bytes = client.export().size_bytes;
    let (mut extents, mut at) = (Vec::<Extent>::new(), 0);
    while at < size_bytes {
        let length = MAP_BYTES.min(size_bytes - at);
        for extent in client.block_status(at, length).await? {
            match extents.last_mut() {
                Some(last) if (last.hole, last.zero) == (extent.hole, extent.zero) => {
                    last.length += extent.length
                }
                _ => extents.push(extent),
            }
        }
        at += length;
    }
    client.disconnect().await?;
    Ok(extents)
}

fn paragraph(uri: &Uri, export: &Export) -> String {
    let sizes = export.block_sizes;
    let blocks = format!(
        "minimum {}, preferred {}, at most {} at once{}",
        sizes.min,
        sizes.preferred,
        size_words(sizes.payload_max.into()),
        if export.tells_block_sizes { "" } else { " (assumed: the server does not say)" }
    );
    let told = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
    let lines = [
        ("name", printable(&export.name)),
        ("description", printable(&export.description)),
        ("size", format!("{} ({} bytes)", size_words(export.size_bytes), export.size_bytes)),
        ("volume", export.uuid.map_or("the server does not say".to_owned(), |uuid| uuid.to_string())),
        ("flags", told(flag_words(export).join(" "), "none")),
        ("blocks", blocks),
        (
            "contexts",
            told(contexts(export).iter().map(|name| printable(name)).collect::<Vec<_>>().join(" "), "none"),
        ),
        ("replies", format!("{:?}", export.style).to_lowercase()),
        ("TLS", if export.tls { "yes" } else { "no" }.to_owned()),
    ];
    let mut text = format!("{uri}\n");
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {name:12} {value}");
    }
    text
}

fn map_lines(map: &[Extent]) -> String {
    let mut text = String::new();
    for extent in map {
        let kind = extent_word(extent);
        let _ = writeln!(text, "  {:>16} {:>16}  {kind}", extent.offset, extent.length);
    }
    let data: u64 = map.iter().filter(|extent| !extent.zero).map(|extent| extent.length).sum();
    let extents = if map.len() == 1 { "extent" } else { "extents" };
    let _ = writeln!(text, "  {} to be read, in {} {extents}", size_words(data), map.len());
    text
}

fn extent_word(extent: &Extent) -> &'static str {
    match (extent.hole, extent.zero) {
        (false, false) => "data",
        (false, true) => "zero",
        (true, true) => "hole",
        (true, false) => "hole, contents unknown",
    }
}

/// The flags that are set, in words.
pub(super) fn flag_words(export: &Export) -> Vec<&'static str> {
    FLAGS.iter().filter(|(flag, _)| export.has(*flag)).map(|(_, word)| *word).collect()
}

/// The metadata contexts that a client can select, or have, but the labels, which are told as what they mean.
fn contexts(export: &Export) -> Vec<&str> {
    let offered = export.offered_contexts.iter().filter(|name| !name.starts_with(LABEL_NAMESPACE));
    let mut contexts: Vec<&str> = export.contexts.iter().chain(offered).map(String::as_str).collect();
    contexts.sort_unstable();
    contexts.dedup();
    contexts
}

/// An export as JSON.
pub(super) fn export_json(export: &Export) -> Value {
    json!({
        "name": export.name,
        "description": export.description,
        "size_bytes": export.size_bytes,
        "volume": export.uuid,
        "incarnation": export.incarnation,
        "flags": flag_words(export),
        "block_sizes": export.block_sizes,
        "tells_block_sizes": export.tells_block_sizes,
        "contexts": contexts(export),
        "replies": format!("{:?}", export.style).to_lowercase(),
        "tls": export.tls,
    })
}

/// A size for people: 10 GiB, 1.5 MiB.
pub(super) fn size_words(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10).min(6);
    let unit = UNITS[exponent as usize - 1];
    let whole = 1_u64 << (10 * exponent);
    if bytes.is_multiple_of(whole) {
        return format!("{} {unit}", bytes / whole);
    }
    format!("{:.1} {unit}", bytes as f64 / whole as f64)
}
