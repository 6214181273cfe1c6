//! `ringsan volume …`: volumes of the running target, through its admin API.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ureq::http::Method;

use super::client::{Client, ClientArgs};
use super::ready::escape;
use super::table::Table;
use super::{Failure, print};
use crate::config::units::{duration_text, parse_duration, parse_size, size_rounded};
use crate::config::values::{
    cache_name, on_peer_loss_name, parse_backing_kind, parse_cache, parse_network, parse_on_peer_loss,
};
use crate::config::volume::{VolumeSpec, checked_name, checked_size};
use crate::status::{ResizeRequest, VolumeStatus};

/// The commands of `volume`.
#[derive(Args)]
pub struct VolumeArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Subcommand)]
enum VolumeCommand {
    /// List the volumes
    #[command(visible_alias = "list")]
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve one more volume, now and after restarts
    Create(Box<CreateArgs>),
    /// Give a volume another size
    Resize {
        /// Its name
        name: String,
        /// The new size, as in 20G
        #[arg(value_parser = parse_volume_size)]
        size: u64,
        /// A smaller size loses the data beyond it, and is meant
        #[arg(long)]
        shrink: bool,
    },
    /// Serve a volume no longer; its data stays
    Rm {
        /// Its name
        name: String,
        /// Delete the file with its data too
        #[arg(long)]
        delete_data: bool,
    },
}

#[derive(Args)]
struct CreateArgs {
    /// Its name
    #[arg(value_parser = checked_name)]
    name: String,
    /// A file, a block device, /dev/ngXnY or `memory` [default: a file in the target's data directory]
    #[arg(long, value_name = "PATH")]
    backing: Option<PathBuf>,
    /// Its size, as in 20G; left out, that of the existing backing
    #[arg(long, value_parser = parse_volume_size)]
    size: Option<u64>,
    /// file, block, nvme or memory [default: what the backing is]
    #[arg(long = "type", value_name = "TYPE", value_parser = |text: &str| parse_backing_kind(text).map(|kind| kind.name()))]
    kind: Option<&'static str>,
    /// How a file uses the page cache: auto, direct or buffered
    #[arg(long, value_parser = |text: &str| parse_cache(text).map(cache_name))]
    cache: Option<&'static str>,
    /// Refuse writes
    #[arg(long)]
    read_only: bool,
    /// Let only clients of this network attach; repeatable
    #[arg(long, value_name = "CIDR", value_parser = |text: &str| parse_network(text).map(|network| network.to_string()))]
    allow: Vec<String>,
    /// Mirror it: the names of all nodes that have a replica, this one among them, in the same order on each
    #[arg(long = "replica", value_name = "NODE")]
    replicas: Vec<String>,
    /// What a lost peer does to writes: continue or suspend
    #[arg(long, requires = "replicas", value_parser = |text: &str| parse_on_peer_loss(text).map(on_peer_loss_name))]
    on_peer_loss: Option<&'static str>,
    /// A peer that is silent for so long leaves the in-sync set, as in 1s
    #[arg(long, requires = "replicas", value_name = "DURATION", value_parser = |text: &str| parse_duration(text).map(duration_text))]
    peer_timeout: Option<String>,
    /// For clients to read
    #[arg(long, default_value = "")]
    description: String,
}

/// Runs one of them.
pub fn run(args: VolumeArgs) -> Result<(), Failure> {
    let client = args.client.client()?;
    match args.command {
        VolumeCommand::Ls { json } => list(&client, json),
        VolumeCommand::Create(args) => create(&client, *args),
        VolumeCommand::Resize { name, size, shrink } => {
            let request = ResizeRequest { size_bytes: size, shrink };
            let volume: VolumeStatus = client.send_json(Method::PATCH, &path_of(&name), &request)?;
            print(&format!("volume {name} has {}\n", size_of(&volume)))
        }
        VolumeCommand::Rm { name, delete_data } => {
            client.delete(&format!("{}?delete_data={delete_data}", path_of(&name)))?;
            let data = if delete_data { "deleted" } else { "kept" };
            print(&format!("volume {name} is removed, its data {data}\n"))
        }
    }
}

fn list(client: &Client, json: bool) -> Result<(), Failure> {
    if json {
        let volumes: serde_json::Value = client.get("/v1/volumes")?;
        return print(&format!("{volumes:#}\n"));
    }
    let volumes: Vec<VolumeStatus> = client.get("/v1/volumes")?;
    let mut table = Table::new(&["VOLUME", "SIZE", "TYPE", "BACKING", "CLIENTS", "UUID", "FROM"], &[4]);
    for volume in volumes {
        table.row(vec![
            volume.name.clone(),
            size_of(&volume),
            volume.kind,
            volume.backing,
            volume.connections.to_string(),
            volume.uuid.to_string(),
            volume.declared_at,
        ]);
    }
    print(&table.text())
}

fn create(client: &Client, args: CreateArgs) -> Result<(), Failure> {
    let spec = VolumeSpec {
        name: args.name,
        backing: args.backing.map(absolute),
        kind: args.kind.map(str::to_owned),
        size_bytes: args.size,
        cache: args.cache.map(str::to_owned),
        read_only: args.read_only,
        allow: args.allow,
        description: args.description,
        replicas: args.replicas,
        on_peer_loss: args.on_peer_loss.map(str::to_owned),
        peer_timeout: args.peer_timeout,
    };
    let volume: VolumeStatus = client.send_json(Method::POST, "/v1/volumes", &spec)?;
    let (name, size) = (&volume.name, size_of(&volume));
    let mirror = volume.mirror.as_ref().map_or_else(String::new, |mirror| {
        let names: Vec<_> = mirror.replicas.iter().map(|replica| replica.name.as_str()).collect();
        format!(", mirrored on {}; see `ringsan explain {name}`", names.join(", "))
    });
    print(&format!("volume {name} is served: {size} on {}{mirror}\n", volume.backing))
}

/// The target has another current folder.
fn absolute(backing: PathBuf) -> PathBuf {
    if backing == std::path::Path::new("memory") {
        return backing;
    }
    std::path::absolute(&backing).unwrap_or(backing)
}

fn size_of(volume: &VolumeStatus) -> String {
    volume.facts.as_ref().map_or_else(|| "-".to_owned(), |facts| size_rounded(facts.size_bytes))
}

/// Its path in the admin API.
pub(super) fn path_of(name: &str) -> String {
    format!("/v1/volumes/{}", escape(name))
}

fn parse_volume_size(text: &str) -> Result<u64, crate::config::mistake::Wrong> {
    checked_size(parse_size(text)?)
}
