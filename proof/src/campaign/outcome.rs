//! What came of a campaign.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Round;

/// Whether the promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In every world.
    Kept,
    /// Not in the last one.
    Broken,
    /// Too little happened for it to mean something.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Broken => "broken",
            Self::Invalid => "invalid",
        })
    }
}

/// Counts of all worlds so far.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which campaign.
    pub campaign: &'static str,
    /// The seed of the first world.
    pub first_seed: u64,
    /// Worlds, each with a seed of its own.
    pub seeds: u64,
    /// Faults.
    pub cycles: u64,
    /// Messages whose commit was answered with success.
    pub messages: u64,
    /// Faults before which something had been acknowledged since the last one.
    pub hits: u64,
    /// What follows.
    pub verdict: Verdict,
    /// What was broken.
    pub detail: Option<String>,
    /// How long it took.
    pub wall: Duration,
}

impl Outcome {
    pub(super) fn new(campaign: &'static str, first_seed: u64) -> Self {
        Self {
            campaign,
            first_seed,
            seeds: 0,
            cycles: 0,
            messages: 0,
            hits: 0,
            verdict: Verdict::Kept,
            detail: None,
            wall: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, round: Round) {
        self.cycles += round.cycles;
        self.messages += round.messages;
        self.hits += round.hits;
    }

    pub(super) fn breaks(&mut self, seed: u64, failure: &dyn std::error::Error) {
        self.verdict = Verdict::Broken;
        self.detail = Some(format!("seed {seed}: {failure}"));
    }

    /// A campaign whose faults met nothing proves nothing: at least three of ten have to.
    pub(super) fn conclude(&mut self) {
        if self.cycles == 0 || self.hits * 10 < self.cycles * 3 {
            self.verdict = Verdict::Invalid;
            let (hits, cycles) = (self.hits, self.cycles);
            self.detail = Some(format!("only {hits} of {cycles} faults met a world at work"));
        }
    }

    /// As one object.
    pub fn object(&self) -> Value {
        json!({
            "campaign": self.campaign,
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "cycles": self.cycles,
            "messages": self.messages,
            "hits": self.hits,
            "verdict": self.verdict.to_string(),
            "detail": self.detail,
            "seconds": (self.wall.as_secs_f64() * 10.0).round() / 10.0,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { campaign, seeds, cycles, messages, verdict, .. } = self;
        let seconds = self.wall.as_secs();
        write!(f, "{campaign}: {seeds} worlds, {cycles} faults, {messages} messages, {verdict}")?;
        write!(f, " ({seconds} s)")?;
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, "\n{detail}"))
    }
}
