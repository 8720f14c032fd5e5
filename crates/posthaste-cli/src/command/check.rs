//! `posthaste check`: looks at the settings without touching the world.

use posthaste_core::finding::{Finding, Severity};

use crate::context::Context;
use crate::failure::Failure;
use crate::settings::validation::{self, Needs};

/// Check the settings without connecting to anything
#[derive(Debug, clap::Args)]
#[command(after_help = "Reports every mistake at once, with the line, variable or flag it comes \
    from.\n\nExamples:\n  posthaste check\n  \
    posthaste check --config /etc/posthaste.toml --json\n\n\
    Exit status: 0 if the settings can be used, 2 if not. 'posthaste doctor' also connects.")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, context: &Context) -> Result<(), Failure> {
    let loaded = context.load();
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    let needs = Needs { database: true, broker: true };
    let (mut findings, ok) = match validation::validate(loaded, &context.registry.schemes(), needs)
    {
        Ok(configuration) => {
            let mut findings = Vec::new();
            if let Some(database) = &configuration.database {
                findings.push(good("database.url", &database.address.to_string()));
            }
            for (name, broker) in &configuration.brokers {
                findings.push(good(&format!("broker {name}"), &broker.address.to_string()));
            }
            findings.extend(configuration.notices);
            (findings, true)
        }
        Err(findings) => (findings, false),
    };
    if let Some(file) = file {
        findings.insert(0, Finding::new(Severity::Good, "settings", format!("read from {file}")));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    context.output.findings(&findings)?;
    if ok {
        return Ok(());
    }
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem).count();
    Err(Failure::usage(match problems {
        1 => "the settings have a mistake".to_owned(),
        count => format!("the settings have {count} mistakes"),
    }))
}

fn good(subject: &str, what: &str) -> Finding {
    Finding::new(Severity::Good, subject, what)
}
