//! What the demo says at its end, to a stranger and to a program.

use std::path::Path;
use std::time::Duration;

use posthaste_history::{Report, Verdict};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::Output;

use super::evidence::Evidence;
use super::sabotage::Sabotage;
use super::site::Site;
use super::world::CONSUMERS;

/// Everything there is to say of a run.
pub(super) struct Outcome {
    pub(super) site: Site,
    pub(super) evidence: Evidence,
    pub(super) report: Report,
    pub(super) kills: u64,
    pub(super) held_open: u64,
    pub(super) seed: u64,
    pub(super) duration: Duration,
    pub(super) sabotage: Option<Sabotage>,
    /// Whether what was made is kept.
    pub(super) kept: bool,
}

impl Outcome {
    /// Whether the promise was kept, which includes that nothing is left over.
    pub(super) fn is_kept(&self) -> bool {
        self.report.verdict == Verdict::Kept
    }

    /// Tells it, as text or as one object.
    ///
    /// # Errors
    /// If nobody reads it.
    pub(super) fn show(&self, folder: Option<&Path>, output: Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.object(&self.object(folder));
        }
        let parts = [self.done(), self.checked(), self.conclusion(), self.next(folder)];
        output.line(&parts.join("\n"))
    }

    fn object(&self, folder: Option<&Path>) -> Value {
        let report = &self.report.counts;
        let witnesses: Vec<String> = self.report.witnesses().map(ToString::to_string).collect();
        json!({
            "committed": report.committed,
            "rolled_back": report.rolled_back,
            "delivered": report.delivered,
            "effects": report.effects,
            "duplicates_absorbed": report.duplicates_absorbed,
            "kills": self.kills,
            "lost": report.lost,
            "phantom": report.phantom,
            "order_violations": report.order_violations,
            "double_effects": report.double_effects,
            "verdict": self.report.verdict,
            "witnesses": witnesses,
            "leftovers": self.evidence.leftovers,
            "sabotage": self.sabotage.map(Sabotage::name),
            "database": self.site.database_kind(),
            "broker": self.site.broker_kind(),
            "seed": self.seed,
            "seconds": (self.duration.as_secs_f64() * 100.0).round() / 100.0,
            "folder": folder.map(|folder| folder.display().to_string()),
        })
    }

    fn done(&self) -> String {
        let report = &self.report.counts;
        let orders = self.evidence.orders;
        let mut text = format!(
            "What was done\n  \
               A service placed {} orders and stated {} messages with them, in the same\n  \
               transactions of its {} database. {} more messages were rolled back;\n  \
               {} transactions were held open for a while.\n  \
               The process with the relay and the consumers {} was killed\n  \
               with kill -9 {} and started again, while messages were on their way.\n",
            grouped(orders),
            grouped(report.committed),
            self.site.database_kind(),
            grouped(report.rolled_back),
            grouped(self.held_open),
            CONSUMERS.join(" and "),
            times(self.kills),
        );
        if let Some(sabotage) = self.sabotage {
            text.push_str(&format!(
                "  Sabotage: {}. {}.\n",
                sabotage.name(),
                sabotage.description()
            ));
        }
        text
    }

    fn checked(&self) -> String {
        let report = &self.report.counts;
        let line = |count: u64, good: &str, bad: &str| match count {
            0 => format!("  ok    {good}\n"),
            count => format!("  FAIL  {} {bad}\n", grouped(count)),
        };
        let all = grouped(report.committed);
        let mut text = format!(
            "What was checked, from {}\n        {all} messages committed, {} delivered, {} \
             took effect at every consumer\n",
            self.site.witness(),
            grouped(report.delivered),
            grouped(report.effects),
        );
        text.push_str(&line(report.lost, "nothing was lost", "messages were lost"));
        let bad = "messages arrived that were never committed so";
        let good = "nothing was invented or altered, nothing rolled back was sent";
        text.push_str(&line(report.phantom, good, bad));
        let bad = "messages arrived after a later one of their key";
        text.push_str(&line(report.order_violations, "in order for every key", bad));
        let good = format!(
            "nothing took effect twice; {} repeated deliveries were absorbed",
            grouped(report.duplicates_absorbed)
        );
        text.push_str(&line(report.double_effects, &good, "messages took effect more than once"));
        let left = self.evidence.leftovers.len() as u64;
        let broker = self.site.broker_kind();
        let good = format!("outbox and {broker} are drained, there are no dead letters");
        text.push_str(&line(left, &good, "things are left over"));
        for detail in &self.evidence.leftovers {
            text.push_str(&format!("        {detail}\n"));
        }
        for witness in self.report.witnesses() {
            if !self.evidence.leftovers.contains(&witness.what) {
                text.push_str(&format!("        {}: {}\n", witness.invariant, witness.what));
            }
        }
        text
    }

    fn conclusion(&self) -> String {
        let took = format!("seed {}, {:.1} seconds", self.seed, self.duration.as_secs_f64());
        match (self.is_kept(), self.sabotage) {
            (true, None) => format!("The promise was KEPT ({took}).\n"),
            (true, Some(_)) => format!(
                "The promise was KEPT in spite of the sabotage ({took}): it did not meet a kill \
                 at the wrong moment. Try more --kills.\n"
            ),
            (false, None) => format!(
                "The promise was BROKEN ({took}). This is a bug; please report it with the files.\n"
            ),
            (false, Some(_)) => format!(
                "The promise was BROKEN ({took}), as it must be: a rule was broken on purpose, \
                 and it was noticed.\n"
            ),
        }
    }

    fn next(&self, folder: Option<&Path>) -> String {
        let (mut text, look) = match folder {
            Some(folder) => (format!("The files are in {}\n", folder.display()), self.site.look()),
            None => (format!("{} removed; --keep keeps them.\n", self.site.removed()), None),
        };
        if let Some(kept) = self.kept.then(|| self.site.at_servers()).flatten() {
            text.push_str(&format!("At the servers are kept: {kept}\n"));
        }
        let first = match self.sabotage {
            None => ("demo --sabotage ack-before-commit", "see it notice a broken rule"),
            Some(_) => ("demo", "without sabotage"),
        };
        let program = program();
        text.push_str("\nTry next\n");
        for (command, why) in [
            first,
            ("demo --kills 40 --messages 8000", "a harder life"),
            ("init", "settings for a service of yours"),
            ("subscribe orders", "then see its messages arrive"),
        ] {
            text.push_str(&format!("  {program} {command:<34} # {why}\n"));
        }
        if folder.is_some() {
            let history = self.site.history().display().to_string();
            text.push_str(&format!("  {program} verify '{history}'\n"));
        }
        if let Some(look) = look {
            text.push_str(&format!("  {program} {look}\n"));
        }
        text.trim_end().to_owned()
    }
}

/// This program as it was called, so that what is shown can be typed.
fn program() -> String {
    let called = std::env::args().next().filter(|called| !called.contains([' ', '\'']));
    called.unwrap_or_else(|| "posthaste".to_owned())
}

fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        number => format!("{} times", grouped(number)),
    }
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
