//! How a history is changed: by what its events are about, not by where they stand.

use posthaste_history::event::{Answer, Answered, Delivered, Effect};
use posthaste_history::{Event, History, Line};

use crate::run::digest;

/// The place of the first event of which this is so.
pub(crate) fn place(history: &History, is_it: impl Fn(&Event) -> bool) -> usize {
    let place = history.lines().iter().position(|line| is_it(&line.event));
    place.expect("the sample has it")
}

/// The place of the last event of which this is so.
pub(crate) fn last(history: &History, is_it: impl Fn(&Event) -> bool) -> usize {
    let place = history.lines().iter().rposition(|line| is_it(&line.event));
    place.expect("the sample has it")
}

/// Changes the first event of which this is so.
pub(crate) fn change(
    history: &mut History,
    is_it: impl Fn(&Event) -> bool,
    to: impl Fn(&mut Event),
) {
    let place = place(history, is_it);
    to(&mut history.lines_mut()[place].event);
}

/// Takes the first event away of which this is so.
pub(crate) fn remove(history: &mut History, is_it: impl Fn(&Event) -> bool) -> Line {
    let place = place(history, is_it);
    history.lines_mut().remove(place)
}

/// Takes all events away of which this is so.
pub(crate) fn remove_all(history: &mut History, is_it: impl Fn(&Event) -> bool) {
    let before = history.lines().len();
    history.lines_mut().retain(|line| !is_it(&line.event));
    assert!(history.lines().len() < before, "the sample has it");
}

/// Puts events right after a place, at its moment.
pub(crate) fn insert_after(
    history: &mut History,
    place: usize,
    node: &str,
    events: impl IntoIterator<Item = Event>,
) {
    let at = history.lines()[place].at;
    let lines: Vec<Line> = events.into_iter().map(|event| Line::new(at, node, event)).collect();
    history.lines_mut().splice(place + 1..=place, lines);
}

/// Puts an event before the end.
pub(crate) fn insert_last(history: &mut History, node: &str, event: impl Into<Event>) {
    let place = history.lines().len() - 2;
    insert_after(history, place, node, [event.into()]);
}

pub(crate) fn delivered(consumer: &str, id: &str) -> Event {
    let (consumer, digest) = (consumer.to_owned(), digest(id));
    let (id, attempt, database_time) = (id.to_owned(), None, None);
    Delivered { consumer, id, digest, attempt, database_time }.into()
}

pub(crate) fn effect(consumer: &str, id: &str) -> Event {
    let (consumer, digest) = (consumer.to_owned(), digest(id));
    Effect { consumer, id: id.to_owned(), digest }.into()
}

pub(crate) fn answered(consumer: &str, id: &str, answer: Answer) -> Event {
    Answered { consumer: consumer.to_owned(), id: id.to_owned(), answer }.into()
}

/// A copy that arrives and is absorbed.
pub(crate) fn copy(consumer: &str, id: &str) -> [Event; 2] {
    [delivered(consumer, id), answered(consumer, id, Answer::Completed)]
}

pub(crate) fn is_delivered(event: &Event, consumer: &str, id: &str) -> bool {
    matches!(event, Event::Delivered(one) if one.consumer == consumer && one.id == id)
}

pub(crate) fn is_effect(event: &Event, consumer: &str, id: &str) -> bool {
    matches!(event, Event::Effect(one) if one.consumer == consumer && one.id == id)
}

pub(crate) fn is_answered(event: &Event, consumer: &str, id: &str) -> bool {
    matches!(event, Event::Answered(one) if one.consumer == consumer && one.id == id)
}

/// What a consumer saw of a message.
pub(crate) fn at_consumer(event: &Event) -> Option<(&str, &str)> {
    match event {
        Event::Delivered(one) => Some((&one.consumer, &one.id)),
        Event::Handling(one) => Some((&one.consumer, &one.id)),
        Event::Effect(one) => Some((&one.consumer, &one.id)),
        Event::Answered(one) => Some((&one.consumer, &one.id)),
        _ => None,
    }
}

/// A consumer sees one message where it saw the other, and the other way round.
pub(crate) fn swap(history: &mut History, consumer: &str, one: &str, other: &str) {
    let mut number = 0;
    for line in history.lines_mut() {
        let Some((at, id)) = at_consumer(&line.event) else { continue };
        if at != consumer || id != one && id != other {
            continue;
        }
        let to = if id == one { other } else { one };
        rename(&mut line.event, to);
        number += 1;
    }
    assert!(number >= 2, "the sample has both");
}

fn rename(event: &mut Event, to: &str) {
    match event {
        Event::Delivered(one) => (one.id, one.digest) = (to.to_owned(), digest(to)),
        Event::Effect(one) => (one.id, one.digest) = (to.to_owned(), digest(to)),
        Event::Handling(one) => one.id = to.to_owned(),
        Event::Answered(one) => one.id = to.to_owned(),
        _ => {}
    }
}

/// Everything that follows a place happens so much later.
pub(crate) fn delay(history: &mut History, place: usize, by: u64) {
    let since = history.lines()[place].at;
    for line in &mut history.lines_mut()[place + 1..] {
        line.at += by;
        if let Event::Fault(fault) = &mut line.event {
            let later = |at: u64| if at > since { at + by } else { at };
            (fault.from, fault.until) = (later(fault.from), later(fault.until));
        }
    }
}
