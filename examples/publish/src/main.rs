//! Publishes inside the application's own transaction: the order and the message that follows
//! from it are written together, or not at all.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use posthaste::core::database::Schema;
use posthaste::{Event, Outbox};
use posthaste_sqlite::{Options, Sqlite};
use serde::Serialize;

#[derive(Serialize)]
struct OrderPlaced {
    order: i64,
    total: i64,
}

impl Event for OrderPlaced {
    const TOPIC: &'static str = "orders";
    const KIND: &'static str = "order.placed";

    fn key(&self) -> Option<String> {
        Some(self.order.to_string())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("app.db").display());
    let options = Options { create: true, ..Options::default() };
    let database = Sqlite::open(&url, options)?;
    database.migrate().await?;
    sqlx::query("create table orders (id integer primary key, total integer not null)")
        .execute(database.pool())
        .await?;
    let outbox = Outbox::new(database.clone());

    let mut tx = outbox.begin().await?;
    sqlx::query("insert into orders (id, total) values (?, ?)")
        .bind(42)
        .bind(990)
        .execute(&mut *tx)
        .await?;
    let id = outbox.publish(&mut tx, &OrderPlaced { order: 42, total: 990 }).await?;
    outbox.commit(tx).await?;
    println!("committed order 42 together with message {id}");

    // The application's own pool and a plain commit do as well; a rollback takes both away.
    let mut tx = database.pool().begin().await?;
    sqlx::query("insert into orders (id, total) values (43, 1)").execute(&mut *tx).await?;
    outbox.publish(&mut tx, &OrderPlaced { order: 43, total: 1 }).await?;
    tx.rollback().await?;

    let count: i64 = sqlx::query_scalar("select count(*) from posthaste_outbox")
        .fetch_one(database.pool())
        .await?;
    println!("messages in the outbox: {count}");
    assert_eq!(count, 1, "the rolled-back message does not exist");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_runs() {
        super::main().expect("the example ends well");
    }
}
