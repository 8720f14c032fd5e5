//! I12: a lease has one holder at a time by the database's clock, each new holder has a higher
//! token, and settlements are carried out under tokens that never fall and numbers that count up.

use std::collections::BTreeMap;

use crate::event::{Lease, LeaseAct, Settlement};
use crate::examination::Examination;
use crate::index::{Index, Seen, grouped};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    for (lane, mut settlements) in grouped(&index.kinds.settlements, |one| one.lane.as_str()) {
        settlements.retain(|settlement| settlement.applied);
        // Where the database says when, its order counts: notes can overtake each other.
        if settlements.iter().all(|settlement| settlement.database_time.is_some()) {
            settlements.sort_by_key(|settlement| settlement.database_time);
        }
        tokens(lane, &settlements, examination);
    }
    for (name, mut acts) in grouped(&index.kinds.leases, |lease| lease.name.as_str()) {
        if acts.iter().all(|lease| lease.database_time.is_some()) {
            acts.sort_by_key(|lease| lease.database_time);
        }
        holders(name, &acts, examination);
    }
}

fn tokens(lane: &str, settlements: &[Seen<'_, Settlement>], examination: &mut Examination) {
    let mut highest: Option<Seen<'_, Settlement>> = None;
    let mut numbers: BTreeMap<u64, Seen<'_, Settlement>> = BTreeMap::new();
    for settlement in settlements {
        examination.look();
        let token = settlement.token;
        if let Some(before) = highest.filter(|highest| token < highest.token) {
            let what =
                format!("lane {lane} was settled under token {token} after {}", before.token);
            examination.find(Harm::Other, lane, what, &[before.line, settlement.line]);
            continue;
        }
        highest = Some(*settlement);
        let Some(number) = settlement.number else { continue };
        if let Some(before) = numbers.insert(token, *settlement)
            && before.number >= Some(number)
        {
            let what = format!("settlement {number} of lane {lane} was carried out twice or late");
            examination.find(Harm::Other, lane, what, &[before.line, settlement.line]);
        }
    }
}

fn holders(name: &str, acts: &[Seen<'_, Lease>], examination: &mut Examination) {
    let mut holder: Option<Seen<'_, Lease>> = None;
    let mut last: Option<(&str, u64)> = None;
    for act in acts {
        examination.look();
        let owner = &act.event.owner;
        match act.act {
            LeaseAct::Granted | LeaseAct::Renewed => {
                let other = holder.filter(|holder| holder.event.owner != *owner);
                let is_early = |holder: &Seen<'_, Lease>| {
                    let times = holder.until.zip(act.database_time);
                    times.is_some_and(|(until, now)| now < until)
                };
                if let Some(other) = other.filter(is_early) {
                    let what = format!(
                        "lease {name} went to {owner} while {} still held it",
                        other.event.owner
                    );
                    examination.find(Harm::Other, name, what, &[other.line, act.line]);
                } else if let Some((before, token)) = last
                    && (act.token < token || act.token == token && before != owner)
                {
                    let what = format!(
                        "lease {name} went to {owner} under token {} after {token}",
                        act.token
                    );
                    examination.find(Harm::Other, name, what, &[act.line]);
                }
                last = Some((owner, act.token.max(last.map_or(0, |(_, token)| token))));
                holder = Some(*act);
            }
            LeaseAct::Released | LeaseAct::Lost => {
                holder = holder.filter(|held| held.event.owner != *owner);
            }
        }
    }
}
