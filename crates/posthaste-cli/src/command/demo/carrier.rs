//! What carries the messages of the demo: the bus in its folder, or somebody's RabbitMQ.

use std::sync::Arc;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::Broker;
use posthaste_core::finding::Severity;
use posthaste_rabbitmq::{RabbitMq, RabbitMqOptions};

use crate::failure::{Failure, sentence};

use super::site::Site;
use super::world::{CONSUMERS, TOPIC};

/// A broker of the demo that was opened.
pub(super) enum Carrier {
    Bus(Bus),
    Rabbit(RabbitMq),
}

impl Carrier {
    /// Opens it.
    ///
    /// # Errors
    /// If the URL makes no sense, or the file of the bus cannot be used.
    pub(super) fn open(site: &Site) -> Result<Self, Failure> {
        let Some(address) = &site.broker else {
            return Ok(Self::Bus(Bus::open(&site.bus_url(), BusOptions::default())?));
        };
        let mut options = RabbitMqOptions::default();
        options.prefix = site.prefix();
        Ok(Self::Rabbit(RabbitMq::open(address.expose(), options)?))
    }

    /// As everybody sees it.
    pub(super) fn broker(&self) -> Arc<dyn Broker> {
        match self {
            Self::Bus(bus) => Arc::new(bus.clone()),
            Self::Rabbit(rabbit) => Arc::new(rabbit.clone()),
        }
    }

    /// Ends it in order.
    pub(super) async fn close(&self) {
        match self {
            Self::Bus(bus) => bus.close().await,
            Self::Rabbit(rabbit) => rabbit.close().await,
        }
    }

    /// What is in it although everything should have come to rest, a sentence each.
    async fn leftovers(&self) -> Result<Vec<String>, Failure> {
        match self {
            Self::Bus(bus) => of_bus(bus).await,
            Self::Rabbit(rabbit) => of_rabbit(rabbit).await,
        }
    }
}

/// Looks whether a broker that somebody named is there. The bus is left to the child.
///
/// # Errors
/// If it is not, or does not let us in.
pub(super) async fn reach(site: &Site) -> Result<(), Failure> {
    if site.broker.is_none() {
        return Ok(());
    }
    let carrier = Carrier::open(site)?;
    let findings = carrier.broker().check().await;
    carrier.close().await;
    let problem = findings.into_iter().find(|finding| finding.severity == Severity::Problem);
    match problem {
        Some(finding) => Err(Failure::failed(finding.what)),
        None => Ok(()),
    }
}

/// What is left in the broker. The child must have ended.
///
/// # Errors
/// If it cannot be looked at.
pub(super) async fn leftovers(site: &Site) -> Result<Vec<String>, Failure> {
    let carrier = Carrier::open(site)?;
    let leftovers = carrier.leftovers().await;
    carrier.close().await;
    leftovers
}

/// Removes what was made at a broker that somebody named.
///
/// # Errors
/// If that is not possible.
pub(super) async fn clear(site: &Site) -> Result<(), Failure> {
    let Carrier::Rabbit(rabbit) = Carrier::open(site)? else { return Ok(()) };
    let removed = async {
        for name in CONSUMERS {
            rabbit.remove_subscription(TOPIC, name).await?;
        }
        rabbit.remove_topic(TOPIC).await
    };
    let removed = removed.await;
    rabbit.close().await;
    removed.map_err(|error| {
        Failure::failed(format!(
            "the demo's exchange and queues are left at the broker ({}); remove those that begin \
             with {}{TOPIC}",
            sentence(&error),
            site.prefix()
        ))
    })
}

async fn of_bus(bus: &Bus) -> Result<Vec<String>, Failure> {
    let mut leftovers = Vec::new();
    for one in bus.status().await? {
        let figures = [(one.active + one.locked, "unsettled"), (one.dead, "dead")];
        for (number, what) in figures.into_iter().filter(|(number, _)| *number > 0) {
            leftovers.push(format!("the bus holds {number} {what} messages for {}", one.name));
        }
    }
    for address in bus.addresses().await?.into_iter().filter(|address| address.held > 0) {
        leftovers.push(format!("the bus holds {} messages for nobody", address.held));
    }
    Ok(leftovers)
}

async fn of_rabbit(rabbit: &RabbitMq) -> Result<Vec<String>, Failure> {
    let mut leftovers = Vec::new();
    for name in CONSUMERS {
        let depth = rabbit.depth(TOPIC, name).await?;
        let figures = [(depth.waiting, "unsettled"), (depth.dead, "dead")];
        for (number, what) in figures.into_iter().filter(|(number, _)| *number > 0) {
            leftovers.push(format!("RabbitMQ holds {number} {what} messages for {name}"));
        }
    }
    Ok(leftovers)
}
