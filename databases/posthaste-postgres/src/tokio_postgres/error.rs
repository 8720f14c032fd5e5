//! What this driver's errors mean; the codes are known in one place for both drivers.

use ::tokio_postgres::Error;
use posthaste_core::StoreError;

use crate::error::{Consequence, Said, by_code};

/// Where the server is: this driver does not say.
const PLACE: &str = "the database";

/// Names the consequence of an error that came up when `doing` was tried.
pub(super) fn classify(doing: &str, error: Error) -> StoreError {
    let (consequence, text) = match error.as_db_error() {
        Some(database) => {
            let said = Said {
                code: database.code().code(),
                message: database.message(),
                constraint: database.constraint(),
                column: database.column(),
            };
            by_code(doing, PLACE, &said)
        }
        None => (
            Consequence::Unavailable,
            format!("{doing}: the connection to the database was lost ({error})"),
        ),
    };
    consequence.of(text, Box::new(error))
}
