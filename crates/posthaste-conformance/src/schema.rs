//! Laws of the schema: only a migration creates or changes it, and doing it again changes nothing.

use std::sync::Arc;

use posthaste_core::StoreError;
use posthaste_core::outbox::ReadLimit;
use posthaste_core::{Checkpoint, Timestamp, Verdict};

use crate::case::{DatabaseCase, Store};
use crate::hand::{DESTINATION, HandRelay, LONG, ids, ids_of, lane, retry, state};
use crate::sample::{keyed, message};

/// Makes a test of every law of the schema; `$make` gives a database before its first migration.
#[macro_export]
macro_rules! schema_suite {
    ($make:ident) => {
        $crate::laws!(
            schema,
            $make(),
            [
                an_empty_database_has_no_version,
                nothing_but_a_migration_creates_the_schema,
                a_migration_says_what_it_did,
                migrating_again_changes_nothing,
                many_migrations_at_once_make_one_schema,
                adopting_a_database_that_is_no_copy_changes_nothing,
                the_script_is_there_to_read,
            ]
        );
    };
}

/// No schema is told apart from an old one.
pub async fn an_empty_database_has_no_version<D: Store>(case: DatabaseCase<D>) {
    assert_eq!(case.database.version().await.expect("version"), None);
    assert_eq!(case.second.version().await.expect("version"), None);
}

/// Every call says that the schema is missing and what to do; none helps itself.
pub async fn nothing_but_a_migration_creates_the_schema<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let limit = ReadLimit { messages: 1, bytes: 1 };
    let errors = [
        database.checkpoint(&lane()).await.err(),
        database.read(&lane(), &Checkpoint::start(), limit).await.err(),
        database.ready(&lane(), limit).await.err(),
        database.acquire("relay/default/0", "one", LONG).await.err(),
        database.status(DESTINATION).await.err(),
        database.enqueue_alone(&[message("orders")]).await.err(),
        database.begin_attempt("mailer", message("orders").id).await.err(),
        database.reposted("mailer", 10).await.err(),
        database.division(DESTINATION).await.err(),
        database.want_lanes(DESTINATION, 1).await.err(),
        database.adopt("an operator").await.err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        match error {
            Some(StoreError::Schema { found: None, advice, .. }) => {
                assert!(advice.contains("migrate"), "the advice of call {number}: {advice}");
            }
            other => panic!("call {number} on a database without a schema gave {other:?}"),
        }
    }
    assert_eq!(case.second.version().await.expect("version"), None);
}

/// Whoever is not sure may adopt: nothing is lost, and nothing is sent again.
pub async fn adopting_a_database_that_is_no_copy_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    case.database.migrate().await.expect("migrate");
    let stated = [keyed("orders", "a", "1"), keyed("orders", "b", "2"), message("orders")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 1 { retry(LONG) } else { Verdict::Sent }).await;
    let new = [keyed("orders", "b", "3"), message("orders")];
    state(&case.database, &new).await;
    let before = case.second.status(DESTINATION).await.expect("status");
    for database in [&case.database, &case.second] {
        database.adopt("an operator").await.expect("adopt");
    }
    let after = case.second.status(DESTINATION).await.expect("status");
    assert_eq!((after.backlog, after.held), (before.backlog, before.held));
    let (entries, _) = relay.new_entries().await;
    assert_eq!(ids(&entries), ids_of(&new), "it goes on where it was");
    assert!(entries[0].blocked, "and knows what waits");
    relay.settle_new(|n| if n == 0 { Verdict::Behind } else { Verdict::Sent }).await;
}

/// From nothing to a version that is then there, for every handle.
pub async fn a_migration_says_what_it_did<D: Store>(case: DatabaseCase<D>) {
    let migrated = case.database.migrate().await.expect("migrate");
    assert_eq!(migrated.from, None);
    assert!(migrated.to > 0);
    assert_eq!(case.database.version().await.expect("version"), Some(migrated.to));
    assert_eq!(case.second.version().await.expect("version"), Some(migrated.to));
    let stated = [message("orders")];
    state(&case.second, &stated).await;
    let relay = HandRelay::start(&case.database).await;
    assert_eq!(ids(&relay.new_entries().await.0), ids_of(&stated));
}

/// Also with data in it.
pub async fn migrating_again_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    let first = case.database.migrate().await.expect("migrate");
    let stated = [message("orders")];
    state(&case.database, &stated).await;
    for database in [&case.database, &case.second] {
        let again = database.migrate().await.expect("migrate again");
        assert_eq!((again.from, again.to), (Some(first.to), first.to));
        assert_eq!(again.notes, Vec::<String>::new(), "nothing was done the second time");
    }
    let relay = HandRelay::start(&case.database).await;
    let (entries, _) = relay.new_entries().await;
    assert_eq!(ids(&entries), ids_of(&stated));
    assert!(stated[0].stated_at > Timestamp::from_millis(0));
}

/// Many processes start at once.
pub async fn many_migrations_at_once_make_one_schema<D: Store>(case: DatabaseCase<D>) {
    let handles = [Arc::new(case.database), Arc::new(case.second)];
    let runs: Vec<_> = (0..6)
        .map(|n| {
            let database = handles[n % 2].clone();
            tokio::spawn(async move { database.migrate().await })
        })
        .collect();
    let mut fresh = 0;
    for run in runs {
        let migrated = run.await.expect("ends").expect("every migration succeeds");
        fresh += usize::from(migrated.from.is_none());
    }
    assert_eq!(fresh, 1, "migrations that found no schema");
    state(&*handles[0], &[message("orders")]).await;
}

/// People who may not run programs on a database run statements.
pub async fn the_script_is_there_to_read<D: Store>(case: DatabaseCase<D>) {
    assert!(!case.database.script().trim().is_empty());
    assert_eq!(case.database.version().await.expect("version"), None, "reading it runs nothing");
}
