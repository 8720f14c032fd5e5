//! Tables for single decisions, and random runs against a model that is slow and obvious.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LOCK: Duration = Duration::from_millis(100);
const ANNA: Consumer = (0, 1);
const BEN: Consumer = (7, 1);

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

fn ledger(max_deliveries: u32) -> Ledger {
    Ledger::new(Terms { lock: LOCK, max_deliveries }, true, 0, 0)
}

fn fresh(sequence: i64, key: Option<&str>) -> Found {
    let key = key.map(Arc::from);
    Found { sequence, key, deliveries: None, due: None, aside: false }
}

/// Messages 1, 2, … with these keys; an empty key is none.
fn loaded(max_deliveries: u32, keys: &[&str]) -> Ledger {
    let mut ledger = ledger(max_deliveries);
    for (key, sequence) in keys.iter().zip(1..) {
        let key = (!key.is_empty()).then_some(*key);
        ledger.load([fresh(sequence, key)], sequence);
    }
    ledger
}

/// All that may go out now.
fn all(ledger: &mut Ledger, now: u64, serial: &mut u64) -> Vec<(Consumer, i64, u64)> {
    let mut out = Vec::new();
    while let Some((who, handout)) = ledger.next(at(now), serial, |_| true) {
        out.push((who, handout.sequence, handout.lock));
    }
    out
}

#[test]
fn consumers_take_turns_and_keys_do_not_meet() {
    let mut ledger = loaded(100, &["a", "a", "b", "", "b", "c"]);
    let mut serial = 0;
    ledger.demand(ANNA, 2);
    ledger.demand(BEN, 9);
    let out = all(&mut ledger, 0, &mut serial);
    assert_eq!(out, [(ANNA, 1, 1), (BEN, 3, 2), (ANNA, 4, 3), (BEN, 6, 4)]);
    assert!(ledger.settle(at(0), 1, Fate::Complete));
    assert_eq!(all(&mut ledger, 0, &mut serial), [(BEN, 2, 5)]);
    assert_eq!(ledger.low(), 1);
}

#[test]
fn a_long_backlog_of_one_key_is_not_read_whole() {
    let mut ledger = loaded(100, &["a", "a", "a"]);
    let mut serial = 0;
    assert!(!ledger.is_hungry(10, 10), "nobody waits");
    ledger.demand(ANNA, 9);
    assert!(ledger.is_hungry(10, 4) && !ledger.is_hungry(10, 3) && !ledger.is_hungry(1, 4));
    let out = all(&mut ledger, 0, &mut serial);
    assert_eq!(out, [(ANNA, 1, 1)]);
    assert!(ledger.settle(at(0), 1, Fate::Complete));
    assert!(ledger.is_hungry(10, 3), "one is settled, so there is room for another");
}

#[test]
fn a_consumer_without_room_is_passed_over_and_keeps_its_demand() {
    let mut ledger = loaded(100, &["", ""]);
    let mut serial = 0;
    ledger.demand(ANNA, 1);
    assert_eq!(ledger.next(at(0), &mut serial, |_| false), None);
    ledger.demand(BEN, 1);
    let (who, _) = ledger.next(at(0), &mut serial, |who| who == BEN).expect("for Ben");
    assert_eq!(who, BEN);
    assert_eq!(all(&mut ledger, 0, &mut serial), [(ANNA, 2, 2)]);
}

#[test]
fn the_fates_of_a_delivery() {
    let dead = Fate::Dead { reason: "r".into(), detail: "d".into() };
    let again = |wait| Change::Again { sequence: 1, deliveries: 1, wait, aside: false };
    let delay = Duration::from_millis(50);
    let cases = [
        (Fate::Complete, Change::Settled { sequence: 1 }, true),
        (Fate::Retry { delay }, again(Some(delay)), false),
        (
            dead,
            Change::Dead { sequence: 1, deliveries: 1, reason: "r".into(), detail: "d".into() },
            true,
        ),
        (Fate::Defer, Change::Deferred { sequence: 1, deliveries: 1 }, true),
    ];
    for (fate, change, frees_its_key) in cases {
        let mut ledger = loaded(100, &["k", "k"]);
        let mut serial = 0;
        ledger.demand(ANNA, 9);
        assert_eq!(all(&mut ledger, 0, &mut serial), [(ANNA, 1, 1)]);
        assert!(ledger.settle(at(10), 1, fate.clone()));
        assert!(!ledger.settle(at(10), 1, fate.clone()), "settled before");
        assert_eq!(ledger.take_changes(), [change], "{fate:?}");
        let next = all(&mut ledger, 10, &mut serial);
        assert_eq!(next.len(), usize::from(frees_its_key), "{fate:?}");
        assert_eq!(ledger.low(), i64::from(frees_its_key));
        if !frees_its_key {
            assert_eq!(ledger.next_deadline(), Some(at(60)));
            ledger.advance(at(59));
            assert_eq!(all(&mut ledger, 59, &mut serial), []);
            ledger.advance(at(60));
            assert_eq!(all(&mut ledger, 60, &mut serial), [(ANNA, 1, 2)]);
        }
    }
}

#[test]
fn a_lock_ends_when_it_is_over_unless_it_is_renewed() {
    let mut ledger = loaded(100, &["k"]);
    let mut serial = 0;
    ledger.demand(ANNA, 1);
    all(&mut ledger, 0, &mut serial);
    assert!(ledger.renew(at(90), 1));
    ledger.advance(at(100));
    assert_eq!(ledger.next_deadline(), Some(at(190)));
    ledger.advance(at(190));
    assert!(!ledger.renew(at(190), 1));
    assert!(!ledger.settle(at(190), 1, Fate::Complete));
    ledger.demand(BEN, 1);
    let (_, handout) = ledger.next(at(190), &mut serial, |_| true).expect("again");
    assert_eq!(handout, Handout { sequence: 1, lock: 2, attempt: 2 });
    let counted = Change::Again { sequence: 1, deliveries: 2, wait: None, aside: false };
    assert_eq!(ledger.take_changes(), [counted], "written before it goes out");
}

#[test]
fn the_limit_of_deliveries_is_exact() {
    let mut ledger = loaded(2, &["k", "k"]);
    let mut serial = 0;
    ledger.demand(ANNA, 9);
    let (_, first) = ledger.next(at(0), &mut serial, |_| true).expect("first");
    assert!(ledger.release(first.lock, false), "given back unread, and not counted");
    let (_, first) = ledger.next(at(0), &mut serial, |_| true).expect("first");
    assert!(ledger.release(first.lock, true));
    let (_, second) = ledger.next(at(0), &mut serial, |_| true).expect("second");
    assert_eq!((first.attempt, second.attempt), (1, 2));
    ledger.take_changes();
    assert!(ledger.settle(at(0), second.lock, Fate::Retry { delay: Duration::ZERO }));
    let changes = ledger.take_changes();
    assert!(
        matches!(&changes[..], [Change::Dead { sequence: 1, deliveries: 2, reason, .. }]
            if reason == MAX_DELIVERIES),
        "{changes:?}"
    );
    assert_eq!(all(&mut ledger, 0, &mut serial).first().map(|one| one.1), Some(2));
}

#[test]
fn a_consumer_that_ends_gives_back_what_it_has_not_taken() {
    let mut ledger = loaded(100, &["", "", ""]);
    let mut serial = 0;
    ledger.demand(ANNA, 9);
    all(&mut ledger, 0, &mut serial);
    ledger.detach(ANNA, 1);
    ledger.demand(BEN, 9);
    let mut attempts = Vec::new();
    while let Some((_, handout)) = ledger.next(at(0), &mut serial, |_| true) {
        attempts.push((handout.sequence, handout.attempt));
    }
    assert_eq!(attempts, [(2, 1), (3, 1)]);
    assert!(ledger.settle(at(0), 1, Fate::Complete), "what it has taken it may settle");
    ledger.lose_client(BEN.0);
    ledger.demand(ANNA, 1);
    let (_, handout) = ledger.next(at(0), &mut serial, |_| true).expect("again");
    assert_eq!(handout.attempt, 2);
}

#[test]
fn what_the_file_says_of_deliveries_is_believed() {
    let mut ledger = Ledger::new(Terms { lock: LOCK, max_deliveries: 3 }, true, 0, 2);
    let row = |sequence, deliveries, due| {
        let found = fresh(sequence, None);
        Found { deliveries: Some(deliveries), due, ..found }
    };
    let found = [fresh(1, None), row(2, 2, Some(at(5))), fresh(3, None), row(4, 3, None)];
    ledger.load(found, 4);
    ledger.demand(ANNA, 9);
    let mut serial = 0;
    let mut out = Vec::new();
    ledger.advance(at(5));
    while let Some((_, handout)) = ledger.next(at(5), &mut serial, |_| true) {
        out.push((handout.sequence, handout.attempt));
    }
    assert_eq!(out, [(1, 2), (2, 3), (3, 1)], "the fourth was delivered often enough");
    assert_eq!(ledger.delivered_to(), 3);
}

#[test]
fn a_reposted_message_waits_for_its_key_and_does_not_move_the_mark() {
    let mut ledger = loaded(100, &["k", "k", "k"]);
    let mut serial = 0;
    ledger.demand(ANNA, 9);
    all(&mut ledger, 0, &mut serial);
    let dead = Fate::Dead { reason: String::new(), detail: String::new() };
    ledger.settle(at(0), 1, dead);
    assert_eq!(all(&mut ledger, 0, &mut serial), [(ANNA, 2, 2)]);
    ledger.admit(Found { aside: true, deliveries: Some(0), ..fresh(1, Some("k")) });
    assert_eq!((ledger.low(), all(&mut ledger, 0, &mut serial)), (1, vec![]));
    ledger.settle(at(0), 2, Fate::Complete);
    assert_eq!(all(&mut ledger, 0, &mut serial), [(ANNA, 1, 3)]);
    ledger.take_changes();
    ledger.settle(at(0), 3, Fate::Complete);
    assert_eq!(ledger.take_changes(), [Change::Removed { sequence: 1 }]);
    assert_eq!(ledger.low(), 2);
}

#[test]
fn a_deferred_message_goes_back_to_where_it_was() {
    let mut ledger = ledger(3);
    let mut serial = 0;
    let taken = ledger.take_deferred(at(0), &mut serial, ANNA, 5, 1).expect("free");
    assert_eq!((taken.sequence, taken.attempt), (5, 2));
    assert_eq!(ledger.take_deferred(at(0), &mut serial, BEN, 5, 1), None);
    assert_eq!(ledger.counts(), (0, 1));
    ledger.advance(at(100));
    let deferred = |deliveries| Change::Deferred { sequence: 5, deliveries };
    assert_eq!(ledger.take_changes(), [deferred(2), deferred(2)]);
    let taken = ledger.take_deferred(at(100), &mut serial, BEN, 5, 2).expect("free again");
    assert!(ledger.settle(at(100), taken.lock, Fate::Complete));
    let removed = Change::Removed { sequence: 5 };
    assert_eq!(ledger.take_changes(), [deferred(3), removed]);
}

/// What the model knows of a message that is not settled.
#[derive(Clone, Debug, Default)]
struct Modelled {
    key: Option<String>,
    deliveries: u32,
    not_before: u64,
    lock: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Option<u8>),
    Demand(bool, u32),
    Deliver,
    Settle(usize, u8),
    Release(usize, bool),
    Renew(usize),
    Pass(u64),
    LoseBen,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::option::of(0_u8..3).prop_map(Step::Publish),
        2 => (any::<bool>(), 0_u32..4).prop_map(|(who, most)| Step::Demand(who, most)),
        4 => Just(Step::Deliver),
        4 => (0_usize..6, 0_u8..4).prop_map(|(which, fate)| Step::Settle(which, fate)),
        2 => (0_usize..6, any::<bool>()).prop_map(|(which, counted)| Step::Release(which, counted)),
        1 => (0_usize..6).prop_map(Step::Renew),
        2 => (1_u64..80).prop_map(Step::Pass),
        1 => Just(Step::LoseBen),
        1 => Just(Step::Restart),
    ]
}

/// A ledger, what was written for it, and the model beside it.
struct Run {
    ledger: Ledger,
    serial: u64,
    now: u64,
    last: i64,
    /// What was written, and when.
    rows: BTreeMap<i64, (u64, Change)>,
    marks: (i64, i64),
    messages: BTreeMap<i64, Option<String>>,
    model: BTreeMap<i64, Modelled>,
    locks: Vec<(u64, i64, Consumer)>,
}

const LIMIT: u32 = 4;

impl Run {
    fn new() -> Self {
        Self {
            ledger: ledger(LIMIT),
            serial: 0,
            now: 0,
            last: 0,
            rows: BTreeMap::new(),
            marks: (0, 0),
            messages: BTreeMap::new(),
            model: BTreeMap::new(),
            locks: Vec::new(),
        }
    }

    /// Which messages may go out, by the plainest reading of the rules.
    fn deliverable(&self) -> Vec<i64> {
        let is_first = |sequence: &i64, one: &Modelled| {
            one.key.is_none()
                || self.model.iter().find(|(_, other)| other.key == one.key).map(|(first, _)| first)
                    == Some(sequence)
        };
        let free = |one: &Modelled| one.lock.is_none() && one.not_before <= self.now;
        let good = self.model.iter().filter(|(sequence, one)| free(one) && is_first(sequence, one));
        good.map(|(sequence, _)| *sequence).collect()
    }

    fn bury_exhausted(&mut self) {
        let now = self.now;
        self.model
            .retain(|_, one| one.lock.is_some() || one.not_before > now || one.deliveries < LIMIT);
    }

    fn give_back(&mut self, sequence: i64, counted: bool) {
        if let Some(one) = self.model.get_mut(&sequence) {
            one.lock = None;
            one.deliveries -= u32::from(!counted);
            if counted && one.deliveries >= LIMIT {
                self.model.remove(&sequence);
            }
        }
    }

    /// Applies one step to both and compares them.
    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish(key) => {
                self.last += 1;
                let key = key.map(|key| key.to_string());
                self.messages.insert(self.last, key.clone());
                self.ledger.load([fresh(self.last, key.as_deref())], self.last);
                self.model.insert(self.last, Modelled { key, ..Modelled::default() });
            }
            Step::Demand(is_anna, most) => {
                self.ledger.demand(if *is_anna { ANNA } else { BEN }, *most);
            }
            Step::Deliver => self.deliver(),
            Step::Settle(which, fate) => self.settle(*which, *fate),
            Step::Release(which, counted) => {
                if let Some((lock, sequence, _)) = self.nth(*which) {
                    let held = self.is_held(sequence, lock);
                    assert_eq!(self.ledger.release(lock, *counted), held);
                    if held {
                        self.give_back(sequence, *counted);
                    }
                }
            }
            Step::Renew(which) => {
                if let Some((lock, sequence, _)) = self.nth(*which) {
                    let held = self.is_held(sequence, lock);
                    assert_eq!(self.ledger.renew(at(self.now), lock), held);
                    if let Some(one) = self.model.get_mut(&sequence).filter(|_| held) {
                        one.lock = Some((lock, self.now + 100));
                    }
                }
            }
            Step::Pass(millis) => {
                self.now += millis;
                self.ledger.advance(at(self.now));
                let over: Vec<i64> = self
                    .model
                    .iter()
                    .filter_map(|(sequence, one)| {
                        one.lock.is_some_and(|(_, until)| until <= self.now).then_some(*sequence)
                    })
                    .collect();
                for sequence in over {
                    self.give_back(sequence, true);
                }
                self.bury_exhausted();
            }
            Step::LoseBen => {
                self.ledger.lose_client(BEN.0);
                for (lock, sequence, who) in self.locks.clone() {
                    if who == BEN && self.is_held(sequence, lock) {
                        self.give_back(sequence, true);
                    }
                }
            }
            Step::Restart => self.restart(),
        }
        self.compare();
    }

    fn nth(&self, which: usize) -> Option<(u64, i64, Consumer)> {
        self.locks.iter().rev().nth(which).copied()
    }

    fn is_held(&self, sequence: i64, lock: u64) -> bool {
        let held = self.model.get(&sequence).and_then(|one| one.lock);
        held.is_some_and(|(held, _)| held == lock)
    }

    fn deliver(&mut self) {
        let wanted = self.deliverable();
        let asked = self.ledger.is_asked();
        let got = self.ledger.next(at(self.now), &mut self.serial, |_| true);
        assert_eq!(
            got.map(|(_, handout)| handout.sequence),
            wanted.first().copied().filter(|_| asked)
        );
        if let Some((who, Handout { sequence, lock, attempt })) = got {
            let one = self.model.get_mut(&sequence).expect("in the model");
            one.deliveries += 1;
            one.lock = Some((lock, self.now + 100));
            assert_eq!(attempt, one.deliveries);
            self.locks.push((lock, sequence, who));
        }
    }

    fn settle(&mut self, which: usize, fate: u8) {
        let Some((lock, sequence, _)) = self.nth(which) else { return };
        let held = self.is_held(sequence, lock);
        let delay = Duration::from_millis(30);
        let said = match fate {
            0 => Fate::Complete,
            1 => Fate::Retry { delay },
            2 => Fate::Dead { reason: "r".into(), detail: "d".into() },
            _ => Fate::Defer,
        };
        let is_retry = matches!(said, Fate::Retry { .. });
        assert_eq!(self.ledger.settle(at(self.now), lock, said), held);
        if !held {
            return;
        }
        let until = self.now + 30;
        match self.model.get_mut(&sequence) {
            Some(one) if is_retry && one.deliveries < LIMIT => {
                one.lock = None;
                one.not_before = until;
            }
            _ => drop(self.model.remove(&sequence)),
        }
    }

    /// Writes the changes as the engine does.
    fn write(&mut self) {
        let low = self.ledger.low();
        for change in self.ledger.take_changes() {
            let (Change::Settled { sequence }
            | Change::Again { sequence, .. }
            | Change::Dead { sequence, .. }
            | Change::Deferred { sequence, .. }
            | Change::Removed { sequence }) = change;
            self.rows.insert(sequence, (self.now, change));
        }
        self.rows.retain(|sequence, (_, change)| {
            let lasts = matches!(change, Change::Dead { .. } | Change::Deferred { .. });
            lasts || *sequence > low
        });
        self.marks = (low, self.ledger.delivered_to());
    }

    /// The owner is killed, and another reads what was written.
    fn restart(&mut self) {
        self.write();
        let (low, delivered_to) = self.marks;
        let terms = Terms { lock: LOCK, max_deliveries: LIMIT };
        self.ledger = Ledger::new(terms, true, low, delivered_to);
        let open = self.messages.range(low + 1..).filter_map(|(sequence, key)| {
            let found = fresh(*sequence, key.as_deref());
            match self.rows.get(sequence) {
                None => Some(found),
                Some((written, Change::Again { deliveries, wait, .. })) => {
                    let due = wait.map(|wait| at(*written).plus(wait));
                    Some(Found { deliveries: Some(*deliveries), due, ..found })
                }
                Some(_) => None,
            }
        });
        self.ledger.load(open, self.last);
        self.ledger.advance(at(self.now));
        for (sequence, one) in &mut self.model {
            one.lock = None;
            // What the mark has passed may have been delivered once, and is taken for it.
            if one.deliveries == 0 && *sequence <= delivered_to {
                one.deliveries = 1;
            }
            // Counts of the first delivery are not taken back over a restart.
            if let Some((_, Change::Again { deliveries, .. })) = self.rows.get(sequence) {
                one.deliveries = *deliveries;
            }
        }
        let recorded = |sequence: &i64| self.rows.contains_key(sequence);
        let heads: Vec<i64> = self.deliverable();
        let exhausted = |sequence: &i64, one: &Modelled| {
            one.deliveries >= LIMIT && recorded(sequence) && heads.contains(sequence)
        };
        let gone: Vec<i64> = self
            .model
            .iter()
            .filter(|(sequence, one)| exhausted(sequence, one))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in gone {
            self.model.remove(&sequence);
        }
    }

    fn compare(&mut self) {
        self.write();
        let unsettled = self.model.keys().next().copied();
        assert_eq!(self.ledger.low(), unsettled.map_or(self.last, |first| first - 1));
        let locked = self.model.values().filter(|one| one.lock.is_some()).count();
        assert_eq!(self.ledger.counts(), (self.model.len() - locked, locked));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
        }
    }
}

#[test]
fn what_is_behind_a_reposted_letter_keeps_its_wait_and_its_count() {
    let mut ledger = Ledger::new(Terms { lock: LOCK, max_deliveries: 3 }, true, 0, 3);
    ledger.admit(Found { aside: true, deliveries: Some(0), ..fresh(1, Some("k")) });
    let row = |sequence, deliveries, due| {
        let found = fresh(sequence, Some("k"));
        Found { deliveries: Some(deliveries), due, ..found }
    };
    ledger.load([row(2, 3, None), row(3, 1, Some(at(500))), fresh(4, Some("k"))], 4);
    ledger.demand(ANNA, 9);
    let mut serial = 0;
    assert_eq!(all(&mut ledger, 0, &mut serial), [(ANNA, 1, 1)]);
    assert!(ledger.settle(at(0), 1, Fate::Complete));
    assert_eq!(all(&mut ledger, 10, &mut serial), [], "the second is dead, the third waits");
    assert_eq!(ledger.low(), 2);
    ledger.advance(at(500));
    assert_eq!(all(&mut ledger, 500, &mut serial), [(ANNA, 3, 2)]);
}

#[test]
fn locks_are_carried_over_a_group_that_failed() {
    let mut ledger = loaded(100, &["k", "k", "", "l"]);
    let mut serial = 0;
    ledger.demand(ANNA, 2);
    assert_eq!(all(&mut ledger, 0, &mut serial), [(ANNA, 1, 1), (ANNA, 3, 2)]);
    ledger.begin();
    let mark = serial;
    ledger.demand(BEN, 9);
    assert!(ledger.settle(at(0), 1, Fate::Complete));
    assert_eq!(all(&mut ledger, 0, &mut serial), [(BEN, 2, 3), (BEN, 4, 4)]);
    let mut again = Ledger::new(Terms { lock: LOCK, max_deliveries: 100 }, true, 0, 3);
    for carried in ledger.held_before(mark) {
        again.carry(carried);
    }
    assert_eq!((again.low(), again.counts(), again.known_above()), (0, (0, 2), 2));
    let keys = [Some("k"), Some("k"), None, Some("l")];
    let found = keys.iter().zip(1..).map(|(key, sequence)| fresh(sequence, *key));
    again.load(found, 4);
    assert_eq!((again.low(), again.counts(), again.known_above()), (0, (2, 2), 0));
    again.demand(BEN, 9);
    assert_eq!(all(&mut again, 0, &mut serial), [(BEN, 4, 5)], "the second is behind the first");
    assert!(!again.settle(at(0), 3, Fate::Complete), "a lock that nobody was given");
    assert!(again.settle(at(0), 1, Fate::Complete) && again.settle(at(0), 2, Fate::Complete));
    assert_eq!(all(&mut again, 0, &mut serial), [(BEN, 2, 6)]);
    assert_eq!(again.low(), 1);
}
