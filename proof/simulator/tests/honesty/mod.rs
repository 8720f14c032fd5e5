//! The models say what the real databases say: the same random scripts run against both, step by
//! step, and every answer is compared.

mod postgres;
mod script;
mod sqlite;
mod twins;

/// How many scripts are run against each database, unless the environment says otherwise.
const SCRIPTS: u64 = 25;

fn scripts() -> u64 {
    let named = std::env::var("POSTHASTE_SCRIPTS").ok();
    named.and_then(|number| number.parse().ok()).unwrap_or(SCRIPTS)
}
