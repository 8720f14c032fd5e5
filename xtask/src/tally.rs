//! What a test run said: counts and skipped tests, read from the lines that it printed.
//!
//! A test that cannot run here prints `posthaste-skip: REASON` and returns; the runner counts it as
//! passed, this counts it as skipped.

use std::ops::AddAssign;

const SKIP: &str = "posthaste-skip: ";

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Which program prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `cargo nextest run --success-output=final`.
    Nextest,
    /// `cargo test -- --show-output`.
    Libtest,
}

/// Follows a run line by line.
#[derive(Debug)]
pub(crate) struct Listener {
    dialect: Dialect,
    counts: Tally,
    summaries: usize,
    /// The test whose output is being shown.
    test: String,
    /// Whether that test passed, so that its output is of no interest.
    muted: bool,
    after_rule: bool,
    skips: Vec<(String, String)>,
}

impl Listener {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            counts: Tally::default(),
            summaries: 0,
            test: String::new(),
            muted: false,
            after_rule: false,
            skips: Vec::new(),
        }
    }

    /// Takes a line; says whether a person wants to see it.
    pub(crate) fn hear(&mut self, line: &str) -> bool {
        if let Some(reason) = line.trim_start().strip_prefix(SKIP) {
            let skip = (self.test.clone(), reason.trim().to_owned());
            // A test may say it twice; of several that are not known by name each counts.
            if skip.0.is_empty() || !self.skips.contains(&skip) {
                self.skips.push(skip);
            }
            return false;
        }
        match self.dialect {
            Dialect::Nextest => self.hear_nextest(line),
            Dialect::Libtest => self.hear_libtest(line),
        }
    }

    fn hear_nextest(&mut self, line: &str) -> bool {
        let after_rule = std::mem::replace(&mut self.after_rule, line.starts_with("────"));
        if after_rule && let Some(counts) = nextest_summary(line) {
            self.counts += counts;
            self.summaries += 1;
        } else if let Some((status, test)) = nextest_status(line) {
            self.test = test.to_owned();
            self.muted = self.summaries > 0 && status == "PASS";
        } else if !line.is_empty() && !line.starts_with(' ') {
            self.muted = false;
        }
        !self.muted
    }

    fn hear_libtest(&mut self, line: &str) -> bool {
        // What a test printed itself stands between its name and the next headline.
        if line == "successes:" || line == "failures:" {
            self.muted = line == "successes:";
            self.test.clear();
        } else if let Some(counts) = libtest_summary(line).filter(|_| self.test.is_empty()) {
            self.counts += counts;
            self.summaries += 1;
            self.muted = false;
        } else if let Some(rest) = line.strip_prefix("---- ") {
            self.test = rest.trim_end_matches(" ----").trim_end_matches(" stdout").to_owned();
        }
        !self.muted
    }

    /// Counts and skipped tests (name and reason). A run that failed without saying which test did
    /// has one failure, and so has a run that came to no end.
    pub(crate) fn end(self, success: bool, filtered: bool) -> (Tally, Vec<(String, String)>) {
        let mut tally = self.counts;
        if filtered && self.dialect == Dialect::Nextest {
            // What a filter left out counts as skipped there, and is no news.
            tally.skipped = 0;
        }
        if (!success || self.summaries == 0) && tally.failed == 0 {
            tally.failed = 1;
        }
        let told = u64::try_from(self.skips.len()).unwrap_or(u64::MAX).min(tally.passed);
        tally.passed -= told;
        tally.skipped += told;
        (tally, self.skips)
    }
}

/// `        PASS [   0.012s] (1/3) package module::test`
fn nextest_status(line: &str) -> Option<(&str, &str)> {
    let (status, rest) = line.strip_prefix("    ")?.trim_start().split_once(" [")?;
    let known = status.bytes().all(|byte| byte.is_ascii_uppercase() || b" -+".contains(&byte));
    let (time, rest) = rest.split_once("] ")?;
    let timed = time.trim().ends_with('s') || time.trim().is_empty();
    let (number, test) = rest.split_once(") ")?;
    (known && timed && number.starts_with('(')).then_some((status, test))
}

/// `     Summary [   0.079s] 3 tests run: 2 passed (1 slow), 1 failed, 1 skipped`, or `2/3 tests
/// run` if it was broken off.
fn nextest_summary(line: &str) -> Option<Tally> {
    let (_, rest) = line.strip_prefix("     Summary [")?.split_once("] ")?;
    let (run, counts) = rest.split_once(" run: ")?;
    let all = run.split_whitespace().next()?.split('/').next_back()?.parse::<u64>().ok()?;
    let mut tally = Tally::default();
    for part in counts.split(", ") {
        let mut words = part.split_whitespace();
        if let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse), words.next()) {
            match what {
                "passed" => tally.passed = count,
                "skipped" => tally.skipped = count,
                _ => {}
            }
        }
    }
    tally.failed = all.saturating_sub(tally.passed);
    Some(tally)
}

/// `test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; …`
fn libtest_summary(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    let mut known = 0;
    for part in counts.split("; ") {
        let Some((count, what)) = part.split_once(' ') else { continue };
        let Ok(count) = count.parse() else { continue };
        let field = match what {
            "passed" => &mut tally.passed,
            "failed" => &mut tally.failed,
            "ignored" => &mut tally.skipped,
            _ => continue,
        };
        *field = count;
        known += 1;
    }
    (known == 3).then_some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(dialect: Dialect, text: &str, success: bool, filtered: bool) -> (Tally, usize, String) {
        let mut listener = Listener::new(dialect);
        let mut shown = String::new();
        for line in text.lines() {
            if listener.hear(line) {
                shown += line;
                shown += "\n";
            }
        }
        let (tally, skips) = listener.end(success, filtered);
        (tally, skips.len(), shown)
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    const NEXTEST: &str = "    Starting 3 tests across 1 binary (1 test skipped)
        PASS [   0.012s] (1/3) nx tests::ok
        FAIL [   0.078s] (3/3) nx tests::fails
  stdout ───

    the story of a failure
    test result: ok. 100 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out

────────────
     Summary [   0.079s] 3 tests run: 2 passed (1 slow), 1 failed, 1 skipped
        PASS [   0.012s] (1/3) nx tests::ok
  stdout ───

    chatter
        PASS [   0.009s] (2/3) nx tests::skipped
  stderr ───
    posthaste-skip: python3 is not installed
    posthaste-skip: python3 is not installed

        FAIL [   0.078s] (3/3) nx tests::fails
error: test run failed
";

    #[test]
    fn nextest_is_understood() {
        let (counts, skips, shown) = hear(Dialect::Nextest, NEXTEST, false, false);
        assert_eq!((counts, skips), (tally(1, 1, 2), 1));
        assert!(shown.contains("the story of a failure") && !shown.contains("chatter"), "{shown}");
        assert!(shown.ends_with("error: test run failed\n"), "{shown}");
        assert_eq!(hear(Dialect::Nextest, NEXTEST, false, true).0, tally(1, 1, 1));
    }

    #[test]
    fn a_run_that_was_broken_off_failed() {
        let text = "────────────
     Summary [   2.000s] 5/9 tests run: 5 passed, 1 skipped";
        assert_eq!(hear(Dialect::Nextest, text, false, false).0, tally(5, 4, 1));
        assert_eq!(hear(Dialect::Nextest, "error: no", false, false).0, tally(0, 1, 0));
        assert_eq!(hear(Dialect::Libtest, "error: no", true, false).0, tally(0, 1, 0));
    }

    #[test]
    fn libtest_is_understood_over_several_binaries() {
        let text = "
running 4 tests
successes:

---- tests::skipped stdout ----
posthaste-skip: python3 is not installed
chatter
test result: ok. 100 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out

successes:
    tests::skipped

failures:

---- tests::fails stdout ----
the story of a failure

failures:
    tests::fails

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.07s

test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.07s
";
        let (counts, skips, shown) = hear(Dialect::Libtest, text, false, false);
        assert_eq!((counts, skips), (tally(4, 1, 2), 1));
        assert!(shown.contains("the story of a failure") && !shown.contains("chatter"), "{shown}");
    }

    #[test]
    fn a_process_that_died_counts_although_no_test_says_so() {
        let text = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out";
        assert_eq!(hear(Dialect::Libtest, text, false, false).0, tally(3, 1, 0));
        assert_eq!(hear(Dialect::Libtest, text, true, false).0, tally(3, 0, 0));
    }
}
