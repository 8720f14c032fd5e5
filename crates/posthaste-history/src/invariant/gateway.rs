//! I14: what the gateway answers with 2xx is durable, what it refuses is not kept; a key for
//! idempotency stands for one request; and who is turned away for overload is told when to come
//! again.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Request, Response};
use crate::examination::Examination;
use crate::index::{Index, Seen};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let requests: BTreeMap<&str, Seen<'_, Request>> =
        index.kinds.requests.iter().map(|one| (one.event.request.as_str(), *one)).collect();
    let kept: BTreeSet<&str> =
        index.kinds.rows.iter().filter_map(|row| row.event.request.as_deref()).collect();
    let mut accepted: BTreeMap<&str, (Seen<'_, Request>, Seen<'_, Response>)> = BTreeMap::new();
    for response in &index.kinds.responses {
        examination.look();
        let name = response.request.as_str();
        let mut find = |what: String| examination.find(Harm::Other, name, what, &[response.line]);
        match response.status {
            200..300 => is_durable(index, response, &mut find),
            429 | 503 if !response.retry_after => {
                find(format!("request {name} was turned away and not told when to come again"));
            }
            400..500 | 503 if index.is_at_rest && kept.contains(name) => {
                find(format!("request {name} was refused and is kept"));
            }
            _ => {}
        }
        let Some(request) = requests.get(name) else { continue };
        let Some(key) = request.event.idempotency_key.as_deref() else { continue };
        if (200..300).contains(&response.status) {
            match accepted.get(key) {
                None => {
                    accepted.insert(key, (*request, *response));
                }
                Some((first, answer)) => {
                    let is_same = first.digest == request.digest && answer.id == response.id;
                    if !is_same {
                        let what = format!(
                            "requests {} and {name} share a key and not their message",
                            first.request
                        );
                        examination.find(Harm::Other, name, what, &[answer.line, response.line]);
                    }
                }
            }
        }
    }
}

fn is_durable(index: &Index<'_>, response: &Seen<'_, Response>, find: &mut impl FnMut(String)) {
    let name = &response.request;
    match response.event.id.as_deref() {
        None => find(format!("request {name} was accepted without an id")),
        Some(id) => {
            let is_there = index.messages.get(id).is_some_and(|message| message.row.is_some());
            if index.is_at_rest && !is_there {
                find(format!("request {name} was accepted as message {id}, which is not there"));
            }
        }
    }
}
