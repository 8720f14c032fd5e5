//! Messages that can never be sent: they hold back their own key and nothing else, until an
//! operator decides.

use posthaste::core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};
use posthaste_proof::chance::Chance;
use posthaste_proof::node::BusTuning;
use posthaste_proof::shop::Behaviour;
use posthaste_proof::truth::Truth;
use posthaste_proof::{Failure, Job, World};
use sqlx::{ConnectOptions, Connection};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{
    BOOKED, DEAD, PATIENCE, SOON, consumers, number, order, place, relay, world,
};

/// Most bytes of a payload that the bus takes at first.
const SMALL: usize = 4000;

/// What the till has booked of Ann's, in its order.
const OF_ANN: &str = "select e.amount from shop_effect e join shop_order o on o.message = e.message \
     where e.consumer = 'till' and o.key = 'ann' order by e.number";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_holds_back_its_key_alone_until_it_is_discarded() -> Result<(), Failure> {
    let mut world = world(&Chance::from_environment(51)).await?;
    world.bus.max_payload = SMALL;
    let mut crew = Crew::of(&world);
    let letter = stuck(&world, &mut crew).await?;
    world.database.discard(&[letter.reference], "the proof", "it is too large").await?;
    world.until(BOOKED, 26, SOON).await?;
    let truth = judged(&world, &mut crew).await?;
    assert!(truth.dead.is_empty(), "it was discarded: {:?}", truth.dead);
    assert_eq!(of_ann(&world).await?, [1, 3, 4, 5]);
    world.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_reposted_goes_ahead_of_those_that_waited_behind_it()
-> Result<(), Failure> {
    let mut world = world(&Chance::from_environment(52)).await?;
    world.bus.max_payload = SMALL;
    let mut crew = Crew::of(&world);
    let letter = stuck(&world, &mut crew).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    drop(crew);
    world.bus = BusTuning::default();
    world.database.repost(&[letter.reference], "the proof").await?;
    let mut crew = Crew::of(&world);
    begin(&mut crew).await?;
    world.until(BOOKED, 27, SOON).await?;
    let truth = judged(&world, &mut crew).await?;
    assert!(truth.dead.is_empty(), "it was sent: {:?}", truth.dead);
    assert_eq!(of_ann(&world).await?, [1, 2, 3, 4, 5]);
    world.remove()
}

/// Rows that got past the checks of the table, as a program may write them that switches the
/// checks off: they become dead letters, and nobody waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_no_messages_become_dead_letters_and_hold_nobody_back() -> Result<(), Failure>
{
    let world = world(&Chance::from_environment(53)).await?;
    let mut crew = Crew::of(&world);
    let nonsense = nonsense(&world).await?;
    let orders: Vec<_> = (0..30).map(|n| order("ann", n, Behaviour::Good, "")).collect();
    place(&world, &orders).await?;
    begin(&mut crew).await?;
    world.until(BOOKED, 30, SOON).await?;
    world.until(DEAD, nonsense, SOON).await?;
    let dead = world.database.list(&DeadFilter { limit: 99, ..DeadFilter::default() }).await?;
    assert!(dead.iter().all(|letter| letter.reason == "malformed"), "{dead:?}");
    assert!(dead.iter().all(|letter| !letter.detail.is_empty()), "each says why: {dead:?}");
    let references: Vec<String> = dead.into_iter().map(|letter| letter.reference).collect();
    world.database.discard(&references, "the proof", "nobody knows what it was").await?;
    let truth = judged(&world, &mut crew).await?;
    assert!(truth.dead.is_empty(), "they were discarded: {:?}", truth.dead);
    world.remove()
}

/// Writes nonsense and returns how much.
async fn nonsense(world: &World) -> Result<i64, Failure> {
    let mut connection = (*world.database.pool().connect_options()).clone().connect().await?;
    sqlx::query("pragma ignore_check_constraints = on").execute(&mut connection).await?;
    let rows = [
        "('orders', 'bad kind!', 'ann', '{}', '{}')",
        "(null, 'order.placed', 'ann', '{}', '{}')",
        "('orders', 'order.placed', '', '{}', '{}')",
        "('orders', 'order.placed', x'ff00', '{}', '{}')",
        "('orders', 'order.placed', 'ann', 7, '{}')",
        "(x'00', x'01', x'02', null, '{}')",
    ];
    for row in rows {
        let text = format!(
            "insert into posthaste_outbox (topic, kind, key, payload, headers) values {row}"
        );
        sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(i64::try_from(rows.len())?)
}

/// Ann's second order is too large for the bus; then come more of hers, and twenty of others.
/// Returns the dead letter once everything that can pass has passed.
async fn stuck(world: &World, crew: &mut Crew<'_>) -> Result<DeadLetter, Failure> {
    let mut orders = vec![
        order("ann", 1, Behaviour::Good, "first"),
        order("ann", 2, Behaviour::Good, &"too large ".repeat(SMALL / 8)),
        order("ann", 3, Behaviour::Good, "third"),
        order("ann", 4, Behaviour::Good, "fourth"),
    ];
    orders.extend((0..20).map(|n| order(&format!("other {}", n % 5), n, Behaviour::Good, "")));
    let ids = place(world, &orders).await?;
    begin(crew).await?;
    world.until(BOOKED, 21, SOON).await?;
    world.until(DEAD, 1, SOON).await?;
    let mut dead = world.database.list(&DeadFilter { limit: 9, ..DeadFilter::default() }).await?;
    assert_eq!(dead.len(), 1, "the large one and no other: {dead:?}");
    let letter = dead.remove(0);
    assert_eq!(letter.id, ids[1].to_string());
    assert_eq!((letter.reason.as_str(), letter.parked), ("refused", true), "{letter:?}");
    assert!(letter.detail.contains("bytes"), "it says why: {}", letter.detail);
    // Later orders of others still pass, those of Ann do not.
    let later = [
        order("ann", 5, Behaviour::Good, ""),
        order("other 1", 5, Behaviour::Good, ""),
        order("someone new", 5, Behaviour::Good, ""),
    ];
    place(world, &later).await?;
    world.until(BOOKED, 23, SOON).await?;
    assert_eq!(of_ann(world).await?, [1]);
    assert_eq!(number(world, DEAD).await?, 1);
    Ok(letter)
}

async fn begin(crew: &mut Crew<'_>) -> Result<(), Failure> {
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    crew.add("relay", [relay()]).await
}

async fn judged(world: &World, crew: &mut Crew<'_>) -> Result<Truth, Failure> {
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    Ok(truth)
}

async fn of_ann(world: &World) -> Result<Vec<i64>, Failure> {
    Ok(sqlx::query_scalar(OF_ANN).fetch_all(world.database.pool()).await?)
}
