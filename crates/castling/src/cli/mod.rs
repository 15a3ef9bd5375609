//! The command line. Everything but `up`, `region`, `witness`, `init` and `recover` speaks the public APIs of a running world, so whatever it does others can do.

mod access;
mod activity;
mod c2d;
mod config_file;
mod confirm;
mod consumer_group;
mod context;
mod contexts;
mod device;
mod directory;
mod drill;
mod events;
mod failover;
mod failover_forced;
mod failover_view;
mod failure;
mod hosts;
mod http;
mod hub;
mod hub_view;
mod init;
mod json;
mod login;
mod login_person;
mod loss_view;
mod management;
mod mqtt;
mod out;
mod page;
mod plan;
mod recover;
mod region;
mod report_view;
mod salvage;
mod service;
pub(crate) mod settings;
mod signing_in;
mod simulate;
mod span;
mod status;
mod stop;
mod transfer;
mod twin;
mod up;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use failure::Failure;
use http::Network;
use out::{Format, Out};
use std::path::PathBuf;
use std::process::ExitCode;

const DATA_DEFAULT: &str = "castling-data";

/// An IoT hub that you run yourself, in two paired regions, and that swaps the regions in one move.
///
/// `castling up` runs a small world in this process: four regions, each with its own address, data folder and listeners.
/// `castling init` makes a deployment whose regions and witness are processes of their own. The commands about hubs and devices
/// speak to a running world or deployment over its public APIs.
#[derive(Parser)]
#[command(name = "castling", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  castling up                                          run a world; leave it running
  castling hub create my-hub --location westus2        in another terminal
  castling device simulate my-hub --devices 10
  castling events tail my-hub
  castling hub failover start my-hub                   swap its regions

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 check not ready for a failover, 4 refused by the service.";

#[derive(Args, Clone, Debug)]
struct Global {
    /// Folder of the world, or the operator's folder of a deployment [default: ./castling-data]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "CASTLING_DATA",
        value_name = "DIR"
    )]
    data: Option<PathBuf>,
    /// Deployment that `castling login` signed in to [default: the world in --data or ./castling-data, else the one in use]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "CASTLING_CONTEXT",
        value_name = "NAME"
    )]
    context: Option<String>,
    /// What to print: tables for people, JSON for programs
    #[arg(
        long,
        short,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    /// Print without colours (they are only used on a terminal, and not when NO_COLOR is set)
    #[arg(long, global = true, help_heading = "Global options")]
    no_color: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run a world of regions in this process until Ctrl-C
    Up(up::Up),
    /// Make what the nodes of a deployment need: settings, keys, certificates
    Init(Box<init::Init>),
    /// Run one region of a deployment in this process, or hand its devices over
    Region(region::RegionCommand),
    /// Run a deployment's third vote, which has no hubs
    Witness(region::OneNode),
    /// Show every node: who leads, leases, links, hubs and what running operations wait for
    Status,
    /// Let one surviving node go on alone, when most nodes are gone for good
    Recover(recover::Recover),
    /// Sign in to a deployment, for the commands that follow
    Login(Box<login::Login>),
    /// End the session of a context, and forget it
    Logout,
    /// Choose among the deployments that were signed in to
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// People who may sign in
    #[command(subcommand)]
    User(directory::User),
    /// Programs that may sign in
    #[command(subcommand)]
    App(directory::App),
    /// Sign-ins of people
    #[command(subcommand)]
    Session(directory::Session),
    /// External OpenID Connect providers
    #[command(subcommand)]
    Provider(directory::Provider),
    /// Who may do what, and where
    #[command(subcommand)]
    Role(access::Role),
    /// Keep subscriptions, groups or hubs from being deleted or changed
    #[command(subcommand)]
    Lock(access::Lock),
    /// What was done, by whom
    #[command(subcommand)]
    Activity(activity::Activity),
    /// Create, show and fail over hubs
    #[command(subcommand)]
    Hub(hub::Hub),
    /// Create devices, show them, and send as them
    #[command(subcommand)]
    Device(device::Device),
    /// Send messages to devices
    #[command(subcommand)]
    C2d(c2d::C2d),
    /// Show and change device twins
    #[command(subcommand)]
    Twin(twin::Twin),
    /// Read what devices sent
    #[command(subcommand)]
    Events(events::Events),
    /// Print lines for a hosts file, for clients that must find hubs by name
    #[command(after_help = "Example:\n  castling hosts | sudo tee -a /etc/hosts")]
    Hosts,
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  castling completions bash > ~/.local/share/bash-completion/completions/castling"
    )]
    Completions { shell: Shell },
}

impl Global {
    fn folder(&self) -> PathBuf {
        self.data
            .clone()
            .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT))
    }
}

/// Where commands go: a context that is named, a folder that is named, a world of this folder, the context in use. A world
/// here goes before the context in use: whoever tries something out must not hit what they signed in to elsewhere.
fn network(global: &Global) -> Result<Network, Failure> {
    if let Some(name) = &global.context {
        return Network::of_context(name);
    }
    let here = global.folder().join("up.json").exists();
    if global.data.is_none()
        && !here
        && let Some(name) = contexts::Contexts::read()?.current
    {
        return Network::of_context(&name);
    }
    Network::open(&global.folder())
}

/// What every command that speaks to a world needs.
struct Context {
    network: Network,
    out: Out,
}

/// Runs the program.
pub fn main() -> ExitCode {
    ExitCode::from(told(&run(Cli::parse())))
}

/// Ends the process with a command's outcome, without waiting for its threads.
fn end(outcome: Result<(), Failure>) -> ! {
    std::process::exit(told(&outcome).into())
}

/// Says on standard error why a command did not succeed; gives the exit code.
fn told(outcome: &Result<(), Failure>) -> u8 {
    let Err(failure) = outcome else { return 0 };
    for line in failure.lines().iter().flat_map(|line| line.split('\n')) {
        eprintln!("{}", out::printable(line));
    }
    failure.exit_code()
}

fn run(cli: Cli) -> Result<(), Failure> {
    let out = Out::new(cli.global.output, cli.global.no_color);
    let open = || {
        Ok::<_, Failure>(Context {
            network: network(&cli.global)?,
            out,
        })
    };
    match cli.command {
        Command::Up(up) => up::run(&up, &cli.global, &out),
        Command::Init(init) => init::run(&init, &out),
        Command::Region(command) => match &command.change {
            Some(change) => region::change(change, &open()?),
            None => region::run(&command.node(), false, &out),
        },
        Command::Witness(node) => region::run(&node, true, &out),
        Command::Login(login) => login::run(&login, &cli.global, &out),
        Command::Logout => login::logout(cli.global.context.as_deref(), &out),
        Command::Context(command) => context::run(&command, &out),
        Command::Status => status::run(&open()?),
        Command::Recover(recover) => recover::run(&recover, &out),
        Command::User(command) => directory::user(&command, &open()?),
        Command::App(command) => directory::app(&command, &open()?),
        Command::Session(command) => directory::session(&command, &open()?),
        Command::Provider(command) => directory::provider(&command, &open()?),
        Command::Role(command) => access::role(&command, &open()?),
        Command::Lock(command) => access::lock(&command, &open()?),
        Command::Activity(command) => match &command {
            // Needs no deployment: the file is all there is to it.
            activity::Activity::Verify { file } => activity::verify(file, &out),
            other => activity::run(other, &open()?),
        },
        Command::Hub(command) => hub::run(&command, &open()?),
        Command::Device(command) => device::run(&command, &open()?),
        Command::C2d(command) => c2d::run(&command, &open()?),
        Command::Twin(command) => twin::run(&command, &open()?),
        Command::Events(command) => events::run(&command, &open()?),
        Command::Hosts => hosts::run(&open()?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "castling", &mut script);
            out.line(String::from_utf8_lossy(&script))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(
                command.get_about().is_some() || command.get_name() == "help",
                "{path} has no help"
            );
            for arg in command.get_arguments() {
                let known = arg.get_help().is_some() || arg.is_positional();
                assert!(known, "{path}: {} has no help", arg.get_id());
            }
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn the_help_names_the_exit_codes() {
        assert!(EXAMPLES.contains(failure::EXIT_CODES));
    }
}
