//! Laws of leases: one holder at a time, and a token that tells the holders apart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::StoreError;
use posthaste_core::lease::{Claim, Lease};
use tokio::time::Instant;

use crate::case::{DatabaseCase, Store};
use crate::hand::{LONG, claim};
use crate::timing::eventually;

/// Makes a test of every law of leases.
#[macro_export]
macro_rules! leases_suite {
    ($make:ident) => {
        $crate::laws!(
            leases,
            $make(),
            [
                a_free_lease_is_granted,
                a_held_lease_says_by_whom_and_how_long,
                of_many_claims_at_once_exactly_one_is_granted,
                claiming_ones_own_lease_again_keeps_holding_it,
                a_lease_that_has_run_out_can_be_claimed_at_once,
                a_released_lease_can_be_claimed_at_once,
                a_token_grows_with_every_change_of_holder,
                a_renewed_lease_does_not_run_out,
                a_lease_that_ran_out_can_be_renewed_while_nobody_else_has_it,
                a_renewal_under_an_old_token_changes_nothing,
                a_release_under_an_old_token_changes_nothing,
                releasing_twice_is_no_error,
                leases_of_different_names_are_independent,
            ]
        );
    };
}

const SHORT: Duration = Duration::from_millis(150);
const NAME: &str = "relay/default/0";

async fn holder<D: Store>(database: &D) -> Option<(String, u64)> {
    let status = database.status("default").await.expect("status");
    let held = status.leases.into_iter().find(|lease| lease.name == NAME);
    held.map(|lease| (lease.owner, lease.token))
}

/// Claims as soon as the lease is free.
async fn claim_when_free<D: Store>(database: &D, owner: &str) -> Lease {
    eventually("the lease is free", async || {
        match database.acquire(NAME, owner, LONG).await.expect("acquire") {
            Claim::Granted(lease) => Some(lease),
            Claim::Held { .. } => None,
        }
    })
    .await
}

/// The first claim needs nothing that was there before.
pub async fn a_free_lease_is_granted<D: Store>(case: DatabaseCase<D>) {
    let lease = claim(&case.database, NAME, "one", LONG).await;
    assert_eq!((lease.name.as_str(), lease.owner.as_str()), (NAME, "one"));
    assert_eq!(holder(&case.second).await, Some(("one".into(), lease.token)));
}

/// Who stands by can say for whom, and when to look again.
pub async fn a_held_lease_says_by_whom_and_how_long<D: Store>(case: DatabaseCase<D>) {
    claim(&case.database, NAME, "one", Duration::from_secs(60)).await;
    for database in [&case.database, &case.second] {
        match database.acquire(NAME, "two", LONG).await.expect("acquire") {
            Claim::Held { by, remaining } => {
                assert_eq!(by, "one");
                assert!((50..=60).contains(&remaining.as_secs()), "{remaining:?}");
            }
            Claim::Granted(lease) => panic!("granted to two: {lease:?}"),
        }
    }
}

/// Claims race; the database decides.
pub async fn of_many_claims_at_once_exactly_one_is_granted<D: Store>(case: DatabaseCase<D>) {
    let handles = [Arc::new(case.database), Arc::new(case.second)];
    for round in 0..5 {
        let claims: Vec<_> = (0..8)
            .map(|n| {
                let (database, name) = (handles[n % 2].clone(), format!("race/{round}"));
                tokio::spawn(async move {
                    database.acquire(&name, &format!("owner-{n}"), LONG).await.expect("acquire")
                })
            })
            .collect();
        let mut granted = 0;
        for claim in claims {
            granted += usize::from(matches!(claim.await.expect("ends"), Claim::Granted(_)));
        }
        assert_eq!(granted, 1, "claims granted in round {round}");
    }
}

/// A claim whose reply was lost can be made again. It begins anew: what acts under the earlier grant
/// is another machine, though of the same process.
pub async fn claiming_ones_own_lease_again_keeps_holding_it<D: Store>(case: DatabaseCase<D>) {
    let first = claim(&case.database, NAME, "one", LONG).await;
    let again = claim(&case.database, NAME, "one", LONG).await;
    assert!(again.token > first.token, "{} is not above {}", again.token, first.token);
    let refused = case.database.renew(&first, LONG).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "the earlier grant: {refused:?}");
    case.database.release(&first).await.expect("an old release is no error");
    assert!(matches!(
        case.second.acquire(NAME, "two", LONG).await.expect("acquire"),
        Claim::Held { .. }
    ));
    case.database.renew(&again, LONG).await.expect("the later lease is the current one");
}

/// A holder that is gone is not waited for longer than its lease.
pub async fn a_lease_that_has_run_out_can_be_claimed_at_once<D: Store>(case: DatabaseCase<D>) {
    let start = Instant::now();
    let first = claim(&case.database, NAME, "one", SHORT).await;
    let next = claim_when_free(&case.second, "two").await;
    let waited = start.elapsed() + Duration::from_millis(1);
    assert!(waited >= SHORT, "it was taken away after {waited:?}");
    assert!(next.token > first.token);
}

/// A relay that stops makes room at once.
pub async fn a_released_lease_can_be_claimed_at_once<D: Store>(case: DatabaseCase<D>) {
    let first = claim(&case.database, NAME, "one", LONG).await;
    case.database.release(&first).await.expect("release");
    assert_eq!(holder(&case.database).await, None, "a released lease is held by nobody");
    let next = claim(&case.second, NAME, "two", LONG).await;
    assert!(next.token > first.token);
}

/// Every holder can be told from every other, for ever.
pub async fn a_token_grows_with_every_change_of_holder<D: Store>(case: DatabaseCase<D>) {
    let mut tokens = Vec::new();
    for round in 0..10 {
        let database = if round % 2 == 0 { &case.database } else { &case.second };
        let lease = claim(database, NAME, ["one", "two", "three"][round % 3], LONG).await;
        tokens.push(lease.token);
        database.release(&lease).await.expect("release");
    }
    assert!(tokens.is_sorted(), "{tokens:?}");
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "{tokens:?}");
}

/// Renewal counts from now.
pub async fn a_renewed_lease_does_not_run_out<D: Store>(case: DatabaseCase<D>) {
    let lease = claim(&case.database, NAME, "one", SHORT).await;
    case.database.renew(&lease, LONG).await.expect("renew");
    tokio::time::sleep(SHORT * 2).await;
    assert!(matches!(
        case.second.acquire(NAME, "two", LONG).await.expect("acquire"),
        Claim::Held { .. }
    ));
}

/// A late renewal is as good as a punctual one if nobody has taken over.
pub async fn a_lease_that_ran_out_can_be_renewed_while_nobody_else_has_it<D: Store>(
    case: DatabaseCase<D>,
) {
    let lease = claim(&case.database, NAME, "one", Duration::from_millis(20)).await;
    eventually("it has run out", async || holder(&case.second).await.is_none().then_some(())).await;
    case.database.renew(&lease, LONG).await.expect("renew");
    assert_eq!(holder(&case.second).await, Some(("one".into(), lease.token)));
}

/// A holder of yesterday cannot come back.
pub async fn a_renewal_under_an_old_token_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    let old = claim(&case.database, NAME, "one", Duration::from_millis(20)).await;
    let new = claim_when_free(&case.second, "two").await;
    let refused = case.database.renew(&old, LONG).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert_eq!(holder(&case.database).await, Some(("two".into(), new.token)));
    case.second.release(&new).await.expect("release");
    let back = claim(&case.database, NAME, "one", LONG).await;
    let refused = case.database.renew(&old, LONG).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "same owner, old token: {refused:?}");
    case.database.renew(&back, LONG).await.expect("the current one is renewed");
}

/// Nor can it take the lease from its successor by giving it back.
pub async fn a_release_under_an_old_token_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    let old = claim(&case.database, NAME, "one", Duration::from_millis(20)).await;
    let new = claim_when_free(&case.second, "two").await;
    case.database.release(&old).await.expect("an old release is no error");
    assert_eq!(holder(&case.database).await, Some(("two".into(), new.token)));
    case.second.renew(&new, LONG).await.expect("renew");
}

/// A reply may be lost.
pub async fn releasing_twice_is_no_error<D: Store>(case: DatabaseCase<D>) {
    let lease = claim(&case.database, NAME, "one", LONG).await;
    case.database.release(&lease).await.expect("release");
    case.database.release(&lease).await.expect("release again");
    let unknown = Lease { name: "never/granted".into(), ..lease };
    case.database.release(&unknown).await.expect("release what was never held");
}

/// Lanes and destinations are led separately.
pub async fn leases_of_different_names_are_independent<D: Store>(case: DatabaseCase<D>) {
    let one = claim(&case.database, "relay/a/0", "one", LONG).await;
    let two = claim(&case.second, "relay/b/0", "two", LONG).await;
    case.database.release(&one).await.expect("release");
    case.second.renew(&two, LONG).await.expect("renew");
    claim(&case.second, "relay/a/0", "two", LONG).await;
}
