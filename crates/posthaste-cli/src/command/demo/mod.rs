//! `posthaste demo`: the whole path with nothing installed, or on servers that somebody names,
//! killed again and again, and judged.
//!
//! This process plays the service: concurrent writers change the state of a shop and state
//! messages in the same transactions. A child process carries the messages to two consumers and
//! is killed with kill -9. When everything has come to rest, what happened is read from the
//! databases and files and judged by `posthaste-history`; no counter of this process has a say in
//! it.

mod arrivals;
mod carrier;
mod dice;
mod drain;
mod evidence;
mod gate;
mod journal;
mod killer;
mod ledger;
pub(crate) mod node;
mod process;
mod progress;
mod recorder;
mod sabotage;
mod site;
mod stage;
mod verdict;
mod world;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_history::{Journal, moment};
use posthaste_postgres::Postgres;
use posthaste_sqlite::Sqlite;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::address::Address;
use crate::stop::Stop;

use self::dice::Dice;
use self::evidence::Evidence;
use self::gate::Gate;
use self::killer::Killer;
use self::process::Process;
use self::progress::{Board, Display};
use self::sabotage::Sabotage;
use self::stage::Stage;
use self::verdict::Outcome;
use self::world::World;
use self::writers::Writers;

/// See messages survive kill -9, with nothing installed
#[derive(Debug, clap::Args)]
#[command(after_help = "Everything happens in a new temporary folder: a service with a SQLite \
    database, the embedded bus, a relay and two consumers. The relay and the consumers are \
    killed again and again while messages flow; then the files are checked for messages that \
    were lost, invented, out of order or applied twice.\n\n\
    With --database postgres://… or --broker amqp://… it takes place there, in a schema and with \
    an exchange of its own, which are removed at the end. URLs of settings are not used.\n\n\
    Examples:\n  \
    posthaste demo\n  \
    posthaste demo --database postgres://me@localhost/test --broker amqp://localhost\n  \
    posthaste demo --kills 40 --messages 8000\n  \
    posthaste demo --sabotage ack-before-commit\n  \
    posthaste demo --json | tail -n 1 | jq .verdict\n\n\
    Exit status: 0 the promise was kept, 1 it was broken or something failed, 2 wrong use.")]
pub(crate) struct Arguments {
    /// How many messages are committed
    #[arg(long, value_name = "N", default_value_t = 2000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    messages: u64,
    /// How often the relay and the consumers are killed
    #[arg(long, value_name = "N", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=1000))]
    kills: u64,
    /// Where chance begins; how the processes interleave still differs from run to run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Break one rule on purpose, to see that it is noticed
    #[arg(long, value_name = "NAME", value_enum)]
    sabotage: Option<Sabotage>,
    /// Keep the files, and what is at servers
    #[arg(long)]
    keep: bool,
}

/// Runs the demo to its verdict.
///
/// # Errors
/// [`Failure::Told`] if the promise was broken, another one if there was no verdict.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let database = named(context, "database.url", &["postgres", "postgresql"])?;
    let broker = named(context, "broker.url", &["amqp", "amqps"])?;
    match database {
        None => play::<Sqlite>(arguments, context, None, broker).await,
        Some(_) => play::<Postgres>(arguments, context, database, broker).await,
    }
}

/// A server, if a flag names one. What settings name is somebody's real database, which a demo has
/// no business with.
fn named(context: &Context, path: &str, schemes: &[&str]) -> Result<Option<Address>, Failure> {
    let flags = &context.flags().assignments;
    let Some((_, url, flag)) = flags.iter().rev().find(|(named, _, _)| named == path) else {
        return Ok(None);
    };
    let address = Address::new(url);
    if !address.scheme().is_some_and(|scheme| schemes.contains(&&*scheme)) {
        return Err(Failure::usage(format!(
            "{flag}: the demo takes place in files of its own, or on a server: leave {flag} out, \
             or name one with {}://",
            schemes.join(":// or ")
        )));
    }
    if address.holds_secret() {
        context.output.warn(&format!(
            "everybody on this machine can read the password in {flag}; use one for trying out"
        ));
    }
    Ok(Some(address))
}

async fn play<S: Stage>(
    arguments: &Arguments,
    context: &Context,
    database: Option<Address>,
    broker: Option<Address>,
) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    let world = World::<S>::create(database, broker).await?;
    if let Some(place) = world.site().at_servers() {
        context.output.say(&format!("it takes place in {place}"));
    }
    let mut process = Process::new(world.site(), arguments.sabotage)?;
    let run = Run { arguments, seed, world: &world, output: context.output };
    let ended = tokio::select! {
        biased;
        () = stop.requested() => Err(Failure::failed("stopped before there was a verdict")),
        ended = Box::pin(run.play(&mut process)) => ended,
    };
    process.end().await;
    let left = world.leave(arguments.keep).await;
    // What was broken without our doing is worth a look.
    let is_surprise =
        arguments.sabotage.is_none() && ended.as_ref().is_ok_and(|outcome| !outcome.is_kept());
    let folder = world.remove_folder(arguments.keep || is_surprise)?;
    let outcome = match (ended, left) {
        (Ok(outcome), left) => {
            outcome.show(folder.as_deref(), context.output)?;
            left?;
            outcome
        }
        (Err(failure), left) => {
            let failure = failure.and(left.err());
            return Err(match (&folder, failure) {
                (Some(folder), Failure::Failed { message }) => {
                    Failure::failed(format!("{message}; the files are in {}", folder.display()))
                }
                (_, failure) => failure,
            });
        }
    };
    if outcome.is_kept() { Ok(()) } else { Err(Failure::Told) }
}

fn fresh_seed() -> Result<u64, Failure> {
    // Short enough to be typed again.
    let random = getrandom::u32();
    random.map(u64::from).map_err(|error| {
        Failure::failed(format!("no random numbers to be had: {error}; give a --seed"))
    })
}

/// One run of the demo.
struct Run<'r, S> {
    arguments: &'r Arguments,
    seed: u64,
    world: &'r World<S>,
    output: Output,
}

/// Who is told of kills.
struct Watch<'w> {
    board: &'w Board,
    journal: &'w Journal,
}

impl<S: Stage> Run<'_, S> {
    /// From the first message to the evidence.
    async fn play(&self, process: &mut Process) -> Result<Outcome, Failure> {
        let started = Instant::now();
        let board = Arc::new(Board::new(self.arguments.messages, self.arguments.kills));
        let display = Display::start(Arc::clone(&board), self.world.clone(), self.output);
        let evidence = self.play_shown(process, &board).await;
        display.end().await;
        let evidence = evidence?;
        Ok(Outcome {
            site: self.world.site().clone(),
            kept: self.arguments.keep,
            report: evidence.check(),
            evidence,
            kills: process.kills(),
            seed: self.seed,
            duration: started.elapsed(),
            sabotage: self.arguments.sabotage,
            held_open: board.held_open(),
        })
    }

    async fn play_shown(
        &self,
        process: &mut Process,
        board: &Arc<Board>,
    ) -> Result<Evidence, Failure> {
        let journal = Arc::new(journal::open(self.world.site())?);
        let gate = Arc::new(Gate::new(self.arguments.messages));
        let mut dice = Dice::new(self.seed);
        let pace = writers::pace(self.arguments.messages);
        let writers = Writers::start(self.world, &journal, &gate, board, &mut dice, pace);
        process.start()?;
        let killer = Killer::new(self.world.site(), dice);
        let watch = Watch { board, journal: &journal };
        tokio::try_join!(
            writers.finish(),
            self.kill_again_and_again(process, killer, &gate, &watch)
        )?;
        drain::until_still(self.world, process, self.arguments.sabotage.is_some()).await?;
        process.stop(Duration::from_secs(15)).await?;
        Evidence::gather(self.world).await
    }

    /// Lets a share of the messages go with each life of the process, so that there is something
    /// on its way whenever it is killed.
    async fn kill_again_and_again(
        &self,
        process: &mut Process,
        mut killer: Killer,
        gate: &Gate,
        watch: &Watch<'_>,
    ) -> Result<(), Failure> {
        let lives = self.arguments.kills + 1;
        for life in 1..lives {
            let to = self.arguments.messages * life / lives;
            gate.open_to(to);
            killer.strike(process, gate, to).await?;
            let killed = moment();
            watch.board.killed(process.kills());
            process.start()?;
            journal::killed(watch.journal, process.kills(), killed)?;
        }
        gate.open_to(self.arguments.messages);
        Ok(())
    }
}
