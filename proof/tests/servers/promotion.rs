//! Another server goes on for the one that everybody knew: a standby is promoted with all that was
//! committed, or without the last of it, or a dump is restored in a cluster of its own. Everybody
//! reaches the database through a proxy, as through an address that is moved.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use posthaste::Outbox;
use posthaste::core::MessageId;
use posthaste::core::database::Schema;
use posthaste::core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_history::event::{Commit, CommitAnswer};
use posthaste_history::{Event, Floors, Report, Verdict, check};
use posthaste_postgres::Options;
use posthaste_proof::chance::Chance;
use posthaste_proof::evidence::acknowledged;
use posthaste_proof::node::Relaying;
use posthaste_proof::shop::{Behaviour, Order};
use posthaste_proof::truth::{Truth, told};
use posthaste_proof::{Failure, Job, World};
use posthaste_servers::{Postgres, PostgresOptions, Proxy, RabbitMq, rabbitmq_or_skip, skip};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use super::late_commits::{finish, prepare};
use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{PATIENCE, SETTLEMENTS, SOON, consumers, number, order, place, state};
use posthaste_proof::site::{Site, moment, servers};

/// Transactions that are prepared.
const PREPARED: u64 = 6;

/// How long nothing may move before it is clear that something is missing.
const MISSING: Duration = Duration::from_secs(5);

/// How often a server or a log is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The highest number in the outbox.
const HIGHEST: &str = "select coalesce(max(seq), 0) from posthaste_outbox";

/// The server that a proxy is to lead to.
fn address(server: &Postgres) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}

/// A world that knows its database by the address of a proxy.
async fn behind_proxy(
    server: &Postgres,
    rabbitmq: &RabbitMq,
    chance: &Chance,
) -> Result<(Site, Proxy), Failure> {
    let (database, vhost) = (server.database().await, rabbitmq.vhost().await);
    let line = Proxy::before(server.port()).await?;
    let url = line.url(&database.url());
    let world = World::on(chance.seed(), url, vhost.url()).await?;
    Ok((Site { world, database, vhost }, line))
}

/// Asks a server again and again until this is the answer.
async fn until(server: &Postgres, question: &str, wanted: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = server.psql("postgres", question).await;
        if answer.as_deref() == Ok(wanted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{question}: {answer:?}, not {wanted}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Nobody is told of a commit before the standby has it, so that nothing is lost with the primary.
/// What is prepared there is finished where it is promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_transactions_are_finished_on_a_promoted_standby() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(291);
    if let Some(reason) = Postgres::missing() {
        skip(&reason);
        return Ok(());
    }
    let Some(rabbitmq) = rabbitmq_or_skip().await else { return Ok(()) };
    let primary = Postgres::start(PostgresOptions::new()).await;
    let (site, line) = behind_proxy(&primary, rabbitmq, &chance).await?;
    let standby = primary.standby().await;
    let wait = "alter system set synchronous_standby_names = '*'; select pg_reload_conf();";
    primary.psql("postgres", wait).await?;
    until(&primary, "select sync_state from pg_stat_replication", "sync").await?;
    let mut crew = site.crew(2).await?;
    let mut pending = Vec::new();
    for number in 0..PREPARED {
        pending.push(prepare(&site, number).await?);
        site.goes_on(10).await?;
    }
    primary.kill().await;
    standby.promote().await;
    line.set_upstream(address(&standby));
    site.goes_on(30).await?;
    for (number, ids) in (0..).zip(pending) {
        moment(&mut chance, 100).await;
        finish(&site, number, ids, number % 3 != 2).await?;
    }
    site.goes_on(20).await?;
    site.end_writers(&mut crew).await?;
    let notes = site.world.database.adopt("ann").await?;
    assert!(notes.iter().all(|note| note.contains("nothing to adopt")), "{notes:?}");
    let truth = site.judged(crew, 100).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    let prepared: Vec<_> =
        truth.transactions().filter(|one| one.id.contains("of the test")).collect();
    assert_eq!(prepared.len(), 4, "those that were committed are there: {prepared:?}");
    let left =
        "select (select count(*) from posthaste_held) + (select count(*) from pg_prepared_xacts)";
    assert_eq!(number(&site.world, left).await?, 0, "nothing is held, and nothing is open");
    site.world.remove()
}

/// What a primary told everybody, and its standby never heard of, is gone; what the standby gives
/// the same numbers to is not taken for it. The relay has only just renewed its lease when the
/// primary ends, and keeps in mind that it has read further than the standby has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_are_given_a_second_time_are_sent() -> Result<(), Failure> {
    kept(292, Ahead::Relay).await
}

/// The same, where the new server has come further than the relay by the time they meet: a cursor
/// of before would send what lies beyond it ahead of what lies below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_another_life_reads_nothing() -> Result<(), Failure> {
    kept(294, Ahead::Writers).await
}

async fn kept(seed: u64, ahead: Ahead) -> Result<(), Failure> {
    let Some(failover) = Failover::prepare(seed).await? else { return Ok(()) };
    let (report, truth) = failover.run(ahead, PATIENCE).await?;
    assert_eq!(report.verdict, Verdict::Kept, "{}", told(&report));
    assert!(truth.overtaken.is_empty(), "{:?}", truth.overtaken);
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    let fenced = truth.tokens.values().all(|tokens| tokens.is_sorted());
    assert!(fenced, "an old lease has settled: {:?}", truth.tokens);
    failover.site.world.remove()
}

/// The same, where all servers seem to be one that never began anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_outlives_its_server_is_noticed() -> Result<(), Failure> {
    let Some(failover) = Failover::prepare(293).await? else { return Ok(()) };
    let immortal = "create or replace function posthaste.server_life() returns text \
         language sql stable return 'the only one'";
    failover.site.database.psql(immortal).await?;
    let (report, _) = failover.run(Ahead::Relay, MISSING).await?;
    assert!(report.counts.lost > 0 && report.counts.double_effects == 0, "{}", told(&report));
    failover.site.world.remove()
}

/// Who has come further when the relay meets the new server: what it has read, or what is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ahead {
    Relay,
    Writers,
}

impl Ahead {
    /// A relay that is behind must not be found out by a renewal, or there is nothing to see.
    fn lease_ms(self) -> u64 {
        if self == Self::Relay { 3000 } else { 9000 }
    }
}

/// A primary, a standby that follows it for a while, and a relay on a line of its own.
struct Failover {
    site: Site,
    line: Proxy,
    relays: Proxy,
    primary: Postgres,
    standby: Postgres,
}

impl Failover {
    async fn prepare(seed: u64) -> Result<Option<Self>, Failure> {
        let chance = Chance::from_environment(seed);
        if let Some(reason) = Postgres::missing() {
            skip(&reason);
            return Ok(None);
        }
        let Some(rabbitmq) = rabbitmq_or_skip().await else { return Ok(None) };
        let primary = Postgres::start(PostgresOptions::new()).await;
        let (site, line) = behind_proxy(&primary, rabbitmq, &chance).await?;
        let relays = Proxy::before(primary.port()).await?;
        let standby = primary.standby().await;
        Ok(Some(Self { site, line, relays, primary, standby }))
    }

    /// Returns the judgement on what the second server knows of, and the whole truth.
    async fn run(&self, ahead: Ahead, patience: Duration) -> Result<(Report, Truth), Failure> {
        let site = &self.site;
        site.declare().await?;
        let mut crew = Crew::of(&site.world);
        crew.add("consumer", consumers()).await?;
        let relaying = Relaying { lease_ms: ahead.lease_ms(), ..Relaying::default() };
        let mut relay = site.world.node("relay", [Job::Relay(relaying)]);
        relay.database = self.relays.url(&site.database.url());
        crew.add_node(relay).await?;
        self.place(20, 1).await?;
        self.at_rest().await?;
        self.part().await?;
        let kept = self.ids().await?;
        self.place(120, 1).await?;
        self.at_rest().await?;
        let (known, highest) = (self.ids().await?, number(&site.world, HIGHEST).await?);
        let renewed = "select count(*) from posthaste_lease where name like 'relay/%' \
             and expires_at - clock_timestamp() > ttl * 0.9";
        site.world.until(renewed, 1, SOON).await?;
        self.promote().await?;
        self.place(if ahead == Ahead::Relay { 10 } else { 60 }, 5).await?;
        let last = number(&site.world, HIGHEST).await?;
        assert_eq!(last < highest, ahead == Ahead::Relay, "{last} and {highest}");
        self.relays.set_upstream(address(&self.standby));
        self.relays.heal().await;
        if site.world.rest(patience).await? {
            self.place(60, 5).await?;
            site.world.rest(patience).await?;
        }
        crew.finish_all(&["relay", "consumer"]).await?;
        let truth = site.world.truth().await?;
        let gone: BTreeSet<_> = known.difference(&kept).cloned().collect();
        assert!(gone.len() >= 200, "only {} orders and receipts were lost", gone.len());
        Ok((without(&truth, &gone), truth))
    }

    /// Places so many transactions of so many orders each; customers take turns.
    async fn place(&self, transactions: usize, each: usize) -> Result<(), Failure> {
        let mut customers = (0..8).cycle();
        for _ in 0..transactions {
            let orders: Vec<Order> = customers
                .by_ref()
                .take(each)
                .map(|n| order(&format!("customer {n}"), n, Behaviour::Good, "failover"))
                .collect();
            self.place_once(&orders).await?;
        }
        Ok(())
    }

    /// Places one transaction; connections to the server that has ended are still at hand, and are
    /// found to be of no use one by one.
    async fn place_once(&self, orders: &[Order]) -> Result<(), Failure> {
        let deadline = Instant::now() + SOON;
        while let Err(failure) = place(&self.site.world, orders).await {
            if Instant::now() > deadline {
                return Err(failure);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn at_rest(&self) -> Result<(), Failure> {
        match self.site.world.rest(PATIENCE).await? {
            true => Ok(()),
            false => Err("not all of it arrived".into()),
        }
    }

    /// Ids of everything in the outbox.
    async fn ids(&self) -> Result<BTreeSet<String>, Failure> {
        let ids = "select cast(id as text) from posthaste_outbox";
        let rows: Vec<(String,)> = self.site.world.eye.rows(ids).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Lets the standby have everything so far and nothing that comes.
    async fn part(&self) -> Result<(), Failure> {
        let written = self.primary.psql("postgres", "select pg_current_wal_lsn()").await?;
        let arrived = format!("select pg_last_wal_replay_lsn() >= '{written}'");
        until(&self.standby, &arrived, "t").await?;
        let alone = "alter system set primary_conninfo = ''; select pg_reload_conf();";
        self.standby.psql("postgres", alone).await?;
        until(&self.primary, "select count(*) from pg_stat_replication", "0").await
    }

    /// Ends the primary and lets the standby take over. The relay is not told yet.
    async fn promote(&self) -> Result<(), Failure> {
        self.relays.refuse().await;
        self.primary.kill().await;
        self.standby.promote().await;
        self.line.set_upstream(address(&self.standby));
        Ok(())
    }
}

/// The judgement without what one server has told and the next one never heard of.
fn without(truth: &Truth, gone: &BTreeSet<String>) -> Report {
    let mut history = truth.history.clone();
    history.lines_mut().retain_mut(|line| match &mut line.event {
        Event::Commit(Commit { ids, answer: CommitAnswer::Committed, .. }) => {
            ids.retain(|id| !gone.contains(id));
            true
        }
        Event::Delivered(delivered) => !gone.contains(&delivered.id),
        Event::Effect(effect) => !gone.contains(&effect.id),
        _ => true,
    });
    check(&history, &Floors::default())
}

/// The dump has a backlog: what nobody has sent yet, and what committed behind the checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_in_another_cluster_is_refused_until_it_is_adopted() -> Result<(), Failure> {
    let chance = Chance::from_environment(294);
    let Some((postgres, rabbitmq)) = servers().await else { return Ok(()) };
    let other = Postgres::start(PostgresOptions::new()).await;
    let (site, line) = behind_proxy(postgres, rabbitmq, &chance).await?;
    site.declare().await?;
    // Slow to believe that another one is gone: a busy machine must not look like a fault.
    let relaying = Job::Relay(Relaying { lease_ms: 6000, ..Relaying::default() });
    let mut crew = Crew::of(&site.world);
    crew.add("consumer", consumers()).await?;
    crew.add("relay", [relaying.clone()]).await?;
    backlog(&site, &mut crew).await?;
    let settled = number(&site.world, SETTLEMENTS).await?;

    restore(&site, &other).await?;
    line.set_upstream(address(&other));
    line.reset();
    reconnected(&site).await?;
    crew.add("relay of the copy", [relaying]).await?;
    until_logged(&site.world.path().join("relay of the copy.log"), "posthaste adopt").await?;
    assert_eq!(number(&site.world, SETTLEMENTS).await?, settled, "nothing is sent from a copy");
    // As a command of its own does it, with connections of its own.
    let operator =
        posthaste_postgres::Postgres::open(&site.world.database_url, Options::default())?;
    // The line may still be cutting off what was there before.
    let deadline = Instant::now() + SOON;
    let notes = loop {
        match operator.adopt("ann").await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tokio::time::sleep(LOOK).await;
            }
            adopted => break adopted?,
        }
    };
    assert!(notes[0].contains("adopted"), "{notes:?}");
    crew.add("consumer", consumers()).await?;
    site.add_writers(&mut crew).await?;
    site.goes_on(100).await?;
    let truth = site.judged(crew, 140).await?;
    assert_eq!(truth.copies, 0, "what was settled before is not sent again");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}

/// Forty orders that are settled, one that was stated before them and commits when relay and
/// consumer have ended, and sixty after that.
async fn backlog(
    site: &Site,
    crew: &mut Crew<'_, posthaste_postgres::Postgres>,
) -> Result<(), Failure> {
    let mut late = PgConnection::connect(&site.world.database_url).await?;
    late.execute("begin").await?;
    let outbox = Outbox::new(site.world.database.clone());
    let ids = state(&outbox, &mut late, &[order("ann", 1, Behaviour::Good, "late")]).await?;
    let some = |count: i64| -> Vec<Order> {
        let one = |n| order(&format!("customer {}", n % 7), n, Behaviour::Good, "some");
        (0..count).map(one).collect()
    };
    place(&site.world, &some(40)).await?;
    if !site.world.rest(PATIENCE).await? {
        return Err("not all of it arrived".into());
    }
    crew.finish_all(&["relay", "consumer"]).await?;
    late.execute("commit").await?;
    late.close().await?;
    let ids = ids.iter().map(MessageId::to_string).collect();
    site.world.evidence.note(acknowledged(ids))?;
    place(&site.world, &some(60)).await?;
    Ok(())
}

/// Lets the test's own pool find out which of its connections were reset: one that was used a moment
/// ago is not tried before it is used again.
async fn reconnected(site: &Site) -> Result<(), Failure> {
    let deadline = Instant::now() + SOON;
    while let Err(error) = site.world.database.list(&DeadFilter::default()).await {
        if !error.is_transient() || Instant::now() > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Restores a dump of the database under the same name on another server.
async fn restore(site: &Site, other: &Postgres) -> Result<(), Failure> {
    let (server, name) = (site.database.server(), &site.database.name);
    let mut dump = Command::new(server.binaries().join("pg_dump"));
    dump.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres", name]);
    let dumped = tokio::task::spawn_blocking(move || dump.output()).await??;
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    other.psql("postgres", &format!("create database {name}")).await?;
    other.psql(name, &String::from_utf8(dumped.stdout)?).await?;
    Ok(())
}

/// Waits until a node has said this.
async fn until_logged(log: &Path, words: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + SOON;
    loop {
        let said = std::fs::read_to_string(log)?;
        if said.contains(words) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("nobody says {words}: {said}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
