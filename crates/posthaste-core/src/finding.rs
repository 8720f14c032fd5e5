//! What `check` and `doctor` have to say: one finding per thing a person should know.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is lost.
    Notice,
    /// A promise is weaker than it could be.
    Warning,
    /// It does not work, or data can be lost.
    Problem,
}

/// One thing found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a path in the config or a part of the system.
    pub subject: String,
    /// What was found.
    pub what: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// A finding without advice.
    pub fn new(severity: Severity, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, subject: subject.into(), what: what.into(), advice: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
