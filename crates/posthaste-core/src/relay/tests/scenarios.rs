//! Single situations, each with its name.

use std::collections::VecDeque;
use std::time::Duration;

use super::model::{Faults, KINDS, Node, World};
use crate::lease::{Claim, Lease};
use crate::outbox::{Batch, Ready};
use crate::relay::{Effect, Facts, Input, Relay, Settings};
use crate::{Checkpoint, Moment};

const FACTS: Facts = Facts { prefix_per_key: false, max_batch: 100 };

fn node() -> Node {
    Node::new(Relay::new(Settings::default(), FACTS, 5), 1)
}

fn settle_down(world: &mut World, node: &mut Node, steps: usize) {
    for _ in 0..steps {
        node.step(world.now, Input::Tick);
        if !node.advance(world) {
            let deadline = node.machine.deadline();
            world.now = deadline.unwrap_or(world.now).max(world.now);
        }
    }
}

#[test]
fn a_message_that_breaks_the_connection_is_found_and_buried_and_no_other_is() {
    let mut world = World::new(1);
    for key in [1, 2, 3, 4, 5, 0, 0] {
        world.state(key, None);
    }
    world.poison.insert(4);
    let mut node = node();
    settle_down(&mut world, &mut node, 10_000);
    assert_eq!(world.dead.iter().copied().collect::<Vec<_>>(), [4]);
    let mut accepted = world.accepted.clone();
    accepted.sort_unstable();
    assert_eq!(accepted, [1, 2, 3, 5, 6, 7], "each of the others exactly once");
}

#[test]
fn followers_of_a_refused_message_are_not_blamed_for_it() {
    let mut world = World::new(6);
    world.prefix_per_key = true;
    world.faults = Faults { refused: 100, ..Faults::default() };
    for _ in 0..10 {
        world.state(1, None);
    }
    let facts = Facts { prefix_per_key: true, max_batch: 100 };
    let mut node = Node::new(Relay::new(Settings::default(), facts, 5), 1);
    while !world.held.values().any(|held| held.attempts >= 3) {
        settle_down(&mut world, &mut node, 1);
    }
    let counted = world.held.values().filter(|held| held.attempts > 0).count();
    assert_eq!(counted, 1, "only the head of the key was tried: {:?}", world.held);
}

#[test]
fn a_broker_that_is_away_counts_no_attempt_and_fills_no_side_table() {
    let mut world = World::new(2);
    world.faults = Faults { unavailable: 100, ..Faults::default() };
    for _ in 0..50 {
        world.state(1, None);
    }
    let mut node = node();
    settle_down(&mut world, &mut node, 2000);
    assert!(world.now.elapsed() > Duration::from_mins(5), "it kept trying");
    assert!(world.accepted.is_empty() && world.held.is_empty() && world.dead.is_empty());
    world.faults = Faults::default();
    settle_down(&mut world, &mut node, 1000);
    assert_eq!(world.accepted, (1..=50).collect::<Vec<_>>());
}

#[test]
fn a_stop_settles_what_was_sent_and_gives_the_lease_back() {
    let mut world = World::new(3);
    for key in 0..40 {
        world.state(key % 7, None);
    }
    let mut first = node();
    while world.accepted.is_empty() {
        settle_down(&mut world, &mut first, 1);
    }
    first.step(world.now, Input::Stop);
    settle_down(&mut world, &mut first, 300);
    assert!(first.finished && world.holder.is_none());
    let mut second = Node::new(Relay::new(Settings::default(), FACTS, 6), 2);
    settle_down(&mut world, &mut second, 300);
    assert_eq!(world.accepted.len(), 40, "a stop causes no second copy");
}

#[test]
fn a_stop_while_the_broker_is_away_puts_back_what_was_taken() {
    let mut world = World::new(4);
    for _ in 0..30 {
        world.state(1, None);
    }
    world.faults = Faults { unavailable: 100, ..Faults::default() };
    let mut first = node();
    settle_down(&mut world, &mut first, 50);
    first.step(world.now, Input::Stop);
    settle_down(&mut world, &mut first, 300);
    assert!(first.finished && world.holder.is_none());
    world.faults = Faults::default();
    let mut second = Node::new(Relay::new(Settings::default(), FACTS, 7), 2);
    settle_down(&mut world, &mut second, 2000);
    assert_eq!(world.accepted, (1..=30).collect::<Vec<_>>(), "once each, in order");
}

#[test]
fn a_relay_that_lost_its_lease_changes_nothing() {
    let mut world = World::new(5);
    for _ in 0..10 {
        world.state(1, None);
    }
    let mut zombie = node();
    while world.accepted.len() < 3 {
        settle_down(&mut world, &mut zombie, 1);
    }
    let before = world.checkpoint;
    world.token += 1;
    world.holder = Some((2, world.now.plus(Duration::from_mins(60))));
    zombie.step(world.now, Input::Tick);
    while zombie.advance(&mut world) {}
    assert!(!zombie.machine.is_leading());
    assert_eq!(world.checkpoint, before);
}

#[test]
fn a_broker_that_is_there_and_silent_buries_nobody() {
    let mut world = World::new(7);
    world.faults = Faults { silent: 100, ..Faults::default() };
    for key in 0..20 {
        world.state(key, None);
    }
    let mut node = node();
    settle_down(&mut world, &mut node, 3000);
    assert!(world.now.elapsed() > Duration::from_mins(3), "it kept trying, and not at once");
    assert!(world.dead.is_empty() && world.held.is_empty(), "{:?}", world.held);
    world.faults = Faults::default();
    settle_down(&mut world, &mut node, 2000);
    assert_eq!(world.accepted.len(), 20);
}

#[test]
fn a_lone_message_that_breaks_every_call_is_buried_in_the_end() {
    let mut world = World::new(8);
    world.state(1, None);
    world.poison.insert(1);
    let mut node = node();
    settle_down(&mut world, &mut node, 30_000);
    assert!(world.dead.contains(&1), "{:?} after {:?}", world.held, world.now);
}

#[test]
fn pruning_goes_on_under_steady_load() {
    let mut world = World::new(9);
    let mut node = node();
    for round in 0..40_000 {
        world.state(0, None);
        node.step(world.now, Input::Changed);
        node.advance(&mut world);
        world.now = world.now.plus(Duration::from_millis(round % 11));
    }
    assert!(world.prunes >= 2, "{} rounds in {:?}", world.prunes, world.now.elapsed());
}

/// A relay on a database whose snapshot moves all the time although there is nothing to send.
#[test]
fn a_checkpoint_that_only_moves_is_stored_now_and_then_and_in_the_end() {
    let mut relay = Relay::new(Settings::default(), FACTS, 1);
    let (mut now, mut settled, mut reads) = (Moment::START, Vec::new(), 0u32);
    let mut inputs = VecDeque::from([Input::Tick]);
    // The snapshot moves for a minute; then the database is quiet for another.
    while now.elapsed() < Duration::from_mins(2) {
        let Some(input) = inputs.pop_front() else {
            now = relay.deadline().map_or(now, |at| at.max(now));
            inputs.push_back(Input::Tick);
            continue;
        };
        let mut effects = Vec::new();
        relay.step(now, input, &mut effects);
        inputs.extend(effects.into_iter().map(|effect| match effect {
            Effect::Acquire { name, .. } => {
                let (owner, token) = ("me".to_owned(), 1);
                Input::Claimed(Ok(Claim::Granted(Lease { name, owner, token })))
            }
            Effect::Renew { .. } => Input::Renewed(Ok(())),
            Effect::Load => Input::Loaded(Ok(Checkpoint::start())),
            Effect::Ready { .. } => {
                Input::Ready(Ok(Ready { entries: vec![], more: false, next_in: None }))
            }
            Effect::Read { .. } => {
                reads += u32::from(now.elapsed() < Duration::from_mins(1));
                let checkpoint = Checkpoint::new(reads.to_string());
                Input::Read(Ok(Batch { entries: vec![], checkpoint, more: false }))
            }
            Effect::Settle { settlement, .. } => {
                assert!(settlement.verdicts.is_empty());
                settled.extend(settlement.checkpoint);
                Input::Settled(Ok(()))
            }
            Effect::Prune { .. } => Input::Pruned(Ok(false)),
            other => panic!("{other:?} was not expected"),
        }));
    }
    assert!((4..=8).contains(&settled.len()), "{} of {reads} were stored", settled.len());
    assert_eq!(settled.last(), Some(&Checkpoint::new(reads.to_string())));
}

#[test]
fn what_is_set_aside_is_worked_off_under_steady_load() {
    let mut world = World::new(11);
    world.bound.clear();
    let mut node = node();
    for key in 0..300 {
        world.state(key % 50, None);
    }
    settle_down(&mut world, &mut node, 60);
    assert!(world.held.len() > 200, "{} are set aside", world.held.len());
    world.bound = KINDS.map(str::to_owned).into();
    world.now = world.now.plus(Duration::from_secs(3));
    let mut least = usize::MAX;
    for round in 0..6_000 {
        // Everything goes to the side table while its route is closed, and hardly anything later.
        if round % 2 == 0 {
            world.state(round % 50, None);
            node.step(world.now, Input::Changed);
        }
        settle_down(&mut world, &mut node, 1);
        world.now = world.now.plus(Duration::from_millis(1));
        least = least.min(world.held.len());
    }
    assert_eq!(least, 0, "{} still wait, {} were sent", world.held.len(), world.accepted.len());
}
