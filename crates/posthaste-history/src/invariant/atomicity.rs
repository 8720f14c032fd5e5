//! I1: messages and state changes are there together or not at all, and what was rolled back is
//! nowhere.
//!
//! A message whose commit was answered with success and that is not there is a loss (I2) and does
//! not also make its transaction incomplete.

use std::collections::{BTreeMap, BTreeSet};

use crate::examination::Examination;
use crate::index::Index;
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    rolled_back(index, examination);
    if index.is_at_rest {
        transactions(index, examination);
    }
}

fn transactions(index: &Index<'_>, examination: &mut Examination) {
    let mut found: BTreeMap<&str, u64> =
        index.kinds.transactions.iter().map(|one| (one.id.as_str(), 0)).collect();
    for message in index.messages.values() {
        let Some(row) = message.row else { continue };
        let Some(transaction) = row.transaction.as_deref() else { continue };
        examination.look();
        match found.get_mut(transaction) {
            Some(messages) => *messages += 1,
            None => {
                let id = message.id;
                let what = format!("message {id} is there without its transaction {transaction}");
                examination.find(Harm::Phantom, id, what, &[row.line]);
            }
        }
    }
    let mut vanished = BTreeSet::new();
    for commit in &index.kinds.commits {
        let is_gone = |id: &String| {
            index.messages.get(id.as_str()).is_some_and(|message| message.row.is_none())
        };
        if commit.ids.iter().any(is_gone) {
            vanished.extend(commit.transaction.as_deref());
        }
    }
    for transaction in &index.kinds.transactions {
        examination.look();
        let found = found.get(transaction.id.as_str()).copied().unwrap_or(0);
        let (id, stated) = (&transaction.id, transaction.messages);
        if found != stated && !vanished.contains(id.as_str()) {
            let what =
                format!("transaction {id} stated {stated} messages, and {found} of them are there");
            examination.find(Harm::Lost, id, what, &[transaction.line]);
        }
    }
}

fn rolled_back(index: &Index<'_>, examination: &mut Examination) {
    let mut seen = BTreeMap::new();
    for row in &index.kinds.rows {
        seen.entry(row.id.as_str()).or_insert(row.line);
    }
    for delivered in &index.kinds.deliveries {
        seen.entry(delivered.id.as_str()).or_insert(delivered.line);
    }
    for effect in &index.kinds.effects {
        seen.entry(effect.id.as_str()).or_insert(effect.line);
    }
    for (id, line) in &index.rolled_back {
        examination.look();
        if let Some(sight) = seen.get(id) {
            let what = format!("message {id} exists although its transaction was rolled back");
            examination.find(Harm::Phantom, id, what, &[line, sight]);
        }
    }
}
