//! What the consumers do: they book every message, in a way that shows when it is done twice.

use posthaste::{HandlerError, Message, reject};
use serde::Deserialize;
use sqlx::sqlite::SqliteConnection;

use super::arrivals::digest_of;

/// Nothing in these tables keeps a message from being booked twice; only the inbox does.
pub(super) const TABLES: &str = "
    create table ledger (
        number integer primary key autoincrement,
        message text not null,
        digest text not null,
        amount integer not null
    );
    create table balance (amount integer not null);
    insert into balance (amount) values (0);
";

/// The part of a message that is booked.
#[derive(Deserialize)]
struct Booking {
    amount: i64,
}

/// Books a message: one more row, and a higher balance.
pub(super) async fn book(
    connection: &mut SqliteConnection,
    message: Message,
) -> Result<(), HandlerError> {
    let booking: Booking = serde_json::from_slice(message.payload.as_bytes()).map_err(reject)?;
    sqlx::query("insert into ledger (message, digest, amount) values (?1, ?2, ?3)")
        .bind(message.id.to_string())
        .bind(format!("{:016x}", digest_of(&message)))
        .bind(booking.amount)
        .execute(&mut *connection)
        .await?;
    sqlx::query("update balance set amount = amount + ?1")
        .bind(booking.amount)
        .execute(&mut *connection)
        .await?;
    Ok(())
}
