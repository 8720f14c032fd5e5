//! Writers in another language, and everything that can go wrong at once: relays, consumers,
//! database and broker are killed, and every line is cut, stalled and robbed of replies. What is
//! true stands in the writers' own tables.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use posthaste_postgres::Postgres;
use posthaste_proof::Failure;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::RabbitTuning;
use posthaste_servers::{Direction, PostgresOptions, Proxy, RabbitMq, RabbitMqOptions, skip};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{SOON, consumers};
use posthaste_proof::site::{Site, moment, relay};

/// The program of the writers.
const WRITER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/writer.py");

/// How long faults go on.
const CAMPAIGN: Duration = Duration::from_secs(25);

/// How often an ended writer is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// A Python with the driver.
fn python() -> Option<&'static str> {
    let has_driver = |python: &&str| {
        let mut look = Command::new(python);
        look.args(["-c", "import psycopg"]).stderr(Stdio::null());
        look.status().is_ok_and(|status| status.success())
    };
    ["/usr/bin/python3", "python3"].into_iter().find(has_driver)
}

/// A running writer. Dropping it kills it.
struct Writer(Child);

impl Writer {
    fn start(python: &str, site: &Site, url: &str, name: &str) -> Result<Self, Failure> {
        let folder: &Path = site.world.path();
        let said = File::create(folder.join(format!("{name}.jsonl")))?;
        let log = File::create(folder.join(format!("{name}.log")))?;
        let child = Command::new(python)
            .args([WRITER, "--database", url, "--name", name])
            .args(["--seed", &site.world.seed().to_string(), "--patience", "2"])
            .args(["--hold-ms", "1500", "--hold-share", "0.05", "--evidence"])
            .arg(folder.join("evidence.jsonl"))
            .stdout(said)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    async fn end(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("a process without a number")?, Signal::TERM)?;
        let deadline = Instant::now() + SOON;
        loop {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("a writer ended with {status}").into()),
                None if Instant::now() > deadline => return Err("a writer does not end".into()),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself; waiting for it is right either way.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The servers and the lines that lead to them.
struct Stage {
    postgres: posthaste_servers::Postgres,
    rabbitmq: RabbitMq,
    to_database: Proxy,
    to_broker: Proxy,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_wrong_at_once_and_nothing_is_lost() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(281);
    let missing = posthaste_servers::Postgres::missing().or_else(RabbitMq::missing);
    if let Some(reason) = missing {
        skip(&reason);
        return Ok(());
    }
    let Some(python) = python() else {
        skip("psycopg 3 for Python is not installed (Debian: python3-psycopg)");
        return Ok(());
    };
    let postgres = posthaste_servers::Postgres::start(PostgresOptions::new()).await;
    let rabbitmq = RabbitMq::start(RabbitMqOptions::new()).await;
    let to_database = Proxy::before(postgres.port()).await?;
    let to_broker = Proxy::before(rabbitmq.port()).await?;
    let stage = Stage { postgres, rabbitmq, to_database, to_broker };
    let site = Site::on(&stage.postgres, &stage.rabbitmq, &chance).await?;
    let (mut crew, writers) = stage.cast(&site, python).await?;
    site.goes_on(20).await?;
    let end = Instant::now() + CAMPAIGN;
    while Instant::now() < end {
        stage.disturb(&mut crew, &mut chance).await?;
        moment(&mut chance, 600).await;
    }
    stage.to_database.heal().await;
    stage.to_broker.heal().await;
    site.goes_on(50).await?;
    for writer in writers {
        writer.end().await?;
    }
    let truth = site.judged(crew, 200).await?;
    truth.is_worth(200, 1)?;
    assert!(truth.report.counts.rolled_back >= 20, "too few were rolled back: {:?}", truth.report);
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}

impl Stage {
    /// Everybody on the lines through the proxies, but for one writer.
    async fn cast<'s>(
        &self,
        site: &'s Site,
        python: &str,
    ) -> Result<(Crew<'s, Postgres>, Vec<Writer>), Failure> {
        site.declare().await?;
        let mut crew = Crew::of(&site.world);
        let mut nodes = vec![site.world.node("consumer 1", consumers())];
        nodes.push(site.world.node("consumer 2", consumers()));
        nodes.extend((1..=3).map(|n| site.world.node(&format!("relay {n}"), [relay()])));
        for mut node in nodes {
            node.database = self.to_database.url(&node.database);
            node.broker = self.to_broker.url(&node.broker);
            node.rabbit = RabbitTuning {
                publish_within_ms: 1500,
                connect_within_ms: 2500,
                heartbeat_s: 1,
                ..node.rabbit
            };
            crew.add_node(node).await?;
        }
        let url = &site.world.database_url;
        let writers = vec![
            Writer::start(python, site, &self.to_database.url(url), "python behind a proxy")?,
            Writer::start(python, site, url, "python")?,
        ];
        Ok((crew, writers))
    }

    /// One fault, chosen by chance.
    async fn disturb(
        &self,
        crew: &mut Crew<'_, Postgres>,
        chance: &mut Chance,
    ) -> Result<(), Failure> {
        let line = if chance.one(2) { &self.to_database } else { &self.to_broker };
        match chance.below(12) {
            0..=3 => {
                let names =
                    if chance.one(3) { crew.names("consumer") } else { crew.names("relay") };
                let chosen = chance.below(names.len() as u64);
                let name = &names[usize::try_from(chosen)?];
                crew.kill(name)?;
                moment(chance, 200).await;
                crew.restart(name).await?;
            }
            4 | 5 => {
                self.postgres.kill().await;
                moment(chance, 500).await;
                self.postgres.restart().await;
            }
            6 if chance.one(2) => {
                self.rabbitmq.kill().await;
                moment(chance, 500).await;
                self.rabbitmq.restart().await;
            }
            6 | 7 => line.reset(),
            8 => {
                line.swallow(Direction::ToClient);
                moment(chance, 400).await;
                line.reset();
            }
            9 => {
                line.stall(if chance.one(2) { Direction::ToClient } else { Direction::ToServer });
                moment(chance, 2500).await;
            }
            10 => {
                line.cut_after(Direction::ToServer, chance.below(4096));
                moment(chance, 400).await;
            }
            _ => {
                line.cut_after(Direction::ToClient, chance.below(4096));
                moment(chance, 400).await;
            }
        }
        line.heal().await;
        Ok(())
    }
}
