//! Random worlds: relays that crash, databases and brokers that fail, and at the end, when all is
//! well again, everything sent or dead, and every key in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::model::{Faults, KINDS, Node, World};
use crate::judge::{OnDead, TopicPolicy};
use crate::outbox::Pace;
use crate::relay::{Facts, Input, Relay, Settings};
use crate::retry::RetryPolicy;

fn settings(world: &mut World) -> Settings {
    let on_dead = if world.chance(50) { OnDead::Park } else { OnDead::Skip };
    let retry = RetryPolicy {
        limit: 4,
        first: Duration::from_millis(20),
        longest: Duration::from_millis(200),
    };
    let small = usize::from(world.chance(50));
    Settings {
        window_messages: [64, 7][small],
        read_messages: [16, 3][small],
        flight_messages: [8, 2][small],
        policy: TopicPolicy {
            retry,
            on_dead,
            probe_every: Duration::from_millis(60),
            ..TopicPolicy::default()
        },
        lease_ttl: Duration::from_millis(500),
        pace: Pace { shortest: Duration::from_millis(1), longest: Duration::from_millis(50) },
        grace: Duration::from_secs(1),
        ..Settings::default()
    }
}

fn faults(world: &mut World) -> Faults {
    let mut rate = |most| if world.chance(50) { world.random.draw() % most } else { 0 };
    Faults {
        refused: rate(40),
        refused_for_good: rate(10),
        unknown: rate(30),
        silent: rate(20),
        unavailable: rate(50),
        database: rate(20),
    }
}

/// Runs one world and checks it; what is found wrong is returned with the seed.
fn run(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed);
    world.faults = faults(&mut world);
    world.prefix_per_key = world.chance(50);
    let facts = Facts { prefix_per_key: world.prefix_per_key, max_batch: 100 };
    let settings = settings(&mut world);
    let rebinds = world.chance(50);
    let mut next = 0;
    let mut born = |world: &mut World| {
        next += 1;
        Node::new(Relay::new(settings.clone(), facts, world.random.draw()), next)
    };
    let mut nodes: Vec<Node> = (0..=world.random.draw() % 2).map(|_| born(&mut world)).collect();
    for _ in 0..600 {
        match world.random.draw() % 16 {
            0..=2 => {
                let key = world.random.draw() % 5;
                let due = world.chance(10).then(|| Duration::from_millis(100));
                world.state(key, due);
                for node in &mut nodes {
                    node.step(world.now, Input::Changed);
                }
            }
            3..=4 => world.now = world.now.plus(Duration::from_millis(world.random.draw() % 60)),
            5 if world.chance(10) => {
                let which = usize::try_from(world.random.draw() % 2).unwrap_or(0) % nodes.len();
                nodes[which] = born(&mut world);
            }
            6 if world.chance(10) && nodes.len() > 1 => nodes[0].step(world.now, Input::Stop),
            7 if rebinds && world.chance(30) => {
                let kind = KINDS[usize::try_from(world.random.draw() % 3).unwrap_or(0)].to_owned();
                if !world.bound.remove(&kind) {
                    world.bound.insert(kind);
                }
            }
            _ => {}
        }
        turn(&mut world, &mut nodes);
    }
    world.faults = Faults::default();
    world.bound = KINDS.map(str::to_owned).into();
    if nodes.iter().all(|node| node.finished) {
        nodes.push(born(&mut world));
    }
    nodes.push(born(&mut world));
    for _ in 0..40_000 {
        let busy = turn(&mut world, &mut nodes);
        if !busy {
            world.now = world.now.plus(Duration::from_millis(7));
            if world.now.elapsed() > Duration::from_hours(1) {
                break;
            }
        }
        if at_rest(&world) && !busy {
            break;
        }
    }
    verify(&world, settings.policy.on_dead, rebinds)
        .map_err(|wrong| format!("seed {seed}: {wrong}"))?;
    Ok(world)
}

fn turn(world: &mut World, nodes: &mut [Node]) -> bool {
    let mut busy = false;
    for node in nodes.iter_mut().filter(|node| !node.finished) {
        node.step(world.now, Input::Tick);
        let steps = 1 + world.random.draw() % 3;
        for _ in 0..steps {
            busy |= node.advance(world);
        }
    }
    busy
}

fn at_rest(world: &World) -> bool {
    let read = usize::try_from(world.checkpoint).unwrap_or(0) == world.outbox.len();
    let waits = |seq: &u64| {
        world.held[seq].state == "parked"
            || world.key(*seq).is_some_and(|key| {
                world.held.iter().any(|(other, held)| {
                    other < seq && held.state == "parked" && world.key(*other) == Some(key)
                })
            })
    };
    read && world.held.keys().all(waits)
}

fn verify(world: &World, on_dead: OnDead, rebinds: bool) -> Result<(), String> {
    if !at_rest(world) {
        return Err(format!("not at rest: {} held {:?}", world.checkpoint, world.held));
    }
    let delivered: BTreeSet<u64> = world.accepted.iter().copied().collect();
    let mut first = BTreeMap::new();
    for (place, seq) in world.accepted.iter().enumerate() {
        first.entry(*seq).or_insert(place);
    }
    for seq in 1..=u64::try_from(world.outbox.len()).unwrap_or(0) {
        let held = world.held.contains_key(&seq);
        if !delivered.contains(&seq) && !world.dead.contains(&seq) && !held {
            return Err(format!("{seq} is lost"));
        }
        if held && on_dead == OnDead::Skip {
            return Err(format!("{seq} waits although dead letters are skipped"));
        }
    }
    // What is set aside holds only its own kind back.
    let row = |seq: u64| &world.outbox[usize::try_from(seq).unwrap_or(0) - 1];
    let in_order = |a: u64, b: u64| !rebinds || row(a).kind == row(b).kind;
    for (seq, place) in &first {
        // A message that was due later has no order, nor has one without a key.
        let row = &world.outbox[usize::try_from(*seq).unwrap_or(0) - 1];
        let Some(key) = world.key(*seq).filter(|_| row.due_at.is_none()) else { continue };
        for (other, other_place) in first.range(..*seq) {
            let row = &world.outbox[usize::try_from(*other).unwrap_or(0) - 1];
            if world.key(*other) == Some(key)
                && row.due_at.is_none()
                && other_place > place
                && in_order(*seq, *other)
            {
                return Err(format!("{seq} of key {key} came before {other}"));
            }
        }
        let skipped = (1..*seq).find(|other| {
            world.key(*other) == Some(key)
                && in_order(*seq, *other)
                && world.outbox[usize::try_from(*other).unwrap_or(0) - 1].due_at.is_none()
                && !first.contains_key(other)
                && !(on_dead == OnDead::Skip && world.dead.contains(other))
        });
        if let Some(skipped) = skipped {
            return Err(format!("{seq} of key {key} was sent, but {skipped} before it was not"));
        }
    }
    Ok(())
}

#[test]
fn every_seed_ends_with_everything_sent_or_dead_and_every_key_in_order() {
    let mut seen = (0, 0, 0, 0);
    for seed in 0..3000 {
        let world = run(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        seen.0 += world.accepted.len();
        seen.1 += world.dead.len();
        seen.2 += usize::from(world.token > 1);
        seen.3 += world.set_aside;
    }
    // Worlds in which nothing happens would prove nothing.
    let enough = seen.0 > 100_000 && seen.1 > 1_000 && seen.2 > 500 && seen.3 > 10_000;
    assert!(enough, "{seen:?}");
}
