//! What `doctor` has to say of a broker.

use posthaste_core::finding::{Finding, Severity};

use crate::connection::Wire;
use crate::greeting;
use crate::rabbit::RabbitMq;

/// What the broker says that it is. The client library keeps that to itself, so it is asked once
/// more; an encrypted line is not opened for it.
async fn version(rabbit: &RabbitMq) -> Option<String> {
    let address = &rabbit.address;
    if address.is_tls {
        return None;
    }
    let within = address.connect_within.unwrap_or(rabbit.options.connect_within);
    match tokio::time::timeout(within, greeting::ask(&address.host, address.port)).await {
        Ok(Ok(greeting)) => Some(greeting),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the broker did not say what it is");
            None
        }
        Err(_) => None,
    }
}

/// Looks at the broker over a connection of its own.
pub(crate) async fn findings(rabbit: &RabbitMq) -> Vec<Finding> {
    let address = &rabbit.address;
    let subject = format!("broker {address}");
    let finding = |severity, what: String| Finding::new(severity, &subject, what);
    let mut findings = Vec::new();
    match Wire::open(address, &rabbit.options, "doctor").await {
        Ok(wire) => {
            let user = wire.user.escape_debug();
            findings.push(finding(Severity::Good, format!("reachable as user '{user}'")));
            wire.close().await;
            findings.extend(version(rabbit).await.map(|what| finding(Severity::Good, what)));
        }
        Err(failure) => findings.push(finding(Severity::Problem, failure.to_string())),
    }
    if let Some(wire) = rabbit.publishing.link.current().await
        && let Some(reason) = wire.blocked()
    {
        let what = format!("has blocked publishers: {reason}");
        let advice = "free memory or disk space there, or raise its limits";
        findings.push(finding(Severity::Problem, what).advise(advice));
    }
    if !address.is_tls && !address.is_local() {
        let what = "the connection is not encrypted: passwords and messages can be read on the way";
        let advice = "use amqps://";
        findings.push(finding(Severity::Warning, what.to_owned()).advise(advice));
    }
    if !rabbit.options.declare {
        let what = "nothing is declared here, and AMQP cannot tell the arguments of queues: whether \
                    looking at dead letters can use them up (RabbitMQ 4 drops one after 20 looks \
                    unless it is told otherwise) is not known";
        let advice = "give each queue of dead letters x-delivery-limit = 1000000000";
        findings.push(finding(Severity::Notice, what.to_owned()).advise(advice));
    }
    findings
}
