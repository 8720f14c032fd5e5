//! The only place that writes to standard output and standard error.
//!
//! Data goes to standard output and is flushed line by line; talk goes to standard error. With
//! `--json` both are one JSON object a line. Talk and findings pass [`redact`]; messages and figures
//! leave as they are, because what is in them is the user's and not ours to change.

use std::io::{self, IsTerminal, Write};

use posthaste_core::finding::{Finding, Severity};
use serde_json::{Value, json};

use crate::escape::printable;
use crate::failure::Failure;
use crate::redact;

/// How to speak to whoever started the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// JSON or text; colours only for a person at a terminal who has not asked for none.
    pub(crate) fn new(json: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !json && !refused && io::stderr().is_terminal() }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard error shows colours.
    pub(crate) fn has_colour(&self) -> bool {
        self.colour
    }

    /// Writes a line of data that contains no secrets of ours: a message, an id, a table.
    ///
    /// # Errors
    /// [`Failure::Closed`] if nobody reads any more.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Writes a line of data as JSON.
    ///
    /// # Errors
    /// [`Failure::Closed`] if nobody reads any more.
    pub(crate) fn object(&self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string())
    }

    /// Writes bytes as they are and returns when they have left this process.
    ///
    /// # Errors
    /// [`Failure::Closed`] if nobody reads any more.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::output(&error))
    }

    /// Writes what `check` and `doctor` found, as data.
    ///
    /// # Errors
    /// [`Failure::Closed`] if nobody reads any more.
    pub(crate) fn findings(&self, findings: &[Finding]) -> Result<(), Failure> {
        if self.json {
            let ok = !findings.iter().any(|finding| finding.severity == Severity::Problem);
            return self.object(&json!({ "ok": ok, "findings": scrubbed(findings) }));
        }
        let colour = self.colour && io::stdout().is_terminal();
        for finding in findings {
            self.line(&rendered(finding, colour))?;
        }
        Ok(())
    }

    /// Tells a person something that is not data. Silent with `--json`.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            tell(&format!("{}\n", redact::text(text)));
        }
    }

    /// Warns.
    pub(crate) fn warn(&self, text: &str) {
        let text = redact::text(text);
        if self.json {
            tell(&format!("{}\n", json!({ "warning": text })));
        } else {
            tell(&format!("{} {text}\n", painted("warning:", YELLOW, self.colour)));
        }
    }

    /// Tells how a command ended badly.
    pub(crate) fn failure(&self, failure: &Failure) {
        let (message, findings) = match failure {
            Failure::Usage { message, findings } => (message, findings.as_slice()),
            Failure::Failed { message } => (message, [].as_slice()),
            Failure::Told | Failure::Invalid | Failure::Closed => return,
        };
        let message = redact::text(message);
        if self.json {
            let object = json!({ "error": message, "findings": scrubbed(findings) });
            return tell(&format!("{object}\n"));
        }
        let mut text = format!("{} {}\n", painted("error:", RED, self.colour), printable(&message));
        for finding in findings {
            text.push_str(&format!("  {}\n", rendered(finding, self.colour)));
        }
        tell(&text);
    }

    /// Shows what the parser of the command line has to say: help, the version, or wrong use.
    pub(crate) fn usage(&self, error: &clap::Error) {
        let styled = error.render();
        if !error.use_stderr() {
            let text = match io::stdout().is_terminal() && self.colour {
                true => styled.ansi().to_string(),
                false => styled.to_string(),
            };
            // Help that nobody reads any more is no failure.
            return self.bytes(text.as_bytes()).unwrap_or(());
        }
        let plain = styled.to_string();
        if self.json {
            let message = plain.lines().next().unwrap_or_default();
            let message = message.strip_prefix("error: ").unwrap_or(message);
            let object = json!({ "error": redact::text(message), "findings": [] });
            return tell(&format!("{object}\n"));
        }
        let text = if self.colour { styled.ansi().to_string() } else { plain };
        tell(&redact::text(&text));
    }
}

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";

fn painted(text: &str, colour: &str, colours: bool) -> String {
    if colours { format!("{colour}{text}\u{1b}[0m") } else { text.to_owned() }
}

/// One line for one finding: severity, subject, what, advice.
fn rendered(finding: &Finding, colours: bool) -> String {
    let (word, colour) = match finding.severity {
        Severity::Good => ("good", GREEN),
        Severity::Notice => ("notice", GREEN),
        Severity::Warning => ("warning", YELLOW),
        Severity::Problem => ("problem", RED),
    };
    let advice = finding.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
    let text = format!("{}: {}{advice}", finding.subject, finding.what);
    format!(
        "{} {}",
        painted(&format!("{word:<8}"), colour, colours),
        printable(&redact::text(&text))
    )
}

fn scrubbed(findings: &[Finding]) -> Vec<Value> {
    let each = findings.iter().map(|finding| {
        let advice = finding.advice.as_deref().map(redact::text);
        json!({
            "severity": finding.severity,
            "subject": redact::text(&finding.subject),
            "what": redact::text(&finding.what),
            "advice": advice,
        })
    });
    each.collect()
}

/// Writes to standard error. If that is closed there is nobody left to tell.
fn tell(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}
