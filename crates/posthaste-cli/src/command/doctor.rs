//! `posthaste doctor`: connects to everything and explains what it finds.

use std::time::Duration;

use posthaste_core::finding::{Finding, Severity};

use crate::context::Context;
use crate::failure::{Failure, sentence};
use crate::settings::Configuration;
use crate::settings::validation::Needs;

/// Something that does not answer within this is a finding, too.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connect to database and broker and say what is wrong, and what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Changes no data. Exit status: 1 if there is a problem.\n\nExamples:\n  \
    posthaste doctor\n  posthaste doctor --json | jq -r '.findings[] | \
    select(.severity != \"good\") | .what'")]
pub(crate) struct Arguments {}

pub(crate) async fn run(_: &Arguments, context: &Context) -> Result<(), Failure> {
    let configuration = context.configuration(Needs::default(), "error")?;
    if configuration.database.is_none() && !configuration.has_broker() {
        return Err(Failure::usage(
            "nothing to look at: configure a database or a broker ('posthaste init' writes a file)",
        ));
    }
    let mut findings = configuration.notices.clone();
    findings.extend(within("database", database(&configuration, context)).await?);
    findings.extend(within("broker", broker(&configuration, context)).await?);
    context.output.findings(&findings)?;
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem).count();
    match problems {
        0 => Ok(()),
        _ => Err(Failure::Told),
    }
}

/// The findings, or that there was no answer.
async fn within(
    subject: &str,
    look: impl Future<Output = Result<Vec<Finding>, Failure>>,
) -> Result<Vec<Finding>, Failure> {
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", PATIENCE.as_secs());
        let finding = Finding::new(Severity::Problem, subject, what);
        Ok(vec![finding.advise("look whether it is overloaded or unreachable")])
    })
}

async fn database(
    configuration: &Configuration,
    context: &Context,
) -> Result<Vec<Finding>, Failure> {
    if configuration.database.is_none() {
        return Ok(vec![Finding::new(Severity::Notice, "database", "none is configured")]);
    }
    match configuration.try_open_database(&context.registry, false).await? {
        Ok(database) => Ok(database.findings().await),
        Err(error) => Ok(vec![Finding::new(Severity::Problem, "database", sentence(&error))]),
    }
}

async fn broker(configuration: &Configuration, context: &Context) -> Result<Vec<Finding>, Failure> {
    if !configuration.has_broker() {
        return Ok(vec![Finding::new(Severity::Notice, "broker", "none is configured")]);
    }
    match configuration.try_open_broker(&context.registry).await? {
        Ok(open) => {
            let findings = open.broker.check().await;
            open.close().await;
            Ok(findings)
        }
        Err(error) => Ok(vec![Finding::new(Severity::Problem, "broker", sentence(&error))]),
    }
}
