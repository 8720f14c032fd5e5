//! What a subscription has received and not settled: hands out at most one of a key at a time, in
//! the order of arrival, and keeps back what is to be tried again until its time.
//!
//! Pure: the caller says what time it is. Every item is in exactly one place: ready, delayed,
//! behind another of its key, or in hand; it leaves only by [`Hold::settle`].

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

/// Number of an item, in the order of arrival.
pub(crate) type Number = u64;

/// An item on its way to a consumer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handed<T> {
    pub(crate) number: Number,
    pub(crate) item: T,
    /// How many times it was handed out before.
    pub(crate) handed: u32,
}

#[derive(Debug)]
struct Held<T> {
    item: T,
    key: Option<String>,
    handed: u32,
}

/// Items of one subscription.
#[derive(Debug)]
pub(crate) struct Hold<T> {
    ordered: bool,
    next: Number,
    items: HashMap<Number, Held<T>>,
    /// May be handed out now.
    ready: BTreeSet<Number>,
    /// May be handed out later.
    delayed: BTreeSet<(Instant, Number)>,
    /// For each key that has an item ready, delayed or in hand: those that wait behind it.
    lines: HashMap<String, VecDeque<Number>>,
}

impl<T: Clone> Hold<T> {
    /// Nothing yet. `ordered` says whether keys mean anything.
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            next: 0,
            items: HashMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            lines: HashMap::new(),
        }
    }

    /// Takes in what has arrived.
    pub(crate) fn push(&mut self, key: Option<&str>, item: T) -> Number {
        let number = self.next;
        self.next += 1;
        let key = key.filter(|_| self.ordered).map(str::to_owned);
        let line = key.as_ref().and_then(|key| self.lines.get_mut(key));
        if let Some(line) = line {
            line.push_back(number);
        } else {
            if let Some(key) = &key {
                self.lines.insert(key.clone(), VecDeque::new());
            }
            self.ready.insert(number);
        }
        self.items.insert(number, Held { item, key, handed: 0 });
        number
    }

    /// Hands out up to `most` of those that may go now, the oldest first.
    pub(crate) fn take(&mut self, most: usize, now: Instant) -> Vec<Handed<T>> {
        while let Some(&(due, number)) = self.delayed.first() {
            if due > now {
                break;
            }
            self.delayed.pop_first();
            self.ready.insert(number);
        }
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(number) = self.ready.pop_first()
        {
            if let Some(held) = self.items.get_mut(&number) {
                taken.push(Handed { number, item: held.item.clone(), handed: held.handed });
                held.handed = held.handed.saturating_add(1);
            }
        }
        taken
    }

    /// Takes back what was in hand, to be handed out again from `due` on; its key waits with it.
    pub(crate) fn put_back(&mut self, number: Number, due: Instant) {
        if self.items.contains_key(&number) {
            self.delayed.insert((due, number));
        }
    }

    /// Forgets what was in hand; the next of its key may go.
    pub(crate) fn settle(&mut self, number: Number) {
        let Some(held) = self.items.remove(&number) else { return };
        let Some(key) = held.key else { return };
        let next = self.lines.get_mut(&key).and_then(VecDeque::pop_front);
        match next {
            Some(next) => {
                self.ready.insert(next);
            }
            None => {
                self.lines.remove(&key);
            }
        }
    }

    /// Whether there are so many, and every one of them waits for its time or behind its key.
    pub(crate) fn is_stuck(&self, most: usize) -> bool {
        let behind: usize = self.lines.values().map(VecDeque::len).sum();
        self.items.len() >= most && self.delayed.len() + behind == self.items.len()
    }

    /// Whether there is one like this, wherever it is.
    pub(crate) fn any(&self, is_such: impl Fn(&T) -> bool) -> bool {
        self.items.values().any(|held| is_such(&held.item))
    }

    /// When the first of those that are kept back may go.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|&(due, _)| due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use posthaste_core::retry::Jitter;

    use super::*;

    fn numbers(taken: Vec<Handed<u32>>) -> Vec<u32> {
        taken.into_iter().map(|handed| handed.item).collect()
    }

    #[test]
    fn one_of_a_key_goes_at_a_time_and_in_order() {
        let now = Instant::now();
        let mut hold = Hold::new(true);
        for (key, item) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            hold.push(Some(key), item);
        }
        hold.push(None, 5);
        let first = hold.take(10, now);
        assert_eq!(first.iter().map(|it| it.item).collect::<Vec<_>>(), [1, 3, 5]);
        assert!(hold.take(10, now).is_empty());
        hold.settle(first[0].number);
        let second = hold.take(10, now);
        assert_eq!(second[0].item, 2);
        hold.settle(second[0].number);
        assert_eq!(numbers(hold.take(10, now)), [4]);
    }

    #[test]
    fn what_is_kept_back_holds_its_key_only() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut hold = Hold::new(true);
        hold.push(Some("a"), 1);
        hold.push(Some("a"), 2);
        let taken = hold.take(1, now);
        hold.put_back(taken[0].number, later);
        hold.push(Some("b"), 3);
        assert_eq!(numbers(hold.take(10, now)), [3]);
        assert_eq!(hold.next_due(), Some(later));
        let again = hold.take(10, later);
        assert_eq!((again[0].item, again[0].handed), (1, 1));
        assert_eq!(hold.next_due(), None);
    }

    #[test]
    fn it_is_stuck_when_there_is_no_room_and_all_of_it_waits() {
        let now = Instant::now();
        let mut hold = Hold::new(true);
        hold.push(Some("a"), 1);
        hold.push(Some("a"), 2);
        assert!(!hold.is_stuck(2), "one is ready");
        let taken = hold.take(1, now);
        assert!(!hold.is_stuck(2), "one is in hand");
        hold.put_back(taken[0].number, now + Duration::from_secs(5));
        assert!(hold.is_stuck(2) && !hold.is_stuck(3));
    }

    #[test]
    fn without_order_everything_goes_at_once() {
        let mut hold = Hold::new(false);
        hold.push(Some("a"), 1);
        hold.push(Some("a"), 2);
        assert_eq!(numbers(hold.take(10, Instant::now())), [1, 2]);
    }

    /// Any sequence of arrivals, takings, retries and settlements keeps the laws and loses nothing.
    #[test]
    fn whatever_happens_a_key_is_in_one_hand_and_nothing_is_lost() {
        for seed in 0..200 {
            let mut jitter = Jitter::new(seed);
            let mut now = Instant::now();
            let mut hold = Hold::new(true);
            let mut in_hand: Vec<(Number, (u64, u32))> = Vec::new();
            let mut done: HashMap<u64, Vec<u32>> = HashMap::new();
            let mut pushed = 0;
            while done.values().map(Vec::len).sum::<usize>() < 60 {
                match jitter.draw() % 4 {
                    0 if pushed < 60 => {
                        let key = jitter.draw() % 4;
                        hold.push(Some(&key.to_string()), (key, pushed));
                        pushed += 1;
                    }
                    1 => {
                        let most = usize::try_from(jitter.draw() % 3).expect("small");
                        for handed in hold.take(most, now) {
                            let free = in_hand.iter().all(|(_, (key, _))| *key != handed.item.0);
                            assert!(free, "seed {seed}: a key is in two hands");
                            in_hand.push((handed.number, handed.item));
                        }
                    }
                    2 if !in_hand.is_empty() => {
                        let (number, (key, item)) = in_hand.swap_remove(0);
                        hold.settle(number);
                        done.entry(key).or_default().push(item);
                    }
                    _ if !in_hand.is_empty() => {
                        let (number, _) = in_hand.swap_remove(0);
                        hold.put_back(number, now + Duration::from_secs(jitter.draw() % 3));
                    }
                    _ => now += Duration::from_secs(1),
                }
            }
            assert!(done.values().all(|items| items.is_sorted()), "seed {seed}: {done:?}");
            assert!(hold.items.is_empty() && hold.lines.is_empty() && hold.ready.is_empty());
        }
    }
}
