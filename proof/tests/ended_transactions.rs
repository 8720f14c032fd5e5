//! Handlers that make the database end the transaction, or refuse its commit: the culprit is found
//! and buried with the true reason, and nobody else takes effect twice or not at all.

use std::time::Duration;

use posthaste::core::Broker;
use posthaste::core::database::Schema;
use posthaste::core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};
use posthaste::{
    Consumer, ConsumerOptions, Draft, HandlerError, Message, RetryPolicy, Subscription,
    raw_handler_fn,
};
use posthaste_bus::{Bus, BusOptions};
use posthaste_sqlite::{Options, Sqlite};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

const ORDERS: i64 = 12;

/// What every handler does: an effect that is not idempotent.
async fn ship(tx: &mut SqliteConnection, order: &str) -> Result<(), HandlerError> {
    sqlx::query("insert into shipment (order_id) values (?)").bind(order).execute(tx).await?;
    Ok(())
}

/// On order 3 SQLite rolls the whole transaction back, and the handler does not mind.
async fn careless(tx: &mut SqliteConnection, order: Message) -> Result<(), HandlerError> {
    let number = order.payload.as_text().unwrap_or_default().to_owned();
    if number == "3" {
        let statement = "insert or rollback into parent (id) values (1)";
        assert!(sqlx::query(statement).execute(&mut *tx).await.is_err(), "1 is there already");
        return Ok(());
    }
    ship(tx, &number).await
}

/// Order 3 breaks a constraint that is looked at only at the commit.
async fn childless(tx: &mut SqliteConnection, order: Message) -> Result<(), HandlerError> {
    let number = order.payload.as_text().unwrap_or_default().to_owned();
    let parent = if number == "3" { 99 } else { 1 };
    sqlx::query("insert into child (parent) values (?)").bind(parent).execute(&mut *tx).await?;
    ship(tx, &number).await
}

/// Runs a consumer with this handler until every order is shipped or dead.
macro_rules! outcome_of {
    ($handler:expr) => {{
        let folder = tempfile::tempdir().expect("a folder");
        let at =
            |scheme: &str, file: &str| format!("{scheme}://{}", folder.path().join(file).display());
        let options = Options { create: true, ..Options::default() };
        let database = Sqlite::open(&at("sqlite", "app.db"), options).expect("a good URL");
        database.migrate().await.expect("migrates");
        for statement in [
            "create table shipment (order_id text not null)",
            "create table parent (id integer primary key)",
            "insert into parent (id) values (1)",
            "create table child (parent integer references parent (id) \
             deferrable initially deferred)",
        ] {
            sqlx::query(statement).execute(database.pool()).await.expect("a table");
        }
        let bus = Bus::open(&at("bus", "bus.db"), BusOptions::default()).expect("opens");
        let subscription = Subscription::new("orders", "shipping");
        let subscriber = bus.subscriber(&subscription).await.expect("subscribes");
        let order = |number: i64| Draft::new("orders", "order", number.to_string());
        let orders: Vec<Message> = (1..=ORDERS).map(|n| order(n).into_message()).collect();
        bus.publisher().publish(&orders).await.expect("publishes");
        let (stop, stopped) = oneshot::channel::<()>();
        let retry =
            RetryPolicy { limit: 2, first: Duration::from_millis(10), ..RetryPolicy::default() };
        let consumer = Consumer::new("shipping", database.clone())
            .on_any(raw_handler_fn($handler))
            .options(ConsumerOptions { retry, ..ConsumerOptions::default() });
        let running = tokio::spawn(consumer.run_until(subscriber, async {
            // Dropped without a word, if the test has failed.
            drop(stopped.await);
        }));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let letters = loop {
            let shipped: i64 = sqlx::query_scalar("select count(*) from shipment")
                .fetch_one(database.pool())
                .await
                .expect("counts");
            let letters = letters(&database).await;
            if shipped >= ORDERS - 1 && !letters.is_empty() {
                break letters;
            }
            assert!(tokio::time::Instant::now() < deadline, "{shipped} shipped, {letters:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        stop.send(()).expect("the consumer runs");
        running.await.expect("no panic").expect("ends well");
        let shipped: Vec<String> =
            sqlx::query_scalar("select order_id from shipment order by cast(order_id as integer)")
                .fetch_all(database.pool())
                .await
                .expect("reads");
        (shipped, letters)
    }};
}

async fn letters(database: &Sqlite) -> Vec<DeadLetter> {
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    database.list(&filter).await.expect("lists")
}

fn all_but_the_third() -> Vec<String> {
    (1..=ORDERS).filter(|number| *number != 3).map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_ignores_the_end_of_its_transaction_makes_no_double_effects() {
    let (shipped, letters) = outcome_of!(careless);
    assert_eq!(shipped, all_but_the_third());
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].detail.contains("ended the transaction"), "{}", letters[0].detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_at_the_commit_is_its_handlers_failure_and_no_outage() {
    let (shipped, letters) = outcome_of!(childless);
    assert_eq!(shipped, all_but_the_third());
    assert_eq!(letters.len(), 1, "{letters:?}");
    let detail = letters[0].detail.to_lowercase();
    assert!(detail.contains("foreign key") || detail.contains("constraint"), "{detail}");
}
