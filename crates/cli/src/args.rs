//! The command line: subcommands by `clap`'s derive, settings from the one list in [`crate::config`].
//!
//! Values of settings are taken as text, so that a bad one is reported together with those of the environment and the
//! file, and not alone by `clap`.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

use crate::config::{CONFIG, KEYS, Key};

/// OAuth 2.1 server with dynamic client registration for a tailnet.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Task,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 running but not ready (status),
4 not running (status, ca, policy, client), 5 refused by the tailnet or by the stored issuer: a person must decide, 70 a bug";

const SETTINGS: &str = "\
Every setting has one name: --state-dir here, COUNTERSIGN_STATE_DIR in the environment, state_dir in the file.
A flag beats a variable, a variable beats the file. Everything that is wrong is reported in one run.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Join the tailnet and serve
    #[command(after_help = SETTINGS)]
    Serve(Settings),
    /// Show it all on a tailnet in this process: no root, no network, nothing installed
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
    /// Show how the running server is doing
    Status(StatusArgs),
    /// Print the root certificate of the internal CA, and its SHA-256 on stderr
    Ca(Location),
    /// The name under which tokens are issued
    #[command(subcommand)]
    Issuer(IssuerTask),
    /// What the tailnet policy says here
    #[command(subcommand)]
    Policy(PolicyTask),
    /// The registered clients
    #[command(subcommand)]
    Client(ClientTask),
}

/// What to ask about the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyTask {
    /// Say who may what and which rule decides, as the running server sees it now
    Explain(ExplainArgs),
}

/// Arguments of `policy explain`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").args(["user", "node"]).required(true).multiple(true))]
pub(crate) struct ExplainArgs {
    /// Login name of a user, or a tag
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// One node: its name or stable id; otherwise every node of the user
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Id of a client that the user wants to log in with
    #[arg(long)]
    pub(crate) client: Option<String>,
    /// A resource that the client asks for; can be repeated
    #[arg(long, value_name = "URI")]
    pub(crate) resource: Vec<String>,
    /// A scope that the client asks for; can be repeated
    #[arg(long)]
    pub(crate) scope: Vec<String>,
    /// Print a JSON array: one object for each node, or for several that are answered alike
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) location: Location,
}

/// What to do with clients.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientTask {
    /// List them: whose they are, and who may use them
    List(ClientList),
    /// Let everybody use a client, as far as the tailnet policy allows
    Publish(ClientName),
    /// Let only its owner use a client; what others obtained with it is refused from then on
    Unpublish(ClientName),
}

/// Arguments of `client list`.
#[derive(Debug, Args)]
pub(crate) struct ClientList {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) location: Location,
}

/// Arguments of `client publish` and `client unpublish`.
#[derive(Debug, Args)]
pub(crate) struct ClientName {
    /// Id of the client
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) location: Location,
}

/// What to do with the issuer.
#[derive(Debug, Subcommand)]
pub(crate) enum IssuerTask {
    /// Change the stored issuer while the server is stopped; lists what that breaks
    Change(IssuerChange),
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait until the server is ready, also for one that has not started yet
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub(crate) wait: Option<u32>,
    #[command(flatten)]
    pub(crate) location: Location,
}

/// Arguments of `issuer change`.
#[derive(Debug, Args)]
pub(crate) struct IssuerChange {
    /// The new issuer, for example `https://idp-1.tail.example`
    pub(crate) issuer: String,
    /// Do it; without this only the consequences are shown
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) location: Location,
}

/// Every setting as a flag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(pub(crate) Flags);

/// Only the settings that say where the state is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Location(pub(crate) Flags);

/// Written flags by key name.
pub(crate) type Flags = Vec<(&'static str, Vec<String>)>;

fn all() -> impl Iterator<Item = &'static Key> {
    std::iter::once(&CONFIG).chain(KEYS)
}

fn location() -> impl Iterator<Item = &'static Key> {
    all().filter(|key| key.name == CONFIG.name || key.name == "state_dir")
}

fn argument(key: &'static Key) -> Arg {
    let default = key
        .default
        .filter(|text| !text.is_empty())
        .map(|text| format!(" [default: {text}]"));
    let help = format!("{}{}", key.help, default.unwrap_or_default());
    let action = if key.list { ArgAction::Append } else { ArgAction::Set };
    Arg::new(key.name)
        .long(key.flag())
        .value_name(key.value)
        .help(help)
        .action(action)
        .allow_hyphen_values(true)
}

fn flags(keys: impl Iterator<Item = &'static Key>, matches: &ArgMatches) -> Flags {
    let written = |key: &'static Key| {
        let values = matches.get_many::<String>(key.name)?;
        Some((key.name, values.cloned().collect()))
    };
    keys.filter_map(written).collect()
}

/// Implements what `clap` needs to flatten a set of settings into a subcommand.
macro_rules! settings_arguments {
    ($name:ident, $keys:ident) => {
        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                command.args($keys().map(argument))
            }
            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(flags($keys(), matches)))
            }
            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = flags($keys(), matches);
                Ok(())
            }
        }
    };
}

settings_arguments!(Settings, all);
settings_arguments!(Location, location);

#[cfg(test)]
mod tests;
