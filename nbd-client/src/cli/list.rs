//! `list`: the exports of a server, each with what it says of itself.

use std::fmt::Write;

use clap::Args;
use nbd_client::{ConnectOptions, Endpoint, Error, Export, Uri, describe, list, runtime};
use serde_json::json;

use super::Failure;
use super::info::{export_json, flag_words, size_words};

/// Lists the exports of a server
#[derive(Args)]
pub(super) struct ListArgs {
    /// The server; an export's name in it is ignored
    #[arg(value_name = "URI")]
    uri: Uri,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An export, and what the server says of it when asked.
struct Listed {
    name: String,
    description: String,
    facts: Result<Export, Error>,
}

pub(super) fn run(args: ListArgs) -> Result<(), Failure> {
    let mut text = String::new();
    let (mut servers, mut failed) = (Vec::new(), None);
    for endpoint in args.uri.endpoints() {
        let exports = match runtime::block_on(exports(endpoint)) {
            Ok(exports) => exports,
            Err(error) => {
                Failure::add(&mut failed, error.into());
                continue;
            }
        };
        if args.json {
            let exports: Vec<_> = exports.iter().map(listed_json).collect();
            servers.push(json!({ "server": endpoint.to_string(), "exports": exports }));
        } else {
            if args.uri.endpoints().len() > 1 {
                let _ = writeln!(text, "{endpoint}:");
            }
            text += &table(&exports);
        }
    }
    if args.json && !servers.is_empty() {
        text = format!("{:#}\n", json!({ "servers": servers }));
    }
    super::print(&text)?;
    failed.map_or(Ok(()), Err)
}

async fn exports(endpoint: &Endpoint) -> Result<Vec<Listed>, Error> {
    let options = ConnectOptions::default();
    let mut exports = Vec::new();
    for summary in list(endpoint, &options).await? {
        let endpoint = Endpoint { export: summary.name.clone(), ..endpoint.clone() };
        let facts = describe(&endpoint, &options).await;
        exports.push(Listed { name: summary.name, description: summary.description, facts });
    }
    Ok(exports)
}

fn listed_json(listed: &Listed) -> serde_json::Value {
    match &listed.facts {
        Ok(export) => {
            let mut value = export_json(export);
            value["name"] = json!(listed.name);
            value
        }
        Err(error) => {
            json!({ "name": listed.name, "description": listed.description, "error": error.to_string() })
        }
    }
}

fn table(exports: &[Listed]) -> String {
    if exports.is_empty() {
        return "no exports\n".to_owned();
    }
    let name =
        |listed: &Listed| if listed.name.is_empty() { "\"\"".to_owned() } else { printable(&listed.name) };
    let width = exports.iter().map(|listed| name(listed).chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for listed in exports {
        let facts = match &listed.facts {
            Ok(export) => format!("{:>10}  {}", size_words(export.size_bytes), flag_words(export).join(" ")),
            Err(error) => error.to_string(),
        };
        let _ = writeln!(text, "{:width$}  {facts}", name(listed));
        if !listed.description.is_empty() {
            let _ = writeln!(text, "{:width$}  {}", "", printable(&listed.description));
        }
    }
    text
}

/// A stranger's words, without anything that moves a cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
