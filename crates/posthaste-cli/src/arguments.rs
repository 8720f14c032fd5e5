//! The command line: what can be typed, and nothing of what it does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::command::Command;
use crate::output::Output;
use crate::settings::layers::Flags;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "posthaste",
    version,
    about = "Reliable messages for services that own a database",
    long_about = "Delivers the messages that services write into the outbox of their own database: \
        nothing lost, nothing invented, in order per key.",
    after_help = "Settings come from flags, then environment variables (POSTHASTE_DATABASE_URL, \
        POSTHASTE_BROKER_URL, …), then ./posthaste.toml.\n\n\
        Examples:\n  \
        posthaste init\n  \
        posthaste migrate --database sqlite:///var/lib/shop/app.db\n  \
        posthaste run --database sqlite:///var/lib/shop/app.db \
        --broker bus:///var/lib/shop/bus.db\n  \
        posthaste publish orders order.placed '{\"id\": 42}' --key 42\n  \
        posthaste subscribe orders --json\n\n\
        Exit status: 0 done, 1 failed, 2 wrong use.",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Global {
    /// Read settings from this file [default: ./posthaste.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The database with the outbox
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// The broker to relay to or to receive from
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Set any setting by its path, as in --set relay.window=64
    #[arg(long, global = true, value_name = "PATH=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// Log level: off, error, warn, info, debug, trace, or levels per module
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Form of the log: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// Write data and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.is_empty() => Ok((path.to_owned(), value.to_owned())),
        _ => Err("write it as PATH=VALUE".to_owned()),
    }
}

impl Arguments {
    /// The flags that are settings.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = self.global.flags();
        if let Command::Run(run) = &self.command
            && let Some(listen) = &run.listen
        {
            flags.assignments.push(("http.listen".into(), listen.clone(), "--listen".into()));
        }
        flags
    }
}

impl Global {
    fn flags(&self) -> Flags {
        let set = self.set.iter().map(|(path, value)| (path.clone(), value.clone(), "--set"));
        let named = [
            ("database.url", &self.database, "--database"),
            ("broker.url", &self.broker, "--broker"),
            ("log.level", &self.log, "--log"),
            ("log.format", &self.log_format, "--log-format"),
        ];
        let named = named.into_iter().filter_map(|(path, value, flag)| {
            value.as_ref().map(|value| (path.to_owned(), value.clone(), flag))
        });
        let assignments =
            set.chain(named).map(|(path, value, flag)| (path, value, flag.to_owned()));
        Flags { file: self.config.clone(), assignments: assignments.collect() }
    }
}

/// Reads the command line. Help, the version and wrong use have been told when it returns an exit
/// status.
pub(crate) fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        // The flag is looked for by hand because there are no parsed arguments to look at.
        let json = std::env::args_os().any(|argument| argument == "--json");
        Output::new(json).usage(&error);
        if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
    })
}
