//! `castling recover`: the last resort when most nodes are gone for good.

use super::confirm;
use super::failure::Failure;
use super::out::Out;
use super::region;
use crate::world::deployment::write_private;
use crate::world::node::{RECOVERED, Recovered};
use crate::world::node_files;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example:
  castling recover --config westus2/castling.toml

Only when the other nodes are gone for good. One that still has its folder must never run again with it: wipe it first.
docs/operations.md, \"Disaster\", says what to do before and after.")]
pub struct Recover {
    /// Settings of the surviving node; it must be stopped
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The deployment's domain, instead of being asked for it
    #[arg(long, value_name = "DOMAIN")]
    yes: Option<String>,
}

pub fn run(recover: &Recover, out: &Out) -> Result<(), Failure> {
    let (settings, _lock) = region::stopped(&recover.config)?;
    let place = settings
        .nodes
        .iter()
        .position(|node| node.name == settings.node);
    let me =
        place.ok_or_else(|| Failure::Failed("this node is not among the nodes".into()))? as u64 + 1;
    let all: Vec<u64> = (1..=settings.nodes.len() as u64).collect();
    let folder = settings.folder.join("control");
    if !folder.exists() {
        return Err(Failure::Failed(format!(
            "{} does not exist: this node has no copy of the control plane to go on with",
            folder.display()
        )));
    }
    let others: Vec<&str> = settings
        .nodes
        .iter()
        .filter(|node| node.name != settings.node)
        .map(|node| node.name.as_str())
        .collect();
    eprintln!(
        "WARNING: {} goes on ALONE as the control plane of {}.\n  What only the other nodes ({}) knew is LOST: hubs made or failed over, keys changed, since they last reached this one.\n  If one of them still runs, TWO regions may acknowledge for one hub, and data is lost. Be sure that they are gone:\n  switched off, and their folders removed before they are ever started again.",
        settings.node,
        settings.deployment.domain,
        others.join(", ")
    );
    confirm::repeat(
        "the deployment's domain",
        &settings.deployment.domain,
        recover.yes.as_deref(),
        "There is no way back.",
    )?;
    let mut member = consensus::Settings::with_times(me, &all, folder, settings.control_times);
    member.storage_key = Some(node_files::storage(&settings)?);
    let term = consensus::rebuild_from_survivor(&member).map_err(Failure::failed)?;
    let note = Recovered {
        term,
        lost: others.iter().map(|name| (*name).to_owned()).collect(),
    };
    let note = serde_json::to_vec(&note).map_err(Failure::failed)?;
    write_private(&settings.folder.join(RECOVERED), &note)?;
    out.line(format!(
        "{} is the only voter now, in term {term}. Start it again. Then fail over the hubs whose primary is lost (castling hub failover start HUB --forced), and start the other nodes with empty folders: they are filled and get their votes back by themselves.",
        settings.node
    ))
}
