//! The lines between relays and their servers: cut before a confirm, with replies swallowed,
//! stalled for longer than anybody waits, reset at any byte, refused.
//!
//! Writers and consumers have lines of their own, so that a copy that arrives was sent by a relay
//! that could not know.

use std::time::Duration;

use posthaste_postgres::Postgres;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::RabbitTuning;
use posthaste_proof::{Failure, Job};
use posthaste_servers::{Direction, Proxy};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{SOON, consumers};
use posthaste_proof::site::{Site, moment, relay};

/// Longer than a call of publish may take here.
const STALL: Duration = Duration::from_millis(2600);

/// How long the time for something that has to pass the line may be.
const PASS: Duration = Duration::from_secs(20);

/// A campaign whose relays reach their servers through proxies.
pub(super) struct Lines {
    pub(super) site: Site,
    to_database: Proxy,
    to_broker: Proxy,
}

impl Lines {
    pub(super) async fn new(chance: &Chance) -> Result<Option<Self>, Failure> {
        let Some(site) = Site::shared(chance).await? else { return Ok(None) };
        let to_database = Proxy::before(site.database.server().port()).await?;
        let to_broker = Proxy::before(site.vhost.server().port()).await?;
        Ok(Some(Self { site, to_database, to_broker }))
    }

    /// Consumers and writers on lines of their own, and relays behind the proxies.
    async fn crew(&self, relays: &[Job]) -> Result<Crew<'_, Postgres>, Failure> {
        let site = &self.site;
        site.declare().await?;
        let mut crew = Crew::of(&site.world);
        crew.add("consumer", consumers()).await?;
        for (number, job) in (1..).zip(relays) {
            let mut node = site.world.node(&format!("relay {number}"), [job.clone()]);
            node.database = self.to_database.url(&node.database);
            node.broker = self.to_broker.url(&node.broker);
            node.rabbit = RabbitTuning {
                publish_within_ms: 1500,
                connect_within_ms: 1500,
                heartbeat_s: 1,
                ..node.rabbit
            };
            crew.add_node(node).await?;
        }
        site.add_writers(&mut crew).await?;
        Ok(crew)
    }

    /// Waits until so many bytes have come from the server, so that something is under way.
    async fn busy(proxy: &Proxy, bytes: u64) {
        let goal = proxy.bytes(Direction::ToClient) + bytes;
        proxy.wait_for(PASS, |counts| counts.to_client >= goal).await;
    }

    /// Swallows replies until some are swallowed, and cuts the line then: what was asked for has
    /// happened, and nobody was told.
    async fn lose_replies(proxy: &Proxy) {
        let before = proxy.counts().swallowed;
        proxy.swallow(Direction::ToClient);
        proxy.wait_for(PASS, |counts| counts.swallowed > before).await;
        proxy.reset();
        proxy.heal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_the_broker_that_is_cut_before_the_confirm() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(261);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    let crew = lines.crew(&[relay()]).await?;
    let (site, line) = (&lines.site, &lines.to_broker);
    for _ in 0..12 {
        site.goes_on(8).await?;
        moment(&mut chance, 60).await;
        Lines::lose_replies(line).await;
    }
    site.goes_on(20).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.copies >= 1, "no confirm was lost");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    lines.site.world.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_the_broker_with_every_fault_there_is() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(262);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    let crew = lines.crew(&[relay(), relay()]).await?;
    let (site, line) = (&lines.site, &lines.to_broker);
    for fault in 0..14 {
        site.goes_on(10).await?;
        disturb(line, fault, &mut chance).await;
        line.heal().await;
    }
    // The broker's side closes what it has, as an operator does.
    for _ in 0..2 {
        site.goes_on(10).await?;
        assert!(site.vhost.close_connections().await > 0, "nobody was connected");
    }
    site.goes_on(20).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    lines.site.world.remove()
}

/// What a settlement did is not known when its reply is lost. It is repeated under the same number,
/// and changes nothing then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_the_database_whose_replies_are_lost() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(263);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    let crew = lines.crew(&[relay()]).await?;
    let (site, line) = (&lines.site, &lines.to_database);
    for _ in 0..12 {
        site.goes_on(8).await?;
        moment(&mut chance, 60).await;
        Lines::lose_replies(line).await;
    }
    site.goes_on(20).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    lines.site.world.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_the_database_with_every_fault_there_is() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(264);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    let crew = lines.crew(&[relay(), relay()]).await?;
    let (site, line) = (&lines.site, &lines.to_database);
    for fault in 0..14 {
        site.goes_on(10).await?;
        disturb(line, fault, &mut chance).await;
        line.heal().await;
    }
    site.goes_on(20).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    lines.site.world.remove()
}

/// One fault after the other; bytes, and times, are left to chance.
async fn disturb(line: &Proxy, fault: u64, chance: &mut Chance) {
    let direction = match chance.one(2) {
        true => Direction::ToServer,
        false => Direction::ToClient,
    };
    match fault % 7 {
        0 => line.reset(),
        1 => {
            let goal = line.counts().connections;
            line.cut_after(direction, 1 + chance.below(4096));
            // Whoever was connected comes again.
            line.wait_for(PASS, |counts| counts.connections > goal).await;
        }
        2 => {
            line.stall(direction);
            tokio::time::sleep(STALL).await;
        }
        3 => {
            line.refuse().await;
            line.reset();
            moment(chance, 900).await;
        }
        4 => {
            line.delay(direction, Duration::from_millis(40));
            Lines::busy(line, 400).await;
        }
        5 => Lines::lose_replies(line).await,
        _ => {
            line.stall(Direction::ToServer);
            line.stall(Direction::ToClient);
            tokio::time::sleep(STALL).await;
            line.close();
        }
    }
}

/// The line of one of two relays is silent: the other one takes over, and the first one changes
/// nothing when it is heard again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_its_database_does_not_hear_is_replaced() -> Result<(), Failure> {
    let chance = Chance::from_environment(265);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    let crew = lines.silenced(&[Direction::ToServer, Direction::ToClient]).await?;
    let truth = lines.site.judged(crew, 150).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    lines.site.world.remove()
}

impl Lines {
    /// Silences one of two relays in each of the directions until the other one leads everything,
    /// and lets it be heard again with what it has said meanwhile.
    pub(super) async fn silenced(
        &self,
        directions: &[Direction],
    ) -> Result<Crew<'_, Postgres>, Failure> {
        let mut crew = self.crew(&[relay()]).await?;
        let (world, line) = (&self.site.world, &self.to_database);
        self.site.goes_on(20).await?;
        crew.add("relay 2", [relay()]).await?;
        for direction in directions {
            self.site.goes_on(20).await?;
            // Confirms are held back until the line is silent, so that settlements meet that.
            self.to_broker.stall(Direction::ToClient);
            let sent = self.to_broker.bytes(Direction::ToServer) + 300;
            let more = self.to_broker.wait_for(PASS, |counts| counts.to_server >= sent);
            // If nothing more is sent, what there is waits for its confirm already.
            drop(tokio::time::timeout(Duration::from_secs(1), more).await);
            line.stall(*direction);
            self.to_broker.heal().await;
            world.until(&led_by("relay 2"), 4, SOON).await?;
            self.site.goes_on(40).await?;
            line.heal().await;
            world.until(&led_by("relay 1"), 1, SOON).await?;
        }
        Ok(crew)
    }
}

/// How many lanes a node leads.
fn led_by(node: &str) -> String {
    format!(
        "select count(*) from posthaste_lease where name like 'relay/default/%' \
         and owner like '{node} #%' and expires_at > clock_timestamp()"
    )
}

/// The server's machine is gone without a word: what was asked is never answered on the lines that
/// were open, and nothing ever says that they are dead. New lines work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_never_comes_is_not_waited_for_without_end() -> Result<(), Failure> {
    let chance = Chance::from_environment(266);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    let crew = lines.crew(&[relay()]).await?;
    for line in [&lines.to_broker, &lines.to_database] {
        lines.site.goes_on(20).await?;
        let before = line.counts().swallowed;
        line.swallow(Direction::ToClient);
        line.wait_for(PASS, |counts| counts.swallowed > before + 200).await;
        line.heal().await;
        lines.site.goes_on(40).await?;
    }
    let truth = lines.site.judged(crew, 100).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    lines.site.world.remove()
}
