//! How the partitions of the outbox lie, and what has to be changed about that: pure.

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Its first number; `None` for the lowest there is.
    pub(crate) from: Option<i64>,
    /// The number behind its last one; `None` if it has no end.
    pub(crate) to: Option<i64>,
    pub(crate) is_empty: bool,
}

impl Part {
    fn new(from: Option<i64>, to: Option<i64>) -> Self {
        let name = match (from, to) {
            (_, None) => "outbox_overflow".to_owned(),
            (Some(from), _) => format!("outbox_from_{from}"),
            (None, Some(to)) => format!("outbox_before_{to}"),
        };
        Self { name, from, to, is_empty: true }
    }

    /// Its lower bound as a statement names it.
    pub(crate) fn lower(&self) -> String {
        self.from.map_or_else(|| "minvalue".to_owned(), |from| from.to_string())
    }

    /// What is true of its rows only.
    pub(crate) fn condition(&self) -> String {
        let from = self.from.map(|from| format!("seq >= {from}"));
        let to = self.to.map(|to| format!("seq < {to}"));
        let both: Vec<String> = from.into_iter().chain(to).collect();
        if both.is_empty() { "true".to_owned() } else { both.join(" and ") }
    }

    /// Its upper bound as a statement names it.
    pub(crate) fn upper(&self) -> String {
        self.to.map_or_else(|| "maxvalue".to_owned(), |to| to.to_string())
    }
}

/// All partitions, from low to high, and the last number that the sequence gave.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) last: i64,
    pub(crate) parts: Vec<Part>,
    /// Whether a bound is on the last one for a time.
    pub(crate) bounded: bool,
}

/// What has to be done in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Empty partitions that go.
    pub(crate) drop: Vec<String>,
    /// The last partition, where it holds rows, and what it becomes.
    pub(crate) keep: Option<(String, Part)>,
    /// The number below which it then ends.
    pub(crate) bound: Option<i64>,
    /// Partitions that come.
    pub(crate) make: Vec<Part>,
}

/// How many partitions shall be ahead of the one that is being filled.
const AHEAD: i64 = 2;

/// How far above the last number a partition that held more than planned ends at least: further
/// than writers get before the change is made.
pub(crate) const ROOM: i64 = 10_000_000;

/// Every look takes locks on all partitions, so that they grow with the rows that are kept: about
/// so many hold all of these, unless one would be too many times larger than was asked for.
const ABOUT: i64 = 16;
const TOO_LARGE: i64 = 64;

/// Most partitions that go in one transaction, which takes a lock for each of their indexes too.
const AT_ONCE: usize = 32;

impl Layout {
    /// From names and bounds as the server prints them.
    pub(crate) fn new(last: i64, bounds: Vec<(String, String)>) -> Result<Self, String> {
        let mut parts = Vec::with_capacity(bounds.len());
        for (name, bound) in bounds {
            let (from, to) = parse(&bound).ok_or_else(|| {
                format!("partition {name} of the outbox has bounds of its own ({bound})")
            })?;
            parts.push(Part { name, from, to, is_empty: false });
        }
        parts.sort_by_key(|part| part.from.unwrap_or(i64::MIN));
        Ok(Self { last, parts, bounded: false })
    }

    /// How many rows a new partition shall have where this many are asked for.
    pub(crate) fn rows(&self, asked: i64) -> i64 {
        let lowest = self.parts.iter().find(|part| !part.is_empty);
        let lowest = lowest.and_then(|part| part.from.or(part.to)).unwrap_or(self.last);
        let wide = self.last.saturating_sub(lowest) / ABOUT;
        wide.min(asked.saturating_mul(TOO_LARGE)).max(asked)
    }

    /// Whether the partitions lie as they did.
    pub(crate) fn has_bounds_of(&self, other: &Self) -> bool {
        let bounds = |part: &Part| (part.name.clone(), part.from, part.to);
        self.parts.iter().map(bounds).eq(other.parts.iter().map(bounds))
    }

    /// What to change for partitions of so many rows, if it is time for something.
    pub(crate) fn change(&self, rows: i64) -> Option<Change> {
        let bound = self.last.saturating_add(rows.saturating_mul(4).max(ROOM));
        let change = self.change_up_to(rows, bound);
        (change != Change::default()).then_some(change)
    }

    /// The same, where the last partition shall end below `bound` if it has to be kept.
    pub(crate) fn change_up_to(&self, rows: i64, bound: i64) -> Change {
        let mut change = Change::default();
        self.put_together(&mut change);
        self.go_ahead(rows, bound, &mut change);
        change
    }

    /// Runs of empty partitions below the sequence become one.
    fn put_together(&self, change: &mut Change) {
        let is_old = |part: &Part| part.is_empty && part.to.is_some_and(|to| to <= self.last);
        let belong =
            |one: &Part, other: &Part| is_old(one) && is_old(other) && one.to == other.from;
        for run in self.parts.chunk_by(belong) {
            let run = &run[..run.len().min(AT_ONCE.saturating_sub(change.drop.len()))];
            let ([first, .., last], true) = (run, run.first().is_some_and(is_old)) else {
                continue;
            };
            change.drop.extend(run.iter().map(|part| part.name.clone()));
            let mut one = Part::new(first.from, last.to);
            // The lowest one takes every number below it too.
            if self.parts.first().is_some_and(|part| part.name == first.name) {
                one = Part::new(None, last.to);
            }
            change.make.push(one);
        }
    }

    /// The last partition moves up before the sequence gets there.
    fn go_ahead(&self, rows: i64, bound: i64, change: &mut Change) {
        let Some(overflow) = self.parts.last().filter(|part| part.to.is_none()) else { return };
        let Some(from) = overflow.from else { return };
        if self.last.saturating_add(rows.saturating_mul(AHEAD)) < from {
            return;
        }
        let mut next = from;
        if overflow.is_empty && self.last < from {
            change.drop.push(overflow.name.clone());
        } else {
            change.keep = Some((overflow.name.clone(), Part::new(Some(from), Some(bound))));
            change.bound = Some(bound);
            next = bound;
        }
        for _ in 0..=AHEAD {
            let to = next.saturating_add(rows);
            change.make.push(Part::new(Some(next), Some(to)));
            next = to;
        }
        change.make.push(Part::new(Some(next), None));
    }
}

/// `FOR VALUES FROM ('1') TO ('100001')`, with MINVALUE and MAXVALUE at the ends.
fn parse(bound: &str) -> Option<(Option<i64>, Option<i64>)> {
    let inner = bound.strip_prefix("FOR VALUES FROM (")?.strip_suffix(')')?;
    let (from, to) = inner.split_once(") TO (")?;
    let number = |text: &str, end: &str| match text {
        text if text == end => Some(None),
        text => text.trim_matches('\'').parse().ok().map(Some),
    };
    Some((number(from, "MINVALUE")?, number(to, "MAXVALUE")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(last: i64, parts: &[(i64, i64, bool)]) -> Layout {
        let end = parts.last().map_or(1, |part| part.1);
        let mut parts: Vec<Part> = parts
            .iter()
            .map(|&(from, to, is_empty)| Part { is_empty, ..Part::new(Some(from), Some(to)) })
            .collect();
        parts.push(Part::new(Some(end), None));
        Layout { last, parts, bounded: false }
    }

    fn ranges(parts: &[Part]) -> Vec<(Option<i64>, Option<i64>)> {
        parts.iter().map(|part| (part.from, part.to)).collect()
    }

    #[test]
    fn bounds_are_read_as_the_server_prints_them() {
        assert_eq!(parse("FOR VALUES FROM ('1') TO ('11')"), Some((Some(1), Some(11))));
        assert_eq!(parse("FOR VALUES FROM (MINVALUE) TO ('1')"), Some((None, Some(1))));
        assert_eq!(parse("FOR VALUES FROM ('11') TO (MAXVALUE)"), Some((Some(11), None)));
        for other in ["DEFAULT", "FOR VALUES IN (1)", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_changes_while_there_is_enough_ahead() {
        assert_eq!(layout(3, &[(1, 11, false), (11, 21, true), (21, 31, true)]).change(10), None);
    }

    #[test]
    fn the_last_partition_moves_up_before_the_sequence_is_there() {
        let change = layout(11, &[(1, 11, false), (11, 21, false), (21, 31, true)]).change(10);
        let change = change.expect("it is time");
        assert_eq!(change.drop, ["outbox_overflow"]);
        let made = [(Some(31), Some(41)), (Some(41), Some(51)), (Some(51), Some(61))];
        assert_eq!(ranges(&change.make)[..3], made);
        assert_eq!(ranges(&change.make)[3], (Some(61), None));
    }

    #[test]
    fn a_last_partition_with_rows_in_it_is_kept_with_room_above_them() {
        let mut layout = layout(45, &[(1, 11, false)]);
        layout.parts[1].is_empty = false;
        let change = layout.change(10).expect("it is time");
        let (name, kept) = change.keep.expect("it holds rows");
        assert_eq!(
            (name.as_str(), kept.from, kept.to),
            ("outbox_overflow", Some(11), change.bound)
        );
        assert!(change.bound.expect("a bound") >= 45 + ROOM && change.drop.is_empty());
        assert_eq!(change.make[0].from, change.bound);
    }

    #[test]
    fn empty_partitions_behind_the_sequence_become_one_from_the_lowest_number_on() {
        let parts =
            [(1, 11, true), (11, 21, true), (21, 31, false), (31, 41, true), (41, 90, true)];
        let change = layout(35, &parts).change(10).expect("two can be one");
        assert_eq!(change.drop, ["outbox_from_1", "outbox_from_11"]);
        assert_eq!(ranges(&change.make), [(None, Some(21))]);
    }
    #[test]
    fn empty_partitions_with_something_in_between_stay_apart() {
        let apart = layout(35, &[(1, 11, true), (21, 31, true), (31, 90, false)]);
        assert_eq!(apart.change(10).map(|change| change.drop), None);
    }

    #[test]
    fn the_more_is_kept_the_larger_partitions_become() {
        assert_eq!(layout(35, &[(1, 11, false), (11, 90, false)]).rows(10), 10);
        assert_eq!(layout(3500, &[(1, 11, true), (301, 9000, false)]).rows(10), 199);
        assert_eq!(layout(i64::MAX, &[(1, 9000, false)]).rows(10), 640);
        let (mut last, mut parts) = (0, vec![(1, 1_000_001, false)]);
        while last < 1_000_000_000 {
            let end = parts.last().map_or(1, |part| part.1);
            last = end;
            parts.push((end, end + layout(last, &parts).rows(1_000_000), false));
        }
        assert!(parts.len() < 90, "{}", parts.len());
    }

    #[test]
    fn not_all_of_very_many_empty_partitions_go_at_once() {
        let parts: Vec<_> = (0..500).map(|n| (1 + 10 * n, 11 + 10 * n, true)).collect();
        let layout = layout(5000, &parts);
        let change = layout.change(10).expect("they can be fewer");
        assert!(change.drop.len() <= AT_ONCE + 1, "{}", change.drop.len());
    }
}
